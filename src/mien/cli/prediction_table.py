"""The table of `mien predict` on a terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mien.inference.answer_text import likely
from mien.inference.predictions import Prediction

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 90
"""Columns of a terminal from which boxes and the second likeliest emotion have room."""


def rich_table(answers: Iterable[Prediction], width: int) -> "Table":
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
    for answer in answers:
        if not answer.faces:
            grid.add_row(Text(answer.photo), "", Text("no face", "dim"))
        for number, face in enumerate(answer.faces, 1):
            x, y, w, h = face.box
            second = "{} {:.0%}".format(*likely(face)[1])
            sure = "green" if face.status == "ok" else "yellow"
            photo, status = Text(answer.photo if number == 1 else ""), Text(face.status, sure)
            cells: list[Text | str] = [photo, str(number), face.emotion, f"{face.confidence:.0%}", status, second]
            cells.append(f"{w}×{h} at {x},{y}")
            grid.add_row(*cells[: len(grid.columns)])
    return grid


def print_table(answers: Sequence[Prediction]) -> None:
    """Print the table as wide as the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(rich_table(answers, console.width))
