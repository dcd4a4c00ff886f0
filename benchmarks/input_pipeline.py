"""What an epoch waits for its faces: Keras' own threads against tf.data's prefetcher, taken with one worker."""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from timing import table
from training import random_faces

from mien.config.params import load
from mien.learning.training import loop
from mien.learning.training.batches import Batches

WORKERS = {"tf.data": 1, "threads": 2}


def main() -> None:
    """Print the seconds of whole epochs, both loaders in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="cnn")
    parser.add_argument("--faces", type=int, default=27402, help="in an epoch; as many as FER-2013 prepared")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    params, split = load(Path(__file__).parent.parent / "params.yaml"), random_faces(asked.faces)
    plan = loop.Plan.of(*params.training(asked.family), split, split, params.seed)
    _, learner = loop.compile_learner(plan)
    epoch(learner, plan, "threads")  # traces the graph
    rows = []
    for turn in range(1, asked.rounds + 1):
        taken = [epoch(learner, plan, loader) for loader in WORKERS]
        rows.append([turn, *(f"{seconds:.2f}" for seconds in taken), f"{taken[0] / taken[1]:.2f}×"])
    print(table(["round", *(f"{loader}, s" for loader in WORKERS), "ratio"], rows))


def epoch(learner: keras.Model, plan: loop.Plan, loader: str) -> float:
    """Seconds of one `fit`."""
    batches = Batches(plan.training, plan.recipe, plan.seed, 0)
    batches.workers = WORKERS[loader]
    started = time.perf_counter()
    learner.fit(batches, verbose=0, shuffle=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
