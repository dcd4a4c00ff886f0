"""What starting costs, and how cost grows with the photo, its faces, the batch and the video; CPU time, one thread."""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import samples
from PIL import Image
from timing import milliseconds, table

from mien.inference.predictor import Mien

MEGAPIXELS, FACES, BATCHES, FRAMES = (0.3, 1, 3, 12, 48), (0, 1, 4, 16, 64), (1, 4, 16, 64, 256), (100, 300, 900)
COMMAND = (sys.executable, "-m", "mien")
# A process counts what its parent held when it was started, so a small one starts the command.
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(section())


def section() -> str:
    """All of it, as Markdown."""
    cv2.setNumThreads(1)
    mien = Mien(threads=1)
    return "\n\n".join([starts(), photo_sizes(mien), crowds(mien), batches(mien), videos()])


def starts() -> str:
    """A whole `mien predict` of one photo."""
    runs = [command(["predict", str(samples.PORTRAIT)]) for _ in range(5)]
    wall, cpu, held = (f"{median(run[part] for run in runs):.{digits}f}" for part, digits in ((0, 2), (1, 2), (2, 0)))
    return table(["`mien predict photo.jpg`", "seconds", "CPU seconds", "most memory, MiB"], [["", wall, cpu, held]])


def photo_sizes(mien: Mien) -> str:
    """JPEGs of one portrait at several sizes."""
    photos = {size: _portrait(size) for size in MEGAPIXELS}
    taken = milliseconds({size: lambda data=data: mien.predict(data) for size, data in photos.items()}, rounds=5)  # type: ignore[misc]
    return table(["megapixels of a JPEG", *MEGAPIXELS], [["CPU ms", *(f"{taken[size]:.0f}" for size in MEGAPIXELS)]])


def crowds(mien: Mien) -> str:
    """Photos of 640 px with many faces."""
    photos = {count: samples.crowd(count) for count in FACES}
    found = [len(mien.predict(photo)["faces"]) for photo in photos.values()]
    taken = milliseconds({count: lambda data=data: mien.predict(data) for count, data in photos.items()}, rounds=7)  # type: ignore[misc]
    return table(["faces in a photo of 640 px", *found], [["CPU ms", *(f"{taken[count]:.0f}" for count in FACES)]])


def batches(mien: Mien) -> str:
    """Faces named together."""
    random = np.random.default_rng(0)
    faces = {count: random.uniform(0, 255, (count, 48, 48, 1)).astype(np.float32) for count in BATCHES}
    taken = milliseconds({n: lambda batch=batch: mien.runtime.predict(batch) for n, batch in faces.items()}, rounds=5)  # type: ignore[misc]
    return table(["faces named together", *BATCHES], [["CPU ms a face", *(f"{taken[n] / n:.2f}" for n in BATCHES)]])


def videos() -> str:
    """`mien video` of a face that moves about, 640 × 480."""
    rows: list[list[str]] = [["CPU ms a frame"], ["most memory, MiB"]]
    with tempfile.TemporaryDirectory() as folder:
        for count in FRAMES:
            film(Path(folder, "in.mp4"), count)
            _, cpu, held = command(["video", f"{folder}/in.mp4", "--csv", f"{folder}/out.csv"])
            rows[0].append(f"{1000 * cpu / count:.0f}")
            rows[1].append(f"{held:.0f}")
    return table(["frames of a video, 640 × 480", *FRAMES], rows)


def film(path: Path, count: int) -> None:
    """Write a video of one head that moves about."""
    head = cv2.resize(samples.crowd(1, 320)[:160, :160], (240, 240))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (640, 480))
    for number in range(count):
        page = np.full((480, 640, 3), 120, np.uint8)
        x, y = int(200 + 180 * np.sin(number / 40)), int(120 + 100 * np.cos(number / 55))
        page[y : y + 240, x : x + 240] = head
        writer.write(cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
    writer.release()


def command(words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the most MiB that a command of Mien takes."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *COMMAND, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: mien {' '.join(words)} failed:\n{done.stderr}")
    wall, cpu, held = (float(value) for value in done.stdout.split())
    return wall, cpu, held


def _portrait(megapixels: float) -> bytes:
    with Image.open(str(samples.PORTRAIT)) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        target = io.BytesIO()
        image.resize((round(image.width * scale), round(image.height * scale))).save(target, "JPEG", quality=90)
    return target.getvalue()


if __name__ == "__main__":
    main()
