"""Write trainings as portable jobs, and bring finished ones home as checkpoints that `mien train` carries on from."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mien
from mien.config.params import Params
from mien.data.dataset import digest, read_split
from mien.errors import MienError
from mien.files import alone_in, read_json, write_file, write_json
from mien.learning import jobs
from mien.learning.jobs import FACES, STATE, Faces, Job
from mien.registry import provenance

CODE = "mien.zip"
"""The package's code, which Python imports from the archive: PYTHONPATH=JOBS/mien.zip."""

LEFT_OUT = ("shipped", "page", "__pycache__")
"""Folders of the package that no training needs."""


@dataclass(frozen=True)
class Home:
    """Where a project keeps what a training reads and writes."""

    prepared: Path = Path("data/prepared")
    tuned: Path = Path("reports/tune")
    studies: Path = Path("reports/study")
    models: Path = Path("models")
    checkpoints: Path = Path("checkpoints")

    def faces(self) -> Faces:
        """Training and validation split."""
        return read_split(self.prepared, "train"), read_split(self.prepared, "validation")

    def job(self, folder: Path, name: str, params: Params, data: str) -> Job:
        """The training of a family as params.yaml and its search would have it now."""
        family = params.family(name)
        searched = read_json(self.tuned / f"{name}.json", made_by=f"dvc repro tune@{name}") if family.search else {}
        architecture, recipe = params.training(name, searched["best"]["params"] if searched else {})
        return Job(folder / name, architecture, recipe, params.seed_of(name), data, provenance.commit(), family.distil)


def write(folder: Path, names: Sequence[str], params: Params, home: Home) -> list[Job]:
    """Write the jobs of these families, or of all, with faces and code; returns them, teachers first.

    Teachers that are trained here already go along with their weights. Raises MienError where the folder holds other
    plans or faces, or a search has not been made.
    """
    chosen, faces = list(names or params.candidates), home.faces()
    refuse_exported(chosen, params)
    data = digest(faces)
    made = {name: home.job(folder, name, params, data) for name in chosen}
    given = {teacher for job in made.values() for teacher in job.teachers} - made.keys()
    for name in sorted(given):
        _give(home.job(folder, name, params, data), home.models / name / "model.keras")
    for job in made.values():
        job.write()
    complete(folder, faces, home)
    return [job for job in jobs.read_all(folder) if job.name in made]


def refuse_exported(names: Sequence[str], params: Params) -> None:
    """Raise MienError where one of these families starts from an exported model, the package's own or another."""
    if bound := [name for name in names if params.family(name).model.exported]:
        raise MienError(
            f"{', '.join(bound)} starts from an exported model, which other machines do not have: train it here "
            f"(dvc repro train@{bound[0]}). As a teacher its weights go along."
        )


def complete(folder: Path, faces: Faces, home: Home) -> None:
    """Write faces and code beside the jobs; raises MienError where the folder holds other faces."""
    if not (folder / FACES).exists():
        jobs.write_faces(folder, faces)
    elif digest(jobs.read_faces(folder)) != digest(faces):
        raise MienError(f"{folder} holds other faces than {home.prepared}. Take another folder, or remove it.")
    write_file(folder / CODE, _zip_code)


@dataclass(frozen=True)
class Progress:
    """How far one job is; `state` is finished, training (or cut short), waiting or given, `pace` seconds an epoch."""

    job: Job
    state: str
    epoch: int
    score: float | None
    pace: float | None
    images: int
    machine: str


def status(folder: Path) -> list[Progress]:
    """Progress of every job of a folder, teachers first."""
    found = jobs.read_all(folder)
    finished = {job.name for job in found if job.finished}
    return [_progress(job, finished) for job in found]


def take(folder: Path, names: Sequence[str], params: Params, home: Home) -> tuple[list[Job], list[str]]:
    """Bring finished jobs home as checkpoints; returns those taken, and why others were refused.

    A refused job leaves what is here untouched. Raises MienError where the folder is no folder of jobs.
    """
    faces, taken, refused = home.faces(), list[Job](), list[str]()
    data = digest(faces)
    for job in jobs.read_all(folder):
        if not job.finished or job.trial or _is_given(job) or (names and job.name not in names):
            continue
        try:
            _take(job, home.job(folder, job.name, params, data), faces, home.checkpoints / job.name)
            taken.append(job)
        except MienError as error:
            refused.append(f"{job.name}: {error}")
    return taken, refused


def _take(job: Job, wanted: Job, faces: Faces, checkpoints: Path) -> None:
    if other := jobs.differences(job, wanted):
        raise MienError(f"it was trained by another plan or on other faces ({other}).")
    weights, state = job.weights(), read_json(job.folder / STATE, made_by="python -m mien.learning")
    fingerprint = job.plan(faces).fingerprint
    if state["fingerprint"] != fingerprint:
        raise MienError("its teachers were others than those that stand beside it now.")
    best = checkpoints / f"best-{state['best']:04d}.npz"
    with alone_in(checkpoints, f"`mien train {job.name}` is at work on {checkpoints}: wait for its end, or stop it."):
        # What was trained here before goes: carried on in its MLflow run, the epochs from elsewhere would be missing.
        for old in checkpoints.iterdir():
            old.unlink()
        write_file(best, lambda path: np.savez(path, *weights))
        write_json(checkpoints / STATE, state)


def _give(job: Job, model: Path) -> None:
    """Write a teacher that was trained here as a finished job, so that its students can learn from it elsewhere."""
    if not model.is_file():
        raise MienError(f"The teacher {model} is missing. Write {job.name} as a job, too, or train it first.")
    import keras

    job.write()
    network = keras.saving.load_model(model, compile=False)
    job.finish(network.get_weights(), {"fingerprint": "", "epoch": 0, "origin": {}})


def _is_given(job: Job) -> bool:
    return not read_json(job.folder / STATE, made_by="python -m mien.learning")["fingerprint"]


def _progress(job: Job, finished: set[str]) -> Progress:
    path = job.folder / STATE
    known: dict[str, Any] = read_json(path, made_by="python -m mien.learning") if path.exists() else {}
    if job.finished:
        state = "given" if not known["fingerprint"] else "finished"
    elif known:
        state = "training"
    else:
        missing = [teacher for teacher in job.teachers if teacher not in finished]
        state = f"waiting for {', '.join(missing)}" if missing else "waiting"
    origin, scores = known.get("origin", {}), known.get("history", {}).get("val_macro_f1", [])
    machine = ", ".join(origin.get("gpus", [])) or origin.get("processor", "")
    epoch = known.get("epoch", 0)
    pace = known["seconds"] / epoch if epoch else None
    return Progress(job, state, epoch, max(scores, default=None), pace, known.get("images", 0), machine)


def _zip_code(target: Path) -> None:
    root = Path(mien.__file__).parent
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            if not set(path.relative_to(root).parts) & set(LEFT_OUT):
                archive.write(path, Path("mien") / path.relative_to(root))


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
