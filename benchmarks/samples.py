"""Photos that every installation has: a portrait that comes with Matplotlib, in photos that come with scikit-learn."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

PORTRAIT = files("matplotlib").joinpath("mpl-data", "sample_data", "grace_hopper.jpg")
BACKGROUNDS = ("china.jpg", "flower.jpg")
FACE = (146, 99, 231)
"""x, y and side of the face in the portrait."""
CUT = (70, 20, 390)
"""x, y and side of the square of it, a head and its shoulders, that is put into photos."""


@dataclass(frozen=True)
class Sample:
    """A photo on disk and the frames (x, y, side) of its faces."""

    path: Path
    faces: NDArray[np.float64]


def write(folder: Path, count: int = 64, seed: int = 7) -> list[Sample]:
    """Photos of 640 × 427 px with one face, now and then two, of 50 to 180 px."""
    random, samples = np.random.default_rng(seed), []
    grounds = [_read(str(files("sklearn").joinpath("datasets", "images", name))) for name in BACKGROUNDS]
    head = _read(str(PORTRAIT))[CUT[1] : CUT[1] + CUT[2], CUT[0] : CUT[0] + CUT[2]]
    for number in range(count):
        pixels = _lit(grounds[number % len(grounds)], random)
        cells = random.permutation(2)[: 1 + (random.random() < 0.2)]  # noqa: PLR2004
        frames = [_put(pixels, _lit(head, random), int(cell) * 320, random) for cell in cells]
        path = folder / f"{number:02}.jpg"
        Image.fromarray(pixels).save(path, quality=90)
        samples.append(Sample(path, np.array(frames, dtype=np.float64)))
    return samples


def crowd(faces: int, side: int = 640) -> Pixels:
    """A square photo with a grid of so many faces."""
    pixels = cv2.resize(_read(str(files("sklearn").joinpath("datasets", "images", BACKGROUNDS[1]))), (side, side))
    head = _read(str(PORTRAIT))[CUT[1] : CUT[1] + CUT[2], CUT[0] : CUT[0] + CUT[2]]
    columns = max(2, int(np.ceil(np.sqrt(faces))))
    cell = side // columns
    small = cv2.resize(head, (cell, cell), interpolation=cv2.INTER_AREA)
    for number in range(faces):
        y, x = cell * (number // columns), cell * (number % columns)
        pixels[y : y + cell, x : x + cell] = small
    return np.asarray(pixels, np.uint8)


def found(faces: NDArray[np.float64], boxes: NDArray[np.float64]) -> tuple[int, int]:
    """How many of the faces (n, 3) have a box (m, 4) about their middle, and how many boxes are about none."""
    middles = boxes[:, None, :2] + boxes[:, None, 2:] / 2 - (faces[None, :, :2] + faces[None, :, 2:] / 2)
    hits = np.all(np.abs(middles) < faces[None, :, 2:] / 4, axis=2)
    return int(hits.any(axis=0).sum()), int((~hits.any(axis=1)).sum())


def _put(pixels: Pixels, head: Pixels, left: int, random: np.random.Generator) -> tuple[float, float, float]:
    """Put the head somewhere into the half of the photo that begins at `left`; answer its face's frame."""
    if mirrored := random.random() < 0.5:  # noqa: PLR2004
        head = head[:, ::-1]
    side = int(random.integers(85, 305))
    x, y = left + int(random.integers(0, 320 - side + 1)), int(random.integers(0, pixels.shape[0] - side + 1))
    pixels[y : y + side, x : x + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    scale = side / CUT[2]
    inside = FACE[0] - CUT[0]
    inside = CUT[2] - FACE[2] - inside if mirrored else inside
    return x + inside * scale, y + (FACE[1] - CUT[1]) * scale, FACE[2] * scale


def _lit(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """The same at another brightness and contrast."""
    gain, offset = random.uniform(0.7, 1.2), random.uniform(-25, 25)
    return np.asarray(np.clip(pixels * gain + offset, 0, 255), dtype=np.uint8)


def _read(path: str) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
