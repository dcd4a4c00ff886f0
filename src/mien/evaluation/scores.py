"""Score predictions: accuracy with intervals, calibration, selective prediction and label agreement."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Evaluate, Params
from mien.data.dataset import Split
from mien.evaluation import metrics

Probabilities = NDArray[np.floating[Any]]

SHARES = tuple(share / 10 for share in range(10, 0, -1))
"""Coverages at which the risk-coverage curve is reported."""


def score(probabilities: Probabilities, labels: NDArray[np.int64], params: Params) -> dict[str, Any]:
    """All scores of the predicted probabilities `(n, 7)`."""
    predicted, n = probabilities.argmax(axis=1), len(labels)
    scores = {
        "n": n,
        "accuracy": metrics.accuracy(labels, predicted),
        "accuracy_ci": metrics.wilson_interval(int(np.sum(predicted == labels)), n),
        "macro_f1": metrics.macro_f1(labels, predicted),
        "uar": metrics.uar(labels, predicted),
    }
    if resamples := params.evaluate.bootstrap:
        interval = metrics.bootstrap_interval(
            metrics.macro_f1, labels, predicted, resamples=resamples, seed=params.seed
        )
        scores["macro_f1_ci"] = interval
    return {**scores, **calibration(probabilities, labels, params.evaluate)}


def calibration(probabilities: Probabilities, labels: NDArray[np.int64], params: Evaluate) -> dict[str, float]:
    """Calibration of the probabilities: NLL, Brier score and ECE."""
    return {
        "nll": metrics.nll(probabilities, labels),
        "brier": metrics.brier(probabilities, labels),
        "ece": metrics.ece(probabilities, labels, params.ece_bins),
    }


def with_and_without_leaks(probabilities: Probabilities, split: Split, params: Params) -> dict[str, Any]:
    """Scores on the whole split, as usually published, and under `without_leaks` on faces that are not in training."""
    clean = ~split.leaked
    without = score(probabilities[clean], split.labels[clean], params)
    return {**score(probabilities, split.labels, params), "without_leaks": without}


def clean_first(probabilities: Probabilities, split: Split, params: Params) -> dict[str, Any]:
    """Scores on the faces that are not also in training; `with_leaks` on all of them."""
    # Faces that are also in training may be memorised: counting them would favour the family that overfits most.
    clean = ~split.leaked
    scores = score(probabilities[clean], split.labels[clean], params)
    return {**scores, "with_leaks": score(probabilities, split.labels, params)}


def together(probabilities: Sequence[Probabilities], labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and macro-F1, each the mean over several predictions of the same faces."""
    predicted = np.stack([one.argmax(axis=1) for one in probabilities], axis=1)
    return {
        "accuracy": float(np.mean(predicted == labels[:, None])),
        "macro_f1": metrics.mean_macro_f1(labels, predicted),
    }


def uncertainty(probabilities: Probabilities, split: Split, below: float) -> dict[str, Any]:
    """Accuracy without the faces marked `uncertain` (confidence under `below`), and at ten coverages."""
    curve = metrics.coverage(probabilities, split.labels)
    clean = ~split.leaked
    rows = [max(1, round(share * len(split))) - 1 for share in SHARES]
    return {
        "below": below,
        **metrics.answered_above(probabilities, split.labels, below),
        "without_leaks": metrics.answered_above(probabilities[clean], split.labels[clean], below),
        "aurc": curve.aurc,
        "curve": [
            {"coverage": share, "accuracy": float(curve.accuracy[row]), "confidence": float(curve.confidence[row])}
            for share, row in zip(SHARES, rows, strict=True)
        ],
    }


def label_agreement(
    probabilities: Probabilities, split: Split, plurality: NDArray[np.int64], nobody: int
) -> dict[str, Any]:
    """Accuracy by FER-2013's labels, by FER+'s, and by either, on the faces with a FER+ plurality label."""

    def agreement(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        predicted, own, other = probabilities[chosen].argmax(axis=1), split.labels[chosen], plurality[chosen]
        right = {
            "fer2013": predicted == own,
            "ferplus": predicted == other,
            "either": (predicted == own) | (predicted == other),
        }
        n = int(chosen.sum())
        entry: dict[str, Any] = {"n": n, "labels_agree": float(np.mean(own == other))}
        for name, hits in right.items():
            entry[name] = {"accuracy": float(np.mean(hits)), "accuracy_ci": metrics.wilson_interval(int(hits.sum()), n)}
        return entry

    settled = plurality != nobody
    clean = settled & ~split.leaked
    if not clean.any():
        return {}
    return {"unsettled": int((~settled).sum()), **agreement(settled), "without_leaks": agreement(clean)}


def by_recipe(trained: Mapping[str, Mapping[str, Any]]) -> list[dict[int, str]]:
    """Families by seed, grouped by recipe: those of a group differ in nothing but the seed.

    Students initialised from teachers of one recipe with different seeds belong to one group.
    """
    groups: dict[str, dict[int, str]] = {}
    for family, content in trained.items():
        teachers = dict(content.get("distil", {}))
        start = teachers.pop("start", None)
        recipe = repr((content["params"], teachers, trained[start]["params"] if start else None))
        groups.setdefault(recipe, {}).setdefault(content["seed"], family)
    return list(groups.values())


def spread(scores: Sequence[Mapping[str, Any]], keys: Sequence[str] = ("accuracy", "macro_f1", "uar", "ece")) -> Any:
    """Mean and sample standard deviation of each number over trainings that differ only in their seed."""
    return {key: mean_and_deviation([float(one[key]) for one in scores]) for key in keys}


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """The mean, the sample standard deviation (None of a single value), and the values."""
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None, "values": list(values)}
