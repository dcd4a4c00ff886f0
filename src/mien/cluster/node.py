"""What a node of a cluster does with one training or trial: all that it needs is Ray, Keras, NumPy and PyYAML."""

import importlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread

from mien.learning import jobs
from mien.learning.worker import Worker

LOOK = 0.5
"""Seconds after which a thread that waits for another looks whether the call was cancelled."""

Files = Mapping[str, bytes]
"""Contents by path inside a folder of jobs."""


@dataclass(frozen=True)
class Update:
    """What a training's folder has become: `files` are new or changed, `names` all that are there now.

    Of a trial only state.json travels, which holds its scores. `node` is the machine's name, `node_id` Ray's.
    """

    line: str
    files: Files
    names: frozenset[str]
    node: str
    node_id: str


class _CancelledError(Exception):
    """Nobody waits for the training any more."""


Sent = Queue[Update | BaseException | None]


def warm() -> None:
    """Import what a training needs, in a process that waits for one."""
    from mien.learning.training import hardware

    hardware.start()
    importlib.import_module("mien.learning.training.loop")


def train(name: str, given: Files, faces: bytes) -> Iterator[Update]:
    """Train the job `name` of a folder with the files `given` and those faces; an update for each epoch and the end.

    The first update, before Keras is imported, only says where that is.
    `given` holds the job's own folder, with the checkpoint to carry on from, and those of its teachers. A call that is
    cancelled ends after the epoch that is being trained.
    """
    with TemporaryDirectory(prefix="mien-") as root:
        folder, cancelled, updates = Path(root), Event(), Sent(maxsize=1)
        for path, content in {**given, jobs.FACES: faces}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield _update("", folder / name, [])
        # A thread, because the training calls back and a generator is called.
        thread = Thread(target=_work, args=(folder, name, updates, cancelled), daemon=True)
        thread.start()
        try:
            while (update := _get(updates)) is not None:
                if isinstance(update, BaseException):
                    raise update
                yield update
        finally:
            cancelled.set()
            thread.join()


def _get(updates: Sent) -> Update | BaseException | None:
    while True:  # a cancellation reaches a thread between two calls alone
        try:
            return updates.get(timeout=LOOK)
        except Empty:
            continue


def _work(folder: Path, name: str, updates: Sent, cancelled: Event) -> None:
    known = _times(folder / name)
    whole = jobs.read(folder / name).trial is None

    def put(update: Update | BaseException | None) -> None:
        while not cancelled.is_set():
            try:
                updates.put(update, timeout=LOOK)
            except Full:
                continue
            return
        raise _CancelledError

    def say(line: str) -> None:
        """Called by the worker once an epoch is on disk, and before another one is written."""
        found = _times(folder / name)
        changed = [each for each, time in found.items() if known.get(each) != time and (whole or each == jobs.STATE)]
        known.clear()
        known.update(found)
        put(_update(line, folder / name, changed))

    try:
        try:
            Worker(folder, frozenset({name}), say=say).run()
        except Exception as error:
            put(error)
        put(None)
    except _CancelledError:
        pass


def _update(line: str, folder: Path, changed: Sequence[str]) -> Update:
    import ray

    files = {name: (folder / name).read_bytes() for name in changed}
    node_id = ray.get_runtime_context().get_node_id()
    return Update(line, files, frozenset(_times(folder)), socket.gethostname(), node_id)


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
