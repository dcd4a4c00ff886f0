"""How fast batches are made, and what an epoch waits for them.

With the network left out: images/s of whole epochs of batches, from memory and from the memory map that a large split
is, against the images/s at which a family trains. With it: Keras' own threads against tf.data's prefetcher.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import table
from training import random_faces, stretch

from mien.config.params import load
from mien.data.dataset import Split, read_split, write_split
from mien.learning.training import loop
from mien.learning.training.batches import Batches

WORKERS = {"tf.data": 1, "threads": 2}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="cnn", help="the fastest")
    parser.add_argument("--faces", type=int, default=27402, help="in an epoch; as many as FER-2013 prepared")
    parser.add_argument("--mapped", type=int, default=288_000, help="faces of the split that is a memory map; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves out the epochs with the network")
    asked = parser.parse_args()
    params, split = load(Path(__file__).parent.parent / "params.yaml"), random_faces(asked.faces)
    plan = loop.Plan.of(*params.training(asked.family), split, split, params.seed)
    _, learner = loop.compile_learner(plan)
    print(alone(learner, plan, asked.mapped))
    if asked.rounds:
        print("\n" + with_network(learner, plan, asked.rounds))


def alone(learner: keras.Model, plan: loop.Plan, mapped: int) -> str:
    """Images per second with the network left out, and how many times those of the family."""
    batches = Batches(plan.training, plan.recipe, plan.seed, 0)
    stretch(learner, batches)  # traces the graph
    trained = median(stretch(learner, batches) for _ in range(3))
    rows = [["in memory", f"{len(plan.training):,}", *compared(plan.training, plan, trained)]]
    if mapped:
        with tempfile.TemporaryDirectory() as folder:
            write_split(Path(folder), "train", random_faces(mapped))
            split = read_split(Path(folder), "train")
            name = "memory map" if isinstance(split.images, np.memmap) else "in memory"
            rows.append([name, f"{mapped:,}", *compared(split, plan, trained)])
    return table(["faces", "number", "images/s without the network", f"× those trained ({trained:,.0f})"], rows)


def compared(split: Split, plan: loop.Plan, trained: float) -> list[str]:
    """Images per second of an epoch's batches on one thread, the median of three, and their ratio to `trained`."""
    speeds = []
    for epoch in range(3):
        started = time.perf_counter()
        batches = Batches(split, plan.recipe, plan.seed, epoch)
        for index in range(len(batches)):
            batches[index]
        speeds.append(len(batches) * plan.recipe.batch_size / (time.perf_counter() - started))
    return [f"{median(speeds):,.0f}", f"{median(speeds) / trained:.0f}×"]


def with_network(learner: keras.Model, plan: loop.Plan, rounds: int) -> str:
    """Seconds of whole epochs, both loaders in turn."""
    epoch(learner, plan, "threads")
    rows = []
    for turn in range(1, rounds + 1):
        taken = [epoch(learner, plan, loader) for loader in WORKERS]
        rows.append([turn, *(f"{seconds:.2f}" for seconds in taken), f"{taken[0] / taken[1]:.2f}×"])
    return table(["round", *(f"{loader}, s" for loader in WORKERS), "ratio"], rows)


def epoch(learner: keras.Model, plan: loop.Plan, loader: str) -> float:
    """Seconds of one `fit`."""
    batches = Batches(plan.training, plan.recipe, plan.seed, 0)
    batches.workers = WORKERS[loader]
    started = time.perf_counter()
    learner.fit(batches, verbose=0, shuffle=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
