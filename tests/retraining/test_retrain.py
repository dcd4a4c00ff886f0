"""One retraining, its DVC replaced by one that fails where it is told to: the order of its steps, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.files import write_json
from mien.retraining import outcome, retrain
from mien.retraining.retrain import Plan, StepFailed

PROMOTED = {
    "promoted": True,
    "reason": "It wins.",
    "candidate": {"version": "2"},
    "champion": {"version": "2"},
    "scores": {},
    "rules": [],
}
REFUSED = PROMOTED | {"promoted": False, "champion": {"version": "1"}}


class Dvc:
    """Writes down what it is asked; `acts` are what a command does besides."""

    def __init__(self, **acts: Callable[[], None]) -> None:
        self.asked: list[str] = []
        self.acts = acts

    def __call__(self, *arguments: str) -> None:
        command = "_".join(part for part in arguments if not part.startswith("-"))
        self.asked.append(command)
        self.acts.get(command, lambda: None)()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data, a remote, a Bento that exports, and a registry that knows no model."""
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    monkeypatch.setattr(retrain, "has_remote", lambda: True)
    monkeypatch.setattr(retrain, "known", lambda _: False)
    monkeypatch.setattr(retrain, "served", lambda _: "mien:v2")
    return tmp_path


def run(dvc: Dvc, monkeypatch: pytest.MonkeyPatch, *, promote: bool = True) -> outcome.Outcome:
    monkeypatch.setattr(retrain, "dvc", dvc)
    return retrain.run(Plan(Path("out"), "mien", promote, sync=True), None, faces=False)


def leave(result: dict[str, Any]) -> Callable[[], None]:
    return lambda: write_json(outcome.PROMOTION, result)


def fail(message: str) -> Callable[[], None]:
    def act() -> None:
        raise StepFailed("dvc", [f"error: {message}"])

    return act


def test_data_and_models_are_kept_before_anything_is_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    dvc = Dvc(repro=leave(PROMOTED))
    assert run(dvc, monkeypatch).code == 0
    assert dvc.asked == ["fetch", "repro_evaluate", "push", "repro", "push"]


def test_a_remote_that_fails_stops_it_before_promotion_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dvc = Dvc(push=fail("failed to push 3 files"), repro=leave(PROMOTED))
    ended = run(dvc, monkeypatch)
    assert (ended.name, ended.code) == ("failed", 1)
    assert "repro" not in dvc.asked
    text = Path("out/report.md").read_text()
    assert "failed to push 3 files" in text
    assert "the next `mien retrain` carries on" in text


def test_what_was_refused_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(Dvc(repro=leave(REFUSED)), monkeypatch).code == 11


def test_a_refusal_without_any_champion_is_promotes_failure_and_told_as_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def act() -> None:
        leave(REFUSED | {"champion": None})()
        fail("No model clears the floor")()

    assert run(Dvc(repro=act), monkeypatch).code == 11


def test_a_failed_packaging_is_a_failure_although_promote_went_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        leave(PROMOTED)()
        fail("bentoml build failed")()

    assert run(Dvc(repro=act), monkeypatch).code == 1


def test_an_old_refusal_is_not_taken_for_this_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    leave(REFUSED | {"champion": None})()
    assert run(Dvc(repro=fail("the disk is full")), monkeypatch).code == 1


def test_nothing_to_do_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    leave(REFUSED)()
    monkeypatch.setattr(retrain, "known", lambda _: True)
    dvc = Dvc()
    assert run(dvc, monkeypatch).code == 10
    assert dvc.asked == ["fetch", "repro_evaluate", "push", "repro", "push"]


def test_a_model_that_this_registry_has_not_seen_is_judged_although_the_lock_says_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave(REFUSED)()
    dvc = Dvc(repro_promote=leave(PROMOTED))
    assert run(dvc, monkeypatch).code == 0
    assert dvc.asked[3:] == ["repro", "repro_promote", "repro", "push"]


def test_bad_data_are_told_from_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(outcome.PREPARED, {"digest": "d"})
    broken = {"name": "flat", "severity": "critical", "success": False, "observed": "", "expected": "", "rows": []}
    verdict = {"success": False, "critical": 1, "warnings": 0, "profile": "p", "data": {"digest": "d"}}
    write_json(outcome.VALIDATION, verdict | {"expectations": [broken]})
    dvc = Dvc(repro_evaluate=fail("validate"))
    assert run(dvc, monkeypatch).code == 12
    assert "push" not in dvc.asked
    write_json(outcome.PREPARED, {"digest": "other"})
    assert run(dvc, monkeypatch).code == 1


def test_a_clone_without_data_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/raw").rmdir()
    dvc = Dvc(checkout=lambda: Path("data/raw").mkdir(), repro=leave(PROMOTED))
    assert run(dvc, monkeypatch).code == 0
    assert dvc.asked[:2] == ["fetch", "checkout"]


def test_data_that_nobody_pushed_are_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/raw").rmdir()
    ended = run(Dvc(), monkeypatch)
    assert ended.code == 1
    assert "dvc push" in ended.message


def test_judging_asks_promote_with_the_stages_own_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dvc.yaml").write_text("stages:\n  promote:\n    cmd: mien promote --models models --report reports/x.json\n")
    asked = list[str]()

    def step(command: list[str], _: str) -> None:
        asked.extend(command[2:])
        write_json(Path("out/judgement.json"), PROMOTED | {"judged_only": True})

    monkeypatch.setattr(retrain, "step", step)
    dvc = Dvc()
    assert run(dvc, monkeypatch, promote=False).name == "accepted"
    assert asked[-3:] == ["--judge", "--report", "out/judgement.json"]
    assert asked[:2] == ["mien", "promote"]
    assert dvc.asked == ["fetch", "repro_evaluate", "push"]


def test_what_an_earlier_run_left_in_the_folder_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out/bento").mkdir(parents=True)
    Path("out/bento/old.bento").touch()
    run(Dvc(repro=leave(REFUSED)), monkeypatch)
    assert not Path("out/bento").exists()


def test_a_command_that_fails_is_told_by_its_own_message() -> None:
    with pytest.raises(StepFailed, match=r"`talk` failed: This is why\."):
        retrain.step(["sh", "-c", "echo 'error: This is why.'; echo 'ERROR: failed to reproduce'; exit 3"], "talk")
    with pytest.raises(StepFailed, match="it gave no reason"):
        retrain.step(["sh", "-c", "exit 3"], "silence")


def test_an_unreachable_registry_fails_and_the_report_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> bool:
        raise MienError("No MLflow server answers at x.")

    monkeypatch.setattr(retrain, "known", silent)
    leave(REFUSED)()
    assert run(Dvc(), monkeypatch).code == 1
    assert json.loads(Path("out/report.json").read_text())["outcome"] == "failed"
