"""`mien story`: the whole loop on drawn faces, act by act, in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from mien.errors import MienError
from mien.experiments import own_folder, pipeline, story_batches, story_page
from mien.experiments.demo import OVERLAY as DEMO
from mien.experiments.story_batches import Faces
from mien.retraining import html_report
from mien.retraining.outcome import CODES

OVERLAY = Path("params/story.yaml")
FIRST, MORE, POISON = 1050, 2100, 420
"""Faces of the first data (two thirds of them for training), of the good batch, and of each poisoned one."""

DATA = "synthetic sample"
MAIN = "main"
IDENTITY = ("-c", "user.name=Mien's story", "-c", "user.email=story@localhost", "-c", "commit.gpgsign=false")


@dataclass
class Stage:
    """The folder of the story: the project, its DVC remote, and the acts so far."""

    folder: Path
    acts: list[tuple[str, str, Path | None]] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The Git repository that the story happens in."""
        return self.folder / "project"

    def run(self, *command: str, codes: Sequence[int] = (0,)) -> str:
        """Run a command in the project, its output into the log; an unexpected exit code ends the story."""
        done = subprocess.run(
            [sys.executable, "-m", *command] if command[0] in {"mien", "dvc"} else command,
            cwd=self.project,
            env=pipeline.environment(self.project),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n{done.stdout}(exit code {done.returncode})\n")
        if done.returncode not in codes:
            tail = "\n".join(done.stdout.splitlines()[-8:])
            raise MienError(f"The story stopped at `{' '.join(command)}` (exit code {done.returncode}):\n{tail}")
        return done.stdout

    def git(self, *arguments: str) -> str:
        """Git, with a name of its own."""
        return self.run("git", *IDENTITY, *arguments)

    def commit(self, message: str) -> None:
        """Commit all that Git is to keep."""
        self.git("add", "--all")
        if self.git("status", "--porcelain"):
            self.git("commit", "--quiet", "--message", message)

    def append(self, name: str, faces: Faces) -> None:
        """Append a batch the way that people do."""
        path = self.folder / "batches" / f"{name}.csv"
        story_batches.write(path, faces)
        self.run("mien", "fetch", "csv", str(path.absolute()), "--append", "--name", DATA)
        self.commit(f"Add the batch {name}")

    def retrain(self, name: str, expected: str, *options: str) -> dict[str, Any]:
        """`mien retrain`, its report kept under the act's name."""
        self.run("mien", "retrain", *options, codes=(CODES[expected],))  # type: ignore[index]
        target = self.folder / "reports" / name
        shutil.copytree(self.project / "retraining", target, dirs_exist_ok=True)
        content: dict[str, Any] = json.loads((target / "report.json").read_text(encoding="utf-8"))
        return content

    def tell(self, title: str, result: str, report: str | None = None) -> None:
        """Say what happened in an act, and remember it for the index."""
        path = Path("reports") / report / "report.html" if report else None
        self.acts.append((title, result, path))
        click.secho(f"\n{len(self.acts)}. {title}", bold=True)
        click.echo(result)
        if path:
            click.echo(f"   report: {self.folder / path}")


def run(folder: Path) -> None:
    """Play all acts from the beginning; they take some minutes."""
    started = time.monotonic()
    stage = Stage(folder)
    lay_out(stage)
    own_folder.mark(stage.project)
    first_champion(stage)
    good_batch(stage)
    poisoned_batches(stage)
    worse_model(stage)
    nothing_changed(stage)
    rollback(stage)
    write_index(stage)
    click.echo(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Open {folder / 'index.html'}.")


def lay_out(stage: Stage) -> None:
    """A Git repository with the project's own pipeline, small budgets, and a DVC remote in a folder."""
    if not OVERLAY.exists():
        raise MienError(f"{OVERLAY} not found in {Path.cwd()}. Run the story in the project's root.")
    if (stage.folder / "project").exists():
        shutil.rmtree(stage.folder)
    stage.project.mkdir(parents=True)
    pipeline.lay_out(stage.project, pipeline.parameters(DEMO, OVERLAY))
    ignored = Path(".gitignore").read_text(encoding="utf-8")
    (stage.project / ".gitignore").write_text(f"{ignored}/.bentoml/\n", encoding="utf-8")
    stage.git("init", "--quiet", "--initial-branch", MAIN)
    stage.run("dvc", "init", "--quiet")
    stage.run("dvc", "remote", "add", "--default", "storage", os.path.relpath(stage.folder / "storage", stage.project))


def first_champion(stage: Stage) -> None:
    """Little data, a poor model: the first champion all the same."""
    stage.run("mien", "fetch", "sample", "--rows", str(FIRST))
    stage.commit("Begin with a few faces")
    result = stage.retrain("1_first_champion", "promoted")
    keep(stage)
    stage.tell("The first champion", _sentence(result), "1_first_champion")


def good_batch(stage: Stage) -> None:
    """More data on a branch are judged there, and promoted on main, where nothing is trained twice."""
    stage.git("switch", "--quiet", "--create", "good-batch")
    stage.append("good", story_batches.drawn(MORE, seed=11))
    result = stage.retrain("2_good_batch", "accepted", "--no-promote", "--base", MAIN)
    keep(stage)
    stage.tell("A good batch, on a branch", _sentence(result), "2_good_batch")
    stage.git("checkout", "--quiet", "--force", MAIN)
    stage.git("merge", "--quiet", "--no-edit", "--no-ff", "good-batch")
    result = stage.retrain("3_better_champion", "promoted", "--base", "HEAD~1")
    keep(stage)
    stage.tell("Merged: a better champion", _sentence(result), "3_better_champion")


def poisoned_batches(stage: Stage) -> None:
    """Three kinds of bad data that validation stops before anything is trained."""
    for number, (kind, what) in enumerate(story_batches.POISONS.items(), start=4):
        name = f"{number}_{kind}"
        stage.git("switch", "--quiet", "--create", kind)
        stage.append(kind, story_batches.poisoned(kind, POISON, 20 + number, test_faces(stage.project)))
        result = stage.retrain(name, "stopped", "--no-promote", "--base", MAIN)
        stage.tell(f"A poisoned batch: {what}", _sentence(result), name)
        back(stage)


def worse_model(stage: Stage) -> None:
    """What validation cannot see, the gate does: here a training that was cut short."""
    stage.git("switch", "--quiet", "--create", "hasty")
    path = stage.project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["families"]["cnn"]["train"]["epochs"] = 1
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    stage.commit("Train for one epoch")
    result = stage.retrain("7_refused", "refused", "--no-promote", "--base", MAIN)
    stage.tell("A worse model, on sound data", _sentence(result), "7_refused")
    back(stage)


def nothing_changed(stage: Stage) -> None:
    """The next run on main has nothing to do."""
    result = stage.retrain("8_nothing_changed", "unchanged", "--base", "HEAD")
    stage.tell("Nothing new on main", _sentence(result), "8_nothing_changed")


def rollback(stage: Stage) -> None:
    """Roll back with one command, and trace the lineage."""
    said = stage.run("mien", "rollback", "--why", "The story wants to see it")
    stage.tell("Rollback", said.strip())
    batch = next((stage.project / "data/raw").glob("001_*.parquet")).relative_to(stage.project)
    for title, command in {
        "Who serves, and why": ("champion",),
        "Where the champion comes from": ("lineage", "champion"),
        "What was trained on the good batch": ("lineage", str(batch)),
    }.items():
        stage.tell(title, f"$ mien {' '.join(command)}\n{stage.run('mien', *command).rstrip()}")


def keep(stage: Stage) -> None:
    """What the workflow does after a retraining."""
    stage.commit("Retrain")


def back(stage: Stage) -> None:
    """Leave a branch that will not be merged."""
    stage.git("checkout", "--quiet", "--force", MAIN)
    stage.run("dvc", "checkout", "--quiet", "--force", "--allow-missing")


def test_faces(project: Path) -> Faces:
    """The test split's faces."""
    from mien.data.dataset import read_split

    split = read_split(project / "data/prepared", "test")
    return Faces(split.images[..., 0], split.labels)


def write_index(stage: Stage) -> None:
    """index.html: every act, what was said, what the gate decided, and its report."""
    html_report.write(stage.folder / "index.html", story_page.page(stage.acts, stage.folder), "Mien: the loop")


def _sentence(result: dict[str, Any]) -> str:
    return f"{result['message']} {result['next']}"
