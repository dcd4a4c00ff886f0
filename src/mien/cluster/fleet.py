"""Trainings of a folder of jobs on a Ray cluster: students after their teachers, each carried on where a node dies."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray

import mien
from mien.cluster import node
from mien.cluster.jobs import LEFT_OUT
from mien.errors import MienError
from mien.files import locked, write_file
from mien.learning import jobs
from mien.learning.jobs import FACES, PLAN, STATE, Job

TRIES = 5
"""How often a training is given to a node before it counts as one that kills nodes."""

AHEAD = 2
"""Updates of a training that may wait for this process."""

CONNECT_SECONDS = 10

Watch = Callable[[Sequence["Training"]], None]


@dataclass
class Training:
    """A job on its way through the cluster; `node` is where it runs, `fault` why it was given up."""

    job: Job
    updates: Any = None
    node: str = ""
    tries: int = 0
    fault: str = ""
    held: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True)
class Needs:
    """Cores and GPUs (also parts of one) of each training."""

    cpus: float = 1
    gpus: float = 0


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the cluster at `address`, whose nodes get this package's code; raises MienError."""
    root = Path(mien.__file__).parent
    environment = {
        "py_modules": [str(root)],
        "excludes": [f"{name}/" for name in LEFT_OUT],
        "env_vars": {name: os.environ[name] for name in ("KERAS_BACKEND", "JAX_PLATFORMS") if name in os.environ},
    }
    try:
        if address != "auto":  # Ray would wait for a cluster that is not there for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        raise MienError(
            f"No Ray cluster answers at {address!r} ({str(error).splitlines()[0]}). Start one with `ray start --head` "
            "and name its address: RAY_ADDRESS or --cluster."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def run(folder: Path, names: Sequence[str], needs: Needs, say: Callable[[str], None], watch: Watch) -> list[Training]:
    """Train what is not finished of these jobs (all, if none is named); returns those that were given up.

    `say` gets a line for each epoch, `watch` all trainings whenever something may have changed. Must be called inside
    `connected`.
    """
    wanted = [job for job in jobs.read_all(folder) if not names or job.name in names]
    trainings = [Training(job) for job in wanted if not job.finished]
    remote = ray.remote(node.train).options(
        num_cpus=needs.cpus,
        num_gpus=needs.gpus,
        num_returns="streaming",
        max_retries=0,  # a retry by Ray would begin anew; `_start` carries on
        _generator_backpressure_num_objects=AHEAD,
    )
    faces = ray.put((folder / FACES).read_bytes())
    try:
        while any(not training.job.finished and not training.fault for training in trainings):
            for training in trainings:
                if _is_ready(training, trainings):
                    _start(training, remote, faces)
            running = {training.updates: training for training in trainings if training.updates}
            for updates in ray.wait(list(running), timeout=1)[0] if running else ():
                _receive(running[updates], say)
            watch(trainings)
    finally:
        for training in trainings:
            _stop(training)
    return [training for training in trainings if training.fault]


def _is_ready(training: Training, all_of_them: Sequence[Training]) -> bool:
    job, folder = training.job, training.job.folder.parent
    if training.updates or training.fault or job.finished:
        return False
    missing = [name for name in job.teachers if not (folder / name / jobs.WEIGHTS).exists()]
    coming = {other.job.name for other in all_of_them if not other.fault}
    if lost := [name for name in missing if name not in coming]:
        training.fault = f"its teachers are not trained: {', '.join(lost)}"
    return not missing and not training.fault


def _start(training: Training, remote: Any, faces: Any) -> None:
    """Give the training, with what is kept of it, to the cluster; Ray chooses the node."""
    job, folder = training.job, training.job.folder.parent
    if training.tries == TRIES:
        training.fault = f"its node died {TRIES} times"
        return
    if not training.held.enter_context(locked(job.folder)):
        training.held.close()
        time.sleep(1)  # a worker on this machine has it
        return
    paths = [path for name in (job.name, *job.teachers) for path in (folder / name).iterdir() if _travels(path)]
    given = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}
    training.tries += 1
    training.updates = remote.remote(job.name, given, faces)


def _travels(path: Path) -> bool:
    return path.is_file() and (path.name in {PLAN, STATE, jobs.WEIGHTS} or path.name.startswith(("last-", "best-")))


def _receive(training: Training, say: Callable[[str], None]) -> None:
    try:
        update: node.Update = ray.get(next(training.updates))
    except StopIteration:
        if not training.job.finished:
            training.fault = training.fault or "it ended before it was finished"
        _stop(training)
        return
    except ray.exceptions.RayTaskError as error:  # raised by the training itself
        training.fault = str(error.cause or error).splitlines()[-1]
        _stop(training)
        return
    except ray.exceptions.RayError as error:
        say(f"{training.job.name} lost {training.node or 'its node'} ({type(error).__name__}), and goes on elsewhere")
        _stop(training)
        return
    _keep(training.job.folder, update)
    training.node, training.tries = update.node, 1
    say(update.line)


def _keep(folder: Path, update: node.Update) -> None:
    """Write an update over what is there, in the order of a worker: checkpoints, what names them, final weights."""
    late = {STATE: 1, jobs.WEIGHTS: 2}
    for name in sorted(update.files, key=lambda name: late.get(name, 0)):
        write_file(folder / name, partial(_fill, update.files[name]))
    for path in folder.iterdir():
        if _travels(path) and path.name not in update.names:
            path.unlink()


def _fill(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _stop(training: Training) -> None:
    if training.updates:
        ray.cancel(training.updates, force=True)
    training.updates, training.node = None, ""
    training.held.close()
    training.held = ExitStack()
