"""What a node of a cluster does with one training; Keras, NumPy and PyYAML are all that it needs there."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread

from mien.learning import jobs
from mien.learning.worker import Worker

Files = Mapping[str, bytes]
"""Contents by path inside a folder of jobs."""


@dataclass(frozen=True)
class Update:
    """What a training's folder has become: `files` are new or changed, `names` all that are there now."""

    line: str
    files: Files
    names: frozenset[str]
    node: str


def train(name: str, given: Files, faces: bytes) -> Iterator[Update]:
    """Train the job `name` of a folder with the files `given` and those faces; an update for each epoch and the end.

    `given` holds the job's own folder, with the checkpoint to carry on from, and those of its teachers.
    """
    with TemporaryDirectory(prefix="mien-") as root:
        folder = Path(root)
        for path, content in {**given, jobs.FACES: faces}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        updates: Queue[Update | BaseException | None] = Queue(maxsize=1)
        # A thread, because the training calls back and a generator is called.
        Thread(target=_work, args=(folder, name, updates), daemon=True).start()
        while (update := updates.get()) is not None:
            if isinstance(update, BaseException):
                raise update
            yield update


def _work(folder: Path, name: str, updates: "Queue[Update | BaseException | None]") -> None:
    known = {path.name: path.stat().st_mtime_ns for path in (folder / name).iterdir()}

    def say(line: str) -> None:
        """Called by the worker once an epoch is on disk, and before another one is written."""
        found = {path.name: path.stat().st_mtime_ns for path in (folder / name).iterdir()}
        changed = {each: (folder / name / each).read_bytes() for each, time in found.items() if known.get(each) != time}
        known.clear()
        known.update(found)
        updates.put(Update(line, changed, frozenset(found), socket.gethostname()))

    try:
        Worker(folder, frozenset({name}), say=say).run()
    except BaseException as error:
        updates.put(error)
    updates.put(None)
