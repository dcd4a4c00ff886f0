"""The demo's service gets another try where a port was taken, ends with the demo, and its end says all that counts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.experiments import demo
from mien.files import read_json

REPORTS = Path(__file__).parents[2] / "reports"


def starts(monkeypatch: pytest.MonkeyPatch, *programs: str) -> list[subprocess.Popen[bytes]]:
    """Let the service be these Python programs, one after another; ready is what sleeps."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, log: Path) -> Any:
        started.append(subprocess.Popen([sys.executable, "-c", programs[len(started)]]))
        return f"http://{len(started)}", started[-1]

    def ready(address: str, process: subprocess.Popen[bytes]) -> bool:
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            return True
        return False

    monkeypatch.setattr(demo, "start", start)
    monkeypatch.setattr(demo, "ready", ready)
    return started


ENDS, STAYS = "raise SystemExit(1)", "import time; time.sleep(60)"


def test_a_service_that_ended_before_it_was_ready_is_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starts(monkeypatch, ENDS, STAYS)
    with demo.service(tmp_path) as address:
        assert address == "http://2"
        assert started[1].poll() is None
    assert all(process.poll() is not None for process in started)


def test_a_service_that_ends_twice_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = starts(monkeypatch, ENDS, ENDS)
    with pytest.raises(MienError, match=r"did not get ready.*serve\.log"), demo.service(tmp_path):
        pass
    assert len(started) == 2


def test_the_demo_ends_with_the_answer_beside_the_label_and_the_gates_decision() -> None:
    evaluation = read_json(REPORTS / "evaluation.json", made_by="the reference run")
    face = {"emotion": "sad", "status": "ok", "box": [0, 0, 48, 48], "probabilities": {"sad": 0.9}}
    answer = {"model": {"version": "1"}, "faces": [face]}
    text = demo.summary(evaluation, answer, Path("demo"), 60.0, "fear", "Refused by floor: too low.")
    lines = text.splitlines()
    asked = lines.index("The service, version 1, asked about demo/face.png, whose label is fear:")
    assert "sad" in lines[asked + 2]
    assert "The promotion gate. Refused by floor: too low." in lines[asked:]
