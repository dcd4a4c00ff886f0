"""Trainings of a folder of jobs on a Ray cluster: students after their teachers, each carried on where a node dies."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mien.cluster import connection, node
from mien.cluster.connection import Call, Needs, NodeLostError
from mien.errors import MienError
from mien.files import locked, write_file
from mien.learning import jobs
from mien.learning.jobs import FACES, PLAN, STATE, Job

TRIES = 5
"""How often a training is given to a node before it counts as one that kills nodes."""

Watch = Callable[[Sequence["Training"]], None]


@dataclass
class Training:
    """A job on its way through the cluster; `node` is where it runs, `fault` why it was given up."""

    job: Job
    call: Call | None = None
    node: str = ""
    tries: int = 0
    fault: str = ""
    held: ExitStack = field(default_factory=ExitStack)


def run(folder: Path, names: Sequence[str], needs: Needs, say: Callable[[str], None], watch: Watch) -> list[Training]:
    """Train what is not finished of these jobs (all, if none is named); returns those that were given up.

    `say` gets a line for each epoch, `watch` all trainings whenever something may have changed. Must be called inside
    `connected`.
    """
    wanted = [job for job in jobs.read_all(folder) if not job.trial and (not names or job.name in names)]
    trainings = [Training(job) for job in wanted if not job.finished]
    faces, nodes = connection.put((folder / FACES).read_bytes()), connection.Nodes(needs, say)
    try:
        while any(not training.job.finished and not training.fault for training in trainings):
            for training in trainings:
                if _is_ready(training, trainings):
                    _start(training, needs, faces)
            running = {training.call: training for training in trainings if training.call}
            for call in connection.with_updates(list(running), 1):
                _receive(running[call], call, say)
            nodes.look()
            watch(trainings)
    finally:
        for training in trainings:
            _stop(training)
    return [training for training in trainings if training.fault]


def _is_ready(training: Training, all_of_them: Sequence[Training]) -> bool:
    job, folder = training.job, training.job.folder.parent
    if training.call or training.fault or job.finished:
        return False
    missing = [name for name in job.teachers if not (folder / name / jobs.WEIGHTS).exists()]
    coming = {other.job.name for other in all_of_them if not other.fault}
    if lost := [name for name in missing if name not in coming]:
        training.fault = f"its teachers are not trained: {', '.join(lost)}"
    return not missing and not training.fault


def _start(training: Training, needs: Needs, faces: Any) -> None:
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
    training.call = Call(job.name, given, faces, needs)


def _travels(path: Path) -> bool:
    return path.is_file() and (path.name in {PLAN, STATE, jobs.WEIGHTS} or path.name.startswith(("last-", "best-")))


def _receive(training: Training, call: Call, say: Callable[[str], None]) -> None:
    try:
        update = call.receive()
    except MienError as error:
        training.fault = str(error)
        _stop(training)
        return
    except NodeLostError as error:
        say(f"{training.job.name} lost {training.node or 'its node'} ({error}), and goes on elsewhere")
        _stop(training)
        return
    if not update:
        if not training.job.finished:
            training.fault = training.fault or "it ended before it was finished"
        _stop(training)
        return
    training.node = update.node
    if update.line:
        _keep(training.job.folder, update)
        training.tries = 1
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
    if training.call:
        training.call.cancel()
    training.call, training.node = None, ""
    training.held.close()
    training.held = ExitStack()
