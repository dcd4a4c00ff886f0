"""`mien baselines`: recipes that published projects name, under this project's protocol, in a folder of their own."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from mien.demo import call, lay_out
from mien.errors import MienError
from mien.files import read_json, write_json

OVERLAY = Path("params/baselines.yaml")


def run(folder: Path, raw: Path, report: Path, only: tuple[str, ...] = ()) -> None:
    """Train the presets of OVERLAY (or `only` some) on the faces in `raw`, and copy their evaluation to `report`.

    Nothing is promoted.
    """
    if not list(raw.glob("*.parquet")):
        raise MienError(f"{raw} holds no faces. Fetch FER-2013 first: mien fetch kaggle, or mien fetch csv PATH.")
    lay_out(folder, OVERLAY, only)
    if not (folder / ".dvc").exists():
        call([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], folder)
    shutil.copytree(raw, folder / "data/raw", dirs_exist_ok=True)
    call([sys.executable, "-m", "dvc", "repro", "evaluate"], folder)
    evaluation = read_json(folder / "reports/evaluation.json", made_by="mien baselines")
    write_json(report, evaluation)
    click.echo(table(evaluation))


def table(evaluation: dict[str, Any]) -> str:
    """Validation scores of each preset, and the best one's on the test split."""
    test, winner = evaluation["test"], evaluation["winner"]
    lines = [f"{'preset':<22}{'accuracy':>10}{'macro-F1':>10}{'parameters':>13}{'GMAC':>8}{'trained':>10}"]
    for name, family in evaluation["families"].items():
        scores = family["validation"]
        lines.append(
            f"{name:<22}{scores['accuracy']:>10.1%}{scores['macro_f1']:>10.3f}{family['parameters']:>13,}"
            f"{family.get('gmac', 0):>8.3f}{family['seconds'] / 60:>6.0f} min"
        )
    low, high = test["accuracy_ci"]
    return "\n".join(
        [
            *lines,
            "",
            f"On validation, without leaked faces. The best, {winner}, on test: {test['accuracy']:.1%} "
            f"({low:.1%} to {high:.1%}), macro-F1 {test['macro_f1']:.3f}.",
        ]
    )
