"""`mien champion`, `mien rollback` and `mien lineage`: who serves, how to go back, where everything comes from."""

import json
import subprocess
import sys
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.config.params import load
from mien.errors import MienError

if TYPE_CHECKING:
    from mien.registry.lineage import Lineage
    from mien.registry.promotion_log import Entry

SHIPPED_VERSION = "shipped"
"""As `mien.inference.champion` names it, without NumPy at the start of every command."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--last", default=10, show_default=True, help="Entries of the log to show.")
@JSON
@click.pass_obj
def champion(params: Path, last: int, as_json: bool) -> None:
    """Show champion, previous, challenger and the promotion log."""
    limits = load(params).promote
    name = limits.model
    from mien.registry import promotion_log, shipped
    from mien.registry.tracking import versions

    log, aliases = promotion_log.read(name), versions.aliases(name)
    serves = shipped.incumbent(name, log, limits) if log.champion in {None, SHIPPED_VERSION} else None
    stood = {
        "champion": serves.version if serves else log.champion,
        "previous": log.previous,
        "challenger": aliases.get("challenger"),
    }
    if as_json:
        entries = [asdict(entry) for entry in log.entries[-last:]]
        result = {
            "model": name,
            **stood,
            "withdrawn": sorted(log.withdrawn, key=str),
            "aliases": aliases,
            "log": entries,
        }
        click.echo(json.dumps(result, indent=2))
        return
    known = {version.version: version for version in versions.every(name)}
    if found := shipped.shipped_version():
        known[SHIPPED_VERSION] = found
    for alias, number in stood.items():
        tags = known[number].tags if number in known else {}
        score = f"validation macro-F1 {float(tags['validation_macro_f1']):.4f}" if "validation_macro_f1" in tags else ""
        label = SHIPPED_VERSION if number == SHIPPED_VERSION else f"version {number}"
        shown = f"{label:<12} {tags.get('family', ''):<16} {score}" if number else "none"
        click.echo(f"{alias:<12}{shown}".rstrip())
        if alias == "champion" and serves:
            click.echo(f"{'':<12}It came with the package; no version of this registry has taken its place.")
    if log.withdrawn:
        click.echo(f"{'withdrawn':<12}{', '.join(map(promotion_log.named, log.withdrawn))}")
    if log.champion and not serves and aliases.get("champion") != log.champion:
        click.secho(
            f"The alias champion points to {aliases.get('champion', 'nothing')}, the log says version {log.champion}: "
            "a run was cut short, or somebody moved it. The next promotion or rollback sets it right.",
            fg="yellow",
        )
    click.echo("\nPromotion log" if log.entries else "\nThe promotion log is empty.")
    for entry in log.entries[-last:]:
        click.echo(_line(entry))


@click.command()
@click.option("--to", default=None, help="A version that was champion before; the previous one if left out.")
@click.option("--why", default="no reason given", help="A sentence for the log.")
@click.option("--promotion", type=click.Path(path_type=Path), default=Path("reports/promotion.json"), show_default=True)
@click.option("--champion", type=click.Path(path_type=Path), default=Path("models/champion"), show_default=True)
@click.option("--report", type=click.Path(path_type=Path), default=Path("reports/bento.json"), show_default=True)
@click.pass_obj
def rollback(params: Path, to: str | None, why: str, promotion: Path, champion: Path, report: Path) -> None:
    """Restore the previous champion and package it."""
    loaded = load(params)
    from mien.registry import promotion_log
    from mien.stages import package

    entry = promotion_log.rollback(loaded.promote.model, why, to)
    again = promotion_log.named(entry.version).capitalize()
    click.echo(f"{again} of {loaded.promote.model} is champion again, instead of version {entry.champion}.")
    try:
        package.run(promotion, champion, report, loaded)
    except MienError as error:
        raise MienError(
            f"The registry is rolled back, but {champion} is not: {error} Then run `mien package "
            f"--promotion {promotion} --champion {champion} --report {report}`."
        ) from error
    click.echo(f"Packaged as {json.loads(report.read_text(encoding='utf-8'))['tag']}. Restart what serves {champion}.")
    if Path("dvc.yaml").is_file() and Path(".dvc").is_dir():
        click.echo(_record_in_dvc())


def _record_in_dvc() -> str:
    """Let dvc.lock say what was packaged, so that `dvc status` finds nothing changed; answers what to type next."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", "package"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"dvc.lock does not know of it ({reason}). Run dvc commit package once that is mended."
    return "dvc.lock knows of it. Commit it with reports/bento.json; the other stages stay as they are."


@click.command()
@click.argument("question", metavar="TAG|VERSION|DIGEST")
@JSON
@click.pass_obj
def lineage(params: Path, question: str, as_json: bool) -> None:
    """Where a Bento or version comes from, or which versions were trained on some data.

    Takes a Bento's tag, a version, an alias, the digest of data, a batch, a commit or a model file (six digits or
    more), or a file of data/raw.
    """
    limits = load(params).promote
    name = limits.model
    from mien.registry.lineage import trace

    found = trace(name, question, shipped=limits.shipped)
    if as_json:
        click.echo(json.dumps([one.asdict() for one in found], indent=2))
    else:
        click.echo("\n\n".join(_text(one, name) for one in found))


def _text(found: "Lineage", name: str) -> str:
    aliases = f" ({', '.join(found.aliases)})" if found.aliases else ""
    rows = {
        "family": found.family,
        "MLflow run": found.run_id,
        "Git commit": found.git_commit,
        "of training": found.training_commit,
        "trained on": found.trained_on,
        "dvc.lock": found.dvc_lock,
        "data": f"{found.data_name} {found.data_digest}",
        "data/raw": found.dvc_data,
        **{f"  {file}": md5 for file, md5 in found.batches.items()},
        "model file": found.onnx_sha256,
        **{f"Bento{'' if i == 0 else ' ' + str(i + 1)}": tag for i, tag in enumerate(found.bentos)},
    }
    which = "shipped with the package" if found.version == SHIPPED_VERSION else f"version {found.version}"
    head = f"{name} {which}{aliases}, found by {found.matched}"
    width = max(map(len, rows)) + 2
    return "\n".join([head, *(f"  {key:<{width}}{value or 'unknown'}" for key, value in rows.items())])


def _line(entry: "Entry") -> str:
    when = datetime.fromtimestamp(entry.when / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    void = " (void: another move came first)" if entry.void else ""
    what = {"promotion": "promoted", "rollback": "restored", "refusal": "refused"}[entry.kind]
    which = "the shipped model" if entry.version == SHIPPED_VERSION else f"version {entry.version}"
    head = f"{entry.number:>4}  {when} UTC  {what} {which}{void}, by {entry.who}"
    indent = " " * 6
    return f"{head}\n{textwrap.fill(entry.why, 100, initial_indent=indent, subsequent_indent=indent)}"
