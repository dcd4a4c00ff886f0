"""Detectors of faces behind one contract: OpenCV's cascade, and YuNet on OpenCV or OpenVINO."""

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError
from mien.inference import yunet
from mien.inference.crops import square
from mien.inference.detector_file import YUNET_VARIABLE
from mien.inference.first_use import provided
from mien.inference.photos import Pixels

Floats = NDArray[np.float64]

HAAR_SIDE = 400
"""Longest side in pixels given to the cascade, whose time grows with the picture."""

HAAR_WEAK = 2
"""A box on which no more of the cascade's windows agree is looked at again."""
HAAR_AROUND, HAAR_CLOSE = 1.6, 64
"""How much of its surroundings is looked at then, as a multiple of the box, and at how many pixels."""


@dataclass(frozen=True)
class Framing:
    """How a detector's box lies in FER-2013's frame: its size and its centre's offset, as shares of the frame's side.

    Medians over validation faces pasted into scenes and detected again,
    as `python benchmarks/crop_calibration.py` prints them.
    """

    size: float
    right: float
    down: float


@dataclass(frozen=True)
class Detection:
    """A face in the pixels given: box (4,) of x, y, width, height; score in [0, 1]; landmarks (5, 2) of x, y.

    Landmarks are the eyes, the nose's tip and the mouth's corners, each pair the one on the picture's left first.
    """

    box: Floats
    score: float | None = None
    landmarks: Floats | None = None


class Detector(Protocol):
    """What every detector is: a name, the framing of its boxes, and faces found in RGB pixels (h, w, 3) uint8."""

    name: str
    framing: Framing

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces, the largest first."""


class Haar:
    """OpenCV's Viola-Jones cascade, which comes with it; FER-2013 itself was cropped by one."""

    name = "haar"
    framing = Framing(size=0.965, right=0.0, down=0.0)

    def __init__(self, threads: int | None = None) -> None:
        """Load the cascade; it takes all cores, or `threads`."""
        self._threads = threads
        self._cascade = cv2.CascadeClassifier(
            str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml")
        )
        self._lock = threading.Lock()

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Find faces of 20 pixels and more, in a photo of 640 of 32 and more; the cascade gives no usable score."""
        gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        small, scale = gray, max(1.0, max(gray.shape) / HAAR_SIDE)
        if scale > 1:
            size = max(1, round(gray.shape[1] / scale)), max(1, round(gray.shape[0] / scale))
            small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        boxes, counts = self._boxes(small, scaleFactor=1.2, minNeighbors=1, minSize=(20, 20))
        found = zip(boxes * scale, counts, strict=True)
        return _largest_first([Detection(box) for box, count in found if count > HAAR_WEAK or self._holds(gray, box)])

    def _holds(self, gray: NDArray[np.uint8], box: Floats) -> bool:
        """Whether the cascade finds the face of a weak box again from near, in small steps."""
        around = square(gray, box[0] + box[2] / 2, box[1] + box[3] / 2, HAAR_AROUND * box[2])
        method = cv2.INTER_AREA if len(around) > HAAR_CLOSE else cv2.INTER_CUBIC
        near = cv2.resize(around, (HAAR_CLOSE, HAAR_CLOSE), interpolation=method)
        smallest = int(0.75 * HAAR_CLOSE / HAAR_AROUND)
        return len(self._boxes(near, scaleFactor=1.05, minNeighbors=4, minSize=(smallest, smallest))[0]) > 0

    def suspects(self, pixels: Pixels, smallest: int) -> bool:
        """Whether anything of `smallest` pixels or more resembles a face: smaller steps, and no neighbours wanted."""
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return len(self._boxes(gray, scaleFactor=1.1, minNeighbors=0, minSize=(smallest, smallest))[0]) > 0

    def _boxes(self, gray: NDArray[Any], **options: Any) -> tuple[Floats, Sequence[int]]:
        """Boxes (n, 4), and how many of the cascade's windows agree on each."""
        with self._lock, opencv_threads(self._threads):
            found, counts = self._cascade.detectMultiScale2(gray, **options)
        return np.asarray(found, dtype=np.float64).reshape(-1, 4), counts


class YuNet:
    """The small neural detector of OpenCV's zoo on OpenCV; its model is a file of its own."""

    name = "yunet"
    framing = Framing(size=0.904, right=0.002, down=0.030)

    def __init__(self, model: Path, threads: int | None = None) -> None:
        """Load `model`. Raises MienError where it is missing or no YuNet."""
        _check_there(model)
        self._threads = threads
        self._lock = threading.Lock()
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model), "", (64, 64), score_threshold=yunet.SCORE, nms_threshold=yunet.OVERLAP
            )
            self.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise _no_yunet(model) from error

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Find faces of about 10 to 300 pixels."""
        picture = yunet.canvas(pixels)  # on strips, 32 pixels high, OpenCV finds infinite faces
        with self._lock, opencv_threads(self._threads):  # the input's size is state of the network
            self._network.setInputSize((picture.shape[1], picture.shape[0]))
            found = self._network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        return _from_rows(np.zeros((0, 15)) if found is None else np.asarray(found, dtype=np.float64))


class YuNetOnOpenVINO:
    """The same network on OpenVINO, two to three times as fast."""

    name = YuNet.name
    framing = YuNet.framing

    def __init__(self, model: Path, threads: int | None = None) -> None:
        """Load `model`. Raises MienError where it is missing or no YuNet."""
        _check_there(model)
        try:
            self._networks = yunet.Canvases(model, threads)
        # OpenVINO raises bare C++ exceptions of many types for a file that it cannot use.
        except Exception as error:
            raise _no_yunet(model) from error

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Find faces of about 10 to 300 pixels."""
        return _from_rows(self._networks.find(pixels))


def detector(name: str = "auto", folder: Path | None = None, *, threads: int | None = None) -> Detector:
    """Load the detector called `haar` or `yunet`; `auto` is YuNet where its file can be had, else Haar.

    That file is the one that MIEN_YUNET names, else `yunet.onnx` in `folder`, else the one that is fetched once.
    """
    if name not in ("auto", "haar", "yunet"):
        raise MienError(f"Unknown detector {name!r}: expected auto, haar or yunet.")
    model = None if name == "haar" else provided(folder)
    if model:
        fast = importlib.util.find_spec("openvino")
        return YuNetOnOpenVINO(model, threads) if fast else YuNet(model, threads)
    if name == "yunet":
        raise MienError("YuNet's file is not at hand. Fetch it with `mien fetch detector`, or use haar.")
    return Haar(threads)


@contextmanager
def opencv_threads(threads: int | None) -> Iterator[None]:
    """Let OpenCV take no more than `threads` for the length of the block, all it likes where None.

    OpenCV has one setting for the whole process, so that others who use it meanwhile are slower, never wrong.
    """
    if threads is None:
        yield
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def yunet_is_named() -> bool:
    """Whether the environment names YuNet's file."""
    return bool(os.environ.get(YUNET_VARIABLE))


def _check_there(model: Path) -> None:
    if not model.is_file():
        raise MienError(f"{model} is missing: expected YuNet's ONNX file. Mend {YUNET_VARIABLE} or unset it.")


def _no_yunet(model: Path) -> MienError:
    return MienError(f"{model} is no YuNet model. Fetch it anew with `mien fetch detector`, or use haar.")


def _from_rows(rows: Floats) -> list[Detection]:
    """Detections from YuNet's rows (n, 15): box, five landmarks, score."""
    return _largest_first([Detection(row[:4], float(row[14]), row[4:14].reshape(5, 2)) for row in rows])


def _largest_first(found: list[Detection]) -> list[Detection]:
    return sorted(found, key=lambda face: -float(face.box[2] * face.box[3]))
