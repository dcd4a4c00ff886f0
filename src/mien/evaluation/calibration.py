"""Fit the temperature that calibrates a model's probabilities; `inference.calibration` applies it."""

import numpy as np

from mien.evaluation.metrics import Labels, nll
from mien.inference.calibration import Floats, apply_temperature


def fit_temperature(probabilities: Floats, labels: Labels) -> float:
    """The temperature in [0.05, 20] that gives `labels` the least negative log likelihood (Guo et al. 2017).

    Probabilities `(n, 7)`, labels `(n,)`.
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(0.05), np.log(20)
    found = minimize_scalar(
        lambda power: nll(apply_temperature(probabilities, float(np.exp(power))), labels),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
