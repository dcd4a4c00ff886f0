"""The project's own pipeline in a folder of its own: its files, parameters, Git and DVC, and the steps run in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mien.config.params import Params, merge, parse
from mien.errors import MienError
from mien.experiments import own_folder
from mien.files import write_text
from mien.learning import models

SKELETON = ("dvc.yaml", ".dvcignore", "bentofile.yaml", "requirements-serving.lock", "pyproject.toml", "src")
DVC = (sys.executable, "-m", "dvc")
GIT = ("git", "-c", "user.name=Mien", "-c", "user.email=mien@localhost", "-c", "commit.gpgsign=false")

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def lay_out(folder: Path, tree: Mapping[str, Any]) -> None:
    """Copy what the pipeline needs, with `tree` as its params.yaml."""
    write_params(folder, tree)
    for name in SKELETON:
        if Path(name).is_dir():
            shutil.copytree(
                name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(name, folder / name)


def write_params(folder: Path, tree: Mapping[str, Any], first_line: str = "") -> None:
    """Write params.yaml in `folder`, perhaps below a comment."""
    write_text(folder / "params.yaml", first_line + yaml.safe_dump(dict(tree), sort_keys=False))


def parameters(*overlays: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """The project's params.yaml with `overlays` laid over it; raises one MienError that names all that does not fit.

    Of the families those alone that the last overlay names, if it names any, or the families and students in `only`.
    """
    missing = [name for name in (*SKELETON, "params.yaml", *map(str, overlays)) if not Path(name).exists()]
    if missing:
        raise MienError(f"{', '.join(missing)} not found in {Path.cwd()}. Run this in the project's root.")
    tree, explicit = read_yaml(Path("params.yaml")), dict[str, Any]()
    for overlay in overlays:
        changes = read_yaml(overlay)
        tree, explicit = merge(tree, changes), merge(explicit, changes)
        if changes.get("families"):
            tree["families"] = {name: tree["families"][name] for name in changes["families"]}
    tree = narrowed(tree, explicit, only)
    try:
        checked(tree)
    except MienError as error:
        raise MienError(
            f"{' and '.join(map(str, overlays)) or 'This'} laid over params.yaml does not fit:\n{error}"
        ) from None
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of parameters or of changes to them; raises MienError if it holds no mapping."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MienError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, Mapping):
        raise MienError(f"{path} holds {tree!r}, expected a mapping such as `train: {{epochs: 10}}`.")
    return dict(tree)


def checked(tree: Mapping[str, Any]) -> Params:
    """The parameters in `tree`; raises one MienError that names all that does not fit."""
    params = parse(tree)
    models.check(params)
    return params


def narrowed(tree: dict[str, Any], explicit: Mapping[str, Any], only: Sequence[str]) -> dict[str, Any]:
    """Without the families and students that `only` does not name, nor their teachers; an empty `only` keeps all.

    Students and ensembles whose members are no longer there go, too, unless `explicit`, what the overlays say, names
    them.
    """
    families, students = tree.get("families") or {}, tree.get("students") or {}
    if unknown := [name for name in only if name not in {**families, **students}]:
        raise MienError(
            f"There is no family {', '.join(unknown)}: expected some of {', '.join([*families, *students])}."
        )
    wanted = set(only)
    for name in reversed(students):  # a student stands below its teachers
        wanted |= teachers(students[name]) if name in wanted else set()
    families = {name: block for name, block in families.items() if name in wanted or not only}
    kept: dict[str, Any] = {}
    for name, block in students.items():
        possible = teachers(block) <= families.keys() | kept.keys() or name in (explicit.get("students") or {})
        if possible and (name in wanted or not only):
            kept[name] = block
    named = (explicit.get("evaluate") or {}).get("ensembles") or {}
    ensembles = {
        name: members
        for name, members in tree["evaluate"]["ensembles"].items()
        if name in named or set(members) <= families.keys() | kept.keys()
    }
    return tree | {"families": families, "students": kept, "evaluate": tree["evaluate"] | {"ensembles": ensembles}}


def teachers(student: Mapping[str, Any]) -> set[str]:
    """The names that a student's block lists as its teachers."""
    return set((student.get("distil") or {}).get("teachers") or ())


def check_faces(raw: Path) -> None:
    """Raise MienError where there is nothing to train on."""
    if not list(raw.glob("*.parquet")):
        raise MienError(
            f"{raw} holds no faces. Fetch some first: mien fetch kaggle, csv PATH or folders PATH "
            "(mien fetch sample draws some)."
        )


def bring(raw: Path, target: Path) -> None:
    """Copy the raw files, or link them where the disk can."""
    target.mkdir(parents=True, exist_ok=True)
    for file in raw.glob("*.parquet"):
        (target / file.name).unlink(missing_ok=True)  # of a start that was interrupted
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy2(file, target / file.name)


def make_git(folder: Path, ignored: str = "") -> None:
    """Let `folder` be a Git repository of its own, if Git is there, so that DVC has commits to compare with."""
    if not shutil.which("git") or (folder / ".dvc").exists():
        return
    common = Path(".gitignore").read_text(encoding="utf-8") if Path(".gitignore").exists() else ""
    (folder / ".gitignore").write_text(f"{common}/.bentoml/\n{ignored}", encoding="utf-8")
    call([*GIT, "init", "--quiet", "--initial-branch", "main"], folder)


def make_dvc(folder: Path) -> None:
    """Let `folder` be a DVC project of its own, if it is none yet; with Git where it is a repository."""
    if not (folder / ".dvc").exists():
        scm = [] if (folder / ".git").exists() else ["--no-scm"]
        call([*DVC, "init", "--quiet", *scm], folder)
        if not scm:  # else every stage ends with a hint to type `git add`
            call([*DVC, "config", "--quiet", "core.autostage", "true"], folder)


def commit(folder: Path, message: str) -> None:
    """Commit all that has changed in a folder that is a Git repository of its own."""
    if not (folder / ".git").exists():
        return
    call([*GIT, "add", "--all"], folder)
    if subprocess.run([*GIT, "diff", "--cached", "--quiet"], cwd=folder, check=False).returncode:
        call([*GIT, "commit", "--quiet", "--message", message], folder)


def call(command: list[str], folder: Path) -> None:
    """Run a step in `folder`; its failure ends the command with the step's own message."""
    if subprocess.run(command, cwd=folder, env=environment(folder), check=False).returncode:
        shown = command[2:] if command[0] == sys.executable else command
        raise MienError(f"`{' '.join(shown)}` stopped in {folder}; the reason stands above.")


def environment(folder: Path) -> dict[str, str]:
    """This process's variables, telemetry off; in a folder that keeps to itself without what leads out of it."""
    own = own_folder.variables(folder, os.environ) if (folder / own_folder.MARK).exists() else dict(os.environ)
    return {**QUIET, **own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
