"""Measure every image: statistics, exact copies, label conflicts, leaks, images without a face."""

import hashlib
import io
import warnings
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.emotions import FACE_SIZE
from mien.errors import MienError

BLANK_ROWS = 0.4
"""Share of blank pixel rows from which an image is a placeholder; genuine faces in FER-2013 reach 0.33."""


def decode(data: bytes, origin: str) -> NDArray[np.uint8]:
    """Decode image bytes to gray `(height, width)`, turned as EXIF says; the error for a corrupt one names `origin`."""
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            image = None  # too large for OpenCV; Pillow's error states the limit
    return np.asarray(_decode_slowly(data, origin) if image is None else image, np.uint8)


def face(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink (or stretch) a gray image to a 48x48 face by area averaging, which does not alias."""
    if gray.shape == (FACE_SIZE, FACE_SIZE):
        return gray
    return np.asarray(cv2.resize(gray, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def measure(image: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure one 48x48 face: pixel hash, mean, std, sharpness (variance of the Laplacian), flat, placeholder."""
    flat = bool(image.min() == image.max())
    return {
        "pixels": hashlib.sha256(image.tobytes()).hexdigest(),
        "mean": float(image.mean()),
        "std": float(image.std()),
        "sharpness": float(cv2.Laplacian(image, cv2.CV_64F).var()),
        "flat": flat,
        "placeholder": not flat and blank_rows(image) >= BLANK_ROWS,
    }


def blank_rows(image: NDArray[np.uint8]) -> float:
    """Share of pixel rows that hold nothing but background.

    Text, warning signs and empty frames leave most rows blank; a cropped face, even a dark or drawn one, fills them.
    """
    # Nine neighbouring levels count as one, for JPEG noise around the background's level.
    levels = np.convolve(np.bincount(image.ravel(), minlength=256), np.ones(9, np.int64), "same")
    background = int(levels.argmax())
    # The tolerance shrinks with the contrast, or a dark photo would look blank.
    tolerance = min(16, max(4, int(np.ptp(image)) // 8))
    drawn = (image > background + tolerance) | (image < background - tolerance)
    return float((drawn.sum(axis=1) <= 1).mean())


def groups(pixels: NDArray[Any], emotions: NDArray[Any], splits: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Find groups of exact copies; per row: `copies` (size), `conflict` (labels differ), `leaked` (copy in train).

    Beside them: `spans` (a train row with a copy in another split), `train_conflict` (labels differ within train) and
    `surplus` (not the first of its group in its split).
    """
    _, group, copies = np.unique(pixels, return_inverse=True, return_counts=True)
    train = splits == "train"
    held = np.bincount(group[train], minlength=len(copies)) > 0
    held_out = np.bincount(group[~train], minlength=len(copies)) > 0
    conflict = _differs(group, emotions, len(copies))
    train_conflict = np.zeros(len(pixels), bool)
    train_conflict[train] = _differs(group[train], emotions[train], len(copies))[group[train]]
    surplus = np.ones(len(pixels), bool)
    for split in np.unique(splits):
        members = np.flatnonzero(splits == split)
        surplus[members[np.unique(group[members], return_index=True)[1]]] = False
    return {
        "copies": copies[group].astype(np.int32),
        "conflict": conflict[group],
        "leaked": ~train & held[group],
        "spans": train & held_out[group],
        "train_conflict": train_conflict,
        "surplus": surplus,
    }


def _differs(group: NDArray[Any], emotions: NDArray[Any], size: int) -> NDArray[np.bool_]:
    low, high = np.full(size, 127, np.int8), np.full(size, -1, np.int8)
    np.minimum.at(low, group, emotions)
    np.maximum.at(high, group, emotions)
    return low < high


def _decode_slowly(data: bytes, origin: str) -> Image.Image:
    """Decode with Pillow what OpenCV cannot, such as the 30-byte WebP of an image of one colour."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data)).convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = "it is empty" if not data else str(error).split(" <")[0]
        raise MienError(f"Image {origin} cannot be read: {reason}. Replace or remove it, then fetch again.") from None
