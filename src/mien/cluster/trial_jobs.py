"""Trials of searches as portable jobs: proposed by Optuna, trained anywhere, their scores taken home into the study."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from mien.cluster.jobs import Home, complete, refuse_exported
from mien.config.params import Params
from mien.data.dataset import digest
from mien.errors import MienError
from mien.files import read_json
from mien.learning import family_search, jobs, search
from mien.learning.family_search import METRIC
from mien.learning.jobs import PLAN, STATE, Faces, Job, SearchTrial
from mien.learning.training import hardware
from mien.registry import provenance, tracking


def write(folder: Path, names: Sequence[str], count: int, params: Params, home: Home) -> list[Job]:
    """Write trials until the folder has `count` of each family's search, or its budget is spent; returns the new ones.

    Raises MienError where a family has no search, or the folder holds other faces.
    """
    if plain := [name for name in names if not params.family(name).search]:
        raise MienError(f"{', '.join(plain)} has no search: give it search: in params.yaml, or write its training.")
    refuse_exported(names, params)
    faces = home.faces()
    made = [job for name in names for job in _write(folder, name, count, params, faces)]
    complete(folder, faces, home)
    return made


def _write(folder: Path, family: str, count: int, params: Params, faces: Faces) -> list[Job]:
    study, space = family_search.study(family, params, faces), params.family(family).search
    found = [job.trial for job in _trials(folder) if job.trial and job.trial.family == family]
    away = [trial.values for trial in found if trial.study == study]
    # Another folder's trials shall draw others, and so shall the search that runs here.
    seed = int(sha256(f"{params.seed_of(family)} {folder.resolve().name} {len(away)}".encode()).hexdigest()[:8], 16)
    start, budget = family_search.start(family, params), params.tune
    proposed = search.propose(study, space, start, away, count - len(away), budget, seed)
    made, data = list[Job](), digest(faces)
    for number, values in enumerate(proposed, start=1 + max((trial.number for trial in found), default=-1)):
        trial = SearchTrial(family, study, number, values, uuid4().hex)
        made.append(_job(folder / f"{family}-trial-{number}", trial, params, faces, data))
        made[-1].write()
    return made


def _job(folder: Path, trial: SearchTrial, params: Params, faces: Faces, data: str) -> Job:
    plan = family_search.plan(trial.family, params, trial.values, faces)
    return Job(folder, plan.architecture, plan.recipe, plan.seed, data, provenance.commit(), trial=trial)


def _trials(folder: Path) -> list[Job]:
    found = [jobs.read(path.parent) for path in sorted(folder.glob(f"*/{PLAN}"))]
    return [job for job in found if job.trial]


def take(folder: Path, names: Sequence[str], params: Params, home: Home) -> tuple[list[Job], list[str]]:
    """Tell the studies of these families, or of all, the scores of finished trials, each once and with an MLflow run.

    Returns the trials whose scores the studies have now, and why others were refused.
    """
    found, taken, refused = [job for job in _trials(folder) if job.finished], list[Job](), list[str]()
    if not found:
        return taken, refused
    faces, studies = home.faces(), dict[str, str]()
    data = digest(faces)
    for job in found:
        trial = job.trial
        if not trial or (names and trial.family not in names):
            continue
        try:
            if trial.family not in studies:
                studies[trial.family] = family_search.study(trial.family, params, faces)
            wanted = replace(trial, study=studies[trial.family])
            _take(job, _job(job.folder, wanted, params, faces, data), wanted, params, faces)
            taken.append(job)
        except MienError as error:
            refused.append(f"{job.name}: {error}")
    return taken, refused


def _take(job: Job, wanted: Job, trial: SearchTrial, params: Params, faces: Faces) -> None:
    if other := jobs.differences(job, wanted):
        raise MienError(f"it tried another plan or other faces ({other}).")
    job.weights()  # there are none, but damage is noticed
    state = read_json(job.folder / STATE, made_by="python -m mien.learning")
    if state["fingerprint"] != job.plan(faces).fingerprint:
        raise MienError("its scores are of another plan than the one that stands beside them.")
    history, space, budget = state["history"], params.family(trial.family).search, params.tune
    number = search.record(trial.study, space, trial.values, history[METRIC], state["seconds"], trial.job, budget)
    if number is None:
        return
    with (
        search.one_at_a_time(budget),
        tracking.search_run(trial.family, trial.study) as parent,
        tracking.trial_run(trial.family, number, parent) as child,
    ):
        child.log_params(trial.values)
        for epoch, (ended, *numbers) in enumerate(zip(state["ended"], *history.values(), strict=True), start=1):
            child.log_metrics(dict(zip(history, numbers, strict=True)), step=epoch, when=ended)
        child.set_tags(hardware.as_tags(state["origin"]))
