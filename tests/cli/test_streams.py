"""`mien video` on cameras and streams: rows as they come, connected anew, ended cleanly."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.cli.recordings import COLUMNS
from mien.video.recordings import opened

Mjpeg = Callable[..., Any]


def picture(number: int) -> NDArray[np.uint8]:
    return np.full((120, 160, 3), (10 * number) % 250, np.uint8)


@pytest.fixture
def command(brightness_champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [sys.executable, "-m", "mien", "video", "--champion", str(brightness_champion)]


@contextmanager
def running(words: list[str], **options: Any) -> Any:
    """A command that may be interrupted, though the tests' own shell ignores SIGINT for what it starts in the back."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()


def rows(path: str = "rows.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def wait(until: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_that_hangs_up_is_followed_on_until_ctrl_c_ends_it_cleanly(
    number: signal.Signals, mjpeg: Mjpeg, command: list[str]
) -> None:
    camera = mjpeg(picture, [10, 100_000])
    words = [*command, camera.address, "--csv", "rows.csv", "--out", "out.mp4", "--plot", "plot.png"]
    with running(words) as process:
        # Rows are there while it runs, of before and after the stream broke off.
        wait(lambda: Path("rows.csv").exists() and any(int(row["frame"] or 0) > 25 for row in rows()), process)
        os.kill(process.pid, number)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert camera.connections == 2
    assert output.decode().startswith(f"{camera.address}: ")
    assert errors.decode().splitlines() == [
        f"{camera.address} sends no picture; trying again in 1 s.",
        "Wrote out.mp4, without sound; browsers play .webm only (slower to write)",
        "Wrote rows.csv",
        "Wrote plot.png",
    ]
    seen = [int(row["frame"]) for row in rows()]
    assert tuple(rows()[0]) == COLUMNS
    assert seen == sorted(seen)
    times = {int(row["frame"]): float(row["time"]) for row in rows()}
    last = max(times)
    assert times[last] > 1  # the pause counts
    with opened(Path("out.mp4")) as video:
        assert video.count / video.rate == pytest.approx(times[last], abs=0.5)
    assert sorted(path.name for path in Path().iterdir()) == ["out.mp4", "plot.png", "rows.csv"]


def test_rows_can_be_read_along_on_stdout(mjpeg: Mjpeg, command: list[str]) -> None:
    camera = mjpeg(picture, [100_000])
    with running([*command, camera.address, "--csv", "-"]) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(6)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert lines[0] == ",".join(COLUMNS) + "\n"
    assert [line.partition(",")[0].isdigit() for line in lines[1:]] == [True] * 5
    assert b"frames" not in rest  # the summary is on stderr
    assert camera.address in errors.decode()


def test_a_stream_ends_after_its_seconds(mjpeg: Mjpeg, command: list[str]) -> None:
    camera = mjpeg(picture, [100_000])
    words = [*command, camera.address, "--seconds", "1", "--csv", "rows.csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=200)
    assert done.stderr == "Wrote rows.csv\n"
    assert 0 < max(float(row["time"]) for row in rows()) < 60


def test_a_recordings_first_seconds_are_followed(write_video: Callable[..., Path], command: list[str]) -> None:
    write_video(Path("in.mp4"), count=60, rate=30.0)
    words = [*command, "in.mp4", "--seconds", "0.5", "--csv", "rows.csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [row["frame"] for row in rows()] == [str(number) for number in range(15)]
    assert done.stderr == "Wrote rows.csv\n"


def test_a_video_is_followed_from_stdin(write_video: Callable[..., Path], command: list[str]) -> None:
    with write_video(Path("in.avi"), count=12).open("rb") as file:
        words = [*command, "-", "--csv", "rows.csv", "--plot", "plot.png"]
        done = subprocess.run(words, stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("stdin: 12 frames")
    assert [row["frame"] for row in rows()] == [str(number) for number in range(12)]


def test_an_address_where_nobody_answers_is_one_message_without_its_password(command: list[str]) -> None:
    words = [*command, "rtsp://me:s3cret@127.0.0.1:9/video", "--csv", "rows.csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: rtsp://me:…@127.0.0.1:9/video cannot be opened: nobody answers there, or not with a video. "
        "Check the address and the network.\n"
    )
    assert list(Path().iterdir()) == []


def test_a_stream_that_sends_no_frame_before_it_is_stopped_is_told(mjpeg: Mjpeg, command: list[str]) -> None:
    def late(number: int) -> NDArray[np.uint8]:
        if number == 3:
            time.sleep(1)
        return picture(number)

    camera = mjpeg(late, [100_000])
    words = [*command, camera.address, "--seconds", "0.000001"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {camera.address} sent no frame.\n"


def test_a_camera_goes_by_its_number(command: list[str]) -> None:
    missing = next(number for number in range(90, 99) if not Path(f"/dev/video{number}").exists())
    done = subprocess.run([*command, str(missing)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Camera {missing} cannot be opened")
    assert done.stderr.count("\n") == 1


def test_the_picture_is_the_latest_when_the_model_is_slower_than_the_camera(mjpeg: Mjpeg, command: list[str]) -> None:
    """Half of the frames cannot be looked at: what is looked at must not fall behind what was sent."""
    camera = mjpeg(picture, [100_000], rate=500.0)
    slow = (
        "import time, sys; from mien.inference.predictor import Mien; real = Mien.predict;"
        "Mien.predict = lambda self, image: (time.sleep(0.2), real(self, image))[1];"
        "from mien.cli.main import main; sys.argv[0] = 'mien'; main()"
    )
    words = [sys.executable, "-c", slow, *command[3:], camera.address, "--csv", "rows.csv"]
    with running(words) as process:
        wait(lambda: Path("rows.csv").exists() and len(rows()) > 8, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    steps = np.diff([int(row["frame"]) for row in rows()])
    assert steps.min() > 0
    assert steps[1:].mean() > 5  # at 5 looks a second, with hundreds of frames a second sent


def test_opencv_reads_what_the_tests_camera_sends(mjpeg: Mjpeg) -> None:
    capture = cv2.VideoCapture(mjpeg(picture, [3]).address, cv2.CAP_FFMPEG)
    read = [capture.read()[0] for _ in range(4)]
    capture.release()
    assert read == [True, True, True, False]
