"""What commands share that can work on a Ray cluster: options, connection, and searches side by side."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mien.cli import extras, jobs_table
from mien.config.params import Params
from mien.errors import MienError

if TYPE_CHECKING:
    from mien.cluster.jobs import Home
    from mien.cluster.trials import Trials

Command = TypeVar("Command", bound=Callable[..., Any])


def cluster_options(command: Command) -> Command:
    """--cluster, --cpus and --gpus, each also by a variable, because `dvc repro` passes no options."""
    amount = click.FloatRange(min=0)
    for option in (
        click.option("--gpus", envvar="MIEN_GPUS", type=amount, default=0.0, show_default=True,
                     help="GPUs of each training or trial, also parts of one. Also: MIEN_GPUS."),
        click.option("--cpus", envvar="MIEN_CPUS", type=amount, default=1.0, show_default=True,
                     help="Cores of each training or trial. Also: MIEN_CPUS."),
        click.option("--cluster", envvar="RAY_ADDRESS", metavar="ADDRESS",
                     help="Of the Ray cluster. Default: RAY_ADDRESS."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def connected(command: str, address: str) -> Iterator[None]:
    """A connection to the cluster; raises MienError where Ray is not installed or nothing answers."""
    extras.require(command, "ray")
    # Ray reads it when it is imported: else twenty lines tell of a dead node, where ours is one.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Raylet is terminated|marked dead")
    from mien.cluster import connection

    with connection.connected(address):
        yield


@contextmanager
def trials(prepared: Path, cpus: float, gpus: float) -> Iterator["Trials"]:
    """Trials on the cluster that is connected, drawn live on a terminal."""
    from mien.cluster.connection import Needs
    from mien.cluster.trials import Trials
    from mien.data.dataset import read_split
    from mien.learning.training import hardware

    hardware.start()
    made: list[Trials] = []
    with jobs_table.live_trials(lambda: [run for one in made for run in list(one.running)]) as say:
        faces = read_split(prepared, "train"), read_split(prepared, "validation")
        made.append(Trials(faces, Needs(cpus, gpus), say))
        yield made[0]


def search_all(names: Sequence[str], params: Params, home: "Home", elsewhere: "Trials") -> Mapping[str, MienError]:
    """Search these families side by side, each as `mien tune` does; returns the reasons of those that failed."""
    from mien.learning.slots import StoppedError
    from mien.stages import tune

    failed: dict[str, MienError] = {}
    broken: list[BaseException] = []

    def search(name: str) -> None:
        try:
            tune.run(name, home.prepared, home.tuned / f"{name}.json", home.studies / name, params, elsewhere)
        except MienError as error:
            failed[name] = error
        except StoppedError:
            pass
        except BaseException as error:  # raised again below
            broken.append(error)

    threads = [threading.Thread(target=search, args=(name,)) for name in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:  # Ctrl-C
        elsewhere.slots.close()
        for thread in threads:
            thread.join()
    for error in broken:
        raise error
    return failed
