"""Find faces in a photo and crop them the way FER-2013 frames its own."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE
from mien.errors import MienError
from mien.serving.photos import Pixels

YUNET_VARIABLE = "MIEN_YUNET"
YUNET_FILE = "yunet.onnx"
SHAPE = (FACE_SIZE, FACE_SIZE, 1)
DETECTION_SIDE = 640
"""Longest side in pixels at which faces are looked for; larger photos are scaled down to it."""

FACE_PHOTO_SIDES = (16, 64)
"""A squarish picture with sides in this range is itself a face crop: it has no room for a face and a background."""


@dataclass(frozen=True)
class Framing:
    """How a detector's box lies in FER-2013's frame: its size and its centre's offset, as shares of the frame's side.

    Medians over 1,500 Training faces, each pasted into a larger scene and detected again.
    """

    size: float
    right: float
    down: float


@dataclass(frozen=True)
class Face:
    """A face in a photo: `box` is x, y, width, height in the photo's pixels and lies within it."""

    box: tuple[int, int, int, int]
    pixels: NDArray[np.float32]
    found_by: str


class Detector(Protocol):
    """What every detector is: a name, the framing of its boxes, and boxes found in RGB pixels."""

    name: str
    framing: Framing

    def boxes(self, pixels: Pixels) -> NDArray[np.float64]:
        """Boxes (n, 4) of x, y, width, height, the largest first, in the pixels given."""


class Haar:
    """OpenCV's Viola-Jones cascade, which comes with it; FER-2013 itself was cropped by one."""

    name = "haar"
    framing = Framing(size=0.965, right=0.0, down=0.0)

    def __init__(self) -> None:
        self._cascade = cv2.CascadeClassifier(
            str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml")
        )
        self._lock = threading.Lock()

    def boxes(self, pixels: Pixels) -> NDArray[np.float64]:
        """Find faces of 20 pixels and more."""
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        with self._lock:
            found = self._cascade.detectMultiScale(gray, scaleFactor=1.2, minNeighbors=4, minSize=(20, 20))
        return _largest_first(np.asarray(found, dtype=np.float64).reshape(-1, 4))


class YuNet:
    """The small neural detector of OpenCV's zoo; its model is a file of its own."""

    name = "yunet"
    framing = Framing(size=0.92, right=-0.01, down=0.02)

    def __init__(self, model: Path) -> None:
        """Load `model`. Raises MienError where it is missing or no YuNet."""
        if not model.is_file():
            raise MienError(f"{model} is missing: expected YuNet's ONNX file. Mend {YUNET_VARIABLE} or unset it.")
        self._lock = threading.Lock()
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (64, 64), score_threshold=0.7)
            self.boxes(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise MienError(f"{model} is no YuNet model that OpenCV can run. Fetch it anew or use Haar.") from error

    def boxes(self, pixels: Pixels) -> NDArray[np.float64]:
        """Find faces of about 10 to 300 pixels."""
        with self._lock:  # the input's size is state of the network
            self._network.setInputSize((pixels.shape[1], pixels.shape[0]))
            found = self._network.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 4)) if found is None else np.asarray(found, dtype=np.float64)[:, :4]
        return _largest_first(rows)


def yunet_is_named() -> bool:
    """Whether the environment names YuNet's file."""
    return bool(os.environ.get(YUNET_VARIABLE))


def detector(name: str = "auto", folder: Path | None = None) -> Detector:
    """Load the detector called `haar` or `yunet`; `auto` is YuNet where its file is at hand, else Haar.

    That file is the one that MIEN_YUNET names, else `yunet.onnx` in `folder`.
    """
    named = os.environ.get(YUNET_VARIABLE)
    model = Path(named) if named else (folder or Path()) / YUNET_FILE
    if name not in ("auto", "haar", "yunet"):
        raise MienError(f"Unknown detector {name!r}: expected auto, haar or yunet.")
    at_hand = bool(named) or (folder is not None and model.is_file())
    return YuNet(model) if name == "yunet" or (name == "auto" and at_hand) else Haar()


def find(pixels: Pixels, finder: Detector) -> list[Face]:
    """Find the faces in RGB pixels (h, w, 3) uint8, the largest first.

    A tiny squarish picture is taken as one face, `found_by` "whole_image": that is how FER-2013's own look.
    """
    height, width = pixels.shape[:2]
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    low, high = FACE_PHOTO_SIDES
    if low <= min(height, width) and max(height, width) <= high and 4 * min(height, width) >= 3 * max(height, width):
        return [Face((0, 0, width, height), _shrink(gray), "whole_image")]
    if min(height, width) < low:
        return []
    shrunk, scale = _for_detection(pixels)
    boxes = finder.boxes(shrunk) / scale
    kept = [(box, clipped) for box in boxes if (clipped := _clip(box, width, height))[2] > 0 and clipped[3] > 0]
    return [Face(clipped, crop(gray, box, finder.framing), finder.name) for box, clipped in kept]


def crop(gray: NDArray[np.uint8], box: NDArray[np.float64], framing: Framing) -> NDArray[np.float32]:
    """Cut out what FER-2013 would frame around `box`, as (48, 48, 1) float32 in [0, 255]; edges are repeated."""
    x, y, width, height = box
    side = (width + height) / 2 / framing.size
    left = round(x + width / 2 - (0.5 + framing.right) * side)
    top = round(y + height / 2 - (0.5 + framing.down) * side)
    count = max(1, round(side))
    rows = np.clip(np.arange(top, top + count), 0, gray.shape[0] - 1)
    columns = np.clip(np.arange(left, left + count), 0, gray.shape[1] - 1)
    return _shrink(gray[rows[:, None], columns])


def _for_detection(pixels: Pixels) -> tuple[Pixels, float]:
    height, width = pixels.shape[:2]
    scale = min(1.0, DETECTION_SIDE / max(height, width))
    if scale == 1.0:
        return pixels, scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale


def _clip(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, right - left, bottom - top


def _shrink(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    face = cv2.resize(gray, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(face, dtype=np.float32)[:, :, None]


def _largest_first(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")]
