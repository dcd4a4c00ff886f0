"""mien.video.recordings: frames and their times in, an annotated video out, whole or not at all."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.errors import MienError
from mien.video import recordings
from mien.video.recordings import CODECS, Video, opened, usable_rate, writing

WriteVideo = Callable[..., Path]


class Capture:
    """A camera that sends frames of one gray each, with the time stamps given."""

    def __init__(self, stamps: list[float]) -> None:
        self.stamps, self.index, self.held = stamps, -1, 0

    def read(self) -> tuple[bool, Any]:
        self.index += 1
        if self.index >= len(self.stamps):
            return False, None
        return True, np.full((48, 64, 3), self.index, np.uint8)

    def get(self, prop: int) -> float:
        return 1000 * self.stamps[self.index] if prop == cv2.CAP_PROP_POS_MSEC else 0.0

    def release(self) -> None:
        pass


def times(stamps: list[float], rate: float = 10.0) -> list[float]:
    return [round(frame.time, 6) for frame in Video(Path("v.mp4"), Capture(stamps), rate, 0).frames()]


def grays(path: Path) -> list[int]:
    with opened(path) as recording:
        return [round(float(frame.pixels.mean())) for frame in recording.frames()]


def test_frames_come_in_order_upright_in_rgb_with_their_times(write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", count=20, rate=25.0, squares=lambda number: [(10 * number, 40, 60, 50)])
    with opened(path) as recording:
        frames = list(recording.frames())
        assert (recording.rate, recording.count) == (25, 20)
    assert [frame.number for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(20) / 25, atol=1e-6)
    assert frames[0].pixels.shape == (240, 320, 3)
    for frame in (frames[3], frames[15]):
        left = int(np.flatnonzero(frame.pixels[60, :, 0] < 140)[0])
        assert abs(left - 10 * frame.number) <= 2


def test_colours_are_red_first(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "red.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    writer.write(np.full((64, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    with opened(tmp_path / "red.mp4") as recording:
        red, green, blue = next(recording.frames()).pixels[32, 32].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_a_video_turned_by_its_header_is_read_upright(write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", count=3)
    content = path.read_bytes()
    turned = np.array([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], ">i4").tobytes()
    upright = np.array([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000], ">i4").tobytes()
    place = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:place] + turned + content[place + 36 :])
    with opened(path) as recording:
        assert next(recording.frames()).pixels.shape == (320, 240, 3)


def test_uneven_times_are_those_of_the_file() -> None:
    assert times([5.0, 5.1, 5.4, 6.0]) == [0, 0.1, 0.4, 1.0]


def test_a_clock_that_stands_jumps_or_runs_back_goes_on_at_the_usual_rate() -> None:
    assert times([0, 0, 0, 0]) == [0, 0.1, 0.2, 0.3]
    assert times([0, 0.1, 95443.8, 95443.9]) == [0, 0.1, 0.2, 0.3]
    assert times([0, 0.5, 0.2, 0.3]) == [0, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(("claimed", "rate"), [(25, 25), (29.97, 29.97), (0, 30), (1000, 30), (float("nan"), 30)])
def test_a_rate_that_makes_no_sense_is_replaced(claimed: float, rate: float) -> None:
    assert usable_rate(claimed) == rate


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"no video at all\n" * 20, "no video stream"),
        ("cut", "no video stream"),
        ("sound", "no video stream"),
    ],
)
def test_what_is_no_video_gets_one_message(
    content: bytes | str | None,
    message: str,
    write_video: WriteVideo,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "broken.mp4"
    if content == "cut":
        whole = write_video(path, count=30).read_bytes()
        content = whole[: len(whole) // 2]
    elif content == "sound":
        content = (
            b"RIFF\x2c\x03\x00\x00WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\x20\x03\0\0"
            + b"\x80" * 800
        )
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(MienError, match=rf"broken\.mp4.*{message}"), opened(path):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="Is a directory"), opened(tmp_path):
        pass


def test_a_video_whose_frames_cannot_be_read_is_told() -> None:
    with pytest.raises(MienError, match=r"v\.mp4 holds no frame"):
        times([])


@pytest.mark.parametrize("ending", sorted(CODECS))
def test_what_is_written_can_be_read(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"out{ending}"
    with writing(path, 25.0) as writer:
        for number in range(10):
            writer.write(np.full((64, 80, 3), 20 * number, np.uint8), number / 25)
        assert not path.exists()
    np.testing.assert_allclose(grays(path), 20 * np.arange(10), atol=6)
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


def test_uneven_frames_keep_their_times_in_a_video_of_one_rate(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with writing(path, 10.0) as writer:
        for gray, time in ((0, 0.0), (80, 0.1), (120, 0.12), (160, 0.5), (240, 0.6)):
            writer.write(np.full((64, 80, 3), gray, np.uint8), time)
    np.testing.assert_allclose(grays(path), [0, 120, 120, 120, 120, 160, 240], atol=6)


@pytest.mark.parametrize("size", [(65, 81), (64, 81), (17, 16)])
def test_odd_sizes_can_be_written(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with writing(path, 10.0) as writer:
        writer.write(np.full((*size, 3), 90, np.uint8), 0.0)
    assert len(grays(path)) == 1


def test_a_stream_that_changes_its_size_is_fitted_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with writing(path, 10.0) as writer:
        for index, shape in enumerate([(64, 80, 3), (128, 160, 3), (32, 40, 3)]):
            writer.write(np.full(shape, 90, np.uint8), index / 10)
    np.testing.assert_allclose(grays(path), [90, 90, 90], atol=6)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MienError, SystemExit])
def test_an_interrupted_video_leaves_no_file_and_keeps_the_old_one(
    failure: type[BaseException], tmp_path: Path
) -> None:
    def interrupted() -> None:
        with writing(path, 10.0) as writer:
            for number in range(5):
                writer.write(np.zeros((64, 80, 3), np.uint8), number / 10)
            raise failure

    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(failure):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_size_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="1 × 1"), writing(tmp_path / "out.mp4", 10.0) as writer:
        writer.write(np.zeros((1, 1, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())


def test_an_ending_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MienError, match=r"'\.mov'.*\.mp4"), writing(tmp_path / "out.mov", 10.0):
        pass


def test_a_video_that_the_disk_did_not_take_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "playable", lambda path: False)
    with (
        pytest.raises(MienError, match=r"out\.mp4 could not be written whole"),
        writing(tmp_path / "out.mp4", 10) as writer,
    ):
        writer.write(np.zeros((64, 80, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_a_videos_length(write_video: WriteVideo, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", count=400, size=(640, 480))
    # In a process of its own, since others' peaks would hide this one's; 400 frames held would be 370 MB.
    script = """
import resource, sys
from pathlib import Path
from mien.video.recordings import opened, writing
peaks = []
with opened(Path(sys.argv[1])) as recording, writing(Path(sys.argv[2]), recording.rate) as writer:
    for frame in recording.frames():
        writer.write(frame.pixels, frame.time)
        if frame.number in (40, 399):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "out.mp4")]
    early, late = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert late - early < 20 * 1024  # kilobytes


def test_frames_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture([index / 10 for index in range(50)])
    recording = Video(Path("v.mp4"), capture, 10.0, 0)
    for frame in recording.frames():
        assert capture.index == frame.number


def test_times_never_run_back() -> None:
    stamps = np.random.default_rng(0).normal(0, 5, 200).cumsum().tolist()
    assert all(later > earlier for earlier, later in pairwise(times(stamps)))
