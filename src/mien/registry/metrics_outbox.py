"""What a tracking server did not take when it was told: kept on disk until it does."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mien.files import read_json, write_json

FOLDER = Path("mlflow-unsent")
PAUSE = 60.0
"""Seconds between attempts: a server that hangs would cost each epoch of a training its timeout."""


@dataclass(frozen=True)
class Point:
    """One number of a run, at the time (ms since 1970) and step that it belongs to."""

    key: str
    value: float
    timestamp: int
    step: int


class MetricsOutbox:
    """The points of one run that are still to be sent; a run that is opened again finds those of before."""

    def __init__(self, run_id: str, folder: Path = FOLDER) -> None:
        self.path = folder.absolute() / f"{run_id}.json"
        found = read_json(self.path, made_by="mien train")["points"] if self.path.exists() else []
        self.points = [Point(**point) for point in found]
        self._again = 0.0

    def due(self) -> bool:
        """Whether it is time for an attempt."""
        return time.monotonic() >= self._again

    def keep(self, points: Sequence[Point]) -> None:
        """Hold points for later."""
        self.points += points
        self._again = time.monotonic() + PAUSE
        write_json(self.path, {"points": [asdict(point) for point in self.points]})

    def send(self, log: Callable[[Sequence[Point]], None]) -> None:
        """Send what there is by `log`; what it raises leaves everything as it was."""
        if self.points:
            log(self.points)
            self.points = []
            self.path.unlink(missing_ok=True)
