"""Search one family's hyperparameters with short trainings; every trial is an MLflow run."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mien.config.params import Params
from mien.data.dataset import read_info, read_split
from mien.evaluation import charts
from mien.evaluation.metrics import rank_correlation
from mien.files import write_json
from mien.learning import family_search, search
from mien.learning.family_search import METRIC
from mien.learning.training import hardware
from mien.registry import tracking

if TYPE_CHECKING:
    from mien.learning.slots import Slots
    from mien.learning.training.loop import OnEpoch, Plan


Train = Callable[..., Mapping[str, Any]]
"""Trains `plan` for a trial, with `on_epoch`, and returns the description of the machine."""


class Elsewhere(Protocol):
    """Other machines that train trials, as many at once as there are slots."""

    slots: "Slots"

    def train(self, trial: search.Trial, family: str, plan: "Plan", on_epoch: "OnEpoch") -> Mapping[str, Any]:
        """Train the plan; returns the description of the machine. `on_epoch` may raise to end it."""


def run(
    family: str, prepared: Path, report: Path, plots: Path, params: Params, elsewhere: Elsewhere | None = None
) -> None:
    """Write the best values found (dotted keys) and every trial to `report`; nothing to search takes no time.

    Where `tune.confirm` asks for it, full trainings decide, and the report says how well the short trials ranked them.
    Trials are trained in this process, or `elsewhere`. Charts of the study go to the folder `plots`, and to its MLflow
    run; study.json holds the space and the trials.
    """
    space, info = params.family(family).search, read_info(prepared)
    if not space:
        write_json(report, {"family": family, "metric": METRIC, **search.NOTHING})
        write_json(plots / "study.json", {"study": None, "trials": 0, "importances": {}})
        return
    if not elsewhere:
        hardware.start()
    splits = read_split(prepared, "train"), read_split(prepared, "validation")
    train = partial(elsewhere.train, family=family) if elsewhere else _train
    study, seed = family_search.study(family, params, splits), params.seed_of(family)
    with ExitStack() as runs:
        # Machines that begin at the same moment share one run of the study.
        with search.one_at_a_time(params.tune):
            parent = runs.enter_context(tracking.search_run(family, study))
            rows = len(family_search.plan(family, params, {}, splits).training)
            parent.log_dataset(info["name"], info["digest"], rows)

        def objective(trial: search.Trial, stage: str = "trial") -> float:
            plan = family_search.plan(family, params, trial.values, splits, full=stage != "trial")
            with tracking.trial_run(family, trial.number, parent, stage) as child:
                score = _try(trial, plan, child, train, prunes=stage == "trial")
            print(f"{family} {stage} {trial.number}: {METRIC} {score:.3f} with {dict(trial.values)}", flush=True)
            return score

        start, slots = family_search.start(family, params), elsewhere.slots if elsewhere else None
        found = search.search(study, space, [start], objective, params.tune, seed, slots)
        if chosen := finalists(found["trials"], search.held(space, start), params.tune.confirm):
            values = [trial["params"] for trial in chosen]
            budget = dataclasses.replace(params.tune, trials=len(values), minutes=math.inf)
            in_full = partial(objective, stage="full training")
            full = search.search(f"{study}-full", space, values, in_full, budget, seed, slots)
            found |= _confirmed(chosen, full)
        parent.fail_children()
        # No run id, no date: a search that finds nothing new writes the same bytes, and nothing is trained anew.
        write_json(report, {"family": family, "metric": METRIC, **found})
        weights = search.importances(study, params.tune, seed)
        write_json(plots / "study.json", {"study": study, "trials": len(found["trials"]), "importances": weights})
        draw(found, weights, family, plots)
        _record(parent, found["best"], report, plots)


def _record(parent: tracking.Run, best: Mapping[str, Any], report: Path, plots: Path) -> None:
    """Give the search's MLflow run what was found."""
    if best["value"] is not None:
        parent.log_metrics({f"best_{METRIC}": best["value"]})
        # As tags, because a search with a larger budget may find better, and MLflow's parameters never change.
        parent.set_tags({f"best.{key}": value for key, value in best["params"].items()})
    parent.log_artifact(report)
    parent.log_artifact(plots, "study")


def draw(found: Mapping[str, Any], weights: Mapping[str, float], family: str, plots: Path) -> None:
    """Charts of the trials that have a score: in their order, by their values, which value mattered, what they tell."""
    scored = [trial for trial in found["trials"] if trial["value"] is not None]
    if scored:
        charts.search_history(scored, plots / "history.png", f"{family}, {METRIC}")
        charts.parallel_coordinates(scored, plots / "parallel_coordinates.png", f"{family}, {METRIC}")
    if weights:
        charts.importances(weights, plots / "importances.png", family)
    if "confirmed" in found:
        rho, (low, high) = found["rank_correlation"]["rho"], found["rank_correlation"]["interval"]
        note = f"{family}, {METRIC}: rank correlation {rho:.2f} (95 % interval {low:.2f} to {high:.2f})"
        charts.proxy(found["confirmed"], plots / "proxy.png", note)


def finalists(trials: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """The trial of the `recipe`, whatever its number, and the `count` best others; none where none is asked for."""
    if not count:
        return []
    finished = [trial for trial in trials if trial["state"] == "complete"]
    own = [trial for trial in finished if recipe.items() <= trial["params"].items()][:1]
    others = sorted((trial for trial in finished if trial not in own), key=lambda trial: -float(trial["value"]))
    return [*own, *others[:count]]


def _confirmed(finalists: Sequence[Mapping[str, Any]], full: Mapping[str, Any]) -> dict[str, Any]:
    """The best full training as `best`, both scores of each setting, and how well the short ones ranked the full."""
    known = [
        {"trial": short["number"], "params": one["params"], "short": short["value"], "full": one["value"]}
        for one in full["trials"]
        for short in finalists
        if one["state"] == "complete" and one["params"] == short["params"]
    ]
    rho, low, high = rank_correlation([one["short"] for one in known], [one["full"] for one in known])
    correlation = {"rho": rho, "interval": [low, high], "n": len(known)}
    return {"best": full["best"], "confirmed": known, "rank_correlation": correlation}


def _try(trial: search.Trial, plan: "Plan", child: tracking.Run, train: Train, *, prunes: bool) -> float:
    """Train, shortly or in full; the last epoch's score counts, because the best one's is luck in part."""
    child.log_params(trial.values)
    scores = []

    def on_epoch(epoch: int, numbers: dict[str, float]) -> None:
        child.log_metrics(numbers, step=epoch)
        scores.append(numbers[METRIC])
        # At its last epoch a trial has cost all that it can.
        if prunes and trial.should_prune(epoch, numbers[METRIC]) and epoch < plan.recipe.epochs:
            child.prune()
            raise search.Pruned

    child.set_tags(hardware.as_tags(train(trial, plan=plan, on_epoch=on_epoch)))
    return scores[-1]


def _train(_: search.Trial, plan: "Plan", on_epoch: "OnEpoch") -> Mapping[str, Any]:
    """Train a trial in this process."""
    from mien.learning.training.loop import train

    return train(plan, on_epoch=on_epoch).state.origin
