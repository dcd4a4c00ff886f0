"""`mien jobs`: trainings carried to other machines and home again."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mien.cli import extras, jobs_table
from mien.cli.cluster import cluster_options, connected, search_all, trials
from mien.cli.terminal import INTERRUPTED, print_error
from mien.config.params import Params, load
from mien.errors import MienError
from mien.learning import models

if TYPE_CHECKING:
    from mien.cluster.jobs import Home

FOLDER = click.argument("folder", metavar="JOBS", type=click.Path(path_type=Path))
FAMILIES = click.argument("families", metavar="[FAMILY]...", nargs=-1)


@click.group()
def jobs() -> None:
    """Train on other machines: write trainings to a folder, carry it there, and take them home."""


@jobs.command()
@FOLDER
@FAMILIES
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Write N trials of each FAMILY's search instead.")
@click.pass_obj
def write(params: Path, folder: Path, families: tuple[str, ...], trials: int | None) -> None:
    """Write the trainings of FAMILYs (all, if none is named) with faces and code to the folder JOBS."""
    loaded = load(params)
    models.check(loaded, families)
    from mien.cluster import jobs as portable
    from mien.cluster import trial_jobs
    from mien.learning.training import hardware

    hardware.start()
    if trials:
        searched = families or [name for name, family in loaded.families.items() if family.search]
        made = trial_jobs.write(folder, searched, trials, loaded, portable.Home())
    else:
        made = portable.write(folder, families, loaded, portable.Home())
    for job in made:
        after = f", after {', '.join(job.teachers)}" if job.teachers else ""
        click.echo(f"{job.name:<20} {job.architecture.network}, {job.recipe.epochs} epochs{after}")
    size, what = portable.size(folder) / 2**20, "trials" if trials else "trainings"
    click.echo(
        f"{len(made)} {what} in {folder}, {size:.0f} MiB. Copy it to a machine with NumPy, Keras, PyYAML and a "
        f"Keras backend, and there:\n  PYTHONPATH={folder.name}/{portable.CODE} python -m mien.learning {folder.name}\n"
        f"Then copy it back and: mien jobs take {folder}"
    )


@jobs.command()
@FOLDER
@FAMILIES
@cluster_options
@click.pass_obj
def run(params: Path, folder: Path, families: tuple[str, ...], cluster: str | None, cpus: float, gpus: float) -> None:
    """Search and train FAMILYs on a Ray cluster (all that is out of date, if none is named), by way of the folder JOBS.

    First the searches that are to be made, all side by side; of a family that is named, where it has no result yet.
    Then the trainings: every epoch comes back to JOBS, and finished ones come home; `dvc repro` then records all of it
    without training.
    """
    loaded = load(params)
    models.check(loaded, families)
    extras.require("jobs run", "ray")
    if not cluster:
        raise MienError("Name a Ray cluster: --cluster HOST:PORT or RAY_ADDRESS; docs/cluster.md tells how to get one.")
    from mien.cluster import jobs as portable
    from mien.learning.training import hardware

    home, failed = portable.Home(), list[str]()
    searches = [name for name in families or out_of_date("tune") if _is_to_search(name, loaded, home, bool(families))]
    try:
        with connected("jobs run", cluster):
            if searches:
                failed = _search(searches, loaded, home, cpus, gpus)
            names = [name for name in families or out_of_date("train", "distil") if _can_train(name, failed, loaded)]
            if names:
                hardware.start()
                portable.write(folder, names, loaded, home)
                failed += _train(folder, names, cpus, gpus)
    except KeyboardInterrupt:
        print_error("Interrupted. Every finished trial and epoch is kept: the same command carries on.")
        sys.exit(INTERRUPTED)
    if names:
        bring_home(folder, names, loaded, failed=bool(failed), done=bool(searches))
    if not failed:
        click.echo("Next: dvc repro" if searches else "Every training is up to date.")
    sys.exit(bool(failed))


def _is_to_search(name: str, params: Params, home: "Home", named: bool) -> bool:
    return bool(params.family(name).search) and (not named or not (home.tuned / f"{name}.json").exists())


def _search(names: Sequence[str], params: Params, home: "Home", cpus: float, gpus: float) -> list[str]:
    """Search on the cluster that is connected; returns the families whose search failed, and says why."""
    with trials(home.prepared, cpus, gpus) as elsewhere:
        failed = search_all(names, params, home, elsewhere)
    for name, error in failed.items():
        print_error(f"{name}: {error}")
    return list(failed)


def _can_train(name: str, failed: Sequence[str], params: Params) -> bool:
    distil = params.family(name).distil
    return name not in failed and not (distil and set(distil.teachers) & set(failed))


def _train(folder: Path, names: Sequence[str], cpus: float, gpus: float) -> list[str]:
    """Train on the cluster that is connected; returns the families that were given up, and says why."""
    from mien.cluster import fleet
    from mien.cluster.connection import Needs

    with jobs_table.live(folder) as (say, watch):
        given_up = fleet.run(folder, names, Needs(cpus, gpus), say, watch)
    for training in given_up:
        print_error(f"{training.job.name}: {training.fault}")
    return [training.job.name for training in given_up]


def out_of_date(*wanted: str) -> tuple[str, ...]:
    """The families and students for which `dvc repro` would run one of these stages."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MienError(f"`dvc status` failed; name the families to train.\n{done.stderr.strip()}")
    stages = (stage.partition("@") for stage in json.loads(done.stdout))
    return tuple(name for stage, _, name in stages if stage in wanted)


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
    """Bring finished trainings and trials of JOBS home; `dvc repro` then carries on from them.

    One by another plan, on other faces or with damaged weights is refused; what is here stays as it is.
    """
    loaded = load(params)
    from mien.cluster import jobs as portable
    from mien.cluster import trial_jobs
    from mien.learning.training import hardware

    hardware.start()
    tried, refused = trial_jobs.take(folder, families, loaded, portable.Home())
    for job in tried:
        click.echo(f"{job.name}: its score is in the study")
    for reason in refused:
        print_error(reason)
    bring_home(folder, families, loaded, failed=bool(refused), done=bool(tried))


def bring_home(
    folder: Path, families: Sequence[str], params: Params, failed: bool = False, done: bool = False
) -> NoReturn:
    """Take what is finished, and end with the exit code; `done` and `failed` tell of other work."""
    from mien.cluster import jobs as portable

    taken, refused = portable.take(folder, families, params, portable.Home())
    for job in taken:
        click.echo(f"{job.name}: taken to checkpoints/{job.name}")
    for reason in refused:
        print_error(reason)
    if not (taken or refused or failed or done):
        raise MienError(f"Nothing in {folder} is finished. See how far it is: mien jobs status {folder}")
    if taken or done:
        click.echo("Next: dvc repro")
    sys.exit(bool(refused) or failed)
