"""Find faces in a photo and crop them the way FER-2013 frames its own."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.inference.crops import SHAPE, Floats, Gray, crop, resized, slope
from mien.inference.detector_file import YUNET_FILE, YUNET_VARIABLE
from mien.inference.detectors import Detection, Detector, Framing, Haar, YuNet, detector
from mien.inference.photos import Pixels
from mien.inference.second_look import SURE, best, fills, upside_down

__all__ = ["SHAPE", "YUNET_FILE", "YUNET_VARIABLE", "Detection", "Detector", "Face", "Framing", "Haar", "YuNet",
           "crop", "detector", "find", "slope", "whole"]  # fmt: skip

DETECTION_SIDE = 640
"""Longest side in pixels given to the detector; larger photos are scaled down to it."""

FACE_PHOTO_SIDES = (16, 64)
"""A squarish picture with sides in this range is itself a face crop: it has no room for a face and a background."""

TURNED_ABOVE, TURNED_BETTER = 0.8, 0.03
"""A turned photo counts where its best face scores above the one, and better than the upright photo's by the other."""


@dataclass(frozen=True)
class Face:
    """A face in a photo: `box` is x, y, width, height in the photo's pixels and lies within it.

    `side` is how large it is there, cut off or not; `score` and `landmarks` (five x, y) are None where the detector
    has none.
    """

    box: tuple[int, int, int, int]
    pixels: NDArray[np.float32]
    found_by: str
    side: float = 0.0
    score: float | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None


def find(
    pixels: Pixels,
    finder: Detector,
    side: int = DETECTION_SIDE,
    size: tuple[int, int] | None = None,
    *,
    turned: bool = True,
) -> list[Face]:
    """Find the faces in RGB pixels (h, w, 3) uint8, detected at a longest side of `side`, the largest first.

    Where the pixels are those of a photo at less than its full size, `size` is its width and height.
    Without `turned` no faces turned by 90 or 180 degrees are looked for where no upright one is sure.
    A tiny squarish picture is taken as one face, `found_by` "whole_image": that is how FER-2013's own look.
    The score is 0 where a second look contradicts: no face in such a picture, or one that is upside down.
    """
    height, width = pixels.shape[:2]
    low, high = FACE_PHOTO_SIDES
    if low <= min(height, width) and max(height, width) <= high and 4 * min(height, width) >= 3 * max(height, width):
        return [whole(pixels, finder)]
    if min(height, width) < low:
        return []
    shrunk, scale = for_detection(pixels, side)
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    full = size or (width, height)
    turns, hits = _upright(shrunk, finder) if turned else (0, finder.detect(shrunk))
    shrunk, gray = np.rot90(shrunk, -turns), np.ascontiguousarray(np.rot90(gray, -turns))
    hits = [replace(seen, score=0.0) if upside_down(seen, shrunk, finder) else seen for seen in hits]
    found = (_face(gray, enlarged(seen, scale), finder, full[::-1] if turns % 2 else full) for seen in hits)
    return [_turned_back(face, turns, full) for face in found if face.box[2] > 0 and face.box[3] > 0]


def _upright(pixels: Pixels, finder: Detector) -> tuple[int, list[Detection]]:
    """Quarter turns clockwise after which faces are best seen, and those seen then.

    YuNet misses faces turned by 90 degrees and takes those turned by 180 for upright ones of a lower score, so a photo
    is turned only where no upright face is sure.
    """
    hits = {0: finder.detect(pixels)}
    if finder.name != YuNet.name or best(hits[0]) >= SURE:
        return 0, hits[0]
    hits |= {turns: finder.detect(np.ascontiguousarray(np.rot90(pixels, -turns))) for turns in (1, 2, 3)}
    turns = max(hits, key=lambda turns: best(hits[turns]))
    turns = turns if best(hits[turns]) > max(TURNED_ABOVE, best(hits[0]) + TURNED_BETTER) else 0
    return turns, hits[turns]


def _turned_back(face: Face, turns: int, size: tuple[int, int]) -> Face:
    """A face found in a photo of `size` after quarter turns clockwise, with its place in the photo as it is."""
    (x, y, width, height), points = face.box, face.landmarks or ()
    for turn in range(turns, 0, -1):
        down = size[1] if turn % 2 else size[0]  # the height of the photo with one turn less
        x, y, width, height = y, down - x - width, height, width
        points = tuple((across, down - along) for along, across in points)
    return replace(face, box=(x, y, width, height), landmarks=points if face.landmarks else None)


def whole(pixels: Pixels, finder: Detector) -> Face:
    """RGB pixels (h, w, 3) uint8 that are said to be a face from edge to edge; score 0 where no face fills them."""
    height, width = pixels.shape[:2]
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    score = None if fills(pixels, finder) else 0.0
    return Face((0, 0, width, height), resized(gray, SHAPE[0]), "whole_image", min(width, height), score)


def _face(gray: Gray, seen: Detection, finder: Detector, size: tuple[int, int]) -> Face:
    """Cut out a face detected in `gray`, with its place in a photo of `size`."""
    ratio = np.array(size) / gray.shape[::-1]
    box = seen.box * np.tile(ratio, 2)
    points = None if seen.landmarks is None else tuple((float(x), float(y)) for x, y in seen.landmarks * ratio)
    cut = crop(gray, seen.box, finder.framing, slope(seen.landmarks))
    return Face(_clip(box, *size), cut, finder.name, float(min(box[2:])), seen.score, points)


def enlarged(seen: Detection, scale: float) -> Detection:
    """A detection in the pixels of a photo that was scaled by `scale` to find it."""
    return Detection(seen.box / scale, seen.score, None if seen.landmarks is None else seen.landmarks / scale)


def for_detection(pixels: Pixels, side: int) -> tuple[Pixels, float]:
    """The photo, scaled down where its longest side is above `side`, and the scale."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return pixels, scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale


def _clip(box: Floats, width: int, height: int) -> tuple[int, int, int, int]:
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, right - left, bottom - top
