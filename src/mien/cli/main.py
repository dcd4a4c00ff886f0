"""The command `mien`: one command per stage, plus those for people. Heavy imports wait inside the commands."""

import errno
import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import click

from mien.cli import extras, stage_results
from mien.cli.cluster import cluster_options, connected, trials
from mien.cli.drift import drift
from mien.cli.experiments import ablations, baselines, demo, run
from mien.cli.fetch import fetch
from mien.cli.inference import predict, video, webcam
from mien.cli.jobs import jobs
from mien.cli.options import path_option
from mien.cli.registry import champion, lineage, rollback
from mien.cli.retraining import report, retrain, story
from mien.cli.terminal import INTERRUPTED, print_error
from mien.config.params import load
from mien.errors import MienError
from mien.experiments import own_folder
from mien.files import alone_in
from mien.learning import models

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""Error numbers of a full disk, of a file too large for it, and of one without write permission."""


class Commands(click.Group):
    """Turns a user's mistake into one message on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # A stream that is closed is None: what is written to it shall go nowhere, rather than fail.
        sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 (until the command ends)
        sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("Interrupted.", INTERRUPTED)
        except MienError as error:
            _fail(str(error))
        except ModuleNotFoundError as error:
            # A module of mien itself that is missing is a broken installation, and its traceback is wanted.
            if not error.name or error.name.partition(".")[0] == "mien":
                raise
            _fail(extras.missing(error.name, ctx.invoked_subcommand or ""))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            place = f" at {error.filename}" if error.filename else ""
            _fail(f"{os.strerror(error.errno)}{place}. Free the disk or mend the rights, and repeat the command.")


def _fail(message: str, code: int = 1) -> NoReturn:
    print_error(message)
    sys.exit(code)


prepared_option = path_option("--prepared", "Folder that `prepare` makes.")
report_option = path_option("--report", "JSON file to write.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@path_option("--params", "The parameter file.", default=Path("params.yaml"), show_default=True)
@click.version_option(package_name="mien")
@click.pass_context
def main(ctx: click.Context, params: Path) -> None:
    """Mien: facial-emotion classifiers, from labelled faces to a served model.

    The stages run in order by `dvc repro`, which passes their paths from dvc.yaml.
    """
    own_folder.enter()
    ctx.obj = params


for command in (
    fetch, champion, rollback, lineage, report, retrain, story, drift, jobs, predict, video, webcam,
    demo, run, baselines, ablations,
):  # fmt: skip
    main.add_command(command)


@main.command()
@path_option("--raw", "Folder that `fetch` makes.")
@prepared_option
@path_option("--plots", "Folder for charts.")
@path_option("--faces", "Folder for pictures of faces, which Git does not keep.", default=None)
@click.pass_obj
def prepare(params: Path, raw: Path, prepared: Path, plots: Path, faces: Path | None) -> None:
    """Decode, clean and split the raw faces."""
    loaded = load(params)
    from mien.stages import prepare as stage

    stage.run(raw, prepared, plots, loaded, progress=sys.stderr.isatty(), faces=faces)
    click.echo(stage_results.prepared(prepared))


@main.command()
@prepared_option
@path_option("--report", "JSON file to write.", default=Path("reports/validation.json"))
@path_option("--data-docs", "Folder for Great Expectations' pages.", default=Path("reports/data_docs"))
@path_option("--passed", "File that names the data, written only where they passed.", default=None)
@path_option("--raw", "Folder that `fetch` makes: then each batch is judged by itself.", default=None)
@path_option("--learn", "Write a profile learnt from these data, known to be genuine, and check nothing.", default=None)
@click.option("--about", default="", help="With --learn: where the data come from.")
@click.pass_obj
def validate(params: Path, /, prepared: Path, learn: Path | None, about: str, **paths: Any) -> None:
    """Hold the data against their profile; stop the pipeline where they fail."""
    loaded = load(params)
    from mien.stages import validate as stage

    if learn:
        stage.learn(prepared, learn, about)
    else:
        stage.run(prepared, params=loaded, **paths)
        click.echo(stage_results.validated(paths["report"], paths["data_docs"]))


@main.command()
@click.argument("family")
@prepared_option
@report_option
@path_option("--plots", "Folder for charts of the search.")
@cluster_options
@click.pass_obj
def tune(params: Path, /, family: str, cluster: str | None, cpus: float, gpus: float, **paths: Path) -> None:
    """Search FAMILY's hyperparameters with Optuna, here or with trials side by side on a Ray cluster."""
    loaded = load(params)
    models.check(loaded, (family,))
    # Optuna logs a failed trial as a traceback; the command reports it in one sentence.
    logging.getLogger("optuna.study._optimize").setLevel(logging.ERROR)
    from mien.stages import tune as stage

    with ExitStack() as stack:
        elsewhere = None
        if cluster and loaded.family(family).search:
            stack.enter_context(connected("tune", cluster))
            elsewhere = stack.enter_context(trials(paths["prepared"], cpus, gpus))
        stage.run(family, params=loaded, elsewhere=elsewhere, **paths)
    click.echo(stage_results.tuned(paths["report"]))


@main.command()
@click.argument("family")
@prepared_option
@path_option("--tuned", "Report that `tune` wrote; a student has none.", default=None)
@path_option("--model", "Folder for model.keras and model.onnx.")
@report_option
@path_option("--metrics", "JSON file for the few numbers of the report that DVC compares.", default=None)
@path_option("--checkpoints", "Folder to carry on from after a kill.")
@click.pass_obj
def train(params: Path, /, family: str, tuned: Path | None, metrics: Path | None, **paths: Path) -> None:
    """Train FAMILY, or a student, with its best hyperparameters and export it to ONNX."""
    loaded = load(params)
    models.check(loaded, (family,))
    if not tuned and not loaded.family(family).distil:
        raise MienError(f"{family} is no student: pass --tuned, the report that `mien tune {family}` writes.")
    from mien.learning.training import hardware

    hardware.start()
    from mien.stages import train as stage

    place = paths["checkpoints"]
    busy = f"Another `mien train` is at work on {place}. Wait for its end, or name another folder: --checkpoints."
    with alone_in(place, busy):
        stage.run(family, tuned=tuned, params=loaded, **paths)
        if metrics:
            stage.write_metrics(paths["report"], metrics)
    click.echo(stage_results.trained(paths["report"], paths["model"]))


@main.command()
@prepared_option
@path_option("--models", "Folder of the families' models.")
@path_option("--train-reports", "Folder of the reports that `train` wrote.")
@report_option
@path_option("--metrics", "JSON file for the headline numbers of the report, which DVC compares.")
@path_option("--plots", "Folder for charts and DVC plots.")
@path_option("--faces", "Folder for pictures of faces, which Git does not keep.")
@path_option("--votes", "FER+'s votes; where the file exists, the report has the agreement of labels.", default=None)
@click.pass_obj
def evaluate(
    params: Path, /, prepared: Path, models: Path, train_reports: Path, votes: Path | None, **outputs: Path
) -> None:
    """Choose the best family on validation faces and score it once on test faces."""
    loaded = load(params)
    from mien.stages import evaluate as stage

    stage.run(prepared, models, train_reports, stage.Outputs(**outputs), loaded, votes)
    click.echo(stage_results.evaluated(outputs["report"]))


@main.command()
@path_option("--evaluation", "Report that `evaluate` wrote.")
@path_option("--models", "Folder of the families' models.")
@path_option("--plots", "Folder of the charts, kept with the version.")
@prepared_option
@path_option("--validated", "File that `validate` writes for data that passed.")
@path_option("--validation", "Report that `validate` wrote, for the data card.")
@path_option("--train-reports", "Folder of the reports that `train` wrote.")
@report_option
@path_option("--cards", "Folder for the model card and the data card.")
@click.option("--judge", is_flag=True, help="Write only the report: register nothing, move no alias.")
@click.pass_obj
def promote(params: Path, /, report: Path, cards: Path, judge: bool, **inputs: Path) -> None:
    """Register the winner in MLflow; make it champion where it passes the gate and beats the incumbent."""
    loaded = load(params)
    from mien.stages import promote as stage

    if judge:
        stage.judge(stage.Inputs(**inputs), report, loaded)
    else:
        stage.run(stage.Inputs(**inputs), report, cards, loaded)
    click.echo(stage_results.promoted(report, cards))


@main.command()
@path_option("--promotion", "Report that `promote` wrote.")
@path_option("--champion", "Folder for the champion as it is served.")
@report_option
@click.pass_obj
def package(params: Path, promotion: Path, champion: Path, report: Path) -> None:
    """Build the Bento of the champion."""
    loaded = load(params)
    from mien.stages import package as stage

    stage.run(promotion, champion, report, loaded)
    click.echo(stage_results.packaged(report, champion))


@main.command()
@path_option("--champion", "Folder of the champion.", default=Path("models/champion"), show_default=True)
@path_option("--evaluation", "Report about it.", default=Path("reports/evaluation.json"), show_default=True)
def ship(champion: Path, evaluation: Path) -> None:
    """Let the champion be the one that comes with the package."""
    from mien.inference.champion import SHIPPED
    from mien.registry.shipping import ship as run

    card = run(champion, evaluation)
    click.echo(f"Version {card.version} ({card.family}) now comes with the package: {SHIPPED}. Commit it.")
