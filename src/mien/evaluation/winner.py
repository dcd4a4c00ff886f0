"""The winner on the test split: scores, calibration, and robustness to damaged faces. Nothing is chosen by these."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.evaluation import corruptions, metrics, scores
from mien.evaluation.metrics import Reliability
from mien.evaluation.model_predictions import ModelPredictions, Probabilities
from mien.evaluation.scores import with_and_without_leaks
from mien.evaluation.served import predict
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta


@dataclass(frozen=True)
class WinnerScores:
    """The winner on test: faces, probabilities `(n, 7)` after `temperature`, scores, reliability before and after.

    `served` holds the probabilities with the TTA of the service, after the temperature fitted for it.
    """

    split: Split
    probabilities: Probabilities
    temperature: float
    scores: dict[str, Any]
    reliability: tuple[Reliability, Reliability]
    served: Probabilities
    extras: dict[str, Any]


def score_winner(predictions: ModelPredictions, winner: str, tta: Tta, served: Tta, params: Params) -> WinnerScores:
    """Fit a temperature for each TTA on clean validation faces, then score the test split."""
    test = predictions.splits["test"]
    before, labels = predictions.probabilities([winner], "test"), test.labels
    after, temperature = predictions.calibrated([winner], NO_TTA)
    result = with_and_without_leaks(after, test, params) | {
        "recall": metrics.recalls(labels, after.argmax(axis=1)),
        "support": dataset.counts(test),
        "before_temperature": scores.calibration(before, labels, params.evaluate),
    }
    if tta != NO_TTA:
        result["tta"] = predictions.score_on_test([winner], tta, params)
        result["tta"]["validation"] = predictions.score_on_validation([winner], params, tta)
    bins = params.evaluate.ece_bins
    diagrams = metrics.reliability(before, labels, bins), metrics.reliability(after, labels, bins)
    served_probabilities, served_temperature = predictions.calibrated([winner], served)
    extras = {
        "served": served.as_report() | {"temperature": served_temperature},
        "uncertain": scores.uncertainty(served_probabilities, test, params.package.uncertain_below),
    }
    if params.evaluate.robustness:
        runtime, clean = predictions.runtime(winner), test.without_leaks()
        extras["robustness"] = robustness(runtime, clean, served, served_temperature, params)
    return WinnerScores(test, after, temperature, result, diagrams, served_probabilities, extras)


def robustness(runtime: Runtime, faces: Split, tta: Tta, temperature: float, params: Params) -> dict[str, Any]:
    """The winner's scores on test faces that were damaged, as it is served; leaked faces are left out.

    On the test split, because it chooses nothing: neither the winner nor its recipe is selected by these numbers.
    """

    def scored(images: NDArray[np.uint8]) -> dict[str, Any]:
        answers = apply_temperature(predict(runtime, images, tta), temperature)
        predicted = answers.argmax(axis=1)
        return {
            "accuracy": metrics.accuracy(faces.labels, predicted),
            "macro_f1": metrics.macro_f1(faces.labels, predicted),
            "ece": metrics.ece(answers, faces.labels, params.evaluate.ece_bins),
            "uncertain": float(np.mean(answers.max(axis=1) < params.package.uncertain_below)),
        }

    def severities(name: str) -> dict[str, Any]:
        return {
            word: {
                "level": corruptions.CORRUPTIONS[name].level_text(severity),
                **scored(corruptions.corrupt(faces.images, name, severity, params.seed)),
            }
            for severity, word in enumerate(corruptions.SEVERITIES)
        }

    return {
        "split": "test, without images also in training",
        "n": len(faces),
        "clean": scored(faces.images),
        "corruptions": {name: severities(name) for name in corruptions.CORRUPTIONS},
    }
