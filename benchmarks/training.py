"""Training speed of every family at its reference size, with fused batch normalisation and with Keras' own.

Images per second, median of five stretches of batches.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import table

from mien.config.params import load
from mien.data.dataset import Split
from mien.learning.training import hardware, loop
from mien.learning.training.batches import Batches
from mien.learning.training.normalisation import fused

STRETCHES, BATCHES = 5, 4


def main() -> None:
    """Print a table."""
    params = load(Path(__file__).parent.parent / "params.yaml")
    split = random_faces(BATCHES * max(params.training(name)[1].batch_size for name in params.families))
    print(f"{hardware.describe()['processor']}, {hardware.describe()['cores']} cores, {hardware.precision('auto')}")
    rows = []
    for name in params.families:
        plan = loop.Plan.of(*params.training(name), split, split, params.seed)
        ways = [compiled(plan, fuse) for fuse in (fused, lambda network: network)]
        batches = Batches(split, plan.recipe, params.seed, 0)
        # Both ways in turn; the first stretch of each traces its graph.
        speeds = np.array([[stretch(learner, batches) for learner in ways] for _ in range(STRETCHES + 1)][1:])
        ours, keras_own = np.median(speeds, axis=0)
        result = [f"{ours:.0f}", f"{speeds[:, 0].min():.0f} to {speeds[:, 0].max():.0f}", f"{keras_own:.0f}"]
        rows.append([name, f"{ways[0].count_params():,}", plan.recipe.batch_size, *result, f"{ours / keras_own:.2f}×"])
    print(table(["family", "parameters", "batch", "images/s", "range", "with Keras' batch norm", "ratio"], rows))


def compiled(plan: loop.Plan, fuse: Callable[[keras.Model], keras.Model]) -> keras.Model:
    """A learner whose batch normalisation is as `fuse` leaves it."""
    with patch.object(loop, "fused", fuse):
        return loop.compile_learner(plan)[1]


def stretch(learner: keras.Model, batches: Batches) -> float:
    """Images per second over a few batches."""
    started, count = time.perf_counter(), min(BATCHES, len(batches))
    for index in range(count):
        faces, answers, weights = batches[index]
        learner.train_on_batch(faces, answers, sample_weight=weights)
    return count * batches.recipe.batch_size / (time.perf_counter() - started)


def random_faces(rows: int) -> Split:
    """Noise: speed does not depend on what the pixels show."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (rows, 48, 48, 1), dtype=np.uint8)
    return Split(images, random.integers(0, 7, rows), np.zeros(rows, bool), np.arange(rows))


if __name__ == "__main__":
    main()
