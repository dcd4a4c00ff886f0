"""mien.video.webcam: the camera's picture with emotions on it, until the user has seen enough."""

import importlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ImageGrab

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference.photos import Pixels
from mien.video import webcam
from mien.video.recordings import Frame
from mien.video.webcam import Pace, Screen, show_camera, watch


class Camera:
    """Sends `count` red frames, then nothing; `works` False is a camera that cannot be opened."""

    def __init__(self, count: int = 1000, works: bool = True) -> None:
        self.count, self.works, self.reads, self.released = count, works, 0, False

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self.works

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        return (True, np.full((240, 320, 3), (0, 0, 255), np.uint8)) if self.reads <= self.count else (False, None)

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True

    def latest(self, timeout: float) -> Frame | None:
        read, pixels = self.read()
        return Frame(self.reads, 0.0, pixels[:, :, ::-1]) if read else None


class FakeWindow:
    """Answers with `keys` in turn, then with none; the user closes it after `life` pictures."""

    def __init__(self, keys: str = "", life: int = 1000) -> None:
        self.keys, self.life, self.closed = iter(keys), life, False
        self.shown: list[Pixels] = []

    def show(self, pixels: Pixels) -> str:
        self.shown.append(pixels)
        return next(self.keys, "")

    def is_open(self) -> bool:
        return len(self.shown) < self.life

    def close(self) -> None:
        self.closed = True


class FakeMien:
    """Finds one happy face in every picture, and keeps what it was shown."""

    card = SimpleNamespace(uncertain_below=0.4)

    def __init__(self) -> None:
        self.seen: list[Pixels] = []

    def predict(self, pixels: Pixels) -> dict[str, Any]:
        self.seen.append(pixels)
        probabilities = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.7}
        face = {"box": [100, 60, 80, 80], "emotion": "happy", "probabilities": probabilities, "status": "ok"}
        return {"faces": [face]}


@pytest.mark.parametrize(("keys", "shown"), [("q", 1), ("\x1b", 1), ("Q", 1), ("ab q", 4)])
def test_q_and_escape_end_it_and_other_keys_do_not(keys: str, shown: int) -> None:
    window = FakeWindow(keys)
    watch(Camera(), window, FakeMien())
    assert len(window.shown) == shown


def test_closing_the_window_ends_it() -> None:
    window = FakeWindow(life=3)
    watch(Camera(), window, FakeMien())
    assert len(window.shown) == 3


def test_pictures_are_red_first_and_carry_faces_and_pace() -> None:
    window, mien = FakeWindow("xq"), FakeMien()
    watch(Camera(), window, mien)
    assert (mien.seen[0] == (255, 0, 0)).all()
    drawn = (window.shown[1] != (255, 0, 0)).any(axis=2)
    assert drawn[:12, :80].any()
    assert drawn[55:65, 100:180].any()


def test_pace_tells_frames_a_second_and_latency() -> None:
    pace = Pace()
    assert str(pace) == "– frames/s · 0 ms"
    for index in range(100):
        pace.add(index / 20, index / 20 + 0.03)
    assert str(pace) == "20 frames/s · 30 ms"


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written on the pictures that are shown."""
    written: list[str] = []

    def keep(pixels: Pixels, text: str) -> Pixels:
        written.append(text)
        return pixels

    monkeypatch.setattr(webcam, "caption", keep)
    return written


def test_time_is_taken_from_the_clock_given(texts: list[str]) -> None:
    ticks = itertools.count(step=0.02)
    watch(Camera(), FakeWindow("....q"), FakeMien(), now=lambda: next(ticks))
    assert texts[-1] == "25 frames/s · 20 ms"


def test_a_camera_that_falls_silent_is_told_and_its_window_still_hears_keys(texts: list[str]) -> None:
    ticks = itertools.count(step=0.3)
    watch(Camera(count=2), FakeWindow("........q"), FakeMien(), now=lambda: next(ticks))
    assert texts[-1] == webcam.NO_PICTURE
    assert webcam.NO_PICTURE not in texts[:3]


def test_before_the_first_picture_the_window_says_what_it_waits_for() -> None:
    window = FakeWindow("q")
    watch(Camera(count=0), window, FakeMien())
    assert window.shown[0].shape == webcam.BLANK
    assert len(np.unique(window.shown[0])) > 1


class Watcher(FakeWindow):
    """A user who closes the window once a bright picture is in it."""

    def is_open(self) -> bool:
        return bool(np.median(self.shown[-1]) < 190)


def test_a_network_camera_is_shown(mjpeg: Callable[..., Any]) -> None:
    camera, window = mjpeg(lambda number: np.full((240, 320, 3), 200, np.uint8), [100_000]), Watcher()
    show_camera(window, FakeMien(), camera.address, seconds=200)  # type: ignore[arg-type]
    assert not window.is_open()
    assert camera.connections == 1
    assert window.closed


def test_a_network_camera_is_closed_after_its_seconds(mjpeg: Callable[..., Any]) -> None:
    camera, window = mjpeg(lambda number: np.full((240, 320, 3), 200, np.uint8), [100_000]), FakeWindow(life=10**9)
    show_camera(window, FakeMien(), camera.address, seconds=0.3)  # type: ignore[arg-type]
    assert window.closed


def test_a_numbered_camera_is_opened_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    camera, window = Camera(), FakeWindow("....q")
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: camera if number == 3 else None)
    show_camera(window, FakeMien(), "3")  # type: ignore[arg-type]
    assert camera.released
    assert window.closed


def test_a_recording_may_be_shown_too(write_video: Callable[..., Path], tmp_path: Path) -> None:
    window = FakeWindow(life=8)
    show_camera(window, FakeMien(), str(write_video(tmp_path / "v.mp4", count=5)))  # type: ignore[arg-type]
    assert len(window.shown) == 8


def test_a_camera_that_cannot_be_opened_is_named_and_the_window_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    camera, window = Camera(works=False), FakeWindow()
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: camera)
    with pytest.raises(MienError, match=r"Camera 7 cannot be opened.*another number"):
        show_camera(window, FakeMien(), "7")  # type: ignore[arg-type]
    assert camera.released
    assert window.closed


def test_without_a_display_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(
        MienError, match=r"no display.*bentoml serve mien.serving.service:Mien.*http://localhost:3000/app"
    ):
        Screen()


def test_without_tk_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mien.video.webcam", "PIL.ImageTk"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(MienError, match=r"no Tk.*python3-tk.*http://localhost:3000/app"):
        importlib.import_module("mien.video.webcam").Screen()


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A display that nobody sees."""
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as result:
            name = f":{result.readline().strip()}"  # once it is up
        monkeypatch.setenv("DISPLAY", name)
        yield name
        server.terminate()


def test_a_real_window_shows_pictures_and_hears_keys_and_its_cross(display: str) -> None:
    screen = Screen()
    try:
        root = screen._root
        for size in ((240, 320), (240, 320), (120, 160)):
            assert screen.show(np.full((*size, 3), (255, 0, 0), np.uint8)) == ""
        seen = ImageGrab.grab(xdisplay=display).crop(
            (x := root.winfo_rootx(), y := root.winfo_rooty(), x + 160, y + 120)
        )
        assert seen.getcolors() == [(160 * 120, (255, 0, 0))]
        root.focus_force()
        root.event_generate("<Key>", keysym="q", when="tail")
        assert screen.show(np.zeros((120, 160, 3), np.uint8)) == "q"
        assert screen.show(np.zeros((120, 160, 3), np.uint8)) == ""
        assert screen.is_open()
        root.tk.call(root.protocol("WM_DELETE_WINDOW"))
        assert not screen.is_open()
    finally:
        screen.close()
