"""`mien drift`: whether the served faces are still distributed like the training faces."""

import sys
from pathlib import Path

import click

from mien.config.params import Drift, load

path_type = click.Path(path_type=Path)
DRIFTED = 3
LIMITS = Drift(faces=500, watch=0.1, psi=0.25, alpha=0.001)
"""The limits where there is no params.yaml, as on a serving host; the same that the project's params.yaml has."""


@click.command()
@click.argument("folders", nargs=-1, required=True, type=path_type, metavar="FOLDER...")
@click.option("--champion", "place", type=path_type, help="Folder of the champion, if not the usual one.")
@click.option("--baseline", multiple=True, type=path_type, help="Windows of a healthy time to compare with instead.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many hours of the windows.")
@click.option("--report", type=path_type, default=Path("reports/drift"), show_default=True, help="Folder to write to.")
@click.pass_obj
def drift(
    params: Path,
    folders: tuple[Path, ...],
    place: Path | None,
    baseline: tuple[Path, ...],
    last: int | None,
    report: Path,
) -> None:
    """Compare the windows that a service left in FOLDER with the champion's training profile.

    The service writes windows where MIEN_DRIFT_FOLDER names a folder. The report is a page and JSON.

    Exit code 0: no drift, or too little to tell. 3: drift. 1: an error.
    """
    limits = limits_of(params)
    from mien.monitoring import report as drift_report

    result = drift_report.tell(folders, baseline, place, limits, last)
    drift_report.write(report, result, limits)
    click.echo("\n".join(drift_report.lines(result, report / "drift.html")))
    sys.exit(DRIFTED if result.level == "drift" else 0)


def limits_of(params: Path) -> Drift:
    """The limits of a parameter file; where the default one is missing, LIMITS, and a line on stderr that says so."""
    if params.exists() or params != Path("params.yaml"):
        return load(params).drift
    click.echo(
        f"No {params} here: drift is a PSI of {LIMITS.psi} or more with p ≤ {LIMITS.alpha}, over at least "
        f"{LIMITS.faces} faces.",
        err=True,
    )
    return LIMITS
