"""`mien run`: the pipeline with overlays, some of its families or a budget in minutes, apart or in the project."""

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from mien.errors import MienError
from mien.experiments import own_folder, pipeline, results
from mien.experiments.budget import within
from mien.files import alone_in, read_json
from mien.registry.promotion_report import decision

RUNS = Path("runs")
MARK = "# mien run "


@dataclass(frozen=True)
class Request:
    """What to run: overlays, the families (all, if none is named), and minutes for training them (0: no limit)."""

    overlays: tuple[Path, ...]
    families: tuple[str, ...] = ()
    minutes: float = 0.0

    @property
    def name(self) -> str:
        """A name for its folder."""
        parts = [*(overlay.stem for overlay in self.overlays), *self.families]
        return "-".join([*parts, *([f"{self.minutes:g}min"] if self.minutes else [])]) or "all"

    @property
    def mark(self) -> str:
        """The first line of the params.yaml made for it, by which the same request is known again."""
        content = sha256(b"".join(overlay.read_bytes() for overlay in (Path("params.yaml"), *self.overlays)))
        command = [*map(str, self.overlays), *(word for name in self.families for word in ("-f", name))]
        command += ["--minutes", f"{self.minutes:g}"] if self.minutes else []
        return f"{MARK}{shlex.join(command)} ({content.hexdigest()[:12]})\n"


def in_folder(request: Request, folder: Path | None, raw: Path) -> None:
    """Run the pipeline on the faces in `raw` in `folder`, by default one in RUNS; the same request carries on there.

    The folder has reports, models, registry and Bentos of its own.
    """
    started, folder = time.monotonic(), folder or RUNS / request.name
    tree = pipeline.parameters(*request.overlays, only=request.families)
    pipeline.check_faces(raw)
    with alone_in(folder, f"Another `mien run` is at work on {folder}. Wait for its end, or name another: --folder."):
        if not carries_on(request, folder):
            pipeline.lay_out(folder, tree)
            own_folder.mark(folder)
            pipeline.make_git(folder)
            make_dvc(folder)
            pipeline.bring(raw, folder / "data/raw")
            pipeline.call([*pipeline.DVC, "add", "--quiet", "data/raw"], folder)
            pipeline.commit(folder, "The pipeline and its data")
            begin(request, tree, folder)
        try:
            pipeline.call([*pipeline.DVC, "repro"], folder)
        finally:  # also what was made before a stage failed: DVC compares commits
            pipeline.commit(folder, request.mark[2:].strip())
    click.echo(summary(folder, time.monotonic() - started))


def in_project(request: Request, raw: Path) -> None:
    """The same in the project itself: its params.yaml is rewritten, its reports and registry are used."""
    started, here = time.monotonic(), Path()
    tree = pipeline.parameters(*request.overlays, only=request.families)
    pipeline.check_faces(raw)
    refuse_uncommitted()
    begin(request, tree, here)
    pipeline.call([*pipeline.DVC, "repro"], here)
    click.echo(summary(here, time.monotonic() - started))


def carries_on(request: Request, folder: Path) -> bool:
    """Whether `folder` was made for this very request; raises MienError if for another, or by somebody else."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    path = folder / "params.yaml"
    first = path.read_text(encoding="utf-8").partition("\n")[0] + "\n" if path.is_file() else ""
    if first.startswith(MARK) and first != request.mark:
        raise MienError(
            f"{folder} holds another run ({first[2:].strip()}), this one is {request.mark[2:].strip()}. "
            "Name another folder (--folder), or remove that one."
        )
    if not (folder / own_folder.MARK).exists():
        raise MienError(f"{folder} is not empty, and no run of `mien run`. Name another folder: --folder.")
    return first == request.mark


def begin(request: Request, tree: dict[str, Any], folder: Path) -> None:
    """Write params.yaml for the request; with a budget, once the faces are prepared and the speed is measured."""
    if request.minutes:
        pipeline.write_params(folder, tree)
        pipeline.call([*pipeline.DVC, "repro", "validate"], folder)
        tree = within(request.minutes, tree, folder / "data/prepared")
    pipeline.write_params(folder, tree, request.mark)


def make_dvc(folder: Path) -> None:
    """A DVC project in `folder` that shares the cache of the project here, so that faces lie on the disk once."""
    pipeline.make_dvc(folder)
    if Path(".dvc").is_dir():
        done = subprocess.run([*pipeline.DVC, "cache", "dir"], capture_output=True, text=True, check=True)
        shared = os.path.relpath(done.stdout.strip(), folder / ".dvc")
        pipeline.call([*pipeline.DVC, "config", "--quiet", "cache.dir", shared], folder)


def refuse_uncommitted() -> None:
    """Raise MienError unless Git can bring params.yaml back."""
    done = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], capture_output=True, check=False)
    if done.returncode:
        raise MienError(
            "--here rewrites params.yaml, and what stands there is not committed. Commit it first, or leave --here "
            "out. To carry on with a run that was interrupted: dvc repro."
        )


def summary(folder: Path, seconds: float) -> str:
    """Scores, the gate's decision, and what to type next."""
    evaluation = read_json(folder / "reports/evaluation.json", made_by="dvc repro evaluate")
    promotion = read_json(folder / "reports/promotion.json", made_by="dvc repro promote")
    own = folder != Path()
    place, inside = (f" DIR={folder}", f"cd {folder} && ") if own else ("", "")
    lines = [
        "",
        *results.table(evaluation),
        "",
        f"The promotion gate. {decision(promotion)}",
        "",
        f"Done in {seconds / 60:.1f} minutes. Next:",
        f"  make ui{place}",
        f"  make serve{place}",
        f"  {inside}dvc metrics show reports/families/*.json",
    ]
    return "\n".join(lines)
