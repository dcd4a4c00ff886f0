"""What faces look like, counted in fixed bins, so that counts of hours, processes and data sets can be added up."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS

Counts = dict[str, list[int]]
"""Faces in each bin of each property; for `photos`, photos."""

FORMAT = 1
"""Changes with the bins: counts of other bins cannot be added."""

EDGES: Mapping[str, tuple[float, ...]] = {
    "brightness": tuple(range(8, 256, 8)),
    "contrast": tuple(range(4, 128, 4)),
    "sharpness": tuple(2 ** (step / 2) for step in range(33)),
    "face_size": tuple(2 ** (step / 2) for step in range(6, 23)),
    "confidence": tuple(round(0.15 + 0.05 * step, 2) for step in range(17)),
}
"""Inner edges of the bins of what is measured; a value on an edge belongs to the bin above it."""

KINDS: Mapping[str, tuple[str, ...]] = {"emotion": EMOTIONS, "photos": ("some face", "no face")}
"""What is counted by kind."""

OF_MODEL = ("confidence", "emotion")
"""What depends on the champion and not on the photos alone."""


def empty() -> Counts:
    """Counts of nothing."""
    bins = {name: len(edges) + 1 for name, edges in EDGES.items()} | {name: len(kinds) for name, kinds in KINDS.items()}
    return {name: [0] * count for name, count in bins.items()}


def appearance(face: NDArray[Any]) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness of a face (48, 48[, 1]), gray in [0, 255], uint8 or float32.

    Mean, standard deviation and variance of the Laplacian: the columns mean, std and sharpness of the prepared data's
    statistics.
    """
    mean, spread = cv2.meanStdDev(face)
    curvature = cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_32F))[1]
    return float(mean[0, 0]), float(spread[0, 0]), float(curvature[0, 0]) ** 2


def count_face(counts: Counts, face: NDArray[Any]) -> None:
    """Add how one face looks."""
    for name, value in zip(("brightness", "contrast", "sharpness"), appearance(face), strict=True):
        count_value(counts, name, value)


def count_answer(counts: Counts, probabilities: NDArray[Any]) -> None:
    """Add what one face (7,) was taken for, and how surely."""
    best = int(probabilities.argmax())
    counts["emotion"][best] += 1
    count_value(counts, "confidence", float(probabilities[best]))


def count_value(counts: Counts, name: str, value: float) -> None:
    """Add one value of a measured property."""
    counts[name][bisect_right(EDGES[name], value)] += 1


def of(faces: Iterable[NDArray[Any]], answers: NDArray[Any]) -> Counts:
    """Counts of faces, each (48, 48[, 1]), and of answers (n, 7), which need not be of the same faces."""
    counts = empty()
    for face in faces:
        count_face(counts, face)
    for row in np.asarray(answers):
        count_answer(counts, row)
    return counts


def add(counts: Counts, more: Mapping[str, Iterable[int]]) -> None:
    """Add `more` to `counts`, where it knows the property."""
    for name, bins in more.items():
        counts[name] = [a + b for a, b in zip(counts[name], bins, strict=True)]


def fits(counts: Any) -> bool:
    """Whether `counts`, read from a file, are counts in these bins."""
    bins = empty()
    return isinstance(counts, Mapping) and counts.keys() == bins.keys() and all(_fits(counts[n], bins[n]) for n in bins)


def _fits(found: Any, wanted: list[int]) -> bool:
    numbers = isinstance(found, list) and len(found) == len(wanted)
    return numbers and all(type(number) is int and number >= 0 for number in found)
