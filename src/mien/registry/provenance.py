"""Provenance of a run as flat tags: code, data, packages and machine."""

import getpass
import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mien", "keras", "tensorflow", "jax", "torch", "numpy", "onnx", "optuna")


def tags(root: Path = Path()) -> dict[str, str]:
    """Tags for commit, data, packages and hardware; unknown values get no tag."""
    found = {"python": platform.python_version(), "hardware": hardware()}
    found |= {"backend": os.environ.get("KERAS_BACKEND", "")}
    found |= {name: version for name in PACKAGES if (version := _version(name))}
    found |= {"git.commit": commit(root), "git.dirty": _dirty(root), "dvc.data": data_hash(root)}
    found |= {"mlflow.source.git.commit": found["git.commit"], "mlflow.source.name": _program()}
    found |= {"mlflow.source.type": "LOCAL", "mlflow.user": os.environ.get("USER", "")}
    return {key: value for key, value in found.items() if value}


def commit(root: Path = Path()) -> str:
    """The checked-out commit; empty outside Git."""
    return _git(root, "rev-parse", "HEAD")


def data_hash(root: Path = Path()) -> str:
    """DVC's md5 of data/raw, from data/raw.dvc or dvc.lock; empty where DVC does not track it."""
    import yaml

    pointer, lock = root / "data" / "raw.dvc", root / "dvc.lock"
    try:
        if pointer.exists():
            return str(yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        # DVC itself reports a half-merged lock file; a missing tag must not fail a run.
        return ""
    used: list[dict[str, Any]] = [dep for stage in stages.values() for dep in stage.get("deps", ())]
    return next((str(dep["md5"]) for dep in used if dep.get("path") == "data/raw" and "md5" in dep), "")


def lock_hash(family: str, root: Path = Path()) -> str:
    """SHA-256 of dvc.lock's entries for the stages behind a family's model; empty where one is missing.

    Only those stages: DVC adds promote and package to the lock later, so a hash of the whole file would match no
    commit. This part is the same in every commit that holds the model.
    """
    import yaml

    try:
        stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        part = {name: stages[name] for name in ("prepare", "validate", *_trainings(family, stages), "evaluate")}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def _trainings(family: str, stages: dict[str, Any]) -> list[str]:
    """The stages that trained a family, or a student and its teachers."""
    student = stages.get(f"distil@{family}")
    if not student:
        return [f"tune@{family}", f"train@{family}"]
    teachers = {Path(dep["path"]).name for dep in student["deps"] if Path(dep["path"]).parent == Path("models")}
    return [f"distil@{family}", *(name for teacher in teachers for name in _trainings(teacher, stages))]


def batches(root: Path = Path()) -> dict[str, str]:
    """The md5 of every raw batch by file name, from DVC's cached listing, else computed from the files."""
    listed = data_hash(root)
    listing = root / ".dvc" / "cache" / "files" / "md5" / listed[:2] / listed[2:]
    try:
        entries = json.loads(listing.read_text(encoding="utf-8")) if listed else []
        found = {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    files = sorted((root / "data" / "raw").glob("[0-9]*.parquet"))
    return found or {path.name: file_hash(path) for path in files}


def file_hash(path: Path) -> str:
    """The md5 of a file, by which DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def who() -> str:
    """The acting user: account and machine, or in GitHub Actions the actor and the workflow's run."""
    actor, run_id = os.environ.get("GITHUB_ACTOR"), os.environ.get("GITHUB_RUN_ID")
    if actor and run_id:
        return f"{actor}, run {run_id} of {os.environ.get('GITHUB_REPOSITORY', 'GitHub Actions')}"
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's account may have no name
        name = "unknown"
    return f"{name}@{platform.node()}"


def packages() -> str:
    """Every installed package as `name==version`, one per line."""
    found = {f"{dist.name}=={dist.version}" for dist in metadata.distributions() if dist.name}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def hardware() -> str:
    """Processor, cores and memory in a few words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {_memory_gib()} GiB"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_gib() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _dirty(root: Path) -> str:
    return "true" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _program() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500]
