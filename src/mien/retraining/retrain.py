"""One retraining: fetch, reproduce, keep, judge, promote where that is allowed; the incumbent serves whatever fails.

Data and models are in the remote before anything is promoted, so that whatever serves can be traced and made again.
"""

import hashlib
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from mien.errors import MienError
from mien.files import read_json
from mien.registry import promotion_log
from mien.registry.tracking import versions
from mien.retraining import report, revisions
from mien.retraining.outcome import LOCK, PROMOTION, Outcome, judged, stopped, validation_message

EVALUATION, BENTO = Path("reports/evaluation.json"), Path("reports/bento.json")
JUDGEMENT = "judgement.json"
SERVED = "bento"
"""Folder, below the report's, for the Bento's archive and the cards."""

KEPT_LINES = 400


class StepFailed(Exception):  # noqa: N818 (it carries an outcome, no message of its own)
    """A command of the retraining failed; says which and why."""

    def __init__(self, command: str, lines: Sequence[str]) -> None:
        result = next((line for line in reversed(lines) if line.startswith("error:")), "")
        result = result or next((line for line in reversed(lines) if line.startswith("ERROR:")), "")
        result = result or next((line for line in reversed(lines) if line), "it gave no reason")
        super().__init__(f"`{command}` failed: {result.removeprefix('error:').removeprefix('ERROR:').strip()}")


@dataclass(frozen=True)
class Plan:
    """What this retraining may do: where it reports to, under which registered model, and whether it may promote."""

    folder: Path
    model: str
    promote: bool
    sync: bool


def run(plan: Plan, base: str | None, *, faces: bool) -> Outcome:
    """Retrain and write the report to the plan's folder; returns the outcome, also after a failure."""
    clear(plan.folder)
    ended, tag = Outcome("failed"), ""
    try:
        ended = retrain(plan)
        tag = served(plan.folder) if ended.name == "promoted" else ""
    except (StepFailed, MienError) as error:
        ended = Outcome("failed", f"{ended.message} But {error}" if ended.message else str(error), ended.judgement)
    report.write(plan.folder, ended, base, faces=faces, bento=tag)
    return ended


def clear(folder: Path) -> None:
    """Take what an earlier retraining left out of the report's folder: it would pass for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JUDGEMENT).unlink(missing_ok=True)
    for name in (SERVED, report.COMPARED):
        shutil.rmtree(folder / name, ignore_errors=True)


def retrain(plan: Plan) -> Outcome:
    """All steps in order; raises StepFailed or MienError where one of them fails."""
    remote = plan.sync and has_remote()
    bring(remote)
    before = _text(LOCK)
    try:
        dvc("repro", "evaluate")
    except StepFailed:
        if stopped():
            return Outcome("stopped", validation_message())
        raise
    keep(remote)
    ended = promote(plan) if plan.promote else judge(plan, changed=_text(LOCK) != before)
    if plan.promote:
        keep(remote)
    return ended


def bring(remote: bool) -> None:
    """Fetch what the remote has; in a fresh clone lay it out."""
    if remote:
        dvc("fetch")
    if not revisions.RAW.exists():
        dvc("checkout", "--allow-missing")
    if not revisions.RAW.exists():
        raise MienError(f"{revisions.RAW} is neither here nor in DVC's remote. Push it from where it is: dvc push.")


def keep(remote: bool) -> None:
    """Push data and models."""
    if remote:
        dvc("push")


def promote(plan: Plan) -> Outcome:
    """Run promote and package; also where another clone's dvc.lock says that they ran, but not in this registry."""
    before = _stamp(PROMOTION)
    try:
        dvc("repro")
        if _stamp(PROMOTION) == before:
            if known(plan.model):
                result = read_json(PROMOTION, made_by="dvc repro promote")
                return Outcome("unchanged", "Data, parameters and code are those of the last run.", result)
            dvc("repro", "--force", "--single-item", "promote")
            dvc("repro")
    except StepFailed:
        # Without any champion a refusal is promote's failure, as there is nothing to package.
        if _stamp(PROMOTION) != before and PROMOTION.exists():
            result = read_json(PROMOTION, made_by="dvc repro promote")
            if result["champion"] is None:
                return judged(result)
        raise
    return judged(read_json(PROMOTION, made_by="dvc repro promote"))


def judge(plan: Plan, *, changed: bool) -> Outcome:
    """Run the promotion gate, and leave registry, aliases, dvc.lock and champion as they are."""
    if not changed and known(plan.model):
        return Outcome("unchanged", "Data, parameters and code are those of the last run.", _last())
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    program, *arguments = shlex.split(stages["promote"]["cmd"])
    target = plan.folder / JUDGEMENT
    # The last --report counts, so that every other path is the stage's own.
    step([sys.executable, "-m", program, *arguments, "--judge", "--report", str(target)], "mien promote --judge")
    return judged(read_json(target, made_by="mien retrain"))


def known(model: str) -> bool:
    """Whether this registry has judged the winner of the evaluation already."""
    content = read_json(EVALUATION, made_by="dvc repro evaluate")
    winner = content["families"][content["winner"]]["onnx_sha256"]
    version = versions.find_tagged(model, "onnx_sha256", winner)
    if version is None:
        return False
    log = promotion_log.read(model)
    return version.version == log.champion or any(entry.version == version.version for entry in log.entries)


def served(folder: Path) -> str:
    """Export the new champion's Bento with its cards, for whoever deploys it; answers its tag."""
    tag = str(read_json(BENTO, made_by="dvc repro package")["tag"])
    target = folder / SERVED
    target.mkdir(parents=True, exist_ok=True)
    # BentoML takes a relative path for one below the root of the file system.
    archive = target.absolute() / f"{tag.replace(':', '-')}.bento"
    step([sys.executable, "-m", "bentoml", "export", tag, str(archive)], f"bentoml export {tag}")
    for card in Path("models/champion").glob("*_card.*"):
        (target / card.name).write_bytes(card.read_bytes())
    return tag


def has_remote() -> bool:
    """Whether DVC has a remote that it uses by default."""
    command = [sys.executable, "-m", "dvc", "config", "core.remote"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not found:
        click.echo("DVC has no default remote: data and models stay on this machine.", err=True)
    return bool(found)


def dvc(*arguments: str) -> None:
    """A command of DVC."""
    step([sys.executable, "-m", "dvc", *arguments], f"dvc {' '.join(arguments)}")


def step(command: list[str], name: str) -> None:
    """Run a command, print its output as it comes, and raise StepFailed where it fails."""
    click.secho(f"$ {name}", bold=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = deque[str](maxlen=KEPT_LINES)
        for line in process.stdout or ():
            click.echo(line, nl=False)
            lines.append(line.strip())
    if process.returncode:
        raise StepFailed(name, lines)


def _last() -> dict[str, object]:
    return read_json(PROMOTION, made_by="dvc repro promote") if PROMOTION.exists() else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _stamp(path: Path) -> tuple[int, str]:
    """When a file was written and what it holds; the same stage may write the same again."""
    if not path.exists():
        return 0, ""
    return path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
