"""A second look at what may be no upright face, by the detector that found it."""

import cv2
import numpy as np

from mien.emotions import FACE_SIZE
from mien.inference.crops import square
from mien.inference.detectors import Detection, Detector, Haar, YuNet
from mien.inference.photos import Pixels

SURE = 0.88
"""An upright face to which YuNet gives this score is one: next to none that lie or stand on their head get it."""

HAAR_FACE = 30
"""Pixels from which Haar's box counts in a picture of 48."""

AROUND, SIDE = 2.0, 128
"""How much of a face's surroundings is looked at, as a multiple of its box, and at how many pixels."""


def fills(pixels: Pixels, finder: Detector) -> bool:
    """Whether a picture, in a gray margin, is a face from edge to edge, as far as its detector can tell."""
    if isinstance(finder, Haar):
        return finder.suspects(_framed(pixels, FACE_SIZE), HAAR_FACE)
    if finder.name != YuNet.name:
        return True
    side = 2 * FACE_SIZE
    return any(seen.box[2] * seen.box[3] > side * side / 5 for seen in finder.detect(_framed(pixels, side)))


def upside_down(seen: Detection, pixels: Pixels, finder: Detector) -> bool:
    """Whether YuNet scores a face that it is not sure of higher when it is turned by 180 degrees.

    Its landmarks do not tell: it gives faces that are upside down those of upright ones.
    """
    if finder.name != YuNet.name or seen.score is None or seen.score >= SURE:
        return False
    (x, y), (width, height) = seen.box[:2], seen.box[2:]
    around = square(pixels, x + width / 2, y + height / 2, AROUND * (width + height) / 2)
    return best(finder.detect(np.ascontiguousarray(_view(around, SIDE)[::-1, ::-1]))) > seen.score


def best(found: list[Detection]) -> float:
    """The highest score, 0 where there is none."""
    return max((seen.score or 0.0 for seen in found), default=0.0)


def _framed(pixels: Pixels, side: int) -> Pixels:
    edge, gray = side // 3, (128, 128, 128)
    framed = cv2.copyMakeBorder(_view(pixels, side), edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=gray)
    return np.asarray(framed, dtype=np.uint8)


def _view(pixels: Pixels, side: int) -> Pixels:
    method = cv2.INTER_AREA if min(pixels.shape[:2]) >= side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=method), dtype=np.uint8)
