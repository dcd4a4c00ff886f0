"""The commands that run the whole pipeline in a folder of its own: demo, run, baselines, ablations."""

from pathlib import Path

import click

from mien.cli import extras
from mien.cli.options import path_option
from mien.errors import MienError

raw_option = path_option("--raw", "Folder that `fetch` makes.", default=Path("data/raw"), show_default=True)


@click.command()
@click.argument("overlays", metavar="[OVERLAY]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    help="Only this family or student, and its teachers; may stand several times.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Wall time for search and training: as many epochs as fit, at most those of params.yaml.",
)
@path_option("--folder", "Where it runs, with reports and registry of its own. Default: one in runs/.", default=None)
@click.option("--here", is_flag=True, help="Run in the project itself, its params.yaml rewritten.")
@raw_option
def run(
    overlays: tuple[Path, ...], families: tuple[str, ...], minutes: float, folder: Path | None, here: bool, raw: Path
) -> None:  # fmt: skip
    """Run the whole pipeline with OVERLAYs laid over params.yaml, some of its families, or a budget in minutes.

    An OVERLAY is a YAML file of what differs from params.yaml; if it names families, those alone are trained. The
    same command carries on a run that was interrupted.
    """
    extras.require("run", *extras.PIPELINE)
    if here and folder:
        raise MienError("--here and --folder name two places; give one of them.")
    from mien.experiments.run import Request, in_folder, in_project

    request = Request(overlays, families, minutes)
    if here:
        in_project(request, raw)
    else:
        in_folder(request, folder, raw)


@click.command()
@path_option("--folder", "Where the demo lives.", default=Path("demo"), show_default=True)
def demo(folder: Path) -> None:
    """Run the whole pipeline on drawn faces, in a folder of its own."""
    extras.require("demo", *extras.PIPELINE)
    from mien.experiments.demo import run

    run(folder)


@click.command()
@path_option("--folder", "Where they are trained.", default=Path("baselines"), show_default=True)
@raw_option
@path_option("--report", "Where their scores are kept.", default=Path("reports/baselines.json"), show_default=True)
@click.option("--only", multiple=True, metavar="PRESET", help="Train this preset; may stand several times.")
def baselines(folder: Path, raw: Path, report: Path, only: tuple[str, ...]) -> None:
    """Train recipes that published projects name, under this project's protocol (params/baselines.yaml)."""
    extras.require("baselines", *extras.PIPELINE)
    from mien.experiments.baselines import run

    run(folder, raw, report, only)


@click.command()
@path_option("--folder", "Where they are trained.", default=Path("ablations"), show_default=True)
@raw_option
@path_option("--report", "Where their scores are kept.", default=Path("reports/ablations.json"), show_default=True)
@path_option("--plot", "Chart of what each gains.", default=Path("reports/ablations.png"), show_default=True)
def ablations(folder: Path, raw: Path, report: Path, plot: Path) -> None:
    """Train one recipe without, and with more of, its parts over several seeds (params/ablations.yaml)."""
    extras.require("ablations", *extras.PIPELINE)
    from mien.experiments.ablations import run

    run(folder, raw, report, plot)
