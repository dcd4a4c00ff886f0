"""The parts of a card, and its two formats: Markdown, and one HTML page that opens offline and prints."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mien.files import write_text

TO = "\u00a0to\u00a0"
"""Keeps an interval on one line."""


@dataclass(frozen=True)
class Facts:
    """Inputs of the cards: the stages' reports, the prepared data's description, and the lineage."""

    evaluation: Mapping[str, Any]
    promotion: Mapping[str, Any]
    info: Mapping[str, Any]
    validation: Mapping[str, Any]
    training: Mapping[str, Any]
    lineage: Mapping[str, str]
    plots: Path = Path()

    @property
    def synthetic(self) -> bool:
        """Whether the faces are synthetic, so that no score here applies to real ones."""
        return bool(self.evaluation["data"]["synthetic"])


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; `bars` in [0, 1] draws one beside each row, `code` sets the last column as code."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()
    code: bool = False


@dataclass(frozen=True)
class Section:
    """A title with paragraphs, then a list, then a table, then pictures; whatever is empty is left out."""

    title: str
    text: Sequence[str] = ()
    items: Sequence[str] = ()
    table: Table | None = None
    pictures: Sequence[tuple[Path, str]] = ()


@dataclass(frozen=True)
class Card:
    """A title with a verdict, a lead, and sections."""

    title: str
    verdict: str
    good: bool
    lead: str
    sections: Sequence[Section] = field(default_factory=tuple)


def write(folder: Path, name: str, card: Card) -> None:
    """Write `folder`/`name`.md and .html."""
    write_text(folder / f"{name}.md", render(card, "md"))
    write_text(folder / f"{name}.html", render(card, "html"))


def render(card: Card, form: Literal["md", "html"]) -> str:
    """The card as text; in HTML everything that comes from a report is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=form == "html",  # noqa: S701 (Markdown has no markup to inject)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "embedded": _embedded}
    return environment.get_template(f"card.{form}.j2").render(card=card)


def percent(share: float, interval: Sequence[float] | None = None) -> str:
    """A share, with its interval where there is one."""
    return f"{share:.1%}" + (f" ({interval[0]:.1%}{TO}{interval[1]:.1%})" if interval else "")


def score(value: float, interval: Sequence[float] | None = None) -> str:
    """A score in [0, 1], with its interval where there is one."""
    return f"{value:.3f}" + (f" ({interval[0]:.3f}{TO}{interval[1]:.3f})" if interval else "")


def _cell(text: str) -> str:
    """Text that keeps a Markdown table whole."""
    return " ".join(text.replace("|", "\\|").split())


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
