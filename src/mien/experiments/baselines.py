"""`mien baselines`: recipes that published projects name, under this project's protocol, in a folder of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mien.experiments.comparison import compare

OVERLAY = Path("params/baselines.yaml")


def run(folder: Path, raw: Path, report: Path, only: tuple[str, ...] = ()) -> None:
    """Train the presets of OVERLAY (or `only` some) on the faces in `raw`, and keep what each is worth in `report`."""
    # Each preset is somebody's whole system: the test split scores it, and selects none of them.
    click.echo(table(compare(OVERLAY, folder, raw, report, only, test=True)))


def table(families: Mapping[str, Any]) -> str:
    """Scores of every preset in the report on validation without leaked faces, and on the test split."""
    lines = [
        f"{'':<22}{'validation':^20}{'test':^20}",
        f"{'preset':<22}{'accuracy':>10}{'macro-F1':>10}{'accuracy':>10}{'no leaks':>10}{'parameters':>13}{'GMAC':>8}"
        f"{'trained':>10}",
    ]
    for name, family in families.items():
        validation, test = family["validation"], family["test"]
        lines.append(
            f"{name:<22}{validation['accuracy']:>10.1%}{validation['macro_f1']:>10.3f}{test['accuracy']:>10.1%}"
            f"{test['without_leaks']['accuracy']:>10.1%}{family['parameters']:>13,}{family['gmac']:>8.3f}"
            f"{family['seconds'] / 60:>6.0f} min"
        )
    return "\n".join(lines)
