"""Scenes to find faces in: prepared faces, enlarged or not, pasted on a grid of blurred noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.inference.detectors import Detection, Detector

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """RGB pixels, the faces' numbers, and the frame (x, y, side) that each was pasted into."""

    pixels: NDArray[np.uint8]
    numbers: list[int]
    frames: NDArray[np.float64]


def draw(images: Gray, low: int, high: int, seed: int = 7, side: int = 640) -> Iterator[Scene]:
    """Scenes `side` wide and three quarters as high that show every face of `images` (n, 48, 48, 1) once.

    A face gets a random size from `low` to `high` pixels and a random place in its cell of the grid.
    """
    random = np.random.default_rng(seed)
    height, cell = side * 3 // 4, int(high * 1.3)
    places = [(x, y) for y in range(0, height - cell + 1, cell) for x in range(0, side - cell + 1, cell)]
    for start in range(0, len(images), len(places)):
        noise = random.integers(60, 190, (6, 8)).astype(np.uint8)
        canvas = cv2.resize(noise, (side, height), interpolation=cv2.INTER_CUBIC)
        numbers = list(range(start, min(start + len(places), len(images))))
        frames = np.zeros((len(numbers), 3))
        for row, (number, (x, y)) in enumerate(zip(numbers, places, strict=False)):
            size = int(random.integers(low, high + 1))
            left, top = x + random.integers(0, cell - size), y + random.integers(0, cell - size)
            canvas[top : top + size, left : left + size] = resized(images[number, :, :, 0], size)
            frames[row] = left, top, size
        yield Scene(np.repeat(canvas[:, :, None], 3, axis=2), numbers, frames)


def resized(image: Gray, size: int) -> Gray:
    """A face `size` pixels wide: smooth where it grows, averaged where it shrinks."""
    method = cv2.INTER_CUBIC if size > image.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), dtype=np.uint8)


def matched(scene: Scene, found: list[Detection]) -> list[Detection | None]:
    """For each face of a scene, the largest detection whose centre lies in the middle half of its frame."""
    return [next((face for face in found if _inside(face, frame)), None) for frame in scene.frames]


def found_share(finder: Detector, scenes: list[Scene]) -> float:
    """Share of the faces that are found."""
    hits = [hit is not None for scene in scenes for hit in matched(scene, finder.detect(scene.pixels))]
    return float(np.mean(hits))


def false_boxes(finder: Detector, scenes: list[Scene]) -> int:
    """Detections whose centre lies in the middle half of no face."""
    found = [(scene, face) for scene in scenes for face in finder.detect(scene.pixels)]
    return sum(not any(_inside(face, frame) for frame in scene.frames) for scene, face in found)


def tilted(images: Gray, degrees: float) -> Gray:
    """Faces `(n, 48, 48, 1)` turned about their centres, one after the other to the left and to the right."""
    side = images.shape[1]
    turns = [cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, degrees * sign, 1.0) for sign in (1, -1)]
    turned = [
        cv2.warpAffine(image[..., 0], turns[number % 2], (side, side), borderMode=cv2.BORDER_REPLICATE)
        for number, image in enumerate(images)
    ]
    return np.asarray(turned, dtype=np.uint8)[..., None]


def _inside(face: Detection, frame: NDArray[np.float64]) -> bool:
    centre = face.box[:2] + face.box[2:] / 2
    return bool(np.all(np.abs(centre - (frame[:2] + frame[2] / 2)) < frame[2] / 4))
