"""`mien jobs`: trainings carried to other machines and home again."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from mien.cli import extras, jobs_table
from mien.cli.terminal import INTERRUPTED, print_error
from mien.config.params import Params, load
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
@FAMILIES
@click.option("--cluster", envvar="RAY_ADDRESS", metavar="ADDRESS", help="Of the Ray cluster. Default: RAY_ADDRESS.")
@click.option("--cpus", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Cores of each training.")
@click.option("--gpus", type=click.FloatRange(min=0), default=0.0, show_default=True, help="GPUs, also parts of one.")
@click.pass_obj
def run(params: Path, folder: Path, families: tuple[str, ...], cluster: str | None, cpus: float, gpus: float) -> None:
    """Train FAMILYs on a Ray cluster (all that is out of date, if none is named), by way of the folder JOBS.

    Every epoch comes back to JOBS, and finished trainings come home; `dvc repro` then records them without training.
    """
    loaded = load(params)
    models.check(loaded, families)
    extras.require("jobs run", "ray")
    if not cluster:
        raise MienError("Name a Ray cluster: --cluster HOST:PORT or RAY_ADDRESS; docs/cluster.md tells how to get one.")
    # Ray reads it when it is imported: else twenty lines tell of a dead node, where ours is one.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Raylet is terminated|marked dead")
    from mien.cluster import fleet
    from mien.cluster import jobs as portable
    from mien.learning.training import hardware

    names = families or out_of_date()
    if not names:
        click.echo("Every training is up to date.")
        return
    hardware.start()
    portable.write(folder, names, loaded, portable.Home())
    try:
        with fleet.connected(cluster), jobs_table.live(folder) as (say, watch):
            given_up = fleet.run(folder, names, fleet.Needs(cpus, gpus), say, watch)
    except KeyboardInterrupt:
        print_error(f"Interrupted. Every finished epoch is in {folder}: the same command carries on.")
        sys.exit(INTERRUPTED)
    for training in given_up:
        print_error(f"{training.job.name}: {training.fault}")
    bring_home(folder, names, loaded, failed=bool(given_up))


def out_of_date() -> tuple[str, ...]:
    """The families and students that `dvc repro` would train."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MienError(f"`dvc status` failed; name the families to train.\n{done.stderr.strip()}")
    stages = (stage.partition("@") for stage in json.loads(done.stdout))
    return tuple(name for stage, _, name in stages if stage in {"train", "distil"})


@jobs.command()
@FOLDER
def status(folder: Path) -> None:
    """Show how far the trainings in the folder JOBS are."""
    from rich.console import Console

    from mien.cluster import jobs as portable

    Console().print(jobs_table.table(portable.status(folder), {}))


@jobs.command()
@FOLDER
@FAMILIES
@click.pass_obj
def take(params: Path, folder: Path, families: tuple[str, ...]) -> None:
    """Bring finished trainings of the folder JOBS home; `dvc repro` then records them without training.

    A training by another plan, on other faces or with damaged weights is refused; what is here stays as it is.
    """
    loaded = load(params)
    from mien.learning.training import hardware

    hardware.start()
    bring_home(folder, families, loaded)


def bring_home(folder: Path, families: Sequence[str], params: Params, failed: bool = False) -> NoReturn:
    """Take what is finished, and end with the exit code."""
    from mien.cluster import jobs as portable

    taken, refused = portable.take(folder, families, params, portable.Home())
    for job in taken:
        click.echo(f"{job.name}: taken to checkpoints/{job.name}")
    for reason in refused:
        print_error(reason)
    if not taken and not refused and not failed:
        raise MienError(f"Nothing in {folder} is finished. See how far it is: mien jobs status {folder}")
    if taken:
        click.echo("Next: dvc repro")
    sys.exit(bool(refused) or failed)
