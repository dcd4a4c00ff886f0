"""Training speed on a GPU with JAX: an epoch as one compiled call against single steps, and what the card could do.

KERAS_BACKEND=jax python benchmarks/gpu.py [--minutes 8] [--faces 27402] [--rounds 3]

Prints a row as soon as it is measured: images/s of both ways, the share of a measured matrix product in bfloat16, and
the seconds of the first epoch with compiling. To try the script on a processor, where XLA's convolutions inside a
loop are slow: JAX_PLATFORMS=cpu and --faces 256 --width 0.125 --rounds 1.
"""

import argparse
import time
from dataclasses import replace
from typing import Literal

import keras
import numpy as np
from training import random_faces

from mien.config.params import Architecture, Augmentation, Training
from mien.learning.training import hardware, loop
from mien.learning.training.batches import Batches
from mien.learning.training.cost import macs
from mien.learning.training.loop import Plan

WIDE = ((32, 32), (64, 64), (128, 128), (256, 256), (512,))
NETWORKS = {
    "cnn_wide": Architecture(network="cnn", blocks=WIDE, dropout=0.35),
    "vgg16": Architecture(network="vgg16", dropout=0.4),
    "resnet50": Architecture(network="resnet50"),
    "efficientnetb0": Architecture(network="efficientnetb0", dropout=0.2),
}
"""The families at full width."""

AUGMENTATION = Augmentation(True, rotation=10, shift=0.08, zoom=0.1, brightness=0.15, contrast=0.2, erasing=0.25)


def main() -> None:
    """Measure what the time allows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--faces", type=int, default=27_402)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0, help="of every network")
    options = parser.parse_args()
    few = np.arange(min(512, options.faces))
    until, split = time.monotonic() + 60 * options.minutes, random_faces(options.faces)
    product = matrix_product(8192 if hardware.gpus() else 1024)
    print(
        f"{', '.join(hardware.gpus()) or 'CPU'}; {product / 1e12:.1f} TFLOP/s in a bfloat16 matrix product", flush=True
    )
    print("| network | GMAC | first epoch, s | images/s, one call an epoch | of the product | images/s, single steps |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    # JAX computes bfloat16 on a processor a hundred times slower than float32.
    precision: Literal["auto", "float32"] = "auto" if hardware.gpus() else "float32"
    recipe = Training(1, options.batch, "sgd", 0.05, "cosine", AUGMENTATION, precision=precision)
    for name, architecture in NETWORKS.items():
        if time.monotonic() > until:
            print(f"| {name} | not measured: the time is over |", flush=True)
            continue
        plan = Plan.of(replace(architecture, width=options.width), recipe, split, split.take(few), 7)
        network, learner = loop.compile_learner(plan)
        flops = 6 * macs(network)  # forward, and backward to weights and to inputs
        first, scanned = scan_speed(learner, plan, options.rounds)
        single = step_speed(learner, plan) if time.monotonic() < until else float("nan")
        cells = [
            name,
            f"{macs(network) / 1e9:.3f}",
            f"{first:.1f}",
            f"{scanned:,.0f}",
            f"{scanned * flops / product:.0%}",
        ]
        print(f"| {' | '.join(cells)} | {single:,.0f} |", flush=True)


def scan_speed(learner: keras.Model, plan: Plan, rounds: int) -> tuple[float, float]:
    """Seconds of the first epoch, and the median images/s of the others."""
    epochs = loop.scanned(learner, plan)
    seconds = []
    for epoch in range(rounds + 1):
        batches = Batches(plan.training, plan.recipe, plan.seed, epoch)
        started = time.perf_counter()
        epochs.fit(batches)
        seconds.append(time.perf_counter() - started)
    return seconds[0], len(batches) * plan.recipe.batch_size / float(np.median(seconds[1:]))


def step_speed(learner: keras.Model, plan: Plan, steps: int = 40) -> float:
    """Images/s of `fit`'s way, a call of the host for every step, after some steps to warm up."""
    batches = Batches(plan.training, plan.recipe, plan.seed, 0)
    some = [batches[index] for index in range(min(steps, len(batches)))]
    for stretch in (some[:4], some):
        started = time.perf_counter()
        for faces, answers, weights in stretch:
            loss = learner.train_on_batch(faces, answers, sample_weight=weights)
        float(np.ravel(loss)[0])
    return len(some) * plan.recipe.batch_size / (time.perf_counter() - started)


def matrix_product(side: int) -> float:
    """FLOP/s of a square bfloat16 matrix product, the best of five."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((side, side), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(10):
            result = product(matrix, matrix)
        result.block_until_ready()
        seconds.append((time.perf_counter() - started) / 10)
    return 2 * side**3 / min(seconds)


if __name__ == "__main__":
    main()
