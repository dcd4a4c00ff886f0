"""Temperature scaling of probabilities as they are served; `evaluation.calibration` fits the temperature."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError

Floats = NDArray[np.floating[Any]]

TINY = 1e-12
"""A probability of zero counts as this much, so that logarithms stay finite."""


def apply_temperature(probabilities: Floats, temperature: float) -> NDArray[np.float64]:
    """Probabilities `(n, 7)` of the same logits divided by `temperature`: above 1 softens, below 1 sharpens."""
    if not temperature > 0:
        raise MienError(f"Temperature is {temperature!r}, expected a number above 0.")
    logits = np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
