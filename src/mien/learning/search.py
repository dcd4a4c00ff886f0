"""Hyperparameter search with Optuna: TPE, successive halving, resumable after a kill, on any number of machines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import optuna

from mien.config.params import Dimension, Tune
from mien.errors import MienError
from mien.learning import studies
from mien.learning.slots import InTurn, Runner, SideBySide, Slots, StoppedError

Pruned = optuna.TrialPruned

ENOUGH = 5
"""Fewest finished trials for which importances are computed."""

TAKEN = "job"
"""Attribute of a trial that was trained as a job: the job's id."""

NOTHING: dict[str, Any] = {"best": {"value": None, "params": {}}, "trials": []}
"""Result of a search with an empty search space."""


class LostError(Exception):
    """The machine that trained a trial is gone: its values are tried again."""


@dataclass(frozen=True)
class Trial:
    """One trial: its number, the values it was given (dotted keys), and where it reports its progress."""

    number: int
    values: Mapping[str, Any]
    optuna_trial: optuna.Trial
    study: studies.Study
    runner: Runner

    def check(self) -> None:
        """Raise StoppedError where the search is being ended."""
        if self.runner.stopped:
            raise StoppedError

    def should_prune(self, step: int, score: float) -> bool:
        """Report a score after `step` epochs to Optuna; true if the trial should be pruned (raise Pruned).

        The startup trials are not: what they tell of the space is what later ones are drawn by.
        """
        try:
            self.study.patiently(lambda: self.optuna_trial.report(score, step))
        except optuna.exceptions.UpdateFinishedTrialError:
            # It counted as lost while the database was away, and another process tries its values now.
            return True
        pruned = self.study.patiently(self.optuna_trial.should_prune)
        return pruned and self.study.patiently(self.study.knows_enough)


Objective = Callable[[Trial], float]


def search(
    name: str,
    space: Mapping[str, Dimension],
    starts: Sequence[Mapping[str, Any]],
    objective: Objective,
    budget: Tune,
    seed: int,
    slots: Slots | None = None,
) -> dict[str, Any]:
    """Maximise `objective` over `space` until the budget is spent; a study of the same name is resumed.

    The budget counts the trials of all processes that work on the study. The first trials take the values of `starts`
    that the space holds, so that a search never ends below the recipe it began with. With `slots`, trials run side by
    side in threads. Returns `best` (value and params; both empty where no trial finished) and `trials`.
    """
    study = studies.Study(name, budget, seed, [held(space, start) for start in starts])
    with SideBySide(slots) if slots else InTurn() as runner:
        while taken := study.next_trial(runner):
            trial = Trial(taken.number, _values(study, taken, space), taken, study, runner)
            runner.start(partial(_try, trial, objective))
    return study.patiently(lambda: _summary(study))


def propose(
    name: str,
    space: Mapping[str, Dimension],
    start: Mapping[str, Any],
    away: Sequence[Mapping[str, Any]],
    count: int,
    budget: Tune,
    seed: int,
) -> list[dict[str, Any]]:
    """Values for at most `count` more trials, as many as the budget allows, beside those that are `away`.

    The study itself is left as it is: nothing waits for what is proposed until `record` brings a score.
    """
    known = [trial for trial in studies.trials(name, budget) if trial.state in {*studies.FINISHED, studies.RUNNING}]
    draft = studies.opened(name, None)
    draft.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=budget.startup_trials)
    draft.add_trials(known)
    for values in away:
        _draft(draft, values, space)
    draft.enqueue_trial(held(space, start), skip_if_exists=True)
    return [_suggest(draft.ask(), space) for _ in range(min(count, budget.trials - len(known) - len(away)))]


def record(
    name: str,
    space: Mapping[str, Dimension],
    values: Mapping[str, Any],
    scores: Sequence[float],
    seconds: float,
    job: str,
    budget: Tune,
) -> int | None:
    """Add a trial that was trained elsewhere; returns its number, None where the study has that job's already."""
    draft = studies.opened(name, None)
    trial = _draft(draft, values, space)
    for step, score in enumerate(scores, start=1):
        trial.report(score, step)
    draft.tell(trial, scores[-1])
    (frozen,) = draft.get_trials()
    frozen.datetime_start = (frozen.datetime_complete or datetime.now()) - timedelta(seconds=seconds)
    frozen.user_attrs[TAKEN] = job
    return studies.add(name, frozen, TAKEN, budget)


def _draft(draft: optuna.Study, values: Mapping[str, Any], space: Mapping[str, Dimension]) -> optuna.Trial:
    """A running trial with these values."""
    draft.enqueue_trial(dict(values))
    trial = draft.ask()
    _suggest(trial, space)
    return trial


def one_at_a_time(budget: Tune) -> AbstractContextManager[None]:
    """Let one process of all that search in the same database do what is within, such as make a run that they share."""
    return studies.one_at_a_time(budget, "shared")


def importances(name: str, budget: Tune, seed: int) -> dict[str, float]:
    """How much of the scores' variance each searched value explains (fANOVA, Hutter et al. 2014), largest first.

    Sums to 1; empty where fewer than ENOUGH trials finished or all scored alike.
    """
    study = optuna.load_study(study_name=name, storage=studies.open_storage(studies.address(budget)))
    scores = [trial.value for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]
    if len(scores) < ENOUGH or len(set(scores)) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: round(float(share), 4) for key, share in found.items()}


def _values(study: studies.Study, trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Draw a trial's values, here and not beside other trials: the sampler's random state is one."""
    try:
        return study.patiently(lambda: _suggest(trial, space))
    except BaseException:
        study.interrupt(trial)
        raise


def _try(trial: Trial, objective: Objective) -> None:
    study = trial.study
    with study.heartbeat(trial.optuna_trial):
        try:
            score: float | None = objective(trial)
        except Pruned:
            score = None
        except LostError as error:
            print(f"{study.name} trial {trial.number}: {error}; its values are tried again", flush=True)
            study.fail(trial.optuna_trial)
            return
        except BaseException:  # Ctrl-C, too
            study.interrupt(trial.optuna_trial)
            raise
    study.tell(trial.optuna_trial, score)


def held(space: Mapping[str, Dimension], start: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that lie in the space, which a search begins with."""
    return {key: value for key, value in start.items() if _holds(space[key], value)}


def _holds(dimension: Dimension, value: Any) -> bool:
    if dimension.choices:
        return value in dimension.choices
    return dimension.low is not None and dimension.high is not None and dimension.low <= value <= dimension.high


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


def _summary(study: studies.Study) -> dict[str, Any]:
    complete = study.trials(optuna.trial.TrialState.COMPLETE)
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
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
            for trial in study.trials()
            if trial.state.is_finished()
        ],
    }
