"""The camera's picture in a window, with every face's emotions on it."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from PIL import Image

from mien.errors import MienError
from mien.inference.drawing import annotate, caption
from mien.inference.photos import Pixels
from mien.inference.predictor import Mien
from mien.video.recordings import Capture
from mien.video.tracking import Tracker

if TYPE_CHECKING:
    import tkinter

TITLE = "Mien (q or Esc ends)"
ENDING_KEYS = {"q", "Q", "\x1b"}
INSTALL = "" if find_spec("bentoml") else "install Mien's extra `serve` (pip install 'mien[serve]'), "
PAGE = (
    f"For the same in a browser, {INSTALL}run `bentoml serve mien.serving.service:Mien` and open "
    "http://localhost:3000/app."
)
MEASURED = 30
"""Frames over which the frames a second and the latency on the picture are averaged."""


class Window(Protocol):
    """Where pictures are shown."""

    def show(self, pixels: Pixels) -> str:
        """Show RGB pixels; gives the key pressed since, empty where none was."""

    def is_open(self) -> bool:
        """Whether the user has not closed it."""

    def close(self) -> None:
        """Take it away."""


class Screen:
    """A window of Tk's, since the OpenCV of servers has none."""

    def __init__(self) -> None:
        """Raises MienError without a display or without Tk."""
        try:
            import tkinter

            from PIL.ImageTk import PhotoImage
        except ImportError:
            raise MienError(f"This Python has no Tk to show a window with (Debian: python3-tk). {PAGE}") from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError:
            raise MienError(f"There is no display to show the camera on. {PAGE}") from None
        self._root.title(TITLE)
        self._root.resizable(width=False, height=False)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._prepare = partial(PhotoImage, master=self._root)
        self._key, self._open = "", True
        self._root.bind("<Key>", self._pressed)
        self._root.protocol("WM_DELETE_WINDOW", self._closed)

    def show(self, pixels: Pixels) -> str:
        """Show RGB pixels; gives the key pressed since."""
        self._key = ""
        self._shown = self._prepare(Image.fromarray(pixels))  # kept, since Tk alone does not keep it
        self._label["image"] = self._shown
        self._root.update()
        return self._key

    def is_open(self) -> bool:
        """Whether the user has not closed it."""
        return self._open

    def close(self) -> None:
        """Take it away."""
        self._root.destroy()

    def _pressed(self, event: "tkinter.Event[tkinter.Misc]") -> None:
        self._key = event.char

    def _closed(self) -> None:
        self._open = False


class Pace:
    """Frames a second and latency, averaged over the last frames."""

    def __init__(self) -> None:
        self.ends: deque[float] = deque(maxlen=MEASURED)
        self.latencies: deque[float] = deque(maxlen=MEASURED)

    def add(self, start: float, end: float) -> None:
        """A frame was read at `start` and is drawn at `end`, in seconds."""
        self.ends.append(end)
        self.latencies.append(end - start)

    def __str__(self) -> str:
        passed = self.ends[-1] - self.ends[0] if self.ends else 0.0
        rate = f"{(len(self.ends) - 1) / passed:.0f}" if passed > 0 else "–"
        latency = 1000 * sum(self.latencies) / max(1, len(self.latencies))
        return f"{rate} frames/s · {latency:.0f} ms"


def show_camera(window: Window, mien: Mien, camera: int = 0, half_life: float = 0.4) -> None:
    """Show a camera until the user ends it. Raises MienError without a camera."""
    try:
        with opened_camera(camera) as capture:
            watch(capture, window, mien, half_life, mien.card.uncertain_below)
    finally:
        window.close()


@contextmanager
def opened_camera(camera: int) -> Iterator[Capture]:
    """A camera by its number. Raises MienError where it cannot be opened."""
    capture = cv2.VideoCapture(camera)
    try:
        if not capture.isOpened():
            raise MienError(
                f"Camera {camera} cannot be opened: none is there, another program holds it, or it may not be used. "
                "Try another number with --camera."
            )
        yield capture
    finally:
        capture.release()


def watch(
    capture: Capture,
    window: Window,
    mien: Any,
    half_life: float = 0.4,
    uncertain_below: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
) -> None:
    """Show each frame with its faces until q, Esc or the window's end. Raises MienError when frames stop coming."""
    tracker, pace = Tracker(half_life, uncertain_below=uncertain_below), Pace()
    while True:
        read, frame = capture.read()
        start = now()
        if not read or frame is None:
            raise MienError("The camera sends no picture any more. Plug it in again, or close what else uses it.")
        pixels = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        drawn = annotate(pixels, tracker.update(mien.predict(pixels)["faces"], start))
        pace.add(start, now())
        if window.show(caption(drawn, str(pace))) in ENDING_KEYS or not window.is_open():
            return
