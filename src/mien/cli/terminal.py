"""What commands say on stderr: errors and progress. Their stdout is for results alone."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def print_error(message: str) -> None:
    """Say on stderr what went wrong, as every command does."""
    _print_marked("error: ", "red", message)


def print_warning(message: str) -> None:
    """Say on stderr what an answer lacks."""
    _print_marked("warning: ", "yellow", message)


def _print_marked(mark: str, colour: str, message: str) -> None:
    # Not by click.echo: it writes past the progress bar, into its line.
    sys.stderr.write(f"{click.style(mark, fg=colour) if sys.stderr.isatty() else mark}{message}\n")


@contextmanager
def progress_bar(total: int, quiet: bool = False, unit: str = "", done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal and there is more than one thing to do.

    It begins at `done` of `total`, and shows how many of the `unit` are done a second if one is given.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    console = Console(stderr=True)
    if quiet or total == 1 or not console.is_terminal:
        yield lambda: None
        return

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f} {unit}/s" if unit and task.speed else "")

    columns = (BarColumn(40), MofNCompleteColumn(), Speed(), TimeRemainingColumn(compact=True))
    # Results must stay on stdout: rich would print them to the bar's console. Both may be the same terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=total or None, completed=done)
        yield lambda: progress.advance(task)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a polite kill unwind like Ctrl-C, so that no half-written file stays."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
