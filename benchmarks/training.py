"""Training speed of every family at its reference size: images per second, median of five stretches of batches."""

import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from mien.data.dataset import Split
from mien.learning import hardware, training
from mien.learning.batches import Batches
from mien.params import load

STRETCHES, BATCHES = 5, 4


def main() -> None:
    """Print a table."""
    params = load(Path(__file__).parent.parent / "params.yaml")
    split = random_faces(BATCHES * max(params.training(name)[1].batch_size for name in params.families))
    print(f"{hardware.describe()['processor']}, {hardware.describe()['cores']} cores, {hardware.precision('auto')}")
    print(f"{'family':<16}{'parameters':>12}{'batch':>7}{'images/s':>10}{'slowest':>9}{'fastest':>9}")
    for name in params.families:
        architecture, recipe = params.training(name)
        plan = training.Plan.of(architecture, recipe, split, split, params.seed)
        network, learner = training.compile_learner(plan)
        batches = Batches(split, recipe, params.seed, 0)
        speeds = [stretch(learner, batches) for _ in range(STRETCHES + 1)][1:]  # the first one traces the graph
        print(
            f"{name:<16}{network.count_params():>12,}{recipe.batch_size:>7}{median(speeds):>10.0f}"
            f"{min(speeds):>9.0f}{max(speeds):>9.0f}"
        )


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
