"""From a photo to its answer in process: Mien against PyPI's `fer` on the same photos, in turns."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import samples
from timing import table

from mien.inference.predictor import Mien

ENVIRONMENT = Path(os.environ.get("MIEN_PEERS", Path(__file__).parent / ".peers"))
PACKAGES = ("fer==25.10.3", "opencv-contrib-python<5", "setuptools<80")
"""`fer` needs the cascade classifier, which OpenCV 5 has not, and pkg_resources, which later setuptools have not."""

FER_ACCURACY = 0.6542
"""fer's own model on the whole of PrivateTest, on the native crops."""


@dataclass
class Taken:
    """What one side took for each photo, and found."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    found: int = 0
    false: int = 0

    def add(self, wall: float, cpu: float, faces: Any, boxes: Any) -> None:
        """One photo more."""
        self.wall.append(wall)
        self.cpu.append(cpu)
        hits, others = samples.found(faces, np.array(boxes, dtype=np.float64).reshape(-1, 4))
        self.found, self.false = self.found + hits, self.false + others

    def times(self) -> tuple[float, float, float]:
        """Wall p50, wall p95 and CPU p50, in ms a photo."""
        return median(self.wall), quantiles(self.wall, n=20)[18], median(self.cpu)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(section())


def section(rounds: int = 3) -> str:
    """The comparison, as Markdown."""
    miens, peers = {"one thread": Mien(threads=1), "all cores": Mien(threads=None)}, Taken()
    ours = {name: Taken() for name in miens}
    with tempfile.TemporaryDirectory() as folder, fer() as ask:
        photos = samples.write(Path(folder))
        for number in range(rounds + 1):
            if number == 1:  # the first round warms up
                ours, peers = {name: Taken() for name in miens}, Taken()
            for photo in photos:
                for name, mien in miens.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    result = mien.predict(photo.path)["faces"]
                    ours[name].add(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu), photo.faces,
                                   [face["box"] for face in result])  # fmt: skip
                answer = ask(photo.path)
                peers.add(answer["wall"], answer["cpu"], photo.faces, answer["boxes"])
        count = sum(len(photo.faces) for photo in photos)
    accuracy = mien.card.metrics.get("test_accuracy", float("nan"))
    named = {f"Mien ({mien.detector.name}, {name})": side for name, side in ours.items()}
    rows = [
        [name, *(f"{value:.1f}" for value in side.times()), f"{side.found // rounds} of {count}", side.false // rounds,
         f"{FER_ACCURACY if side is peers else accuracy:.2%}"]
        for name, side in {**named, "`fer` 25.10.3, as it comes": peers}.items()
    ]  # fmt: skip
    for name, side in ours.items():
        ratios = (f"**{theirs / own:.1f}×**" for theirs, own in zip(peers.times(), side.times(), strict=True))
        rows.append([f"**ratio, {name}**", *ratios, "", "", ""])
    head = ["photo to answer, 640 × 427 px", "ms, p50", "ms, p95", "CPU ms, p50", "faces found", "boxes about no face",
            "accuracy on PrivateTest"]  # fmt: skip
    return table(head, rows)


@contextmanager
def fer() -> Iterator[Any]:
    """Ask a running `fer` about a photo."""
    command = [str(environment()), str(Path(__file__).with_name("fer_peer.py"))]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=quiet) as peer:  # fmt: skip
        assert peer.stdin is not None
        assert peer.stdout is not None

        def ask(photo: Path) -> dict[str, Any]:
            print(photo, file=peer.stdin, flush=True)
            line = peer.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise SystemExit(f"error: `fer` ended. Ask it by hand: echo {photo} | {' '.join(command)}")
            answer: dict[str, Any] = json.loads(line)
            return answer

        yield ask
        peer.stdin.close()


def environment() -> Path:
    """The Python of the peers' environment, made once; several gigabytes, since `fer` brings TensorFlow and PyTorch."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        print(f"making {ENVIRONMENT} for `fer`, several gigabytes …", file=sys.stderr)
        subprocess.run(
            [sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT],
            check=True,
        )
        subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--system-certs", "--python", python, *PACKAGES],
            check=True,
        )
        (ENVIRONMENT / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
