"""Families of an overlay are trained apart; what each is worth is kept at once, beside what is still true."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mien.config.params import Params
from mien.data import dataset
from mien.errors import MienError
from mien.evaluation.metrics import accuracy
from mien.evaluation.model_predictions import ModelPredictions
from mien.experiments import comparison, pipeline
from mien.files import read_json, write_json

OVERLAY = Path("params/baselines.yaml")


class Bench:
    """A comparison whose trainings write reports only."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.report, self.raw = folder / "apart", folder / "reports" / "baselines.json", folder / "raw"
        self.raw.mkdir()
        (self.raw / "faces.parquet").touch()
        self.digest, self.commands = "a1", list[list[str]]()
        for module in (comparison, pipeline):
            patch.setattr(module, "call", lambda command, _: self.commands.append(command[3:]))
        patch.setattr(comparison, "tell", self.tell)

    def tell(self, name: str, *_: Any) -> dict[str, Any]:
        return {"name": name, "accuracy": 1 / 3, "data": {"digest": self.digest}}

    def compare(self, *only: str) -> dict[str, Any]:
        return comparison.compare(OVERLAY, self.folder, self.raw, self.report, only)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_what_was_trained_before_stays_in_the_report_in_the_overlays_order(bench: Bench) -> None:
    bench.compare("four_conv_28")
    result = bench.compare("two_conv_128")
    assert list(result) == ["two_conv_128", "four_conv_28"]
    assert read_json(bench.report, made_by="")["families"] == result
    assert result["four_conv_28"]["accuracy"] == 0.333333
    assert bench.commands == [
        ["init", "--quiet", "--no-scm"],
        ["repro", "train@four_conv_28"],
        ["init", "--quiet", "--no-scm"],
        ["repro", "train@two_conv_128"],
    ]


def test_families_of_other_faces_or_of_no_overlay_leave_the_report(bench: Bench) -> None:
    bench.compare("four_conv_28")
    bench.digest = "b2"
    assert list(bench.compare("two_conv_128")) == ["two_conv_128"]
    write_json(bench.report, {"families": {"gone": {"data": {"digest": "b2"}}}})
    assert list(bench.compare("five_conv_48")) == ["five_conv_48"]


def test_all_are_trained_unless_some_are_named(bench: Bench) -> None:
    assert len(bench.compare()) == 8


def test_a_training_that_fails_leaves_the_report_of_those_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.compare("two_conv_128")

    def fail(*_: Any) -> None:
        raise MienError("`dvc repro` stopped.")

    monkeypatch.setattr(comparison, "call", fail)
    with pytest.raises(MienError, match="stopped"):
        bench.compare("four_conv_28")
    assert list(read_json(bench.report, made_by="")["families"]) == ["two_conv_128"]


def test_an_unknown_recipe_lists_the_known(bench: Bench) -> None:
    with pytest.raises(
        MienError, match=r"no recipe six_conv in params/baselines.yaml: expected efficientnetb0_224, two"
    ):
        bench.compare("six_conv")
    assert not bench.commands


def test_scores_are_those_of_the_exported_file_and_of_the_test_split_where_wanted(
    tmp_path: Path, write_model: Any, prepared: Path, params: Params
) -> None:
    shutil.copytree(prepared, tmp_path / "data" / "prepared")
    write_model(tmp_path / "models" / "cnn" / "model.onnx")
    trained = dict.fromkeys(comparison.TOLD, 1) | {"data": {"digest": "a1"}, "history": {"loss": [1.0]}}
    write_json(tmp_path / "reports" / "train" / "cnn.json", trained)
    result = comparison.tell("cnn", tmp_path, params, test=True)
    predictions = ModelPredictions(
        {"cnn": tmp_path / "models" / "cnn" / "model.onnx"}, {"test": dataset.read_split(prepared, "test")}
    )
    labels, predicted = predictions.splits["test"].labels, predictions.probabilities(["cnn"], "test").argmax(axis=1)
    assert result["test"]["accuracy"] == accuracy(labels, predicted)
    assert result.keys() == {"validation", "test", *comparison.TOLD}
    assert "test" not in comparison.tell("cnn", tmp_path, params, test=False)
