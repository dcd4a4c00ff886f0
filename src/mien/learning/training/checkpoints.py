"""Checkpoint a training after every epoch, so that a kill loses at most one epoch."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
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
    """Progress of a training; `best` is the epoch (from 1) of the highest validation macro-F1.

    An epoch has so many `images`. `precision` is the dtype policy that it began with and keeps, `origin` says on which
    machine it was trained.
    """

    fingerprint: str
    images: int = 0
    epoch: int = 0
    best: int = 0
    seconds: float = 0.0
    precision: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    ended: list[float] = field(default_factory=list)
    history: History = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Over all epochs, with the validation after each."""
        return self.epoch * self.images / max(self.seconds, 1e-9)

    def record(self, numbers: dict[str, float], seconds: float) -> None:
        """Append one epoch's numbers."""
        for name, value in numbers.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.seconds = self.epoch + 1, self.seconds + seconds
        self.ended.append(time.time())
        if numbers["val_macro_f1"] > max(self.history["val_macro_f1"][:-1], default=-1.0):
            self.best = self.epoch


def variables(learner: keras.Model) -> tuple[list[Any], ...]:
    """All that training changes: the trainable, the other and the optimiser's variables."""
    return learner.trainable_variables, learner.non_trainable_variables, learner.optimizer.variables


def copied(some: Iterable[Any]) -> Weights:
    """The values of variables as copies: on a processor, Keras may convert to memory that the next step reuses."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in some]


class Checkpoints:
    """A folder with the last and the best epoch; `state.json` names them and is replaced last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self, fingerprint: str) -> State:
        """The progress of the training with this fingerprint; none where the folder holds no such training.

        Raises MienError for a file that another version wrote.
        """
        path = self.folder / "state.json"
        try:
            state = State(**read_json(path, made_by="mien train")) if path.exists() else State("")
        except TypeError as error:
            raise self._damaged(path, error) from error
        return state if state.fingerprint == fingerprint else State(fingerprint)

    def load_last(self, learner: keras.Model, state: State) -> None:
        """Load weights and optimiser of the last epoch.

        Raises MienError for a file that is damaged or of another version's networks.
        """
        with self._read("last", state.epoch) as arrays:
            for variable, array in zip(chain(*variables(learner)), arrays, strict=True):
                variable.assign(array)

    def keep(self, last: Weights, best: Weights, state: State) -> None:
        """Write the values of all `variables` after the epoch, then the state, then remove older files."""
        write_file(self._path("last", state.epoch), lambda path: np.savez(path, *last))
        if state.best == state.epoch:
            write_file(self._path("best", state.best), lambda path: np.savez(path, *best))
        write_json(self.folder / "state.json", asdict(state))
        needed = {self._path("last", state.epoch), self._path("best", state.best)}
        for path in {*self.folder.glob("last-*"), *self.folder.glob("best-*")} - needed:
            path.unlink()

    def load_best(self, state: State) -> Weights:
        """The weights of the best epoch. Raises MienError for a damaged file."""
        with self._read("best", state.best) as arrays:
            return arrays

    @contextmanager
    def _read(self, which: str, epoch: int) -> Iterator[Weights]:
        path = self._path(which, epoch)
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                yield [arrays[name] for name in arrays.files]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> MienError:
        return MienError(
            f"{path} cannot be carried on from: it is damaged, or another version of Mien or Keras wrote it "
            f"({type(error).__name__}). Remove the folder {self.folder} to begin this training anew."
        )

    def _path(self, which: str, epoch: int) -> Path:
        return self.folder / f"{which}-{epoch:04d}.npz"
