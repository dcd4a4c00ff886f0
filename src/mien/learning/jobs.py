"""A folder of portable trainings: plans and faces that any machine with NumPy, Keras and PyYAML can train.

JOBS/faces.npz              the faces of all trainings, lossless
JOBS/<name>/plan.json       architecture, recipe, seed, teachers, commit of the code, digest of the faces
JOBS/<name>/state.json      epochs, history, times, machine; beside it the checkpoints while it is trained
JOBS/<name>/weights.npz     the best epoch's weights: the training is finished; of a trial, whose score counts, none
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Architecture, DistillationRecipe, Training
from mien.config.schema import build
from mien.data.dataset import Split
from mien.errors import MienError
from mien.files import read_json, replacing, write_file, write_json

if TYPE_CHECKING:
    import keras

    from mien.learning.training.loop import Plan

FACES, PLAN, STATE, WEIGHTS = "faces.npz", "plan.json", "state.json", "weights.npz"

FORMAT = 1

Faces = tuple[Split, Split]
"""Training and validation split."""


@dataclass(frozen=True)
class SearchTrial:
    """The trial of a search that a job trains: its family, study and number, and the values that it tries.

    `job` is an id by which it counts once, however often it is brought home; none where the study waits for it.
    """

    family: str
    study: str
    number: int
    values: Mapping[str, float | str]
    job: str = ""


@dataclass(frozen=True)
class Job:
    """One training of a folder, or trial of a search; `teachers` lists the names that `distil` names, each once."""

    folder: Path
    architecture: Architecture
    recipe: Training
    seed: int
    data: str
    commit: str
    distil: DistillationRecipe | None = None
    trial: SearchTrial | None = None

    @property
    def name(self) -> str:
        """The family; of a trial, its family and number."""
        return self.folder.name

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the teachers, each once; none for a family that is no student."""
        return tuple(dict.fromkeys(self.distil.teachers)) if self.distil else ()

    @property
    def finished(self) -> bool:
        """Whether the weights are there."""
        return (self.folder / WEIGHTS).exists()

    def to_dict(self) -> dict[str, Any]:
        """The content of plan.json."""
        content = dataclasses.asdict(self)
        del content["folder"]
        return {"format": FORMAT, **content}

    def write(self) -> None:
        """Write plan.json, unless the folder holds the same plan; another one raises MienError."""
        path = self.folder / PLAN
        if path.exists() and (other := differences(read(self.folder), self)):
            raise MienError(
                f"{self.folder} holds another plan of {self.name} ({other}). Take another folder, or remove it."
            )
        write_json(path, self.to_dict())

    def finish(self, weights: Iterable[NDArray[np.floating]], state: Mapping[str, Any]) -> None:
        """Write the weights, and before them `state` with the digest by which damage is noticed."""
        with replacing(self.folder / WEIGHTS) as temporary:
            np.savez(temporary, *weights)
            origin = state["origin"] | {"weights_sha256": sha256(temporary.read_bytes()).hexdigest()}
            write_json(self.folder / STATE, {**state, "origin": origin})

    def plan(self, faces: Faces) -> "Plan":
        """The plan on these faces; of a student whose teachers stand beside it, finished."""
        from mien.learning.training.distillation import Teachers
        from mien.learning.training.loop import Plan

        teachers = None
        if self.distil:
            networks = {name: read(self.folder.parent / name).network() for name in self.teachers}
            teachers = Teachers(self.distil, networks)
        return Plan.of(self.architecture, self.recipe, *faces, self.seed, teachers)

    def network(self) -> "keras.Model":
        """The trained network in float32. Raises MienError where it is not finished or its weights are damaged."""
        from mien.learning import models

        network = models.build(self.architecture)
        weights = self.weights()
        if [array.shape for array in weights] != [array.shape for array in network.get_weights()]:
            raise MienError(f"{self.folder / WEIGHTS} does not fit the network in {self.folder / PLAN}: train it anew.")
        network.set_weights(weights)
        return network

    def weights(self) -> list[NDArray[np.float32]]:
        """The best epoch's weights in the order of Keras, as float32. Raises MienError where they are damaged."""
        path = self.folder / WEIGHTS
        state = read_json(self.folder / STATE, made_by="python -m mien.learning")
        if not path.exists():
            raise MienError(f"{self.folder} is not trained yet: run `python -m mien.learning {self.folder.parent}`.")
        if sha256(path.read_bytes()).hexdigest() != state["origin"].get("weights_sha256"):
            raise MienError(f"{path} is damaged: it is not the file that was written. Copy it again, or train it anew.")
        with np.load(path) as arrays:
            return [arrays[name].astype(np.float32) for name in arrays.files]


def read(folder: Path) -> Job:
    """The job in a folder; raises MienError where its plan is missing, damaged or of another version."""
    path = folder / PLAN
    content = read_json(path, made_by="mien jobs write")
    if content.pop("format", None) != FORMAT:
        raise MienError(f"{path} is of another version of Mien, expected format {FORMAT}: write the jobs anew.")
    try:
        parts = {
            "architecture": build(Architecture, content["architecture"], "architecture"),
            "recipe": build(Training, content["recipe"], "recipe"),
            "distil": build(DistillationRecipe, content["distil"], "distil") if content["distil"] else None,
            "trial": build(SearchTrial, content["trial"], "trial") if content.get("trial") else None,
        }
        return Job(folder, **{**content, **parts})
    except (KeyError, TypeError) as error:
        raise MienError(f"{path} is no plan ({error}): write the jobs anew with `mien jobs write`.") from error


def read_all(folder: Path) -> list[Job]:
    """Every job of a folder, teachers first; raises MienError where there is none."""
    jobs = {path.parent.name: read(path.parent) for path in sorted(folder.glob(f"*/{PLAN}"))}
    if not jobs:
        raise MienError(f"{folder} holds no trainings. Write some with `mien jobs write {folder}`.")
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        for teacher in job.teachers:
            if teacher in jobs and teacher not in ordered:
                add(jobs[teacher])
        ordered[job.name] = job

    for job in jobs.values():
        if job.name not in ordered:
            add(job)
    return list(ordered.values())


def differences(one: Job, other: Job) -> str:
    """Names and values of what differs in what a training depends on; empty where nothing does."""
    mine, theirs = (_flat(job.to_dict() | {"commit": ""}) for job in (one, other))
    keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    return ", ".join(f"{key}: {mine.get(key)} and {theirs.get(key)}" for key in keys)


def write_faces(folder: Path, faces: Faces) -> Path:
    """Write the splits without loss, as differences between neighbours, which compress by a quarter."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, split in zip(("train", "validation"), faces, strict=True):
        steps = np.diff(split.images, axis=2, prepend=np.uint8(0))  # modulo 256
        arrays |= {f"{name}.steps": steps, f"{name}.labels": split.labels.astype(np.uint8)}
        arrays |= {f"{name}.leaked": split.leaked}
    path = folder / FACES
    write_file(path, lambda target: np.savez_compressed(target, allow_pickle=False, **arrays))
    return path


def read_faces(folder: Path) -> Faces:
    """The training and the validation split; raises MienError for a missing or damaged file."""
    path = folder / FACES
    try:
        with np.load(path) as arrays:
            train, validation = (
                Split(
                    np.cumsum(arrays[f"{name}.steps"], axis=2, dtype=np.uint8),
                    arrays[f"{name}.labels"].astype(np.int64),
                    arrays[f"{name}.leaked"],
                    np.arange(len(arrays[f"{name}.labels"])),
                )
                for name in ("train", "validation")
            )
    except FileNotFoundError:
        raise MienError(f"{path} is missing: copy the whole folder that `mien jobs write` wrote.") from None
    except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise MienError(f"{path} is damaged ({type(error).__name__}): copy it again.") from error
    return train, validation


def check_faces(job: Job, data: str) -> None:
    """Raise MienError where `data`, the digest of the faces, is not the plan's."""
    if data != job.data:
        raise MienError(
            f"{job.name} was planned for the faces {job.data[:12]}, these are {data[:12]}. Copy the folder "
            "that `mien jobs write` wrote, or write it anew."
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
