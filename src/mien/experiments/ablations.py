"""`mien ablations`: one recipe, what each of its parts is worth on validation, and over several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mien.evaluation import charts
from mien.evaluation.scores import by_recipe, mean_and_deviation
from mien.experiments.comparison import compare

OVERLAY = Path("params/ablations.yaml")


@dataclass(frozen=True)
class Ablation:
    """A change to the recipe: validation accuracy and macro-F1 by seed, and what the macro-F1 gains over no change."""

    name: str
    accuracy: Mapping[int, float]
    macro_f1: Mapping[int, float]
    gain: Mapping[int, float]


def run(folder: Path, raw: Path, report: Path, plot: Path) -> None:
    """Train the families of OVERLAY on the faces in `raw`; the test split is not read.

    What each training scored is kept in `report`, the gains are drawn to `plot`.
    """
    plain, *changes = ablations(compare(OVERLAY, folder, raw, report))
    charts.ablations({one.name: list(one.gain.values()) for one in changes}, plot, f"against {plain.name}")
    click.echo(table([plain, *changes]))


def ablations(families: Mapping[str, Any]) -> list[Ablation]:
    """Every recipe held against the first, seed by seed; a recipe is named like the first of its families."""
    groups = by_recipe(families)

    def scores(group: Mapping[int, str], key: str) -> dict[int, float]:
        return {seed: families[name]["validation"][key] for seed, name in group.items()}

    plain = scores(groups[0], "macro_f1")
    found = []
    for group in groups:
        macro_f1 = scores(group, "macro_f1")
        gain = {seed: value - plain[seed] for seed, value in macro_f1.items() if seed in plain}
        found.append(Ablation(next(iter(group.values())), scores(group, "accuracy"), macro_f1, gain))
    return found


def table(found: Sequence[Ablation]) -> str:
    """Means and sample standard deviations over seeds, and the gain in macro-F1 of each seed."""
    lines = [f"{'':<22}{'accuracy':<16}{'macro-F1':<18}macro-F1 gained, by seed"]
    for one in found:
        gains = "  ".join(f"{gain:+.3f}" for gain in one.gain.values())
        lines.append(f"{one.name:<22}{_spread(one.accuracy, '.1%')}{_spread(one.macro_f1, '.3f')}{gains}")
    return "\n".join(lines)


def _spread(values: Mapping[int, float], form: str) -> str:
    spread = mean_and_deviation(list(values.values()))
    deviation = "" if spread["sd"] is None else f" ± {spread['sd']:{form}}"
    return f"{spread['mean']:{form}}{deviation}".ljust(16 if "%" in form else 18)
