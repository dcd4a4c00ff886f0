"""Minutes into epochs: each family's speed is measured, and what the budget allows is written to its block."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mien.config.params import Params, merge
from mien.data.dataset import Split, read_split
from mien.errors import MienError
from mien.experiments.pipeline import checked

if TYPE_CHECKING:
    from mien.learning.training.loop import Plan

SEARCH = 0.25
"""Share of a family's minutes that its search gets, if it has one."""

BESIDE = 0.75
"""Share of the training's minutes that epochs get; start, compilation and export take the rest."""

BATCHES = 12
"""Batches of the measured stretch."""


def within(minutes: float, tree: Mapping[str, Any], prepared: Path) -> dict[str, Any]:
    """The parameters `tree` with as many epochs of each family, at most its own, as fit into its share of `minutes`.

    Where one epoch is too long already, it is shortened (`max_rows`). The minutes are wall time on this machine; the
    epochs are written down, so that the run can be repeated.
    """
    params = checked(tree)
    training = read_split(prepared, "train")
    validation = read_split(prepared, "validation")
    share = 60 * minutes / len(params.candidates)
    changed: dict[str, Any] = merge(dict(tree), {"tune": {"minutes": SEARCH * share / 60}})
    for name, family in params.candidates.items():
        seconds = (1 - SEARCH if family.search else 1.0) * BESIDE * share
        rows, epochs, pace = fit(params, name, training, validation, seconds)
        place = "students" if family.distil else "families"
        cut = {"restart": 0} if epochs < params.training(name)[1].epochs else {}
        changed = merge(changed, {place: {name: {"train": {"epochs": epochs, "max_rows": rows, **cut}}}})
        of = f"of {rows:,} faces" if rows else ""
        click.echo(f"{name:<20}{pace:>7.1f} s an epoch: {epochs} epochs {of}".rstrip())
    return changed


def fit(params: Params, name: str, training: Split, validation: Split, seconds: float) -> tuple[int, int, float]:
    """Rows of the training split (0: as params.yaml says), epochs, and seconds of a whole epoch."""
    _, recipe = params.training(name)
    rows = min(recipe.max_rows or len(training), len(training))
    pace = seconds_per_face(params, name, training) * (rows + len(validation) / 3)  # without gradients a third
    epochs = int(seconds / pace)
    if epochs:
        return recipe.max_rows, min(epochs, recipe.epochs), pace
    few = int(rows * seconds / pace)
    if few < recipe.batch_size:
        raise MienError(
            f"--minutes is too short for {name}: an epoch takes {pace / 60:.1f} minutes here, its share is "
            f"{seconds / 60:.1f}. Give more minutes or name fewer families."
        )
    return few, 1, pace


def seconds_per_face(params: Params, name: str, training: Split) -> float:
    """Measured on a few batches, after one that compiles."""
    from mien.learning.training import hardware

    hardware.start()
    from mien.learning.training import loop
    from mien.learning.training.batches import Batches

    plan = probe(params, name, training)
    _, learner = loop.compile_learner(plan)
    batches = Batches(plan.training, plan.recipe, plan.seed, 0)
    learner.fit(batches, verbose=0, shuffle=False)
    started = time.monotonic()
    learner.fit(batches, verbose=0, shuffle=False)
    return (time.monotonic() - started) / len(plan.training)


def probe(params: Params, name: str, training: Split) -> "Plan":
    """A short epoch of the family; a student's teachers have random weights, which take the same time."""
    from mien.learning import models
    from mien.learning.training.distillation import Teachers
    from mien.learning.training.loop import Plan

    architecture, recipe = params.training(name)
    distil, teachers = params.family(name).distil, None
    if distil:
        networks = {teacher: models.build(params.training(teacher)[0]) for teacher in distil.teachers}
        teachers = Teachers(dataclasses.replace(distil, start=None), networks)
    size = min(recipe.batch_size, len(training))
    few = training.stratified(min(BATCHES * size, len(training)), params.seed)
    short = dataclasses.replace(recipe, epochs=1, restart=0, max_rows=0, batch_size=size)
    return Plan(architecture, short, few, few, params.seed, teachers)
