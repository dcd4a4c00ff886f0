"""The few numbers that DVC shows, out of the reports of the reference run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mien.evaluation import headline
from mien.files import rounded

REPORTS = Path(__file__).parents[2] / "reports"


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPORTS / name).read_text())
    return content


def numbers(tree: Mapping[str, Any]) -> Iterator[float]:
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from numbers(value)
        elif not isinstance(value, str):
            yield value


def test_an_evaluation_has_about_thirty_numbers() -> None:
    told = headline.of_evaluation(read("evaluation.json"))
    assert 20 <= len(list(numbers(told))) <= 35
    assert told["test"]["recall"].keys() >= {"angry", "neutral"}
    assert told["test"]["ece_before_calibration"] > told["test"]["ece"]


def test_no_number_of_validation_is_before_calibration() -> None:
    assert headline.of_evaluation(read("evaluation.json"))["validation"].keys() == {"accuracy", "macro_f1", "uar"}


def test_what_was_not_evaluated_is_left_out() -> None:
    report = read("evaluation.json")
    for key in ("ensemble", "robustness"):
        del report[key]
    del report["test"]["tta"]
    told = headline.of_evaluation(report)
    assert {"ensemble", "robustness"}.isdisjoint(told)
    assert "tta" not in told["test"]


def test_the_metrics_of_the_reference_run_are_those_of_its_reports() -> None:
    assert read("metrics.json") == headline.of_evaluation(read("evaluation.json"))
    for path in sorted((REPORTS / "train").glob("*.json")):
        assert read(f"families/{path.name}") == headline.of_training(rounded(read(f"train/{path.name}")))


@pytest.mark.parametrize("path", sorted((REPORTS / "train").glob("*.json")), ids=lambda path: path.stem)
def test_a_training_has_seven_numbers_and_none_of_the_winners_names(path: Path) -> None:
    told, winner = headline.of_training(json.loads(path.read_text())), headline.of_evaluation(read("evaluation.json"))
    assert len(list(numbers(told))) == 7
    assert told.keys().isdisjoint(winner.keys()), "DVC would put the file's path before both"
