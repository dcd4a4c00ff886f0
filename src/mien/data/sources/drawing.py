"""Draw synthetic faces: a pen in face coordinates on a small canvas, and a simulated camera."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.emotions import FACE_SIZE

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

CANVAS = 3 * FACE_SIZE
"""Faces are drawn three times as large and shrunk, which smooths their edges."""

UNSHARP = 0.3
"""Share of unsharp photos."""

FRACTION = 4
"""Bits of a coordinate behind the point, as OpenCV takes them."""

_TURN = np.linspace(0, 2 * np.pi, 33)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)

_T = np.linspace(0, 1, 13)
BEZIER = np.stack([(1 - _T) ** 2, 2 * _T * (1 - _T), _T**2], axis=1)


class Pen:
    """Draws in units of half a face: x from -1 (left) to 1, y from about -1.2 (top) to 1.2; pose is random."""

    def __init__(self, random: np.random.Generator) -> None:
        self.canvas = _background(random)
        self.size = random.uniform(0.3, 0.4) * CANVAS
        self.turn = random.normal(0, 0.12)
        angle = np.deg2rad(random.normal(0, 7))
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        centre = CANVAS / 2 + random.normal(0, 0.035, 2) * CANVAS
        self.matrix, self.offset = rotation * self.size * 2**FRACTION, centre * 2**FRACTION

    def fill(self, points: ArrayLike, tone: float) -> None:
        """Fill a polygon with one gray tone."""
        cv2.fillPoly(self.canvas, [self._place(points)], tone, cv2.LINE_AA, FRACTION)

    def stroke(self, points: ArrayLike, tone: float, width: float) -> None:
        """Draw a line through the points."""
        thickness = max(1, round(width * self.size))
        cv2.polylines(self.canvas, [self._place(points)], False, tone, thickness, cv2.LINE_AA, FRACTION)

    def oval(self, x: float, y: float, width: float, height: float, tone: float) -> None:
        """Fill an ellipse with these half axes."""
        self.fill(ring(x, y, width, height), tone)

    def _place(self, points: ArrayLike) -> NDArray[np.int32]:
        plane = np.array(points, np.float64)
        # A head turned aside moves its middle more than its rim.
        plane[:, 0] += self.turn * np.maximum(1 - np.abs(plane[:, 0]), 0)
        return np.asarray(plane @ self.matrix + self.offset, np.int32)


def ring(x: float, y: float, width: float, height: float) -> Points:
    """Return points on an ellipse with these half axes."""
    return CIRCLE * (width, height) + (x, y)


def curve(start: Sequence[float], control: Sequence[float], end: Sequence[float]) -> Points:
    """Return points on a quadratic Bézier curve."""
    return np.asarray(BEZIER @ np.array([start, control, end]))


def photograph(canvas: Image, random: np.random.Generator) -> Image:
    """Render the canvas as a 48x48 photo: slanting light, exposure, noise, and blur in a share of the photos."""
    shrunk = cv2.resize(canvas, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
    photo = np.asarray(shrunk, np.float64)
    across = np.linspace(-1, 1, FACE_SIZE)
    direction = random.normal(0, 0.22, 2)
    photo *= 1 + direction[0] * across[None] + direction[1] * across[:, None]
    if random.random() < UNSHARP:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), random.uniform(0.4, 0.9)), np.float64)
    photo = (photo - 128) * random.uniform(0.6, 1.1) + 128 + random.normal(0, 18)
    photo += random.normal(0, random.uniform(3, 12), photo.shape)
    return np.clip(np.round(photo), 0, 255).astype(np.uint8)


def _background(random: np.random.Generator) -> Image:
    canvas = np.full((CANVAS, CANVAS), random.uniform(0, 255), np.uint8)
    for _ in range(random.integers(0, 5)):
        corner, extent = random.uniform(0, CANVAS, 2), random.uniform(0.1, 0.6, 2) * CANVAS
        low, high = np.round(corner - extent).astype(int).tolist(), np.round(corner + extent).astype(int).tolist()
        cv2.rectangle(canvas, low, high, random.uniform(0, 255), cv2.FILLED)
    return canvas
