"""What `mien predict` answers: a table for people, JSON lines or CSV for programs, annotated copies."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mien.cli.terminal import print_error, progress_bar
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference.answer_text import Answer, counted, likely, table
from mien.inference.photo_files import collect, targets, write_copy
from mien.inference.predictor import Mien

if TYPE_CHECKING:
    from rich.table import Table

Form = Literal["table", "json", "csv"]

COLUMNS = ("photo", "face", "x", "y", "width", "height", "emotion", "confidence", "status", "found_by", *EMOTIONS)
FAILED, NOTHING = 1, 2
WIDE = 90
"""Columns of a terminal from which boxes and the second likeliest emotion have room."""


def run(paths: Sequence[str], champion: Path | None, form: Form = "table", annotated: Path | None = None) -> int:
    """Answer every photo that can be read and name those that cannot; gives the exit code."""
    found = collect(paths, annotated)
    for problem in found.problems:
        print_error(problem)
    if not found.photos:
        print_error(
            "There is no photo to answer. Pass photos, folders of photos, or quoted globs such as 'trip/*.jpg'."
        )
        return NOTHING
    copies = targets(found.photos, annotated) if annotated else {}
    mien, failures = Mien(champion), len(found.problems)
    rows: list[tuple[str, Answer]] = []
    show = PRINTERS[form]() if form != "table" or not sys.stdout.isatty() else _collector(rows)
    with progress_bar(len(found.photos), quiet=sys.stdout.isatty() and form != "table") as advance:
        for photo in found.photos:
            try:
                answer = mien.predict(photo)
                if photo in copies:
                    write_copy(photo, answer["faces"], copies[photo])
                show(str(photo), answer)
            except MienError as error:
                print_error(str(error))
                failures += 1
            advance()
    if rows:
        print_table(rows)
    return FAILED if failures else 0


def csv_rows(photo: str, faces: Sequence[Answer]) -> list[list[Any]]:
    """A row a face, in the order of COLUMNS; a photo without a face gives one row of status `no_face`."""
    if not faces:
        return [[photo, *[""] * 7, "no_face", "", *[""] * len(EMOTIONS)]]
    return [
        [photo, number, *face["box"], face["emotion"], _confidence(face), face["status"], face["found_by"],
         *(face["probabilities"][name] for name in EMOTIONS)]
        for number, face in enumerate(faces, 1)
    ]  # fmt: skip


def rich_table(rows: Iterable[tuple[str, Answer]], width: int) -> "Table":
    """The table for a terminal `width` columns wide: narrow ones get fewer columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    grid.add_column("photo", overflow="fold", ratio=1 if width < WIDE else None)
    grid.add_column("#", justify="right", style="dim")
    grid.add_column("emotion", no_wrap=True)
    grid.add_column("", justify="right", no_wrap=True)
    grid.add_column("status", no_wrap=True)
    if width >= WIDE:
        grid.add_column("next", no_wrap=True, style="dim")
        grid.add_column("box", no_wrap=True, style="dim")
    for photo, answer in rows:
        faces = answer["faces"]
        if not faces:
            grid.add_row(Text(photo), "", Text("no face", "dim"))
        for number, face in enumerate(faces, 1):
            x, y, w, h = face["box"]
            second = "{} {:.0%}".format(*likely(face)[1])
            sure = "green" if face["status"] == "ok" else "yellow"
            cells = [Text(photo if number == 1 else ""), str(number), face["emotion"], f"{_confidence(face):.0%}",
                     Text(face["status"], sure), second, f"{w}×{h} at {x},{y}"]  # fmt: skip
            grid.add_row(*cells[: len(grid.columns)])
    return grid


def print_table(rows: Sequence[tuple[str, Answer]]) -> None:
    """Print the table and what it adds up to."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(rich_table(rows, console.width))
    faces = sum(len(answer["faces"]) for _, answer in rows)
    console.print(f"{counted(faces, 'face')} in {counted(len(rows), 'photo')}")


def _confidence(face: Answer) -> float:
    return float(face["probabilities"][face["emotion"]])


def _json_printer() -> Callable[[str, Answer], None]:
    return lambda photo, answer: click.echo(json.dumps({"photo": photo, **answer}))


def _csv_printer() -> Callable[[str, Answer], None]:
    def lines(rows: Sequence[Sequence[Any]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()

    click.echo(lines([COLUMNS]), nl=False)
    return lambda photo, answer: click.echo(lines(csv_rows(photo, answer["faces"])), nl=False)


def _collector(rows: list[tuple[str, Answer]]) -> Callable[[str, Answer], None]:
    return lambda photo, answer: rows.append((photo, answer))


PRINTERS: Mapping[str, Callable[[], Callable[[str, Answer], None]]] = {
    "table": lambda: lambda photo, answer: click.echo(table(photo, answer["faces"])),
    "json": _json_printer,
    "csv": _csv_printer,
}
"""How each form prints an answer as soon as it is known; the terminal's table is laid out when all are."""
