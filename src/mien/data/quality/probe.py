"""Ridge regression on HOG features: a cheap classifier whose low accuracy reveals labels that do not fit the faces.

Accuracy with a share of FER-2013's labels shuffled over all splits, the probe refitted (floors .392, .380, .378):

    shuffled         0 %   5 %  10 %  20 %  30 %  50 %  100 %
    Training        .410  .392  .379  .351  .311  .256  .117
    PublicTest      .431        .394  .359  .319  .256  .121
    PrivateTest     .421        .384  .356  .315  .261  .118

From 10 % on, Training falls below its floor; below that, copies under different labels (`conflict`) reveal it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, FACE_SIZE

Features = NDArray[np.float32]

RIDGE = 30.0
"""Penalty; anything from 1 to 100 gives the same accuracy to within half a point."""


@dataclass(frozen=True)
class Probe:
    """A fitted probe; `held_out` are its leave-one-out predictions for its own training rows."""

    centre: Features
    weights: Features
    held_out: NDArray[np.int64]

    def guess(self, features: Features) -> NDArray[np.int64]:
        """Return the likeliest label of each row of `features`."""
        scores: Features = (features - self.centre) @ self.weights[:-1] + self.weights[-1]
        guesses: NDArray[np.int64] = scores.argmax(1)
        return guesses


def features(images: NDArray[np.uint8]) -> Features:
    """Histograms of oriented gradients `(n, 900)` of faces `(n, 48, 48)`."""
    hog = cv2.HOGDescriptor((FACE_SIZE, FACE_SIZE), (16, 16), (8, 8), (8, 8), 9)
    found = np.empty((len(images), hog.getDescriptorSize()), np.float32)
    for i, image in enumerate(images):
        found[i] = np.asarray(hog.compute(np.ascontiguousarray(image))).ravel()
    return found


def fit(rows: Features, labels: NDArray[np.int64]) -> Probe:
    """Fit to `rows (n, d)`, which are centred in place: every emotion weighs the same, leave-one-out in closed form."""
    frequency = np.bincount(labels, minlength=len(EMOTIONS))
    weight = (len(labels) / np.count_nonzero(frequency) / frequency[labels]).astype(np.float32)
    centre = np.average(rows, axis=0, weights=weight).astype(np.float32)
    rows -= centre
    targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
    offset = np.average(targets, axis=0, weights=weight).astype(np.float32)
    weighted = rows * weight[:, None]
    gram = (rows.T @ weighted).astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE
    inverse = np.linalg.inv(gram).astype(np.float32)
    slopes = inverse @ (weighted.T @ (targets - offset))
    # A row's leverage is the share of its own label in its fitted value: taking it out is one division.
    leverage = (np.einsum("ij,ij->i", weighted @ inverse, rows) + weight / weight.sum())[:, None]
    held_out = (rows @ slopes + offset - leverage * targets) / (1 - leverage)
    return Probe(centre, np.vstack([slopes, offset]), held_out.argmax(1))


def recalls(labels: NDArray[np.int64], guesses: NDArray[np.int64]) -> tuple[float, ...]:
    """Recall of each emotion; 0 for one that is missing."""
    right = np.bincount(labels[labels == guesses], minlength=len(EMOTIONS))
    return tuple((right / np.maximum(np.bincount(labels, minlength=len(EMOTIONS)), 1)).round(4).tolist())


def floor(labels: NDArray[np.int64], recall: tuple[float, ...], slack: float) -> float:
    """Return the lowest accuracy on `labels` that agrees with `recall`: three standard errors and `slack` below it."""
    expected = float(np.mean(np.array(recall)[labels]))
    return max(0.0, expected * (1 - slack) - 3 * _error(expected, len(labels)))


def chance(labels: NDArray[np.int64], guesses: NDArray[np.int64]) -> float:
    """Return the accuracy that shuffled `labels` would hardly exceed: three standard errors above chance."""
    shares = [np.bincount(values, minlength=len(EMOTIONS)) / len(values) for values in (labels, guesses)]
    expected = float(shares[0] @ shares[1])
    return expected + 3 * _error(expected, len(labels))


def _error(share: float, rows: int) -> float:
    return float(np.sqrt(share * (1 - share) / max(rows, 1)))
