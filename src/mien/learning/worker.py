"""Train the jobs of a folder, one after another; any number of workers may share a folder."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import digest
from mien.errors import MienError
from mien.evaluation.metrics import accuracy
from mien.files import locked, read_json
from mien.learning import jobs
from mien.learning.jobs import Faces, Job

if TYPE_CHECKING:
    from mien.learning.training.loop import Plan, Result

POLL = 2.0
"""Seconds between looks at a folder whose remaining jobs wait for teachers that other workers train."""

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)

Print = Callable[[str], None]


@dataclass(frozen=True)
class Worker:
    """Trains what is missing in a folder; `only` names jobs, `until` is a time.monotonic() at which it stops."""

    folder: Path
    only: frozenset[str] = frozenset()
    until: float = float("inf")
    float16: bool = False
    say: Print = lambda line: print(line, flush=True)

    def run(self) -> int:
        """Train until nothing is left to do; returns the number of jobs that were not finished."""
        faces = jobs.read_faces(self.folder)
        data = digest(faces)
        with self._clock():
            while todo := self._unfinished():
                ready = [job for job in todo if all(self._is_there(teacher) for teacher in job.teachers)]
                if not any(self._claim(job, faces, data) for job in ready) and not self._others_at_work(todo):
                    break
        for job in (missing := self._unfinished()):
            lacking = [teacher for teacher in job.teachers if not self._is_there(teacher)]
            self.say(f"{job.name} waits for {', '.join(lacking)}" if lacking else f"{job.name} is not finished")
        return len(missing)

    def _unfinished(self) -> list[Job]:
        wanted = [job for job in jobs.read_all(self.folder) if not self.only or job.name in self.only]
        return [job for job in wanted if not job.finished]

    def _is_there(self, name: str) -> bool:
        return (self.folder / name / jobs.WEIGHTS).exists()

    def _claim(self, job: Job, faces: Faces, data: str) -> bool:
        """Train a job that no other worker trains; whether anything was done."""
        with locked(job.folder) as mine:
            if not mine or job.finished:
                return False
            jobs.check_faces(job, data)
            self._train(job, job.plan(faces))
        return True

    def _train(self, job: Job, plan: "Plan") -> None:
        from mien.learning.training.loop import in_float32, train

        ended = time.monotonic()

        def on_epoch(epoch: int, numbers: dict[str, float]) -> None:
            nonlocal ended
            started, ended = ended, time.monotonic()
            speed = len(plan.training) / (ended - started)
            self.say(
                f"{job.name} {epoch}/{plan.recipe.epochs}  loss {numbers['loss']:.3f}  validation accuracy "
                f"{numbers['val_accuracy']:.3f}  macro-F1 {numbers['val_macro_f1']:.3f}  {speed:,.0f} images/s"
            )

        self.say(f"{job.name}: {len(plan.training):,} faces, {plan.recipe.epochs} epochs")
        result = train(plan, job.folder, on_epoch, origin={"commit": job.commit})
        if job.trial:
            self._finish_trial(job)
        else:
            self._finish(job, plan, in_float32(result, job.architecture))
        for path in (*job.folder.glob("last-*"), *job.folder.glob("best-*")):
            path.unlink()

    def _finish_trial(self, job: Job) -> None:
        """Keep the scores alone."""
        state = read_json(job.folder / jobs.STATE, made_by="python -m mien.learning")
        job.finish((), state)
        self.say(
            f"{job.name} finished: macro-F1 {state['history']['val_macro_f1'][-1]:.4f} after {state['epoch']} epochs"
        )

    def _finish(self, job: Job, plan: "Plan", result: "Result") -> None:
        """Write the weights, and then into the state what they are known by."""
        from mien.learning.training.loop import predict

        weights, labels = result.network.get_weights(), plan.validation.labels
        scored = {"validation_accuracy": float(accuracy(labels, predict(result.network, plan.validation).argmax(1)))}
        if self.float16:
            weights = [_halved(array, job.name) for array in weights]
            result.network.set_weights(weights)
            halved = float(accuracy(labels, predict(result.network, plan.validation).argmax(1)))
            scored["validation_accuracy_float16"] = halved
        state = read_json(job.folder / jobs.STATE, made_by="python -m mien.learning")
        job.finish(weights, state | {"origin": state["origin"] | scored})
        drop = f", {scored['validation_accuracy_float16'] - scored['validation_accuracy']:+.4f}" if self.float16 else ""
        in_half = f" in float32{drop} in float16" if self.float16 else ""
        best = f"epoch {result.state.best} of {result.state.epoch}"
        self.say(f"{job.name} finished: {best}, validation accuracy {scored['validation_accuracy']:.4f}{in_half}")

    def _others_at_work(self, todo: list[Job]) -> bool:
        """Wait a little where another worker trains a job or a teacher that is still missing."""
        names = {job.name for job in todo} | {teacher for job in todo for teacher in job.teachers}
        busy = [name for name in sorted(names) if not self._is_there(name) and _is_locked(self.folder / name)]
        if busy:
            time.sleep(POLL)
        return bool(busy)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """End this process when the time is over: every epoch is on disk, and only the running one is lost."""
        if self.until == float("inf"):
            yield
            return

        def stop() -> None:
            self.say("The time is over: every finished epoch is kept. Run the same command again to go on.")
            os._exit(0)

        timer = threading.Timer(max(0.0, self.until - time.monotonic()), stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _is_locked(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with locked(folder) as mine:
        return not mine


def _halved(array: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    if np.abs(array).max(initial=0.0) > LARGEST_FLOAT16:
        raise MienError(f"A weight of {name} is beyond float16's largest number: leave --float16 out.")
    return array.astype(np.float16)
