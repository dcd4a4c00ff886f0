"""`mien report`, `mien retrain` and `mien story`: what changed, what a retraining makes of it, and the whole tale."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli import extras
from mien.config.params import load

if TYPE_CHECKING:
    from mien.retraining.outcome import Outcome

FOLDER = Path("retraining")

folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Where the report goes."
)
base_option = click.option(
    "--base",
    metavar="REVISION",
    envvar="MIEN_BASE",
    help="What to compare with. Default: where this branch left origin/main, else the last commit.",
)
faces_option = click.option(
    "--faces/--no-faces",
    envvar="MIEN_REPORT_FACES",
    default=False,
    help="Show faces of real people in the report. Drawn faces are always shown.",
)


@click.command()
@folder_option
@base_option
@faces_option
@click.pass_obj
def report(params: Path, folder: Path, base: str | None, faces: bool) -> None:
    """Report what changed since a revision: data, parameters, scores, the gate's verdict."""
    load(params)
    from mien.retraining import outcome, report, revisions

    ended = outcome.observed()
    report.write(folder, ended, revisions.base(base), faces=faces)
    click.echo(f"{ended.title}{broken_rules(ended)}. {ended.message}")
    click.echo(f"The report is {folder / report.MARKDOWN} (and {report.HTML}).")


@click.command()
@folder_option
@base_option
@faces_option
@click.option(
    "--promote/--no-promote",
    envvar="MIEN_PROMOTE",
    default=True,
    show_default=True,
    help="Let a better model take over, or judge it only and leave the registry as it is.",
)
@click.option("--sync/--no-sync", default=True, show_default=True, help="Fetch from and push to DVC's remote.")
@click.pass_obj
def retrain(params: Path, folder: Path, base: str | None, faces: bool, promote: bool, sync: bool) -> None:
    """Fetch, reproduce, judge, promote, keep and report, in one command.

    Exit codes: 0 promoted (or better than the champion, with --no-promote), 10 nothing changed, 11 refused by the
    gate, 12 stopped by validation, 1 failed. The champion keeps serving in all cases but the first.
    """
    extras.require("retrain", *extras.PIPELINE)
    loaded = load(params)
    from mien.retraining import outcome, retrain, revisions

    plan = retrain.Plan(folder, loaded.promote.model, promote, sync)
    ended = retrain.run(plan, revisions.base(base), faces=faces)
    click.secho(f"\n{ended.title}{broken_rules(ended)} (exit code {ended.code}). ", bold=True, nl=False)
    click.echo(f"{ended.message}\n{outcome.next_step(ended)}\nThe report is {folder / 'report.md'}.")
    sys.exit(ended.code)


def broken_rules(ended: "Outcome") -> str:
    """The rules of the gate that refused, for the headline."""
    from mien.registry.promotion_report import refusing

    rules = refusing(ended.judgement.get("rules", ()))
    return f": {', '.join(rules)}" if ended.name == "refused" and rules else ""


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("story"), show_default=True, help="Where it is played."
)
def story(folder: Path) -> None:
    """Replay the whole loop on drawn faces, in a folder of its own."""
    extras.require("story", *extras.PIPELINE)
    from mien.experiments.story import run

    run(folder)
