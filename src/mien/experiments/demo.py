"""`mien demo`: the project's own dvc.yaml on drawn faces, in a folder of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import click
import yaml

from mien.config.params import merge
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.experiments import own_folder
from mien.files import read_json
from mien.inference.answer_text import table
from mien.registry.promotion_report import decision

SKELETON = ("dvc.yaml", ".dvcignore", "bentofile.yaml", "requirements-serving.lock", "pyproject.toml", "src")
OVERLAY = Path("params/demo.yaml")
GIT = ("git", "-c", "user.name=Mien's demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
OWN_FILES = "/.bentoml/\n/face.png\n/serve.log\n"
"""What only the demo writes, for its .gitignore."""

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run(folder: Path) -> None:
    """Lay out `folder`, draw the sample, reproduce every stage, then ask the packaged service about one face."""
    started = time.monotonic()
    lay_out(folder)
    own_folder.mark(folder)
    make_git(folder)
    make_dvc(folder)
    if not list((folder / "data/raw").glob("*.parquet")):
        call([sys.executable, "-m", "mien", "fetch", "sample"], folder)
    commit(folder, "The demo's pipeline and data")
    call([sys.executable, "-m", "dvc", "repro"], folder)
    commit(folder, "The demo's results")
    face, label = write_face(folder)
    with service(folder) as address:
        answer = ask(address, face)
    evaluation = read_json(folder / "reports/evaluation.json", made_by="dvc repro evaluate")
    promotion = read_json(folder / "reports/promotion.json", made_by="dvc repro promote")
    click.echo(summary(evaluation, answer, folder, time.monotonic() - started, label, decision(promotion)))


def lay_out(folder: Path, overlay: Path = OVERLAY) -> None:
    """Copy what the pipeline needs, with `overlay` laid over params.yaml."""
    missing = [name for name in (*SKELETON, "params.yaml", str(overlay)) if not Path(name).exists()]
    if missing:
        raise MienError(
            f"{', '.join(missing)} not found in {Path.cwd()}. Run the {overlay.stem} in the project's root."
        )
    params = overlaid(yaml.safe_load(Path("params.yaml").read_text()), yaml.safe_load(overlay.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    for name in SKELETON:
        if Path(name).is_dir():
            shutil.copytree(
                name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def overlaid(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The parameters with `changes` laid over them, and of the families those alone that `changes` names."""
    merged = merge(params, changes)
    return merged | {"families": {name: merged["families"][name] for name in changes["families"]}}


def make_git(folder: Path) -> None:
    """Let `folder` be a Git repository of its own, if Git is there, so that DVC has commits to compare with."""
    if not shutil.which("git") or (folder / ".dvc").exists():
        return
    ignored = Path(".gitignore").read_text(encoding="utf-8") if Path(".gitignore").exists() else ""
    (folder / ".gitignore").write_text(ignored + OWN_FILES, encoding="utf-8")
    call([*GIT, "init", "--quiet", "--initial-branch", "main"], folder)


def make_dvc(folder: Path) -> None:
    """Let `folder` be a DVC project of its own, if it is none yet; with Git where it is a repository."""
    if not (folder / ".dvc").exists():
        scm = [] if (folder / ".git").exists() else ["--no-scm"]
        call([sys.executable, "-m", "dvc", "init", "--quiet", *scm], folder)


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
    """This process's variables, telemetry off, with the demo's own registry, searches and Bentos."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**QUIET, **own_folder.variables(folder, os.environ), "PATH": path}


def write_face(folder: Path) -> tuple[Path, str]:
    """The first test face as a PNG, to be sent to the service like a user's photo, and its true label."""
    import cv2

    from mien.data.dataset import read_split

    path = folder / "face.png"
    test = read_split(folder / "data/prepared", "test")
    cv2.imwrite(str(path), test.images[0])
    return path, EMOTIONS[test.labels[0]]


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """`bentoml serve` in `folder` for the length of the block; gives its address.

    BentoML looks for free ports some time before it takes them, and another program may take one of them meanwhile:
    a service that ended before it was ready is started once more. Raises MienError.
    """
    log = folder / "serve.log"
    for _ in range(2):
        address, process = start(folder, log)
        try:
            if ready(address, process):
                yield address
                return
            if process.poll() is None:
                break
        finally:
            process.terminate()
            process.wait(30)
    raise MienError(f"The service did not get ready; its output is in {log}.")


def start(folder: Path, log: Path) -> "tuple[str, subprocess.Popen[bytes]]":
    """The address and the process of a service that writes to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=output, stderr=output, start_new_session=True
        )
    return f"http://127.0.0.1:{port}", process


def ready(address: str, process: "subprocess.Popen[bytes]", seconds: float = 180) -> bool:
    """Whether the service gets ready before its process or the time ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(f"{address}/readyz", timeout=5):  # noqa: S310 (our own address)
                return True
        except (URLError, OSError):
            time.sleep(0.3)
    return False


def ask(address: str, photo: Path) -> dict[str, Any]:
    """POST a photo to /predict as a browser's form would."""
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{photo.name}"\r\n'
    body = f"{head}Content-Type: image/png\r\n\r\n".encode() + photo.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urlopen(Request(f"{address}/predict", body, headers), timeout=30) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer


def summary(
    evaluation: Mapping[str, Any], answer: Mapping[str, Any], folder: Path, seconds: float, label: str, decision: str
) -> str:
    """The results table, the service's answer beside the true label, the gate's decision, and what to type next."""
    data, test = evaluation["data"]["name"], evaluation["test"]
    lines = ["", f"{'family':<16}{'validation accuracy':>20}{'macro-F1':>10}{'parameters':>12}{'trained':>10}"]
    for name, family in evaluation["families"].items():
        scores, mark = family["validation"], "*" if name == evaluation["winner"] else " "
        lines.append(
            f"{mark} {name:<14}{scores['accuracy']:>20.1%}{scores['macro_f1']:>10.3f}{family['parameters']:>12,}"
            f"{family['seconds']:>9.0f}s"
        )
    low, high = test["accuracy_ci"]
    lines += [
        "",
        f"{evaluation['winner']} on the {data}'s test split: accuracy {test['accuracy']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}), macro-F1 {test['macro_f1']:.3f}, ECE {test['ece']:.3f}",
        "These are drawn faces: the numbers show that the pipeline works and say nothing of real ones."
        if evaluation["data"]["synthetic"]
        else "",
        "",
        f"The service, version {answer['model']['version']}, asked about {folder}/face.png, whose label is {label}:",
        table(f"{folder}/face.png", answer["faces"]),
        "",
        f"The promotion gate. {decision}",
        "",
        f"Done in {seconds / 60:.1f} minutes. Next:",
        f"  make ui DIR={folder}        browse the runs (http://127.0.0.1:5000)",
        f"  make serve DIR={folder}     serve the champion (http://127.0.0.1:3000)",
        f"  curl -F image=@{folder}/face.png http://127.0.0.1:3000/predict",
        f"  cd {folder} && dvc repro   nothing has changed, so nothing runs",
        "  README.md               bring FER-2013 and train on it",
    ]
    return "\n".join(lines)
