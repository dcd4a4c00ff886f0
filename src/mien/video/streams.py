"""Cameras and network streams: the latest frame first, and connected anew when they break off."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.errors import MienError
from mien.video.recordings import Capture, Frame, Video, frame_count, hushed, opened, usable_rate

SCHEMES = ("rtsp", "rtsps", "http", "https")
STDIN = "-"
SEEKING = "Pipe one that needs no seeking, such as .mkv, .ts or MJPEG."
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before a stream is connected anew: the first after it worked, the next ones after each failure."""
TIMEOUT = 10_000
"""Milliseconds after which a stream that sends nothing has broken off."""
POLL = 0.1
"""Seconds after which whoever waits looks whether to stop."""

Say = Callable[[str], None]
Connect = Callable[[], Capture | None]


@dataclass
class Stop:
    """Whether the reading of a stream shall end; without a lock, for which a signal's handler might wait for ever."""

    requested: bool = False

    def wanted(self) -> bool:
        """Whether it shall."""
        return self.requested


def is_recording(source: str) -> bool:
    """Whether a source is a file: neither a camera's number, nor an address, nor stdin."""
    return Path(source).exists() or not (source == STDIN or is_camera(source) or is_address(source))


def is_camera(source: str) -> bool:
    """Whether a source is a camera's number."""
    return source.isdecimal()


def is_address(source: str) -> bool:
    """Whether a source is somewhere in the network."""
    return source.partition("://")[0].lower() in SCHEMES and "://" in source


def shown(source: str) -> str:
    """A source as it is printed: an address without its password and its query, which often holds one too."""
    if source == STDIN:
        return "stdin"
    if not is_address(source):
        return f"camera {source}" if is_camera(source) else source
    place, _, query = source.partition("?")
    user, at, rest = place.rpartition("@")
    user = f"{user[: user.index(':', user.index('://') + 1)]}:…" if user.count(":") > 1 else user
    return f"{user}{at}{rest}{'?…' if query else ''}"


class Live:
    """A camera or stream, read in a thread so that whoever is slower than it gets the latest frame, not the oldest.

    `rate` is what it claims; `count` is 0, since nobody knows how many frames will come.
    """

    count = 0

    def __init__(self, name: str, capture: Capture, connect: Connect, say: Say, stop: Stop) -> None:
        """Begin to read `capture`; where it breaks off, `connect` gives another, or None, after the PAUSES."""
        self.path, self.stop = name, stop
        self.rate = usable_rate(capture.get(cv2.CAP_PROP_FPS))
        self._connect, self._say = connect, say
        self._news = threading.Condition()
        self._latest: Frame | None = None
        self._received, self._started = 0, 0.0
        self._thread = threading.Thread(target=self._run, args=(capture,), daemon=True, name="mien-stream")
        self._thread.start()

    def latest(self, timeout: float) -> Frame | None:
        """The newest frame, each once; None where none came within `timeout` seconds."""
        with self._news:
            self._news.wait_for(lambda: self._latest is not None, timeout)
            frame, self._latest = self._latest, None
        return frame and frame._replace(pixels=np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2RGB), np.uint8))

    def frames(self, seconds: float | None = None) -> Iterator[Frame]:
        """The newest frame whenever one is wanted, until stopped or for some seconds; numbers tell what was skipped."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.stop.wanted() and (end is None or time.monotonic() < end):
            if frame := self.latest(POLL):
                yield frame

    def close(self) -> None:
        """Stop reading; a read that hangs is left to its own timeout."""
        self.stop.requested = True
        self._thread.join(1.0)

    def _run(self, capture: Capture | None) -> None:
        """Read until stopped, and connect anew with growing pauses."""
        failures = 0
        while not self.stop.wanted():
            if capture is not None:
                failures = 0 if self._receive(capture) else failures + 1
                capture.release()
            if self.stop.wanted():
                return
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            self._say(f"{self.path} sends no picture; trying again in {pause:g} s.")
            self._sleep(pause)
            capture = None if self.stop.wanted() else self._connect()
            failures += capture is None

    def _receive(self, capture: Capture) -> bool:
        """Take frames until there are no more; gives whether one came."""
        before = self._received
        while not self.stop.wanted():
            read, pixels = capture.read()
            if not read or pixels is None:
                break
            now = time.monotonic()
            self._started = self._started or now
            with self._news:
                self._latest = Frame(self._received, now - self._started, np.asarray(pixels, dtype=np.uint8))
                self._received += 1
                self._news.notify_all()
        return self._received > before

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stop.wanted() and (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL, left))


@contextmanager
def opened_source(source: str, stop: Stop, say: Say) -> Iterator[Video | Live]:
    """A recording, a camera by number, an rtsp or http address, or a video on stdin (`-`).

    `say` is told when a stream breaks off. Raises MienError for what cannot be opened.
    """
    if is_recording(source):
        with opened(Path(source)) as video:
            yield video
        return
    with hushed():
        capture = connect(source)
    if capture is None:
        raise MienError(f"{shown(source).capitalize() if is_camera(source) else shown(source)} {_mend(source)}")
    count = frame_count(capture)
    if source == STDIN or count:  # a recording in the network has an end, and all of its frames are wanted
        mend = SEEKING if source == STDIN else Video.mend
        try:
            yield Video(shown(source), capture, usable_rate(capture.get(cv2.CAP_PROP_FPS)), count, mend)
        finally:
            capture.release()
        return
    live = Live(shown(source), capture, lambda: connect(source), say, stop)
    try:
        yield live
    finally:
        live.close()


def connect(source: str) -> Capture | None:
    """A camera, a stream or stdin, opened; None where that fails."""
    # FFmpeg reads this before its first video; later on only `hushed` would help, which threads cannot use.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes to stderr past Python
    if is_camera(source):
        capture = cv2.VideoCapture(int(source))
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT]
        capture = cv2.VideoCapture("pipe:0" if source == STDIN else source, cv2.CAP_FFMPEG, limits)
    if capture.isOpened():
        return capture
    capture.release()
    return None


def _mend(source: str) -> str:
    if is_camera(source):
        return "cannot be opened: none is there, another program holds it, or it may not be used. Try another number."
    if source == STDIN:
        return f"holds no video that can be decoded. {SEEKING}"
    return "cannot be opened: nobody answers there, or not with a video. Check the address and the network."
