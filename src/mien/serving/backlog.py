"""How long a request would wait for those before it, from what such requests took lately."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from mien.serving.limits import MIB

UNKNOWN = 0.02
"""Seconds that a request, or a MiB of photos, is taken for before any was measured."""
LATELY = 9
"""Measurements of a call whose mean is its cost. The slowest is left out, as a process's first answers are slow."""


@dataclass(eq=False)
class Job:
    """One request: its call, its size in bytes, and when it came and was there as a whole."""

    path: str
    size: int
    arrived: float
    ready: float | None = None


class Backlog:
    """The requests of one worker, which works on one at a time and in the order in which they are complete.

    A call with one photo costs what such calls cost lately, one with many photos so much for each MiB.
    """

    def __init__(self, many: frozenset[str], patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.many = many
        self.patience = patience
        """Seconds after which an upload counts as slow: nobody waits for it."""
        self.clock = clock
        self.jobs: list[Job] = []
        self.measured: dict[str, deque[float]] = {}
        self.done = 0.0

    def arrive(self, path: str, size: int) -> Job:
        """Take a request in."""
        job = Job(path, size, self.clock())
        self.jobs.append(job)
        return job

    def complete(self, job: Job, size: int) -> None:
        """The last byte of a request is there."""
        job.size, job.ready = size, self.clock()

    def answer(self, job: Job, *, refused: bool) -> None:
        """The answer to a request begins; what it took is learnt, unless it is a refusal."""
        self.leave(job)
        if job.ready is None:
            return
        now = self.clock()
        if not refused:
            taken = self.measured.setdefault(job.path, deque(maxlen=LATELY))
            taken.append((now - max(job.ready, self.done)) / self._units(job))
        self.done = now

    def leave(self, job: Job) -> None:
        """A request is answered, or its client gone."""
        if job in self.jobs:
            self.jobs.remove(job)

    def wait(self) -> float:
        """Seconds until a request that comes now would be worked on."""
        now = self.clock()
        ready = sorted((job.ready, self._cost(job)) for job in self.jobs if job.ready is not None)
        uploads = sum(self._cost(job) for job in self.jobs if job.ready is None and now - job.arrived < self.patience)
        if not ready:
            return uploads
        (since, cost), *rest = ready
        # One that takes longer than expected is taken to need as long again as it is late.
        head = abs(cost - (now - max(since, self.done)))
        return uploads + head + sum(cost for _, cost in rest)

    def cost(self, path: str) -> float:
        """Seconds that a call takes, or a MiB of photos."""
        usual = sorted(self.measured.get(path, []))[:-1]
        return fmean(usual) if usual else UNKNOWN

    def _cost(self, job: Job) -> float:
        return self.cost(job.path) * self._units(job)

    def _units(self, job: Job) -> float:
        return max(job.size, 1) / MIB if job.path in self.many else 1.0
