"""The answers of `mien predict` in a file: written photo by photo, and gone on with after an interruption.

Until all photos are answered the file is called `NAME.part`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TextIO

from mien.errors import MienError
from mien.files import write_file
from mien.inference.predictions import COLUMNS, Prediction, to_rows

ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
"""Names of files need not be UTF-8: their bytes are kept."""

Form = Literal["csv", "jsonl"]


def csv_lines(rows: list[list[Any]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


HEADS: Mapping[str, str] = {"csv": csv_lines([list(COLUMNS)]), "jsonl": ""}
LINES: Mapping[Form, Callable[[Prediction], str]] = {
    "csv": lambda answer: csv_lines(to_rows(answer.photo, answer.faces)),
    "jsonl": lambda answer: json.dumps(answer.to_dict()) + "\n",
}
"""What each form begins with, and what it has for a photo."""


@dataclass(frozen=True)
class AnswersFile:
    """A file of answers that is not yet whole: `part` is where it grows."""

    path: Path
    form: Form

    @property
    def part(self) -> Path:
        """Where the answers are until all are there."""
        return self.path.with_name(f"{self.path.name}.part")

    def begin(self, resume: bool) -> set[str]:
        """Make the part, and answer with the photos whose answers it holds. Raises MienError.

        To resume is to keep the answers of an interrupted run, or those of a whole file if more photos have come.
        """
        if self.part.exists() and not resume:
            raise MienError(
                f"{self.part} holds the answers of an interrupted run. Add --resume to go on with it, or delete it."
            )
        source = next((path for path in (self.part, self.path) if resume and path.exists()), None)
        try:
            kept, done = KEPT[self.form](source.read_text(**ENCODING)) if source else (HEADS[self.form], set())
        except (OSError, ValueError) as error:
            raise MienError(f"Cannot go on with {source}: {error}. Name the file of the same command.") from error
        write_file(self.part, lambda path: path.write_text(kept, **ENCODING))
        return done

    @contextmanager
    def writer(self) -> Iterator[Callable[[Prediction], None]]:
        """Add answers to the part, each whole and at once on disk; without an error the part becomes the file."""
        try:
            with self.part.open("a", newline="", **ENCODING) as file:
                yield lambda answer: _write(file, LINES[self.form](answer))
            self.part.replace(self.path)
        finally:
            if self.part.exists() and self.part.stat().st_size == len(HEADS[self.form].encode()):
                self.part.unlink()  # interrupted before the first answer: there is nothing to keep


def _write(file: TextIO, lines: str) -> None:
    file.write(lines)
    file.flush()


def _kept_csv(text: str) -> tuple[str, set[str]]:
    """The rows that are whole and their photos; those of the last photo may lack some and are made anew."""
    whole = text[: text.rfind("\n") + 1]
    head, *rows = csv.reader(io.StringIO(whole, newline="")) if whole else [list(COLUMNS)]
    if tuple(head) != COLUMNS:
        raise ValueError("it does not have the columns of `mien predict`")
    photos = [(photo, list(group)) for photo, group in groupby(rows, lambda row: row[0] if row else "")][:-1]
    return csv_lines([head, *(row for _, group in photos for row in group)]), {photo for photo, _ in photos}


def _kept_jsonl(text: str) -> tuple[str, set[str]]:
    """The lines that are whole and their photos."""
    whole = text[: text.rfind("\n") + 1]
    try:
        return whole, {str(json.loads(line)["photo"]) for line in whole.splitlines()}
    except (KeyError, TypeError):
        raise ValueError("its lines are not those of `mien predict`") from None


KEPT: Mapping[Form, Callable[[str], tuple[str, set[str]]]] = {"csv": _kept_csv, "jsonl": _kept_jsonl}
