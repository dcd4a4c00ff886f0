"""How fast trainings are: on a processor with and without fused batch normalisation, on a GPU beside its arithmetic.

make bench                                     every family as params.yaml has it, TensorFlow on this processor
python benchmarks/training.py --device gpu     JAX on a GPU, at full width, within eight minutes
python benchmarks/training.py --device cpu     the same with narrow networks on JAX's CPU backend, to try the script

On a processor images per second are the median of five stretches of batches. On a GPU a process for each network, and
one more for the compilation cache that the first one filled, trains epochs of one compiled call; rows come as they are
measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "--device" in sys.argv:  # Keras chooses its backend when it is imported
    os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from timing import table

from mien.config.params import load
from mien.data.dataset import Split
from mien.learning.training import hardware, loop
from mien.learning.training.batches import Batches
from mien.learning.training.cost import macs
from mien.learning.training.normalisation import fused

PARAMS = Path(__file__).parent.parent / "params.yaml"
STRETCHES, BATCHES = 5, 4

NETWORKS = ("cnn", "cnn_wide", "vgg16", "resnet50", "efficientnetb0")
PRODUCT = "product"
"""What is measured beside the networks: a square matrix product."""

FACES, WIDTH, SIDE, EPOCHS = 27_402, 1.0, 8192, 3
SMALL_FACES, SMALL_WIDTH, SMALL_SIDE, SMALL_BATCH = 64, 0.125, 512, 16
HEAD = ("network", "GMAC", "images/s", "of the product", "compiling, s", "from the cache, s", "watts")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), help="train with JAX there")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="these alone")
    parser.add_argument("--minutes", type=float, default=8, help="what is not measured by then is left out")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # what a process of its own measures
    asked = parser.parse_args()
    if asked.only:
        measure = matrix_product if asked.only == PRODUCT else epochs
        print(json.dumps(measure(asked.only, small=asked.device == "cpu")))
    elif asked.device:
        on_device(asked.device, asked.networks or NETWORKS, time.monotonic() + 60 * asked.minutes)
    else:
        on_processor(asked.networks)


def on_device(device: str, networks: Sequence[str], until: float) -> None:
    """A row for each network as soon as it is measured."""
    card = in_process(PRODUCT, device, "", until)
    if not card:
        raise SystemExit("error: the time is over before anything is measured. Give --minutes more.")
    print(f"{card['name']}; {card['flops'] / 1e12:.3g} TFLOP/s in a bfloat16 matrix product\n", flush=True)
    print(table(HEAD, []), flush=True)
    for name in networks:
        with tempfile.TemporaryDirectory() as cache:
            first, again = (in_process(name, device, cache, until) for _ in range(2))
        cells = [name, *([""] * 6)]
        if first:
            share = 6 * first["macs"] * first["speed"] / card["flops"]  # forward, and backward to weights and inputs
            cells[1:5] = f"{first['macs'] / 1e9:.3f}", f"{first['speed']:,.0f}", f"{share:.1%}", f"{first['start']:.1f}"
            cells[6] = f"{first['watts']:.0f}" if first["watts"] else "unknown"
        cells[5] = f"{again['start']:.1f}" if again else "no time left"
        print(f"| {' | '.join(cells)} |", flush=True)


def in_process(what: str, device: str, cache: str, until: float) -> dict[str, Any] | None:
    """What a process of its own measures, whose compiled programs go to `cache`; None where the time is over."""
    command = [sys.executable, __file__, "--device", device, "--only", what]
    own = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, **({"JAX_PLATFORMS": "cpu"} if device == "cpu" else {})}
    if (left := until - time.monotonic()) <= 0:
        return None
    try:
        done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True, timeout=left)
    except subprocess.TimeoutExpired:
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def matrix_product(_: str, *, small: bool) -> dict[str, Any]:
    """The device's name and its FLOP/s in a square bfloat16 matrix product, the best of five."""
    import jax
    import jax.numpy as jnp

    if not (small or hardware.gpus()):
        raise SystemExit("error: JAX sees no GPU here. Install jax[cuda12], or try the script with --device cpu.")
    side = SMALL_SIDE if small else SIDE
    matrix = jnp.ones((side, side), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _round in range(5):
        started = time.perf_counter()
        for _repeat in range(10):
            result = product(matrix, matrix)
        result.block_until_ready()
        seconds.append((time.perf_counter() - started) / 10)
    return {"name": jax.devices()[0].device_kind, "flops": 2 * side**3 / min(seconds)}


def epochs(name: str, *, small: bool) -> dict[str, Any]:
    """A network's MACs, images/s and watts in the median epoch, and what the first one took longer: compiling."""
    architecture, recipe = load(PARAMS).training(name)
    split = random_faces(SMALL_FACES if small else FACES)
    # JAX computes bfloat16 on a processor a hundred times slower than float32.
    recipe = (
        replace(recipe, precision="float32", batch_size=SMALL_BATCH) if small else replace(recipe, precision="auto")
    )
    architecture = replace(architecture, width=SMALL_WIDTH if small else WIDTH)
    plan = loop.Plan.of(architecture, recipe, split, split.take(np.arange(7)), 7)
    network, learner = loop.compile_learner(plan)
    scanned, seconds = loop.scanned(learner, plan), []
    with power() as watts:
        for epoch in range(EPOCHS + 1):
            started = time.perf_counter()
            batches = Batches(plan.training, plan.recipe, plan.seed, epoch)
            scanned.fit(batches)
            seconds.append(time.perf_counter() - started)
            watts.clear() if not epoch else None
    usual = float(np.median(seconds[1:]))
    speed = batches.rows.size / usual
    drawn = float(np.mean(watts)) if watts else None
    return {"macs": macs(network), "speed": speed, "start": seconds[0] - usual, "watts": drawn}


@contextmanager
def power() -> Iterator[list[float]]:
    """The watts that nvidia-smi reads meanwhile, five times a second; none where it is missing."""
    read, over = list[float](), Event()
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]

    def sample() -> None:
        while not over.wait(0.2):
            answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            read.extend([float(answer)] if answer.replace(".", "", 1).isdigit() else [])

    thread = Thread(target=sample, daemon=True)
    if shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield read
    finally:
        over.set()


def on_processor(networks: Sequence[str] | None) -> None:
    """Every family (or these) at its reference size, with fused batch normalisation and with Keras' own."""
    params = load(PARAMS)
    split = random_faces(BATCHES * max(params.training(name)[1].batch_size for name in params.families))
    print(f"{hardware.describe()['processor']}, {hardware.describe()['cores']} cores, {hardware.precision('auto')}")
    rows = []
    for name in networks or params.families:
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
