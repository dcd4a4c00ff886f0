"""The status of a face: whether its prediction is reliable, and if not, why."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.inference.champion import Card
from mien.inference.faces import Face

STATUSES = ("too_small", "blurry", "low_confidence", "uncertain", "ok")
"""The statuses of a face; of several reasons the first is reported, since it causes the later ones."""


def status(face: Face, confidence: float, limits: Card) -> str:
    """One of STATUSES for a face whose best emotion got the calibrated probability `confidence`."""
    if face.side < limits.too_small_below:
        return "too_small"
    if sharpness(face.pixels) < limits.blurry_below:
        return "blurry"
    if face.score is not None and face.score < limits.low_confidence_below:
        return "low_confidence"
    return "ok" if confidence >= limits.uncertain_below else "uncertain"


def sharpness(pixels: NDArray[np.float32]) -> float:
    """Variance of the Laplacian of a crop (48, 48, 1) over the variance of its pixels: contrast does not matter.

    A flat crop has 0. After Pech-Pacheco et al. (2000), whose measure is the numerator.
    """
    spread = _variance(pixels)
    return _variance(np.asarray(cv2.Laplacian(pixels, cv2.CV_32F))) / spread if spread > 0 else 0.0


def _variance(values: NDArray[Any]) -> float:
    """NumPy's, in a quarter of its time for so few values."""
    return float(cv2.meanStdDev(values)[1].item() ** 2)
