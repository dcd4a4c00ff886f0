"""`mien jobs`: trainings carried to other machines and home again."""

import sys
from pathlib import Path

import click

from mien.cli.terminal import print_error
from mien.config.params import load
from mien.errors import MienError
from mien.learning import models

FOLDER = click.argument("folder", metavar="JOBS", type=click.Path(path_type=Path))
FAMILIES = click.argument("families", metavar="[FAMILY]...", nargs=-1)


@click.group()
def jobs() -> None:
    """Train on other machines: write trainings to a folder, carry it there, and take them home."""


@jobs.command()
@FOLDER
@FAMILIES
@click.pass_obj
def write(params: Path, folder: Path, families: tuple[str, ...]) -> None:
    """Write the trainings of FAMILYs (all, if none is named) with faces and code to the folder JOBS."""
    loaded = load(params)
    models.check(loaded, families)
    from mien.cluster import jobs as portable
    from mien.learning.training import hardware

    hardware.start()
    made = portable.write(folder, families, loaded, portable.Home())
    for job in made:
        after = f", after {', '.join(job.teachers)}" if job.teachers else ""
        click.echo(f"{job.name:<20} {job.architecture.network}, {job.recipe.epochs} epochs{after}")
    size = portable.size(folder) / 2**20
    click.echo(
        f"{len(made)} trainings in {folder}, {size:.0f} MiB. Copy it to a machine with NumPy, Keras, PyYAML and a "
        f"Keras backend, and there:\n  PYTHONPATH={folder.name}/{portable.CODE} python -m mien.learning {folder.name}\n"
        f"Then copy it back and: mien jobs take {folder}"
    )


@jobs.command()
@FOLDER
def status(folder: Path) -> None:
    """Show how far the trainings in the folder JOBS are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mien.cluster import jobs as portable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("training", "state", "epoch", "best macro-F1", "s an epoch", "machine"):
        table.add_column(title, justify="left" if title in {"training", "state", "machine"} else "right")
    for one in portable.status(folder):
        score = "" if one.score is None else f"{one.score:.3f}"
        pace = "" if one.seconds_per_epoch is None else f"{one.seconds_per_epoch:.1f}"
        table.add_row(one.job.name, one.state, f"{one.epoch}/{one.job.recipe.epochs}", score, pace, one.machine)
    Console().print(table)


@jobs.command()
@FOLDER
@FAMILIES
@click.pass_obj
def take(params: Path, folder: Path, families: tuple[str, ...]) -> None:
    """Bring finished trainings of the folder JOBS home; `dvc repro` then records them without training.

    A training by another plan, on other faces or with damaged weights is refused; what is here stays as it is.
    """
    loaded = load(params)
    from mien.cluster import jobs as portable
    from mien.learning.training import hardware

    hardware.start()
    taken, refused = portable.take(folder, families, loaded, portable.Home())
    for job in taken:
        click.echo(f"{job.name}: taken to checkpoints/{job.name}")
    for reason in refused:
        print_error(reason)
    if not taken and not refused:
        raise MienError(f"Nothing in {folder} is finished. See how far it is: mien jobs status {folder}")
    if taken:
        click.echo("Next: dvc repro")
    sys.exit(bool(refused))
