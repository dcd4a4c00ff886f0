"""mien.video.streams: cameras and network streams, the latest frame first, connected anew when they break off."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import MienError
from mien.video import streams
from mien.video.recordings import Frame, Video
from mien.video.streams import Live, Stop, is_recording, opened_source, shown

WriteVideo = Callable[..., Path]
Mjpeg = Callable[..., Any]


def gray(number: int) -> NDArray[np.uint8]:
    """A picture that tells its number."""
    return np.full((48, 64, 3), (10 * number) % 250, np.uint8)


class Device:
    """A camera whose frames come when `send` says so; `count` of them, then it is unplugged."""

    def __init__(self, count: int, works: bool = True) -> None:
        self.count, self.works, self.reads, self.released = count, works, 0, False
        self.send = threading.Semaphore(0)

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self.works

    def read(self) -> tuple[bool, Any]:
        if self.reads >= self.count or not self.send.acquire(timeout=30):
            return False, None
        self.reads += 1
        return True, np.full((48, 64, 3), (0, 0, self.reads), np.uint8)

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """A stream of a device, stopped at the end."""
    stop = Stop()

    def start(
        device: Device, connect: Callable[[], Any] = lambda: None, say: Callable[[str], None] = lambda _: None
    ) -> Live:
        started.append(Live("camera 0", device, connect, say, stop))
        return started[-1]

    started: list[Live] = []
    yield start
    for stream in started:
        stream.close()


def wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_is_slower_than_the_camera_gets_its_latest_frame_and_each_once(live: Callable[..., Live]) -> None:
    device = Device(100)
    stream = live(device)
    device.send.release(7)
    wait(lambda: stream._received == 7)
    frame = stream.latest(0)
    assert frame is not None
    assert frame.number == 6
    assert frame.pixels[0, 0].tolist() == [7, 0, 0]  # red first
    assert stream.latest(0) is None
    device.send.release()
    assert (stream.latest(30) or frame).number == 7


def test_times_are_those_of_arrival(live: Callable[..., Live]) -> None:
    device = Device(100)
    stream, times = live(device), []
    for _ in range(5):
        device.send.release()
        frame = stream.latest(30)
        assert frame is not None
        times.append(frame.time)
    assert times[0] == 0
    assert times == sorted(times)
    assert len(set(times)) == 5


def test_a_stream_ends_after_its_seconds_even_if_nothing_comes(live: Callable[..., Live]) -> None:
    assert list(live(Device(100)).frames(seconds=0.15)) == []


def test_a_stream_ends_when_it_is_stopped(live: Callable[..., Live]) -> None:
    device, seen = Device(100), list[int]()
    stream = live(device)
    device.send.release()
    for frame in stream.frames():
        seen.append(frame.number)
        stream.stop.requested = len(seen) == 3
        device.send.release()
    assert seen == [0, 1, 2]


def test_pauses_grow_with_each_failure_and_begin_anew_after_a_frame(
    live: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PAUSES", (0.01, 0.02, 0.04))
    told: list[str] = []
    again, last = Device(1), Device(1)
    for device in (again, last):
        device.send.release()
    first = Device(0)  # opened, but it never sends
    answers: Iterator[Device | None] = iter([None, None, None, again, None, last])
    stream = live(first, lambda: next(answers, None), told.append)
    seen: list[Frame] = []
    wait(lambda: last.released)
    assert [text.partition("again in ")[2] for text in told[:7]] == [
        "0.02 s.", "0.04 s.", "0.04 s.", "0.04 s.", "0.01 s.", "0.02 s.", "0.01 s.",
    ]  # fmt: skip
    assert all(text.startswith("camera 0 sends no picture; trying again") for text in told)
    assert first.released
    assert again.released
    seen += [frame for frame in [stream.latest(0)] if frame]
    assert seen[0].number == 1  # numbers go on over the gap


def test_a_camera_in_the_network_is_read_and_connected_anew_when_it_hangs_up(
    mjpeg: Mjpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PAUSES", (0.05, 0.1))
    camera, told, stop = mjpeg(gray, [5, 0, 5, 1000]), list[str](), Stop()
    seen: list[Frame] = []
    with opened_source(camera.address, stop, told.append) as source:
        assert isinstance(source, Live)
        for frame in source.frames(seconds=60):
            seen.append(frame)
            if camera.connections >= 4 and frame.number > 12:
                break
    assert camera.connections >= 4
    assert len(told) >= 2
    assert told[0] == f"{camera.address} sends no picture; trying again in 0.05 s."
    assert [frame.number for frame in seen] == sorted({frame.number for frame in seen})
    for frame in seen:
        assert abs(int(frame.pixels.mean()) - (10 * frame.number) % 250) <= 3


def test_an_rtsp_camera_is_read_and_connected_anew_when_it_hangs_up(
    rtsp: Callable[..., Any], write_video: WriteVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PAUSES", (0.05, 0.1))
    recording = write_video(tmp_path / "shown.ts", squares=lambda number: [(8 * number, 40, 60, 50)])
    told, stop, seen = list[str](), Stop(), dict[int, int]()
    camera = rtsp(recording, [60, 0, 100_000])
    with opened_source(camera.address, stop, told.append) as source:
        assert isinstance(source, Live)
        assert source.rate == pytest.approx(30)
        for frame in source.frames(seconds=60):
            seen[frame.number] = int(np.median(np.nonzero(frame.pixels[65, :, 0] < 140)[0]))  # the square's middle
            if camera.played >= 3 and len(seen) > 40:
                break
    assert camera.played >= 3
    assert f"{camera.address} sends no picture; trying again in 0.05 s." in told
    assert list(seen) == sorted(seen)
    middles = {8 * number + 29 for number in range(30)}
    assert all(min(abs(where - middle) for middle in middles) <= 2 for where in seen.values())
    assert len(set(seen.values())) > 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("7", r"Camera 7 cannot be opened.*Try another number"),
        ("http://127.0.0.1:9/video", r"^http://127\.0\.0\.1:9/video cannot be opened: nobody answers"),
        ("rtsp://me:secret@127.0.0.1:9/video", r"^rtsp://me:…@127\.0\.0\.1:9/video cannot be opened"),
        ("gone.mp4", r"Cannot read the video gone\.mp4"),
    ],
)
def test_what_cannot_be_opened_is_told_at_once(
    source: str, message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "7":
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Device(0, works=False))
    with pytest.raises(MienError, match=message), opened_source(source, Stop(), print):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_page_that_is_no_video_is_told(serve_files: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>hello</html>" * 50)
    with (
        serve_files(tmp_path) as address,
        pytest.raises(MienError, match="not with a video"),
        opened_source(f"{address}/page.html", Stop(), print),
    ):
        pass


def test_a_recording_in_the_network_is_read_whole(serve_files: Any, write_video: WriteVideo, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", count=20)
    with serve_files(tmp_path) as address, opened_source(f"{address}/v.mp4", Stop(), print) as source:
        assert isinstance(source, Video)
        assert [frame.number for frame in source.frames()] == list(range(20))
        assert source.path == f"{address}/v.mp4"


@pytest.mark.parametrize("ending", [".avi", ".mkv"])
def test_a_video_on_stdin_is_read_whole(ending: str, write_video: WriteVideo, tmp_path: Path) -> None:
    script = """
from mien.video.streams import Stop, opened_source
with opened_source("-", Stop(), print) as source:
    print(source.path, sum(1 for _ in source.frames()))
"""
    with write_video(tmp_path / f"v{ending}", count=20).open("rb") as file:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("stdin 20\n", "")
    failed = subprocess.run(command, input="no video", capture_output=True, text=True, check=False)
    assert "MienError: stdin holds no video that can be decoded" in failed.stderr


def test_a_video_on_stdin_that_wants_seeking_is_told(write_video: WriteVideo, tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", count=600, size=(320, 240)).read_bytes()
    command = [sys.executable, "-m", "mien", "video", "-"]
    failed = subprocess.run(command, input=data, capture_output=True, check=False)
    assert failed.returncode == 1
    assert b"Pipe one that needs no seeking" in failed.stderr


def test_files_come_before_numbers_and_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("0", "-", "rtsp://a/b", "HTTPS://a/b"):
        assert not is_recording(source)
    Path("0").touch()
    for source in ("0", "²", "clip.mp4", "http:", "ftp://a/b", "a/-"):
        assert is_recording(source)


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("rtsp://me:s3:cr@et@cam:554/1?x=2", "rtsp://me:…@cam:554/1?…"),
        ("http://me@cam/1", "http://me@cam/1"),
        ("http://cam:80/1", "http://cam:80/1"),
        ("http://[::1/1?password=x", "http://[::1/1?…"),
        ("3", "camera 3"),
        ("-", "stdin"),
        ("a?b.mp4", "a?b.mp4"),
    ],
)
def test_passwords_are_never_printed(source: str, printed: str) -> None:
    assert shown(source) == printed
