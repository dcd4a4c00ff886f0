"""The drift recorder: histograms of the served faces over windows of time; no photo or face is kept."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError
from mien.inference.faces import Face
from mien.monitoring import drift_windows, histograms
from mien.monitoring.drift_windows import Window
from mien.monitoring.histograms import Counts

FOLDER_VARIABLE = "MIEN_DRIFT_FOLDER"
MINUTES_VARIABLE = "MIEN_DRIFT_MINUTES"
MINUTES = 60
DAY = 24 * 60
UNWRITTEN = 48
"""Windows held while the disk takes none; then the oldest is dropped, for memory has an end too."""


class DriftRecorder:
    """Counts for one process. `record` touches memory alone: a thread writes each window when it is over."""

    def __init__(
        self, folder: Path, model: str, minutes: int = MINUTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.model = model
        self.minutes = minutes
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[int, Counts] = {}
        self._until = 0.0
        self._now: Counts = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write_windows, name="drift", daemon=True)

    def start(self) -> "DriftRecorder":
        """Write from now on at the end of every window."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Write what there is, also of the window that is not over."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self.flush(everything=True)

    def record(self, found: Sequence[Sequence[Face]], probabilities: NDArray[np.float64]) -> None:
        """Count the faces of each photo, whose probabilities (n, 7) follow each other."""
        rows = iter(probabilities)
        with self._lock:
            counts = self._current()
            for photo in found:
                # A whole-image face carries no information on detection.
                looked_for = [face for face in photo if face.found_by != "whole_image"]
                if looked_for or not photo:
                    counts["photos"][not photo] += 1
                for face in looked_for:
                    histograms.count_value(counts, "face_size", face.side)
                for face in photo:
                    histograms.count_face(counts, face.pixels)
                    histograms.count_answer(counts, next(rows))

    def flush(self, *, everything: bool = False) -> None:
        """Write the windows that are over, or `everything`; what the disk does not take is kept for the next time."""
        now = self._clock()
        with self._lock:
            over = [start for start in self._windows if everything or start + 60 * self.minutes <= now]
            done = {start: self._windows.pop(start) for start in over}
            self._until = 0.0
        try:
            for start in sorted(done):
                drift_windows.append(self.folder, Window(start, self.minutes, self.model, done[start]))
                del done[start]
            drift_windows.remove_old(self.folder, now)
        except OSError as error:
            logging.getLogger(__name__).warning("Drift's windows cannot be written, and are kept: %s.", error)
            self._keep(done)

    def _current(self) -> Counts:
        now = self._clock()
        if now >= self._until:
            length = 60 * self.minutes
            start = int(now // length * length)
            self._now, self._until = self._windows.setdefault(start, histograms.empty()), start + length
        return self._now

    def _keep(self, unwritten: Mapping[int, Counts]) -> None:
        with self._lock:
            for start, counts in unwritten.items():
                histograms.add(self._windows.setdefault(start, histograms.empty()), counts)
            for start in sorted(self._windows)[:-UNWRITTEN]:
                del self._windows[start]
            self._until = 0.0

    def _write_windows(self) -> None:
        length = 60 * self.minutes
        while not self._end.wait(length - self._clock() % length + 1):
            self.flush()


def settings(environment: Mapping[str, str] = os.environ) -> tuple[Path, int] | None:
    """The folder and the length of a window; None where no folder is named. Raises MienError for what cannot be."""
    named, length = environment.get(FOLDER_VARIABLE, ""), environment.get(MINUTES_VARIABLE, str(MINUTES))
    minutes = int(length) if length.strip().isdecimal() else 0
    if minutes < 1 or DAY % minutes:
        raise MienError(f"{MINUTES_VARIABLE}={length!r}: expected minutes that divide a day, such as 15, 60 or 1440.")
    if not named:
        return None
    folder = Path(named)
    trial = folder / f".{uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise MienError(
            f"{FOLDER_VARIABLE} names {folder}, which cannot be written ({error.strerror}). Name a folder that can, or "
            "unset it to keep no statistics."
        ) from None
    return folder, minutes


def recorder(model: str, environment: Mapping[str, str] = os.environ) -> DriftRecorder | None:
    """A started recorder with the settings in the environment; None where no folder is named."""
    wanted = settings(environment)
    return DriftRecorder(wanted[0], model, wanted[1]).start() if wanted else None
