"""mien.monitoring.recorder: what the service counts, when it writes it, and what it never keeps."""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from mien.errors import MienError
from mien.inference.faces import Face
from mien.monitoring import drift_windows, histograms
from mien.monitoring.recorder import UNWRITTEN, DriftRecorder, settings

NOON = 1_790_078_400.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON + 60

    def __call__(self) -> float:
        return self.now


def seen(count: int = 1, found_by: str = "haar") -> list[Face]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 1)).astype(np.float32)
    return [Face((0, 0, 90, 90), pixels, found_by, 90.0)] * count


def answers(count: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.tile(np.array([0.05, 0.05, 0.05, 0.7, 0.05, 0.05, 0.05]), (count, 1))


def total(folder: Path) -> histograms.Counts:
    return drift_windows.total(drift_windows.read([folder])[0])


def test_faces_photos_and_answers_are_counted(tmp_path: Path) -> None:
    recorder = DriftRecorder(tmp_path, "7", clock=Clock())
    recorder.record([seen(2), [], seen(1, "whole_image")], answers(3))
    recorder.close()
    counts = total(tmp_path)
    assert counts["photos"] == [1, 1], "a picture of one whole face tells nothing of finding faces"
    assert sum(counts["face_size"]) == 2
    assert counts["emotion"] == [0, 0, 0, 3, 0, 0, 0]
    assert {sum(counts[name]) for name in ("brightness", "contrast", "sharpness", "confidence")} == {3}
    (window,) = drift_windows.read([tmp_path])[0]
    assert (window.start, window.minutes, window.model) == (NOON, 60, "7")


def test_a_window_is_written_when_it_is_over_and_not_before(tmp_path: Path) -> None:
    clock = Clock()
    recorder = DriftRecorder(tmp_path, "7", clock=clock)
    recorder.record([seen()], answers())
    recorder.flush()
    assert not list(tmp_path.iterdir())
    clock.now += 3600
    recorder.record([seen()], answers())
    recorder.flush()
    assert [window.start for window in drift_windows.read([tmp_path])[0]] == [NOON]
    recorder.close()
    assert [window.start for window in drift_windows.read([tmp_path])[0]] == [NOON, NOON + 3600]
    assert total(tmp_path)["emotion"][3] == 2


def test_what_is_counted_after_a_flush_adds_to_the_same_window(tmp_path: Path) -> None:
    recorder = DriftRecorder(tmp_path, "7", clock=Clock())
    for _ in range(3):
        recorder.record([seen()], answers())
        recorder.flush(everything=True)
    assert len(drift_windows.read([tmp_path])[0]) == 3
    assert total(tmp_path)["emotion"][3] == 3


def test_a_full_disk_fails_no_answer_and_loses_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    recorder = DriftRecorder(tmp_path, "7", clock=clock)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(3):
            recorder.record([seen()], answers())
            clock.now += 3600
            recorder.flush()
        assert "No space left on device" in caplog.text
    recorder.flush()
    assert total(tmp_path)["emotion"][3] == 3
    assert len(drift_windows.read([tmp_path])[0]) == 3


def test_a_disk_that_stays_full_costs_a_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    recorder = DriftRecorder(tmp_path / "file", "7", clock=clock)
    (tmp_path / "file").touch()
    for _ in range(UNWRITTEN + 10):
        recorder.record([seen()], answers())
        clock.now += 3600
        recorder.flush()
    (tmp_path / "file").unlink()
    recorder.flush()
    assert len(drift_windows.read([tmp_path / "file"])[0]) == UNWRITTEN


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MIEN_DRIFT_FOLDER": "here", "MIEN_DRIFT_MINUTES": "7"}, "minutes that divide a day"),
        ({"MIEN_DRIFT_FOLDER": "here", "MIEN_DRIFT_MINUTES": "many"}, "minutes that divide a day"),
        ({"MIEN_DRIFT_FOLDER": "file"}, "cannot be written"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_the_start(
    environment: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(MienError, match=message):
        settings(environment)
    assert settings({}) is None
    assert settings({"MIEN_DRIFT_FOLDER": "there"}) == (Path("there"), 60)
    assert not list(Path("there").iterdir())


def test_without_the_variable_nothing_is_counted(client: TestClient, portrait: bytes) -> None:
    assert client.post("/predict", files={"image": portrait}).status_code == 200
    assert "drift" not in {thread.name for thread in threading.enumerate()}


def test_two_workers_leave_counts_of_every_photo_and_never_a_face(
    serve: Callable[..., AbstractContextManager[Any]], champion_folder: Path, portrait: bytes, tmp_path: Path
) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    folder = tmp_path / "drift"
    with serve(tmp_path, MIEN_DRIFT_FOLDER=str(folder)) as server:
        server.wait()
        for _ in range(12):  # connections of their own, so that both workers answer
            assert httpx.post(f"{server.url}/predict", files={"image": portrait}, timeout=60).status_code == 200
        assert httpx.post(f"{server.url}/predict", files={"image": b"text"}).status_code == 415
        assert httpx.post(f"{server.url}/annotate", files={"image": portrait}, timeout=60).status_code == 200
        assert httpx.post(f"{server.url}/classify", files={"images": portrait}, timeout=60).status_code == 200
        assert not list(folder.iterdir()), "the window is not over"
    counts = total(folder)
    assert counts["photos"] == [13, 0]
    assert sum(counts["emotion"]) == 14
    assert all(path.suffix == ".jsonl" for path in folder.rglob("*"))
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 4096, "counts, whatever the photos weighed"


def test_a_folder_that_cannot_be_written_stops_the_service(
    serve: Callable[..., AbstractContextManager[Any]], champion_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    (tmp_path / "file").touch()
    with serve(tmp_path, MIEN_DRIFT_FOLDER="file") as server:
        assert server.process.wait(150) == 1
    result = server.log.read_text()
    assert "MIEN_DRIFT_FOLDER names file, which cannot be written" in result
    assert "Traceback" not in result
