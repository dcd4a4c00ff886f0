"""mien.cli.recordings: a video's faces followed, drawn, listed and plotted, whole or not at all."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mien.cli import recordings
from mien.cli.main import main
from mien.emotions import EMOTIONS
from mien.inference.photos import Pixels
from mien.video.recordings import Frame, opened

WriteVideo = Callable[..., Path]
Call = Callable[..., Result]


class FakeMien:
    """Takes each dark square for a face: happy where it is darker than 60, else sad."""

    card = SimpleNamespace(uncertain_below=0.5)

    def __init__(self, champion: Path | None = None, turned: bool = True) -> None:
        assert not turned, "a video's faces are looked for upright, once a frame"

    def predict(self, pixels: Pixels) -> dict[str, Any]:
        gray = pixels[:, :, 1]
        count, _, stats, _ = cv2.connectedComponentsWithStats((gray < 150).astype(np.uint8))
        boxes = [stats[index][:4].tolist() for index in range(1, count) if stats[index][4] > 400]
        return {"faces": [self.face(gray, box) for box in boxes]}

    def face(self, gray: Pixels, box: list[int]) -> dict[str, Any]:
        x, y, width, height = box
        emotion = "happy" if gray[y + height // 2, x + width // 2] < 60 else "sad"
        probabilities = dict.fromkeys(EMOTIONS, 0.05) | {emotion: 0.7}
        return {"box": box, "emotion": emotion, "probabilities": probabilities, "status": "ok", "found_by": "haar"}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recordings, "Mien", FakeMien)
    return lambda *arguments: CliRunner().invoke(main, ["video", *arguments])


def two_people(number: int) -> list[tuple[int, int, int, int]]:
    """One who walks to the right and turns sad after two seconds, and one who comes after one second."""
    people = [(10 + 2 * number, 40, 60, 30 if number < 60 else 100)]
    return people + ([(200, 150, 60, 30)] if number >= 30 else [])


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_faces_are_followed_and_everything_asked_for_is_written(call: Call, write_video: WriteVideo) -> None:
    write_video(Path("in.mp4"), count=90, squares=two_people)
    result = call("in.mp4", "--out", "out.mp4", "--csv", "rows.csv", "--plot", "plot.png")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "in.mp4: 90 frames, 3.0 s, 2 faces"
    assert lines[1].split()[:6] == ["face", "1", "0.0", "s", "to", "3.0"]
    assert lines[2].split()[:6] == ["face", "2", "1.0", "s", "to", "3.0"]
    assert "happy 70%" in lines[2]
    assert result.stderr.splitlines() == [
        "Wrote out.mp4, without sound; browsers play .webm only (slower to write)",
        "Wrote rows.csv",
        "Wrote plot.png",
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["in.mp4", "out.mp4", "plot.png", "rows.csv"]
    with opened(Path("out.mp4")) as written, opened(Path("in.mp4")) as original:
        assert (written.rate, written.count) == (original.rate, original.count)
        drawn, plain = next(written.frames()).pixels, next(original.frames()).pixels
    assert drawn.shape == plain.shape
    assert (np.abs(drawn.astype(int) - plain).max(axis=2) > 60).mean() > 0.01
    with Image.open("plot.png") as plot:
        assert plot.format == "PNG"


def test_the_csv_has_a_row_for_each_face_and_frame(call: Call, write_video: WriteVideo) -> None:
    write_video(Path("in.mp4"), count=90, squares=two_people)
    call("in.mp4", "--csv", "rows.csv", "--half-life", "0.5")
    rows = rows_of("rows.csv")
    assert tuple(rows[0]) == recordings.COLUMNS
    assert len(rows) == 90 + 60
    assert [row["track"] for row in rows[:30]] == ["1"] * 30
    assert {row["track"] for row in rows[30:]} == {"1", "2"}
    assert [float(row["time"]) for row in rows[:30]] == pytest.approx([i / 30 for i in range(30)], abs=1e-3)
    first = [row for row in rows if row["track"] == "1"]
    assert [float(row["happy"]) for row in first[:60]] == pytest.approx([0.7] * 60)
    # Half a second after the change, half of the way is gone: a half-life.
    assert float(first[59 + 15]["happy"]) == pytest.approx(0.05 + 0.65 / 2, abs=1e-3)
    assert all(float(a["happy"]) > float(b["happy"]) for a, b in pairwise(first[59:]))
    assert first[-1]["emotion"] == "sad"
    for row in rows:
        assert sum(float(row[name]) for name in EMOTIONS) == pytest.approx(1, abs=1e-4)
        assert float(row["confidence"]) == max(float(row[name]) for name in EMOTIONS)


def test_a_frame_without_a_face_has_a_row_that_says_so(call: Call, write_video: WriteVideo) -> None:
    write_video(Path("in.mp4"), count=5, squares=lambda number: [])
    result = call("in.mp4", "--csv", "rows.csv", "--plot", "plot.png")
    assert result.stdout == "in.mp4: 5 frames, 0.1 s, 0 faces\n"
    assert [(row["frame"], row["status"], row["track"]) for row in rows_of("rows.csv")] == [
        (str(index), "no_face", "") for index in range(5)
    ]


def test_every_row_is_as_wide_as_the_header() -> None:
    frame = Frame(0, 0.0, np.zeros((1, 1, 3), np.uint8))
    assert len(recordings.csv_rows(frame, [])[0]) == len(recordings.COLUMNS)


def test_with_every_only_those_frames_are_looked_at_but_all_are_written(call: Call, write_video: WriteVideo) -> None:
    write_video(Path("in.mp4"), count=45, squares=two_people)
    call("in.mp4", "--csv", "rows.csv", "--out", "out.mp4", "--every", "20")
    rows = rows_of("rows.csv")
    assert [row["frame"] for row in rows] == ["0", "20", "40", "40"]
    assert [row["track"] for row in rows] == ["1", "1", "1", "2"]
    with opened(Path("out.mp4")) as written:
        assert written.count == 45


def test_a_real_face_is_followed(brightness_champion: Path, tmp_path: Path) -> None:
    photo = files("matplotlib").joinpath("mpl-data", "sample_data", "grace_hopper.jpg").read_bytes()
    portrait = np.asarray(Image.open(io.BytesIO(photo)).resize((256, 300)))[:, :, ::-1]
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (400, 300))
    for number in range(12):
        page = np.full((300, 400, 3), 200, np.uint8)
        page[:, 10 * number : 10 * number + 256] = portrait
        writer.write(page)
    writer.release()
    path, rows = str(tmp_path / "in.mp4"), str(tmp_path / "rows.csv")
    result = CliRunner().invoke(main, ["video", path, "--champion", str(brightness_champion), "--csv", rows])
    assert "12 frames, 1.1 s, 1 face\n" in result.stdout
    seen = rows_of(rows)
    assert [row["track"] for row in seen] == ["1"] * 12
    assert 90 < int(seen[-1]["x"]) - int(seen[0]["x"]) < 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4"], "Cannot read the video gone.mp4: No such file"),
        (["."], "Is a directory"),
        (["text.mp4"], "text.mp4 has no video stream"),
        (["in.mp4", "--out", "in.mp4"], "must all differ"),
        (["in.mp4", "--out", "./new/../in.mp4"], "must all differ"),
        (["in.mp4", "--csv", "x", "--plot", "x"], "must all differ"),
        (["in.mp4", "--out", "out.mov"], "expected a name that ends in .mp4"),
        (["in.mp4", "--plot", "plot.pdf"], "expected a name that ends in .png"),
        (["in.mp4", "--csv", "text.mp4/rows.csv"], "Cannot write text.mp4/rows.csv"),
    ],
)
def test_a_users_mistake_is_one_message_and_no_file(
    arguments: list[str], message: str, call: Call, write_video: WriteVideo
) -> None:
    write_video(Path("in.mp4"), count=3)
    Path("text.mp4").write_text("no video")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = call(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("arguments", [["--every", "0"], ["--half-life", "-1"]])
def test_numbers_out_of_range_are_refused(arguments: list[str], call: Call) -> None:
    assert call("in.mp4", *arguments).exit_code == 2


def test_a_recording_that_was_cut_off_is_told(call: Call, write_video: WriteVideo) -> None:
    content = write_video(Path("in.avi"), count=60, squares=two_people).read_bytes()
    Path("cut.avi").write_bytes(content[: len(content) // 2])
    result = call("cut.avi")
    assert result.exit_code == 0
    assert "of 60 frames could be read: the rest is damaged or cut off" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(
    number: signal.Signals, brightness_champion: Path, write_video: WriteVideo, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "in.mp4", count=3000)
    wanted = ["--out", "out.mp4", "--csv", "rows.csv", "--plot", "plot.png"]
    command = [sys.executable, "-m", "mien", "video", str(path), "--champion", str(brightness_champion), *wanted]
    # A shell that starts the tests in the background lets them, and all that they start, ignore SIGINT.
    before = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(number, before)
    while process.poll() is None and len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode not in {0, None}
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_a_videos_length(tmp_path: Path) -> None:
    # In a process of its own, since others' peaks would hide this one's; 400 frames held would be 370 MB.
    script = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from mien.emotions import EMOTIONS
from mien.cli.recordings import Outputs, follow, write
from mien.video.timeline import Timeline
from mien.video.tracking import Tracker
from mien.video.recordings import Frame

peaks = []
face = {"box": [100, 100, 80, 80], "emotion": "sad", "probabilities": dict.fromkeys(EMOTIONS, 1 / 7), "status": "ok"}
mien = SimpleNamespace(predict=lambda pixels: {"faces": [face]})

def frames():
    for number in range(400):
        yield Frame(number, number / 25, np.full((480, 640, 3), number % 250, np.uint8))
        if number in (40, 399):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

video = SimpleNamespace(path=Path("in.mp4"), rate=25.0, count=400)
write(video, follow(frames(), mien, Tracker()), Outputs(Path(sys.argv[1]), Path(sys.argv[2])), Timeline())
print(*peaks)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "out.mp4"), str(tmp_path / "rows.csv")]
    early, late = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert late - early < 20 * 1024  # kilobytes


def test_many_faces_are_not_all_listed(call: Call, write_video: WriteVideo) -> None:
    def crowd(number: int) -> list[tuple[int, int, int, int]]:
        return [(10 + 36 * (i % 8), 10 + 36 * (i // 8), 26, 40) for i in range(24)]

    write_video(Path("in.mp4"), count=2, squares=crowd)
    lines = call("in.mp4").stdout.splitlines()
    assert lines[0].endswith("24 faces")
    assert len(lines) == 1 + recordings.MOST_LINES + 1
    assert "and 4 more" in lines[-1]
