"""Checkpoint a training after every epoch, so that a kill loses at most one epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError
from mien.files import read_json, write_file, write_json

History = dict[str, list[float]]
Weights = list[NDArray[np.generic]]


@dataclass
class State:
    """Progress of a training; `best` is the epoch (from 1) of the highest validation macro-F1."""

    fingerprint: str
    epoch: int = 0
    best: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=dict)

    def record(self, numbers: dict[str, float], seconds: float) -> None:
        """Append one epoch's numbers."""
        for name, value in numbers.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.seconds = self.epoch + 1, self.seconds + seconds
        if numbers["val_macro_f1"] > max(self.history["val_macro_f1"][:-1], default=-1.0):
            self.best = self.epoch


class Checkpoints:
    """A folder with the last and the best epoch; `state.json` names them and is replaced last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resume(self, learner: keras.Model, fingerprint: str) -> State:
        """Load the last epoch into `learner` if it has the same fingerprint, else start anew.

        Raises MienError for a file that is damaged or of another version's networks.
        """
        path = self.folder / "state.json"
        state = State(**read_json(path, made_by="mien train")) if path.exists() else State("")
        if state.fingerprint != fingerprint:
            return State(fingerprint)
        with self._read("last", state.epoch) as last:
            learner.load_weights(last)
        return state

    def keep(self, learner: keras.Model, best: Weights, state: State) -> None:
        """Write the epoch's weights and optimiser, then the state, then remove older files."""
        write_file(self._path("last", state.epoch), learner.save_weights)
        if state.best == state.epoch:
            write_file(self._path("best", state.best), lambda path: np.savez(path, *best))
        write_json(self.folder / "state.json", asdict(state))
        needed = {self._path("last", state.epoch), self._path("best", state.best)}
        for path in {*self.folder.glob("last-*"), *self.folder.glob("best-*")} - needed:
            path.unlink()

    def load_best(self, state: State) -> Weights:
        """The weights of the best epoch. Raises MienError for a damaged file."""
        with self._read("best", state.best) as path, path.open("rb") as file, np.load(file) as arrays:
            return [arrays[name] for name in arrays.files]

    @contextmanager
    def _read(self, which: str, epoch: int) -> Iterator[Path]:
        path = self._path(which, epoch)
        try:
            yield path
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise MienError(
                f"{path} cannot be carried on from: it is damaged, or another version of Mien or Keras wrote it "
                f"({type(error).__name__}). Remove the folder {self.folder} to begin this training anew."
            ) from error

    def _path(self, which: str, epoch: int) -> Path:
        ending = {"last": "weights.h5", "best": "npz"}[which]
        return self.folder / f"{which}-{epoch:04d}.{ending}"
