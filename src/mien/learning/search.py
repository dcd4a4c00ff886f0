"""Hyperparameter search with Optuna: seeded TPE, median pruning, resumable after a kill."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from mien.config.params import Dimension, Tune
from mien.errors import MienError

STORAGE_VARIABLE = "OPTUNA_STORAGE"

Pruned = optuna.TrialPruned

ENOUGH = 5
"""Fewest finished trials for which importances are computed."""

NOTHING: dict[str, Any] = {"best": {"value": None, "params": {}}, "trials": []}
"""Result of a search with an empty search space."""


@dataclass(frozen=True)
class Trial:
    """One trial: its number, the values it was given (dotted keys), and where it reports its progress."""

    number: int
    values: Mapping[str, Any]
    optuna_trial: optuna.Trial

    def should_prune(self, step: int, score: float) -> bool:
        """Report a score after `step` epochs to Optuna; true if the trial should be pruned (raise Pruned)."""
        self.optuna_trial.report(score, step)
        return self.optuna_trial.should_prune()


Objective = Callable[[Trial], float]


def search(
    name: str,
    space: Mapping[str, Dimension],
    start: Mapping[str, Any],
    objective: Objective,
    budget: Tune,
    seed: int,
) -> dict[str, Any]:
    """Maximise `objective` over `space` until the budget is spent; a study of the same name is resumed.

    The first trial takes the values of `start`, so that a search never ends below the recipe it began with. Returns
    `best` (value and params; both empty where no trial finished) and `trials`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(name, budget, seed)
    study.enqueue_trial(dict(start), skip_if_exists=True)
    missing = budget.trials - len(_finished(study))
    seconds = budget.minutes * 60 - sum(trial.duration.total_seconds() for trial in _finished(study))
    if missing > 0 and seconds > 0:
        study.optimize(
            lambda trial: objective(Trial(trial.number, _suggest(trial, space), trial)),
            n_trials=missing,
            timeout=seconds,
        )
    return _summary(study)


def importances(name: str, budget: Tune, seed: int) -> dict[str, float]:
    """How much of the scores' variance each searched value explains (fANOVA, Hutter et al. 2014), largest first.

    Sums to 1; empty where fewer than ENOUGH trials finished or all scored alike.
    """
    study = optuna.load_study(study_name=name, storage=_storage(_address(budget)))
    scores = [trial.value for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]
    if len(scores) < ENOUGH or len(set(scores)) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: round(float(share), 4) for key, share in found.items()}


def _address(budget: Tune) -> str:
    return os.environ.get(STORAGE_VARIABLE) or budget.storage


def _study(name: str, budget: Tune, seed: int) -> optuna.Study:
    address = _address(budget)
    study = optuna.create_study(study_name=name, storage=_storage(address), direction="maximize", load_if_exists=True)
    if address.startswith("journal:"):
        # A journal is used by one process at a time here, so trials that are still RUNNING were killed.
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # The seed advances with the trials, or a resumed search would sample its first values again.
    drawn = len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed + drawn, n_startup_trials=budget.startup_trials)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=budget.startup_trials, n_warmup_steps=1)
    return study


def _storage(address: str) -> optuna.storages.BaseStorage:
    """A journal file (`journal:PATH`) or any database that SQLAlchemy knows by URL."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if address.startswith("journal:"):
        return JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
    try:
        with warnings.catch_warnings():
            # The heartbeat, which notices killed workers, still counts as experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(address, heartbeat_interval=60, grace_period=180)
    except Exception as error:  # SQLAlchemy's and the drivers' own kinds
        raise MienError(
            f"Optuna cannot open the storage {address!r} ({error}). Expected journal:PATH or a database URL such as "
            "postgresql://…; set tune.storage in params.yaml or OPTUNA_STORAGE."
        ) from error


def _suggest(trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    return {key: _draw(trial, key, dimension) for key, dimension in space.items()}


def _draw(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(key, dimension.choices)
    if dimension.low is None or dimension.high is None or dimension.low > dimension.high:
        raise MienError(f"search {key}: give low and high (low ≤ high), or a list of choices.")
    if dimension.integer:
        return trial.suggest_int(key, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)


def _finished(study: optuna.Study) -> list[Any]:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _summary(study: optuna.Study) -> dict[str, Any]:
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    best = study.best_trial if complete else None
    return {
        "best": {"value": best.value if best else None, "params": best.params if best else {}},
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "params": trial.params,
                "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
            }
            for trial in study.trials
            if trial.state.is_finished()
        ],
    }
