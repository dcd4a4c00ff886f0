"""Trials of searches on a Ray cluster: this process holds the studies, prunes and counts, nodes train."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mien.cluster import connection
from mien.cluster.connection import Call, Needs, NodeLostError, Nodes
from mien.data.dataset import digest
from mien.errors import MienError
from mien.learning import jobs, search
from mien.learning.jobs import PLAN, STATE, Faces, Job, SearchTrial
from mien.learning.slots import Slots
from mien.registry import provenance

if TYPE_CHECKING:
    from mien.learning.training.loop import OnEpoch, Plan

TRIES = 5
"""How many trials in a row, for each that the cluster holds at once, may be lost before the searches are given up."""


@dataclass
class Running:
    """A trial on its way through the cluster; an epoch of `images` takes `pace` seconds."""

    job: Job
    node: str = ""
    epoch: int = 0
    score: float | None = None
    pace: float | None = None
    images: int = 0


class Trials:
    """Trains trials on the cluster that is connected; `slots` says how many at once, for all searches together."""

    def __init__(self, faces: Faces, needs: Needs, say: Callable[[str], None]) -> None:
        self.running: list[Running] = []
        self.slots = Slots(self._count)
        self._needs, self._nodes, self._lost = needs, Nodes(needs, say), 0
        self._data, self._commit = digest(faces), provenance.commit()
        with TemporaryDirectory() as folder:
            self._faces = connection.put(jobs.write_faces(Path(folder), faces).read_bytes())

    def train(self, trial: search.Trial, family: str, plan: "Plan", on_epoch: "OnEpoch") -> Mapping[str, Any]:
        """Train a trial's plan on a node; returns the description of the machine.

        `on_epoch` may raise to end it. Raises LostError where the worker or node dies, MienError for the trial's own
        fault, StoppedError where its search is ended.
        """
        job = self._job(trial, family, plan)
        run, origin = Running(job), dict[str, Any]()
        call = Call(job.name, {f"{job.name}/{PLAN}": json.dumps(job.to_dict()).encode()}, self._faces, self._needs)
        self.running.append(run)
        try:
            for state in self._states(call, run, trial):
                history, origin = state["history"], state["origin"]
                while run.epoch < state["epoch"]:
                    numbers = {name: values[run.epoch] for name, values in history.items()}
                    run.epoch, run.score = run.epoch + 1, numbers["val_macro_f1"]
                    run.pace, run.images = state["seconds"] / state["epoch"], state["images"]
                    on_epoch(run.epoch, numbers)
        except BaseException as error:
            # The process of a trial that is pruned has imported Keras, and takes the next one.
            call.cancel(force=not isinstance(error, search.Pruned))
            raise
        finally:
            self.running.remove(run)
        self._lost = 0
        return origin

    def _job(self, trial: search.Trial, family: str, plan: "Plan") -> Job:
        one = SearchTrial(family, trial.study.name, trial.number, trial.values)
        folder = Path(f"{family}-trial-{trial.number}")
        return Job(folder, plan.architecture, plan.recipe, plan.seed, self._data, self._commit, trial=one)

    def _states(self, call: Call, run: Running, trial: search.Trial) -> Iterator[dict[str, Any]]:
        """The content of state.json after each epoch."""
        while True:
            trial.check()
            if not connection.with_updates([call], 1):
                continue
            try:
                update = call.receive()
            except NodeLostError as error:
                self._count_lost()
                raise search.LostError(f"{run.node or 'its node'} is lost ({error})") from None
            except MienError as error:
                raise MienError(f"{run.job.name}: {error}") from None
            if not update:
                return
            run.node = update.node
            if STATE in update.files:
                yield json.loads(update.files[STATE])

    def _count_lost(self) -> None:
        self._lost += 1
        if self._lost > TRIES * max(1, connection.capacity(self._needs)):
            raise MienError(f"{self._lost} trials in a row lost their workers: see Ray's logs on the nodes.")

    def _count(self) -> int:
        self._nodes.look()
        return connection.capacity(self._needs)
