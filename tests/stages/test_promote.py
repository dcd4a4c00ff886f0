"""promote: the verdict without MLflow, and the registry it leaves behind with a real one."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.params import Params
from mien.registry import tracking
from mien.stages import promote
from mien.stages.promote import Contender, decide


def contender(macro_f1: float, version: str = "2", digest: str = "a") -> Contender:
    """A version of the CNN."""
    return Contender(version, "cnn", macro_f1, digest)


def test_a_better_model_takes_the_place_of_the_champion() -> None:
    verdict = decide(contender(0.6), contender(0.5, "1"), floor=0.4)
    assert verdict.promoted
    assert "beats the champion cnn (version 1, macro-F1 0.5000)" in verdict.reason


def test_equal_score_keeps_the_champion() -> None:
    verdict = decide(contender(0.5), contender(0.5, "1"), floor=0.4)
    assert not verdict.promoted
    assert "cnn (version 1, macro-F1 0.5000) stays champion" in verdict.reason


def test_worse_score_keeps_the_champion() -> None:
    assert not decide(contender(0.45), contender(0.5, "1"), floor=0.4).promoted


def test_the_first_champion_needs_only_to_clear_the_floor() -> None:
    assert decide(contender(0.4), None, floor=0.4).promoted
    assert "first champion" in decide(contender(0.4), None, floor=0.4).reason


@pytest.mark.parametrize("champion", [None, contender(0.2, "1")])
def test_below_the_floor_nobody_is_promoted(champion: Contender | None) -> None:
    verdict = decide(Contender("2", "vgg16", 0.41, "a"), champion, floor=0.55)
    assert verdict == promote.Verdict(
        False,
        "No model clears promote.floor: best macro-F1 0.41 (vgg16), needs 0.55. "
        "Train longer or lower promote.floor in params.yaml.",
    )


@pytest.mark.parametrize("score", [0.4, 0.6])
def test_a_champion_scored_on_other_data_is_told_as_such(score: float) -> None:
    assert "different data" in decide(contender(score, digest="b"), contender(0.5, "1"), floor=0.1).reason
    assert "different data" not in decide(contender(score), contender(0.5, "1"), floor=0.1).reason


@dataclass
class Desk:
    """A folder with trained models, where promotions happen."""

    root: Path
    params: Params
    write_model: Any

    def train(self, family: str = "cnn", sharpness: float = 0.01) -> str:
        """Leave a model and its MLflow run, as the train stage does."""
        onnx = self.write_model(self.root / "models" / family / "model.onnx", sharpness=sharpness)
        with tracking.run("mien", family) as run:
            run.log_model(onnx, {})
        return run.id

    def promote(self, macro_f1: float, run_id: str, family: str = "cnn", digest: str = "a" * 64) -> dict[str, Any]:
        """Run the stage on an evaluation with these results; its report."""
        scores = dict.fromkeys(promote.METRICS, 0.5) | {"macro_f1": macro_f1, "n": 100}
        sha256 = hashlib.sha256((self.root / "models" / family / "model.onnx").read_bytes()).hexdigest()
        content = {
            "winner": family,
            "families": {family: {"validation": scores, "run_id": run_id, "onnx_sha256": sha256}},
            "temperature": 1.25,
            "test": scores,
            "data": {"name": "fer2013", "digest": digest, "synthetic": False},
        }
        (self.root / "evaluation.json").write_text(json.dumps(content))
        (self.root / "plots").mkdir(exist_ok=True)
        (self.root / "plots" / "confusion.csv").write_text("actual,predicted\n")
        return self.decide()

    def decide(self) -> dict[str, Any]:
        """Run the stage on the evaluation that is there; its report."""
        root = self.root
        promote.run(root / "evaluation.json", root / "models", root / "plots", root / "promotion.json", self.params)
        return self.report()

    def report(self) -> dict[str, Any]:
        """promotion.json."""
        report: dict[str, Any] = json.loads((self.root / "promotion.json").read_text())
        return report


@pytest.fixture
def desk(store: Path, write_model: Any, params: Params) -> Desk:
    """An empty registry and a floor of 0.35."""
    gate = dataclasses.replace(params.promote, model="mien", floor=0.35)
    return Desk(store, dataclasses.replace(params, promote=gate), write_model)


def champion() -> tracking.Version:
    """The champion there must be."""
    found = tracking.champion("mien")
    assert found is not None
    return found


def test_the_first_winner_becomes_champion_with_its_lineage(desk: Desk) -> None:
    run_id = desk.train()
    report = desk.promote(0.6, run_id)
    assert (report["promoted"], report["version"], report["model"], report["run_id"]) == (True, "1", "mien", run_id)
    assert report["champion"] == report["candidate"]
    found = champion()
    assert (found.version, found.run_id) == ("1", run_id)
    assert found.metrics["validation_macro_f1"] == 0.6
    expected = {"temperature": "1.25", "data.digest": "a" * 64, "data.name": "fer2013", "synthetic": "false"}
    assert expected.items() <= found.tags.items()
    downloaded = tracking.download("mien", "1", desk.root / "fetched")
    assert hashlib.sha256(downloaded.read_bytes()).hexdigest() == found.tags["onnx_sha256"]


def test_promoting_the_same_evaluation_again_registers_nothing_new(desk: Desk) -> None:
    run_id = desk.train()
    desk.promote(0.6, run_id)
    report = desk.promote(0.6, run_id)
    assert (report["version"], report["promoted"]) == ("1", False)
    assert report["champion"]["version"] == "1"


def test_a_loser_is_registered_and_the_champion_stays(desk: Desk) -> None:
    desk.promote(0.6, desk.train())
    report = desk.promote(0.5, desk.train("vgg16", sharpness=0.02), "vgg16", digest="b" * 64)
    assert (report["promoted"], report["version"]) == (False, "2")
    assert report["champion"] == {"version": "1", "family": "cnn", "macro_f1": 0.6, "digest": "a" * 64}
    assert "different data" in report["reason"]
    assert champion().version == "1"


def test_a_better_winner_takes_the_alias(desk: Desk) -> None:
    desk.promote(0.6, desk.train())
    assert desk.promote(0.7, desk.train("vgg16", sharpness=0.02), "vgg16")["promoted"]
    assert champion().tags["family"] == "vgg16"


def test_below_the_floor_the_stage_fails_only_where_there_is_no_champion(desk: Desk) -> None:
    with pytest.raises(MienError, match=r"best macro-F1 0\.30 \(cnn\), needs 0\.35"):
        desk.promote(0.3, desk.train())
    assert (desk.report()["promoted"], desk.report()["champion"]) == (False, None)
    assert tracking.champion("mien") is None
    desk.promote(0.6, desk.train("vgg16", sharpness=0.02), "vgg16")
    assert desk.promote(0.3, desk.train("cnn"))["champion"]["family"] == "vgg16"


def test_a_model_trained_elsewhere_gets_a_run_that_stands_in_once(desk: Desk) -> None:
    desk.write_model(desk.root / "models" / "cnn" / "model.onnx")
    first = desk.promote(0.6, "0" * 32)
    assert (first["promoted"], first["version"]) == (True, "1")
    again = desk.promote(0.6, "0" * 32)
    assert (again["version"], again["run_id"]) == ("1", first["run_id"])


def test_a_model_that_changed_after_its_evaluation_is_refused(desk: Desk) -> None:
    run_id = desk.train()
    desk.promote(0.6, run_id)
    desk.write_model(desk.root / "models" / "cnn" / "model.onnx", sharpness=0.5)
    with pytest.raises(MienError, match=r"model\.onnx is not the file that was evaluated"):
        desk.decide()


def test_without_an_evaluation_the_message_says_how_to_make_one(desk: Desk) -> None:
    with pytest.raises(MienError, match=r"evaluation\.json is missing.*dvc repro evaluate"):
        desk.decide()
