"""`mien drift`: whether the served faces are still distributed like the training faces."""

import sys
from pathlib import Path

import click

from mien.config.params import load

path_type = click.Path(path_type=Path)
DRIFTED = 3


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
    limits = load(params).drift
    from mien.monitoring import report as drift_report

    result = drift_report.tell(folders, baseline, place, limits, last)
    drift_report.write(report, result, limits)
    click.echo("\n".join(drift_report.lines(result, report / "drift.html")))
    sys.exit(DRIFTED if result.level == "drift" else 0)
