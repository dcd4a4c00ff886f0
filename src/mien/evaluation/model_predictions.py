"""Predictions of trained models or their ensembles on a split, with or without test-time augmentation (TTA)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data.dataset import Split
from mien.evaluation import scores
from mien.evaluation.calibration import fit_temperature
from mien.evaluation.served import predict
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta

Probabilities = NDArray[np.floating[Any]]


@dataclass
class ModelPredictions:
    """Models by family and the splits to predict; predictions are cached, as several scores use the same ones."""

    paths: Mapping[str, Path]
    splits: dict[str, Split] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    kept: dict[tuple[str, str, Tta], Probabilities] = field(default_factory=dict)

    def runtime(self, family: str) -> Runtime:
        """The family's model, loaded once."""
        if family not in self.runtimes:
            self.runtimes[family] = Runtime(self.paths[family])
        return self.runtimes[family]

    def probabilities(self, families: Sequence[str], split: str, tta: Tta = NO_TTA) -> Probabilities:
        """Probabilities `(n, 7)` of a split's faces; of several families, their mean."""
        return np.asarray(np.mean([self._one(family, split, tta) for family in families], axis=0))

    def score_on_validation(self, families: Sequence[str], params: Params, tta: Tta = NO_TTA) -> dict[str, Any]:
        """Scores of a family or ensemble on validation faces that are not in training, and on all validation faces.

        Where there is a split `damaged`, of the same faces, `with_damaged` holds the means of both.
        """
        split = self.splits["validation"]
        probabilities = self.probabilities(families, "validation", tta)
        result = scores.clean_first(probabilities, split, params)
        if "damaged" not in self.splits:
            return result
        clean = ~split.leaked
        both = [probabilities[clean], self.probabilities(families, "damaged", tta)[clean]]
        return result | {"with_damaged": scores.together(both, split.labels[clean])}

    def calibrated(self, families: Sequence[str], tta: Tta) -> tuple[Probabilities, float]:
        """Calibrated test probabilities, and the temperature fitted on leak-free validation faces with the same TTA."""
        validation = self.splits["validation"]
        on_validation = self.probabilities(families, "validation", tta)[~validation.leaked]
        temperature = fit_temperature(on_validation, validation.labels[~validation.leaked])
        return apply_temperature(self.probabilities(families, "test", tta), temperature), temperature

    def score_on_test(self, families: Sequence[str], tta: Tta, params: Params) -> dict[str, Any]:
        """Test scores of a family or ensemble with `tta`, and its cost in passes."""
        answers, temperature = self.calibrated(families, tta)
        cost = tta.as_report() | {"passes": tta.passes * len(families), "temperature": temperature}
        return scores.with_and_without_leaks(answers, self.splits["test"], params) | cost

    def _one(self, family: str, split: str, tta: Tta) -> Probabilities:
        key = family, split, tta
        if key not in self.kept:
            self.kept[key] = predict(self.runtime(family), self.splits[split].images, tta)
        return self.kept[key]
