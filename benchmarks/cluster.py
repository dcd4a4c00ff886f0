"""What a Ray cluster costs and gives, on nodes of this machine: jobs an hour, overhead, bytes, and a node's death.

python benchmarks/cluster.py [--faces 2000] [--epochs 3]
"""

import argparse
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ray.cluster_utils import Cluster
from timing import table
from training import random_faces

from mien.cluster import fleet
from mien.cluster.connection import Needs, connected
from mien.config.params import load
from mien.data.dataset import digest
from mien.files import read_json
from mien.learning import jobs
from mien.learning.jobs import Faces, Job
from mien.learning.worker import Worker

Watch = Callable[[Sequence[Any]], None]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    split = random_faces(options.faces)
    faces = split, split.take(np.arange(options.faces // 8))
    with TemporaryDirectory() as root:
        alone = seconds(lambda: Worker(write(Path(root) / "alone", faces, options.epochs, 2), say=quiet).run())
        cold, warm, again, moved = on_a_cluster(Path(root), faces, options.epochs)
        pace = read_json(Path(root) / "alone/cnn0/state.json", made_by="")["seconds"] / options.epochs
        rows = [
            ["two trainings in one process, one after another", f"{alone:.1f} s, {7200 / alone:.0f} an hour"],
            ["the same on two nodes of this machine, cold", f"{cold:.1f} s"],
            ["the same again, warm", f"{warm:.1f} s, {7200 / warm:.0f} an hour"],
            ["one training alone", f"{one_alone(Path(root), faces, options.epochs):.1f} s, {pace:.1f} s an epoch"],
            ["one training on a warm node", f"{again:.1f} s"],
            ["bytes of the faces to a node", f"{(Path(root) / 'alone' / jobs.FACES).stat().st_size / 2**20:.1f} MiB"],
            ["bytes back from a training", f"{moved / 2**20:.1f} MiB, {moved / options.epochs / 2**20:.1f} an epoch"],
            ["from a node's death to the next epoch elsewhere", f"{after_a_death(Path(root), faces):.1f} s"],
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


def on_a_cluster(root: Path, faces: Faces, epochs: int) -> tuple[float, float, float, int]:
    """Seconds of two trainings on cold and on warm nodes and of one on a warm node; and the bytes that came back."""
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
    return cold, warm, again, moved


def one_alone(root: Path, faces: Faces, epochs: int) -> float:
    """Seconds of one training in this process, which has trained before."""
    return seconds(lambda: Worker(write(root / "one", faces, epochs, 1), say=quiet).run())


def after_a_death(root: Path, faces: Faces) -> float:
    """Seconds from the kill of the only node to the next epoch on one that is waiting."""
    folder, died, heard = write(root / "death", faces, 4, 1), 0.0, 0.0
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    doomed: Any = made.add_node(num_cpus=1)

    def kill(_: Sequence[Any]) -> None:
        nonlocal doomed, died
        if doomed and (folder / "cnn0/state.json").exists():
            made.add_node(num_cpus=1)
            died = time.monotonic()
            made.remove_node(doomed, allow_graceful=False)
            doomed = None

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
