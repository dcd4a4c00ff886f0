"""The few numbers of an evaluation, and of a training, that `dvc metrics` and `dvc exp` show and compare."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

RANKED = ("accuracy", "macro_f1", "uar")
"""Scores that calibration does not change."""

CALIBRATED = (*RANKED, "nll", "ece")


def of_evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    """About thirty numbers of the winner, out of the content of evaluation.json; all of test are after calibration."""
    test, winner = report["test"], report["families"][report["winner"]]
    numbers = {
        "winner": report["winner"],
        "validation": _some(winner["validation"], RANKED),
        "test": {
            **_some(test, CALIBRATED),
            "ece_before_calibration": test["before_temperature"]["ece"],
            "recall": dict(test["recall"]),
            "without_leaks": _some(test["without_leaks"], RANKED),
        },
        "temperature": report["temperature"],
        "uncertain": _some(report["uncertain"], ("coverage", "accuracy")),
    }
    if "tta" in test:
        numbers["test"]["tta"] = _some(test["tta"], RANKED)
    if "ensemble" in report:
        numbers["ensemble"] = _some(report["ensemble"]["test"], RANKED)
    if "robustness" in report:
        numbers["robustness"] = {"accuracy": _mean_accuracy(report["robustness"])}
    return numbers


def of_training(report: Mapping[str, Any]) -> dict[str, Any]:
    """Validation scores, best epoch, size and time of one family, out of the content of its training report.

    No name is one of the winner's, or DVC would put the file's path before both in its tables.
    """
    scores = {f"val_{name}": value for name, value in _some(report["validation"], RANKED).items()}
    return scores | _some(report, ("best_epoch", "parameters", "gmac", "seconds"))


def _some(content: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: content[key] for key in keys if key in content}


def _mean_accuracy(robustness: Mapping[str, Any]) -> float:
    """The mean accuracy over all kinds and strengths of damage."""
    kinds = robustness["corruptions"].values()
    return round(mean(float(strength["accuracy"]) for kind in kinds for strength in kind.values()), 6)
