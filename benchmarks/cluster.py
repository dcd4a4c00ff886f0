"""What a Ray cluster costs and gives, on nodes of this machine: jobs and trials an hour, overhead, bytes, and a death.

python benchmarks/cluster.py [--faces 2000] [--epochs 3] [--trials 6]
"""

import argparse
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Raylet is terminated|marked dead")  # read when Ray is imported

import numpy as np
from ray.cluster_utils import Cluster
from timing import table
from training import random_faces

from mien.cluster import fleet
from mien.cluster.connection import Needs, connected
from mien.cluster.trials import Trials
from mien.config.params import Tune, load
from mien.data.dataset import digest
from mien.files import read_json
from mien.learning import family_search, jobs, search
from mien.learning.jobs import Faces, Job
from mien.learning.training import loop
from mien.learning.worker import Worker

DIES_AFTER, LASTS = 8, 10
"""Epochs after which a node is killed, late enough that the other has imported Keras, and epochs in all."""

Watch = Callable[[Sequence[Any]], None]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    split = random_faces(options.faces)
    faces = split, split.take(np.arange(options.faces // 8))
    with TemporaryDirectory() as root:
        alone = seconds(lambda: Worker(write(Path(root) / "alone", faces, options.epochs, 2), say=quiet).run())
        lone = seconds(lambda: Worker(write(Path(root) / "one", faces, options.epochs, 1), say=quiet).run())
        searched = seconds(lambda: search_here(Path(root), faces, options.trials))
        measured = on_a_cluster(Path(root), faces, options.epochs, options.trials)
        pace = trained(Path(root) / "alone/cnn0") / options.epochs
        rows = [
            ["two trainings in one process, one after another", f"{alone:.1f} s, {7200 / alone:.0f} an hour"],
            ["the same on two nodes of this machine, cold", f"{measured.cold:.1f} s"],
            ["the same again, warm", f"{measured.warm:.1f} s, {7200 / measured.warm:.0f} an hour"],
            ["one training in one process", f"{lone:.1f} s, {pace:.1f} s an epoch"],
            ["its time beside the epochs", f"{lone - trained(Path(root) / 'one/cnn0'):.1f} s"],
            ["one training on a warm node", f"{measured.again:.1f} s"],
            ["its time beside the epochs", f"{measured.again - trained(Path(root) / 'again/cnn0'):.1f} s"],
            ["bytes of the faces to a node", f"{(Path(root) / 'alone' / jobs.FACES).stat().st_size / 2**20:.1f} MiB"],
            ["bytes back, an epoch", f"{measured.moved / options.epochs / 2**20:.1f} MiB"],
            ["from a node's death to the next epoch elsewhere", f"{after_a_death(Path(root), faces):.1f} s"],
            ["trials of one epoch, in one process", f"{3600 * options.trials / searched:.0f} an hour"],
            ["on two warm nodes", f"{3600 * options.trials / measured.searched:.0f} an hour"],
        ]
    print(table(["", f"cnn, {options.faces:,} faces, {options.epochs} epochs"], rows))


def write(folder: Path, faces: Faces, epochs: int, count: int) -> Path:
    """A folder of `count` trainings of params.yaml's cnn, which differ by their seed."""
    architecture, recipe = load(Path(__file__).parents[1] / "params.yaml").training("cnn")
    for number in range(count):
        short = replace(recipe, epochs=epochs, restart=0)
        Job(folder / f"cnn{number}", architecture, short, number, digest(faces), "benchmark").write()
    jobs.write_faces(folder, faces)
    return folder


@dataclass(frozen=True)
class Measured:
    """Seconds of two trainings on cold and on warm nodes, of one on a warm node, of a search; bytes that came back."""

    cold: float
    warm: float
    again: float
    searched: float
    moved: int


def on_a_cluster(root: Path, faces: Faces, epochs: int, trials: int) -> Measured:
    """All that is measured on two nodes."""
    moved = 0
    keep = fleet._keep

    def counted(folder: Path, update: Any) -> None:
        nonlocal moved
        moved += sum(map(len, update.files.values()))
        keep(folder, update)

    with cluster(2) as address, connected(address):
        cold = seconds(lambda: train(write(root / "cold", faces, epochs, 2)))
        warm = seconds(lambda: train(write(root / "warm", faces, epochs, 2)))
        fleet._keep = counted
        again = seconds(lambda: train(write(root / "again", faces, epochs, 1)))
        fleet._keep = keep
        searched = seconds(lambda: search_here(root, faces, trials, Trials(faces, Needs(), quiet)))
    return Measured(cold, warm, again, searched, moved)


def search_here(root: Path, faces: Faces, trials: int, elsewhere: Trials | None = None) -> None:
    """A search of params.yaml's cnn with trials of one epoch, in this process or elsewhere, without MLflow."""
    params = load(Path(__file__).parents[1] / "params.yaml")
    place = f"journal:{root / ('elsewhere' if elsewhere else 'here')}.log"
    budget = Tune(trials=trials, minutes=60, epochs=1, max_rows=0, startup_trials=trials, storage=place)
    short = replace(params, tune=budget)

    def objective(trial: search.Trial) -> float:
        scores = [0.0]
        plan = family_search.plan("cnn", short, trial.values, faces)

        def on_epoch(_: int, numbers: dict[str, float]) -> None:
            scores.append(numbers[family_search.METRIC])

        if elsewhere:
            elsewhere.train(trial, "cnn", plan, on_epoch)
        else:
            loop.train(plan, on_epoch=on_epoch)
        return scores[-1]

    slots = elsewhere.slots if elsewhere else None
    space, start = short.family("cnn").search, family_search.start("cnn", short)
    search.search("cnn", space, [start], objective, budget, 1, slots)


def trained(folder: Path) -> float:
    """Seconds that the epochs of a finished training took."""
    return float(read_json(folder / jobs.STATE, made_by="")["seconds"])


def after_a_death(root: Path, faces: Faces) -> float:
    """Seconds from the kill of a node to the end of the next epoch on one that has waited since the first epoch."""
    folder, died, heard = write(root / "death", faces, LASTS, 1), 0.0, 0.0
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes: list[Any] = [made.add_node(num_cpus=1)]

    def kill(_: Sequence[Any]) -> None:
        nonlocal died
        path = folder / "cnn0" / jobs.STATE
        epoch = read_json(path, made_by="")["epoch"] if path.exists() else 0
        if epoch == 1 and len(nodes) == 1:
            nodes.append(made.add_node(num_cpus=1))
        if epoch == DIES_AFTER and not died:
            died = time.monotonic()
            made.remove_node(nodes[0], allow_graceful=False)

    def hear(line: str) -> None:
        nonlocal heard
        if died and not heard and "loss" in line:
            heard = time.monotonic()

    try:
        with connected(made.address):
            fleet.run(folder, (), Needs(), hear, kill)
    finally:
        made.shutdown()
    return heard - died


@contextlib.contextmanager
def cluster(nodes: int) -> Any:
    """A head without cores and `nodes` with one each."""
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        made.add_node(num_cpus=1)
    try:
        yield made.address
    finally:
        made.shutdown()


def train(folder: Path) -> None:
    """All of a folder on the cluster that is connected."""
    fleet.run(folder, (), Needs(), quiet, lambda _: None)


def seconds(call: Callable[[], object]) -> float:
    """Wall time."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def quiet(_: str) -> None:
    """Print nothing."""


if __name__ == "__main__":
    main()
