"""Outbox of metrics that the tracking server did not accept: kept on disk until they are sent."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mien.files import read_json, write_json

FOLDER = Path("mlflow-unsent")
PAUSE = 60.0
"""Seconds between attempts, so that a hanging server does not cost every epoch its timeout."""


@dataclass(frozen=True)
class Point:
    """One metric value of a run, with its time (ms since 1970) and step."""

    key: str
    value: float
    timestamp: int
    step: int


class MetricsOutbox:
    """Unsent metrics of one run; a reopened run loads those it left on disk."""

    def __init__(self, run_id: str, folder: Path = FOLDER) -> None:
        self.path = folder.absolute() / f"{run_id}.json"
        found = read_json(self.path, made_by="mien train")["points"] if self.path.exists() else []
        self.points = [Point(**point) for point in found]
        self._again = 0.0

    def due(self) -> bool:
        """Whether the next attempt is due."""
        return time.monotonic() >= self._again

    def keep(self, points: Sequence[Point]) -> None:
        """Store points on disk for the next attempt."""
        self.points += points
        self._again = time.monotonic() + PAUSE
        write_json(self.path, {"points": [asdict(point) for point in self.points]})

    def send(self, log: Callable[[Sequence[Point]], None]) -> None:
        """Send all points with `log`; if it raises, the outbox keeps them."""
        if self.points:
            log(self.points)
            self.points = []
            self.path.unlink(missing_ok=True)
