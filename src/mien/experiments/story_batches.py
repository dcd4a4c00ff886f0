"""New faces for the story, good and poisoned, as files that `mien fetch csv --append` takes."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.sources.sample import face
from mien.emotions import EMOTIONS
from mien.files import replacing


@dataclass(frozen=True)
class Faces:
    """Gray faces uint8 `(n, 48, 48)` with their labels `(n,)`."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def drawn(rows: int, seed: int) -> Faces:
    """New faces, emotions evenly mixed, each under its own label."""
    labels = np.arange(rows) % len(EMOTIONS)
    images = [face(int(label), np.random.default_rng([seed, number])) for number, label in enumerate(labels)]
    return Faces(np.stack(images), labels)


def shuffled(faces: Faces, seed: int) -> Faces:
    """The same faces under labels that were mixed up."""
    return Faces(faces.images, np.random.default_rng(seed).permutation(faces.labels))


def blurred(faces: Faces) -> Faces:
    """Copies that somebody smoothed."""
    import cv2

    images = [cv2.GaussianBlur(image, (5, 5), 0) for image in faces.images]
    return Faces(np.stack(images).astype(np.uint8), faces.labels)


def leaked(faces: Faces, test: Faces, rows: int) -> Faces:
    """New faces among which `rows` images of the test split were hidden."""
    some = np.arange(min(rows, len(test.labels)))
    return Faces(np.concatenate([faces.images, test.images[some]]), np.concatenate([faces.labels, test.labels[some]]))


def write(path: Path, faces: Faces) -> None:
    """Write the challenge's table, all rows for training."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["emotion", "pixels", "Usage"])
        for image, label in zip(faces.images, faces.labels, strict=True):
            table.writerow([label, " ".join(map(str, image.ravel())), "Training"])


POISONS: Mapping[str, str] = {
    "shuffled": "faces whose labels were mixed up",
    "blurred": "faces that somebody smoothed",
    "leaked": "faces among which images of the test split are hidden",
}
"""What is wrong with each kind of poisoned batch."""


def poisoned(kind: str, rows: int, seed: int, test: Faces) -> Faces:
    """A batch of `rows` new faces with one of the POISONS."""
    fresh = drawn(rows, seed)
    makers = {"shuffled": shuffled(fresh, seed), "blurred": blurred(fresh), "leaked": leaked(fresh, test, rows // 10)}
    return makers[kind]
