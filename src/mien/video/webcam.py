"""The camera's picture in a window, with every face's emotions on it."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from mien.errors import MienError
from mien.inference.drawing import annotate, caption
from mien.inference.photos import Pixels
from mien.inference.predictor import Mien
from mien.video.recordings import Frame, Video
from mien.video.streams import Stop, opened_source
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
CONNECTING, NO_PICTURE = "waiting for the first picture", "no picture: trying to connect anew"
BLANK = (240, 320, 3)
"""Shape of what is shown before the first picture."""
WAIT, PATIENCE = 0.05, 1.0
"""Seconds to wait for a frame before looking for keys, and after which a camera counts as silent."""
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


class Camera(Protocol):
    """What sends pictures."""

    def latest(self, timeout: float, /) -> Frame | None:
        """The newest frame, each once; None where none came in time."""


def show_camera(
    window: Window, mien: Mien, camera: str = "0", half_life: float = 0.4, seconds: float | None = None
) -> None:
    """Show a camera or stream until the user ends it, or for some seconds. Raises MienError where it cannot be opened.

    One that breaks off is connected anew; meanwhile its last picture says so.
    """
    try:
        with opened_source(camera, Stop(), say=lambda _: None) as source:
            pictures = Played(source) if isinstance(source, Video) else source
            end = None if seconds is None else time.monotonic() + seconds
            watch(pictures, window, mien, half_life, mien.card.uncertain_below, end=end)
    finally:
        window.close()


class Played:
    """A recording as a camera: its next frame, and nothing after its end."""

    def __init__(self, video: Video) -> None:
        self.frames = video.frames()

    def latest(self, timeout: float) -> Frame | None:
        """The next frame."""
        if frame := next(self.frames, None):
            return frame
        time.sleep(timeout)
        return None


def watch(
    camera: Camera,
    window: Window,
    mien: Any,
    half_life: float = 0.4,
    uncertain_below: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
    end: float | None = None,
) -> None:
    """Show each frame with its faces until q, Esc, the window's end or `end` on the monotonic clock."""
    tracker, pace = Tracker(half_life, uncertain_below=uncertain_below), Pace()
    drawn, text, seen = np.full(BLANK, 64, np.uint8), CONNECTING, now()
    while end is None or time.monotonic() < end:
        frame, start = camera.latest(WAIT), now()
        if frame is not None:
            drawn = annotate(frame.pixels, tracker.update(mien.predict(frame.pixels)["faces"], start))
            seen = now()
            pace.add(start, seen)
            text = str(pace)
        elif start - seen >= PATIENCE:
            text = NO_PICTURE
        if window.show(caption(drawn, text)) in ENDING_KEYS or not window.is_open():
            return
