"""How far the trainings of a folder are, as a table, once or live."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mien.cluster.fleet import Training
    from mien.cluster.jobs import Progress
    from mien.cluster.trials import Running

LEFT = {"training", "state", "machine"}
"""Columns of text."""


def table(found: Sequence["Progress"], nodes: Mapping[str, str]) -> Table:
    """A row for each training; `nodes` says where those run that a cluster trains now."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("training", "state", "epoch", "best macro-F1", "images/s", "time left", "machine"):
        drawn.add_column(title, justify="left" if title in LEFT else "right")
    for one in found:
        score = "" if one.score is None else f"{one.score:.3f}"
        speed = f"{one.images / one.pace:,.0f}" if one.pace and one.images else ""
        state = "training" if one.job.name in nodes else one.state
        machine = nodes.get(one.job.name) or one.machine
        epochs = f"{one.epoch}/{one.job.recipe.epochs}"
        drawn.add_row(one.job.name, state, epochs, score, speed, _left(one), machine)
    return drawn


Say = Callable[[str], None]


@contextmanager
def live(folder: Path) -> Iterator[tuple[Say, Callable[[Sequence["Training"]], None]]]:
    """Functions that print a line, and draw the trainings anew below all lines; without a terminal only the first."""
    from rich.live import Live

    from mien.cluster import jobs

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield console.print, lambda _: None
        return
    with Live(console=console, refresh_per_second=2) as drawn:

        def watch(trainings: Sequence["Training"]) -> None:
            nodes = {training.job.name: training.node for training in trainings if training.call}
            drawn.update(table(jobs.status(folder), nodes))

        yield console.print, watch


@contextmanager
def live_trials(running: Callable[[], Sequence["Running"]]) -> Iterator[Say]:
    """A function that prints a line; on a terminal the trials that run are drawn below all lines."""
    from rich.live import Live

    from mien.cluster.jobs import Progress

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield console.print
        return

    def draw() -> Table:
        return table(
            [Progress(run.job, "training", run.epoch, run.score, run.pace, run.images, run.node) for run in running()],
            {},
        )

    with Live(console=console, refresh_per_second=2, get_renderable=draw):
        yield console.print


def _left(one: "Progress") -> str:
    if one.pace is None or one.job.finished:
        return ""
    minutes = (one.job.recipe.epochs - one.epoch) * one.pace / 60
    return f"{minutes:.1f} min"
