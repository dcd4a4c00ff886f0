"""`mien demo`: the project's own dvc.yaml on drawn faces, in a folder of its own."""

import json
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

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.experiments import own_folder, pipeline, results
from mien.files import read_json
from mien.inference.answer_text import table
from mien.registry.promotion_report import decision

OVERLAY = Path("params/demo.yaml")
OWN_FILES = "/face.png\n/serve.log\n"
"""What only the demo writes, for its .gitignore."""


def run(folder: Path) -> None:
    """Lay out `folder`, draw the sample, reproduce every stage, then ask the packaged service about one face."""
    started = time.monotonic()
    pipeline.lay_out(folder, pipeline.parameters(OVERLAY))
    own_folder.mark(folder)
    pipeline.make_git(folder, OWN_FILES)
    pipeline.make_dvc(folder)
    if not list((folder / "data/raw").glob("*.parquet")):
        pipeline.call([sys.executable, "-m", "mien", "fetch", "sample"], folder)
    pipeline.commit(folder, "The demo's pipeline and data")
    pipeline.call([*pipeline.DVC, "repro"], folder)
    pipeline.commit(folder, "The demo's results")
    face, label = write_face(folder)
    with service(folder) as address:
        answer = ask(address, face)
    evaluation = read_json(folder / "reports/evaluation.json", made_by="dvc repro evaluate")
    promotion = read_json(folder / "reports/promotion.json", made_by="dvc repro promote")
    click.echo(summary(evaluation, answer, folder, time.monotonic() - started, label, decision(promotion)))


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
            command, cwd=folder, env=pipeline.environment(folder), stdout=output, stderr=output, start_new_session=True
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
    lines = [
        "",
        *results.table(evaluation),
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
