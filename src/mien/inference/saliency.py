"""Occlusion saliency: which parts of a face a prediction depends on, by blurring them one after another."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE

Floats = NDArray[np.float32]

NOTE = (
    "The map shows where hiding a part of the face makes the named emotion less likely (above 0) or more likely "
    "(below 0) for this model. It shows what the answer depends on; it proves no cause, and tells no feeling."
)
STEP, SPREAD = 4, 4.0
"""Pixels from one hidden spot to the next, and how far each spreads (one standard deviation)."""

HIDDEN_SHARE = 0.2


@dataclass(frozen=True)
class Saliency:
    """How the prediction for one face depends on its pixels.

    `map` is (48, 48) in [-1, 1]. The probability of the named emotion is `before` for the face as it is,
    `without_salient` with the most salient fifth of its pixels hidden, `without_others` with the least salient fifth.
    """

    map: Floats
    before: float
    without_salient: float
    without_others: float


def saliency(
    faces: Floats, emotions: NDArray[np.int64], classify: Callable[[Floats], NDArray[np.floating]]
) -> list[Saliency]:
    """Explain why each of `faces` (n, 48, 48, 1) was given its label in `emotions` (n,).

    `classify` answers faces with probabilities (m, 7); it is called twice, whatever n. After Zeiler and Fergus,
    "Visualizing and Understanding Convolutional Networks" (2014), with soft spots instead of squares.
    """
    if not len(faces):
        return []
    spots = _spots()
    without = np.stack([_hide(face, spot) for face in faces for spot in spots])
    answers = _log_odds(classify(np.concatenate([faces, without])))
    named = answers[: len(faces)][np.arange(len(faces)), emotions]
    hidden = answers[len(faces) :].reshape(len(faces), len(spots), -1)
    drops = named[:, None] - np.take_along_axis(hidden, emotions[:, None, None], axis=2)[:, :, 0]
    maps = np.tensordot(drops, spots, axes=1) / spots.sum(axis=0)
    maps = (maps / np.maximum(np.abs(maps).max(axis=(1, 2), keepdims=True), 1e-6)).astype(np.float32)
    return _tested(faces, emotions, maps, classify)


def _tested(
    faces: Floats, emotions: NDArray[np.int64], maps: Floats, classify: Callable[[Floats], NDArray[np.floating]]
) -> list[Saliency]:
    """Put each map to the test: hiding what it calls salient must matter more than hiding what it does not."""
    low, high = np.quantile(maps, [HIDDEN_SHARE, 1 - HIDDEN_SHARE], axis=(1, 2))
    tried = [(face, maps[i] >= high[i], maps[i] <= low[i]) for i, face in enumerate(faces)]
    variants = np.stack([v for face, top, rest in tried for v in (face, _hide(face, top), _hide(face, rest))])
    answers = classify(variants).reshape(len(faces), 3, -1)
    chosen = np.take_along_axis(answers, emotions[:, None, None], axis=2)[:, :, 0]
    return [Saliency(map_, *(float(p) for p in row)) for map_, row in zip(maps, chosen, strict=True)]


def _spots() -> Floats:
    """Soft round masks (n, 48, 48) in [0, 1], one on each point of a grid."""
    axis = np.arange(FACE_SIZE)
    centres = np.arange(STEP // 2, FACE_SIZE, STEP)
    bells = np.exp(-((axis[None] - centres[:, None]) ** 2) / (2 * SPREAD**2))
    return np.asarray(np.einsum("ay,bx->abyx", bells, bells).reshape(-1, FACE_SIZE, FACE_SIZE), dtype=np.float32)


def _hide(face: Floats, mask: NDArray[np.generic]) -> Floats:
    """The face, strongly blurred where the mask is 1: gray patches would draw edges of their own."""
    blurred = cv2.GaussianBlur(face[:, :, 0], (0, 0), 8)[:, :, None]
    weight = np.asarray(mask, dtype=np.float32)[:, :, None]
    return np.asarray(face * (1 - weight) + blurred * weight, dtype=np.float32)


def _log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    p = np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)
