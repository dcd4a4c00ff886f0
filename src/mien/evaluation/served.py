"""Score one exported model on the serving runtime: its file, its test-time augmentation and its temperature."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data.dataset import PART, Faces, Split
from mien.emotions import FACE_SIZE
from mien.evaluation import corruptions, metrics
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import Tta, average

LAPS = 50
"""Faces timed, one at a time, of which the median counts."""


@dataclass(frozen=True)
class ServedScores:
    """One version: predicted labels `(n,)` of the validation faces, their scores, the file's size and its latency.

    `damaged` holds the predicted labels of the same faces as poor cameras give them, and `with_damaged` the mean
    macro-F1 of both; empty and None where they do not count.
    """

    version: str
    family: str
    predicted: NDArray[np.int64]
    macro_f1: float
    accuracy: float
    recall: Mapping[str, float]
    ece: float
    bytes: int
    milliseconds: float
    damaged: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    with_damaged: float | None = None

    @property
    def decisive(self) -> float:
        """The macro-F1 by which versions are compared."""
        return self.macro_f1 if self.with_damaged is None else self.with_damaged

    @property
    def copies(self) -> NDArray[np.int64]:
        """Predicted labels `(n, 1)`, or `(n, 2)` where damaged faces count."""
        return np.stack([self.predicted] if self.with_damaged is None else [self.predicted, self.damaged], axis=1)


def score_as_served(version: str, onnx: Path, tags: Mapping[str, str], faces: Split, params: Params) -> ServedScores:
    """Score one model on validation faces as it is served: its file, TTA, temperature and runtime, on one thread."""
    runtime = Runtime(onnx, threads=1)
    probabilities = calibrated(runtime, tags, faces)
    measured = {"bytes": onnx.stat().st_size, "milliseconds": median_milliseconds(runtime, Tta.of(tags))}
    family = tags.get("family", "unknown")
    scored = examine(version, family, faces.labels, probabilities, bins=params.evaluate.ece_bins, **measured)
    if not params.evaluate.damaged:
        return scored
    damaged = replace(faces, images=corruptions.by_cameras(faces.images, params.seed))
    predicted = calibrated(runtime, tags, damaged).argmax(axis=1)
    both = metrics.mean_macro_f1(faces.labels, np.stack([scored.predicted, predicted], axis=1))
    return replace(scored, damaged=predicted, with_damaged=both)


def examine(
    version: str, family: str, labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]], **more: Any
) -> ServedScores:
    """Score the probabilities `(n, 7)` as they are served, that is with the version's temperature.

    `more` holds `bins` of the calibration error, `bytes` of the file and `milliseconds` for a face.
    """
    predicted = probabilities.argmax(axis=1)
    ece = metrics.ece(probabilities, labels, more.pop("bins"))
    scores = metrics.macro_f1(labels, predicted), metrics.accuracy(labels, predicted)
    return ServedScores(version, family, predicted, *scores, metrics.recalls(labels, predicted), ece, **more)


def calibrated(runtime: Runtime, tags: Mapping[str, str], faces: Split) -> NDArray[np.floating[Any]]:
    """Calibrated probabilities `(n, 7)` of faces, with the TTA and the temperature in the tags."""
    uncalibrated = predict(runtime, faces.images, Tta.of(tags))
    return apply_temperature(uncalibrated, float(tags.get("temperature", 1)))


def predict(runtime: Runtime, images: Faces, tta: Tta) -> NDArray[np.float32]:
    """Probabilities `(n, 7)` of faces `(n, 48, 48, 1)`, some thousand of which are held as floats at a time."""
    starts = range(0, max(1, len(images)), PART)
    return np.concatenate([average(runtime.predict, floats(images[start : start + PART]), tta) for start in starts])


def median_milliseconds(runtime: Runtime, tta: Tta) -> float:
    """The median time for one face, in milliseconds, with the TTA that is served."""
    face = np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.float32)
    laps = []
    for _ in range(LAPS):
        start = time.perf_counter()
        average(runtime.predict, face, tta)
        laps.append(time.perf_counter() - start)
    return 1000 * statistics.median(laps)


def floats(images: Faces) -> NDArray[np.float32]:
    """Faces as float32, the networks' input type."""
    return np.ascontiguousarray(images, dtype=np.float32)
