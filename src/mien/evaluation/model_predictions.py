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
from mien.inference.tta import ONCE, Way, average

Probabilities = NDArray[np.floating[Any]]


@dataclass
class Panel:
    """Models by family and the faces they are asked about; answers are kept, for several exams ask the same."""

    paths: Mapping[str, Path]
    splits: dict[str, Split] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    kept: dict[tuple[str, str, Way], Probabilities] = field(default_factory=dict)

    def runtime(self, family: str) -> Runtime:
        """The family's model, loaded once."""
        if family not in self.runtimes:
            self.runtimes[family] = Runtime(self.paths[family])
        return self.runtimes[family]

    def answer(self, families: Sequence[str], split: str, way: Way = ONCE) -> Probabilities:
        """Probabilities `(n, 7)` of a split's faces; of several families, their mean."""
        return np.asarray(np.mean([self._one(family, split, way) for family in families], axis=0))

    def validate(self, families: Sequence[str], params: Params, way: Way = ONCE) -> dict[str, Any]:
        """Scores on clean validation faces, and on all of them, of one family or of several together."""
        return scores.clean_first(self.answer(families, "validation", way), self.splits["validation"], params)

    def calibrated(self, families: Sequence[str], way: Way) -> tuple[Probabilities, float]:
        """Probabilities of the test faces, and their temperature, which clean validation faces gave the same way."""
        validation = self.splits["validation"]
        on_validation = self.answer(families, "validation", way)[~validation.leaked]
        temperature = fit_temperature(on_validation, validation.labels[~validation.leaked])
        return apply_temperature(self.answer(families, "test", way), temperature), temperature

    def exam(self, families: Sequence[str], way: Way, params: Params) -> dict[str, Any]:
        """Test scores of families together, looked at in a way, with the cost of that."""
        answers, temperature = self.calibrated(families, way)
        cost = way.facts() | {"passes": way.passes * len(families), "temperature": temperature}
        return scores.with_and_without_leaks(answers, self.splits["test"], params) | cost

    def _one(self, family: str, split: str, way: Way) -> Probabilities:
        key = family, split, way
        if key not in self.kept:
            self.kept[key] = average(self.runtime(family).predict, floats(self.splits[split].images), way)
        return self.kept[key]


def floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Faces as the networks take them."""
    return np.ascontiguousarray(images, dtype=np.float32)
