"""Read a video frame by frame and write an annotated one, holding one frame at a time."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from mien.errors import MienError
from mien.files import replacing
from mien.inference.photos import Pixels

CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
"""What OpenCV's wheel writes by file ending. Its only H.264 needs special hardware, and its VP9 takes 0.5 s a frame."""
USUAL_RATE = 30.0
RATES = (1.0, 240.0)
"""Frames a second that a file may claim; recordings from browsers claim 1000, and some claim none."""
LONGEST_GAP = 600.0
"""Seconds between two frames; a larger step is a broken clock."""


class Frame(NamedTuple):
    """One frame: its number from 0, its time in seconds from the first one, and its upright RGB pixels."""

    number: int
    time: float
    pixels: Pixels


class Capture(Protocol):
    """What OpenCV's VideoCapture does, of which this needs little."""

    def read(self) -> tuple[bool, cv2.typing.MatLike | None]:
        """The next frame, blue first."""

    def get(self, prop: int, /) -> float:
        """A property, 0 where it is not known."""

    def release(self) -> None:
        """Close it."""


@dataclass(frozen=True)
class Video:
    """An open video: its frames, its rate in frames a second, and how many frames it claims (0: not known).

    `mend` says what to do where it has no frame that can be read.
    """

    path: Path | str
    capture: Capture
    rate: float
    count: int
    mend: str = "It is damaged or cut off: save it anew."

    def frames(self, seconds: float | None = None) -> Iterator[Frame]:
        """Every frame, or those of the first seconds, in order, with times that never run back.

        Raises MienError where none can be read.
        """
        start, time, number = 0.0, 0.0, 0
        while True:
            read, pixels = self.capture.read()
            if not read or pixels is None:
                break
            stamp = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number:
                step = stamp - start - time
                time += step if 0 < step <= LONGEST_GAP else 1 / self.rate
            start = stamp - time  # a clock that jumped goes on from here
            if seconds is not None and time >= seconds:
                return
            yield Frame(number, time, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8))
            number += 1
        if number == 0:
            raise MienError(f"{self.path} holds no frame that can be read. {self.mend}")


@contextmanager
def opened(path: Path) -> Iterator[Video]:
    """The video at `path`. Raises MienError for what is none."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise MienError(f"Cannot read the video {path}: {error.strerror or error}. Pass a video file.") from error
    if empty:
        raise MienError(f"The video {path} is empty (0 bytes). Copy or record it anew.")
    with hushed():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise MienError(
                f"{path} has no video stream that can be decoded: it is damaged, sound alone, or no video. "
                "Pass a video such as .mp4, .mov, .mkv or .webm."
            )
        yield Video(path, capture, usable_rate(capture.get(cv2.CAP_PROP_FPS)), frame_count(capture))
    finally:
        capture.release()


@contextmanager
def hushed() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing to stderr what an error here says better; both write past Python."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def frame_count(capture: Capture) -> int:
    """How many frames a video claims, 0 where it is not known."""
    return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))


def usable_rate(claimed: float) -> float:
    """The frames a second that a file claims, or the usual ones where it claims nonsense."""
    low, high = RATES
    return claimed if math.isfinite(claimed) and low <= claimed <= high else USUAL_RATE


def playable(path: Path) -> bool:
    """Whether a video can be opened."""
    with hushed():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return capture.isOpened()
    finally:
        capture.release()


@contextmanager
def writing(path: Path, rate: float) -> Iterator["Writer"]:
    """Write a video of `rate` frames a second; `path` appears only when all is written.

    Raises MienError for a file ending that OpenCV cannot write, and where the disk did not take it all.
    """
    if path.suffix.lower() not in CODECS:
        raise MienError(f"{path}: a video cannot be written as {path.suffix!r}, expected one of {', '.join(CODECS)}.")
    with replacing(path) as temporary:
        writer = Writer(temporary, rate)
        try:
            yield writer
            writer.finish()
        finally:
            writer.release()
        if not playable(temporary):  # OpenCV itself says nothing of a full disk
            raise MienError(f"{path} could not be written whole. Free the disk and try again.")


class Writer:
    """Writes frames with times to a video of one rate."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate, self.written = path, rate, 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._last: Pixels | None = None

    def write(self, pixels: Pixels, time: float) -> None:
        """Show RGB pixels from `time` seconds on: the frame before is held, or dropped, as the rate asks."""
        while self._last is not None and self.written < round(time * self.rate):
            self._write(self._last)
        self._last = pixels

    def finish(self) -> None:
        """Write the frame that is still held."""
        if self._last is not None:
            self._write(self._last)

    def release(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.release()

    def _write(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            # These codecs halve the colours' resolution: an odd last row or column cannot be kept.
            self._size = (width - width % 2 or width, height - height % 2 or height)
            with hushed():
                self._writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise MienError(f"A video of {width} × {height} pixels cannot be written as {self.path.suffix}.")
        self._writer.write(cv2.cvtColor(_fit(pixels, self._size), cv2.COLOR_RGB2BGR))
        self.written += 1


def _fit(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The pixels cut to a size, or scaled where a stream changed its size in between."""
    width, height = size
    if 0 <= pixels.shape[1] - width <= 1 and 0 <= pixels.shape[0] - height <= 1:
        return np.ascontiguousarray(pixels[:height, :width])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
