"""The trained models side by side: what each, or several together, answer to a split's faces looked at in some way."""

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
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, average

Probabilities = NDArray[np.floating[Any]]


@dataclass
class ModelPredictions:
    """Models by family and the faces they are asked about; answers are kept, for several exams ask the same."""

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
        """Scores on clean validation faces, and on all of them, of one family or of several together."""
        return scores.clean_first(self.probabilities(families, "validation", tta), self.splits["validation"], params)

    def calibrated(self, families: Sequence[str], tta: Tta) -> tuple[Probabilities, float]:
        """Probabilities of the test faces, and their temperature, which clean validation faces gave the same way."""
        validation = self.splits["validation"]
        on_validation = self.probabilities(families, "validation", tta)[~validation.leaked]
        temperature = fit_temperature(on_validation, validation.labels[~validation.leaked])
        return apply_temperature(self.probabilities(families, "test", tta), temperature), temperature

    def score_on_test(self, families: Sequence[str], tta: Tta, params: Params) -> dict[str, Any]:
        """Test scores of families together, looked at in a way, with the cost of that."""
        answers, temperature = self.calibrated(families, tta)
        cost = tta.as_report() | {"passes": tta.passes * len(families), "temperature": temperature}
        return scores.with_and_without_leaks(answers, self.splits["test"], params) | cost

    def _one(self, family: str, split: str, tta: Tta) -> Probabilities:
        key = family, split, tta
        if key not in self.kept:
            self.kept[key] = average(self.runtime(family).predict, floats(self.splits[split].images), tta)
        return self.kept[key]


def floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Faces as the networks take them."""
    return np.ascontiguousarray(images, dtype=np.float32)
