"""What `mien predict` does: answer photos from all cores, on stdout or in a file, and draw annotated copies."""

import io
import sys
import warnings
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import click
import cv2

from mien.cli.prediction_files import HEADS, LINES, AnswersFile, Form
from mien.cli.prediction_table import print_table
from mien.cli.terminal import INTERRUPTED, ended_by_signals, print_error, print_warning, progress_bar
from mien.errors import MienError
from mien.inference.answer_text import counted, table
from mien.inference.parallel import cores, in_order
from mien.inference.photo_files import ENDINGS, collect, targets, write_copy
from mien.inference.predictions import Prediction
from mien.inference.predictor import TOGETHER, Mien

FAILED, NOTHING = 1, 2
STDOUT = Path("-")
MOST_TABLED = 200
"""Photos up to which a terminal gets one table at the end; of more, each is printed as soon as it is known."""

Show = Callable[[Prediction], None]


@dataclass(frozen=True)
class Output:
    """Where the answers go, `-` being stdout, and in which form."""

    form: Form | Literal["table"] = "table"
    path: Path = STDOUT

    def file(self) -> AnswersFile | None:
        """The file, None for stdout. Raises MienError for a name that is a photo's or a folder's."""
        if self.form == "table" or self.path == STDOUT:
            return None
        if self.path.suffix.lower() in ENDINGS or self.path.is_dir():
            raise MienError(f"--{self.form} {self.path}: expected a file to write, such as faces.{self.form}, or -.")
        return AnswersFile(self.path, self.form)


@dataclass
class Tally:
    """What was answered so far."""

    photos: int = 0
    faces: int = 0
    failures: int = 0

    def add(self, answer: Prediction) -> None:
        """Count a photo."""
        self.failures += bool(answer.error)
        self.photos += not answer.error
        self.faces += len(answer.faces)

    @property
    def code(self) -> int:
        """The exit code."""
        return FAILED if self.failures else 0

    def __str__(self) -> str:
        return f"{counted(self.faces, 'face')} in {counted(self.photos, 'photo')}"


@dataclass(frozen=True)
class Job:
    """The photos to answer, where the annotated copies of them go, by which model, and how many at a time."""

    photos: Sequence[Path]
    copies: Mapping[Path, Path]
    mien: Mien
    workers: int
    tally: Tally

    def answer(self, show: Show, done: Container[str] = (), quiet: bool = False) -> None:
        """Show the prediction for each photo that is not `done`, or say why there is none, with a progress bar."""
        todo = [photo for photo in self.photos if str(photo) not in done]
        total = len(self.photos)
        with closing(self._answers(todo)) as found, progress_bar(total, quiet, "photos", total - len(todo)) as advance:
            for answer in found:
                if answer.error:
                    print_error(answer.error)
                else:
                    show(answer)
                if answer.warning:
                    print_warning(f"{answer.photo}: {answer.warning}")
                self.tally.add(answer)
                advance()

    def _answers(self, photos: Sequence[Path]) -> Generator[Prediction, None, None]:
        """Their predictions from all cores, each when its annotated copy is written."""
        if self.mien.threads == 1:
            cv2.setNumThreads(1)
        found = self.mien.stream(photos, workers=self.workers)
        if not self.copies:
            return found
        return in_order(lambda: None, lambda _, answer: _copied(answer, self.copies), found, self.workers)


def run(
    paths: Sequence[str],
    output: Output,
    champion: Path | None = None,
    annotated: Path | None = None,
    resume: bool = False,
    workers: int | None = None,
) -> int:
    """Answer every photo that can be read and name those that cannot; gives the exit code."""
    # Of broken metadata Pillow warns with its own line of code; what matters of a photo is in its answer.
    warnings.filterwarnings("ignore", module="PIL")
    file = output.file()
    if resume and not file:
        raise MienError("--resume goes on with a file: name it with --csv FILE or --jsonl FILE.")
    found = collect(paths, annotated)
    for problem in found.problems:
        print_error(problem)
    if not found.photos:
        print_error(
            "There is no photo to answer. Pass photos, folders of photos, or quoted globs such as 'trip/*.jpg'."
        )
        return NOTHING
    copies = targets(found.photos, annotated) if annotated else {}
    tally = Tally(failures=len(found.problems))
    at_a_time = workers or cores()
    # One worker has all cores, many have one each.
    threads = 1 if at_a_time > 1 and len(found.photos) >= TOGETHER else None
    job = Job(found.photos, copies, Mien(champion, threads=threads), at_a_time, tally)
    if file:
        return _fill(file, job, resume)
    _print(output, job)
    return tally.code


def _fill(file: AnswersFile, job: Job, resume: bool) -> int:
    """Write the answers to a file; an interruption keeps what is there, and says how to go on."""
    done = file.begin(resume)
    try:
        with ended_by_signals(), file.writer() as write:
            job.answer(write, done)
    except (KeyboardInterrupt, SystemExit):
        kept = counted(len(done) + job.tally.photos, "photo")
        how = f"The answers to {kept} are in {file.part}: add --resume to go on with it."
        print_error(f"Interrupted. {how if file.part.exists() else 'There was no answer yet.'}")
        return INTERRUPTED
    say(f"{job.tally}{f', {len(done):,} before' if done else ''}\n")
    click.echo(f"Wrote {file.path}", err=True)
    return job.tally.code


def _print(output: Output, job: Job) -> None:
    """Print the answers: each when it is known, or a table at the end where a person reads."""
    line = _plain if output.form == "table" else LINES[output.form]
    tabled, person = list[Prediction](), output.form == "table" and sys.stdout.isatty()
    say(HEADS.get(output.form, ""))
    job.answer(
        tabled.append if person and len(job.photos) <= MOST_TABLED else lambda answer: say(line(answer)),
        quiet=sys.stdout.isatty() and not person,
    )
    if tabled:
        print_table(tabled)
    if person:
        say(f"{job.tally}\n")


def _plain(answer: Prediction) -> str:
    return f"{table(answer.photo, answer.faces)}\n"


def say(text: str) -> None:
    """Print at once; unlike click's, this is seen above a progress bar on the same terminal.

    Names of files need not be UTF-8: their bytes are printed as they are.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and not text.isascii():
        sys.stdout.reconfigure(errors="surrogateescape")
    sys.stdout.write(text)
    sys.stdout.flush()


def _copied(answer: Prediction, copies: Mapping[Path, Path]) -> Prediction:
    """The same, once the photo's annotated copy is written; an error where it cannot be."""
    photo = Path(answer.photo)
    try:
        if not answer.error:
            write_copy(photo, answer.faces, copies[photo])
    except MienError as error:
        return replace(answer, status="error", faces=(), error=str(error))
    return answer
