"""Cut faces out of gray photos the way FER-2013 frames its own."""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE

if TYPE_CHECKING:  # detectors cut squares out too
    from mien.inference.detectors import Framing

Floats = NDArray[np.float64]
Gray = NDArray[np.uint8]

SHAPE = (FACE_SIZE, FACE_SIZE, 1)

LEVEL_ABOVE = 10.0
"""Eyes that slope by more degrees are levelled; FER-2013's own faces slope by less, and are not."""


def crop(gray: Gray, box: Floats, framing: "Framing", slope: float = 0.0) -> NDArray[np.float32]:
    """Cut out what FER-2013 would frame around `box`, as (48, 48, 1) float32 in [0, 255]; edges are repeated.

    The crop is turned about its centre so that what slopes by `slope` degrees, clockwise, is level.
    """
    x, y, width, height = box
    side = (width + height) / 2 / framing.size
    middle = x + width / 2 - framing.right * side, y + height / 2 - framing.down * side
    if not slope:
        return resized(square(gray, *middle, side), FACE_SIZE)
    # A square about twice as fine as needed, with room for its corners, turned and then shrunk, stays free of jaggies.
    fine, room = 2 * FACE_SIZE, 3 * FACE_SIZE
    wide = resized(square(gray, *middle, side * room / fine), room)[:, :, 0]
    turn = cv2.getRotationMatrix2D(((room - 1) / 2, (room - 1) / 2), slope, 1.0)
    edge = (room - fine) // 2
    turned = cv2.warpAffine(wide, turn, (room, room), borderMode=cv2.BORDER_REPLICATE)[edge:-edge, edge:-edge]
    return resized(turned, FACE_SIZE)


def slope(landmarks: Floats | None) -> float:
    """Degrees by which the line through the eyes falls to the right; 0 where it is unknown or small."""
    if landmarks is None:
        return 0.0
    across, down = landmarks[1] - landmarks[0]
    degrees = float(np.degrees(np.arctan2(down, across)))
    return degrees if abs(degrees) > LEVEL_ABOVE else 0.0


def square(pixels: Gray, x: float, y: float, side: float) -> Gray:
    """The square of `side` pixels about a point, its edges repeated where it leaves the picture."""
    left, top, count = round(x - side / 2), round(y - side / 2), max(1, round(side))
    rows = np.clip(np.arange(top, top + count), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(left, left + count), 0, pixels.shape[1] - 1)
    return pixels[rows][:, columns]  # a quarter of the time of one look-up by both


def resized(gray: NDArray[Any], side: int) -> NDArray[np.float32]:
    """A picture `side` pixels wide: averaged where it shrinks; where it grows, averaging would leave blocks."""
    method = cv2.INTER_AREA if min(gray.shape[:2]) >= side else cv2.INTER_CUBIC
    face = np.asarray(cv2.resize(gray, (side, side), interpolation=method), dtype=np.float32)
    return np.clip(face, 0, 255)[:, :, None]
