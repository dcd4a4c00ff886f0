"""What commands say on stderr: errors and progress. Their stdout is for results alone."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def print_error(message: str) -> None:
    """Say on stderr what went wrong, as every command does."""
    mark = click.style("error: ", fg="red") if sys.stderr.isatty() else "error: "
    # Not by click.echo: it writes past the progress bar, into its line.
    sys.stderr.write(f"{mark}{message}\n")


@contextmanager
def progress_bar(total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal and there is more than one thing to do."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or total == 1 or not console.is_terminal:
        yield lambda: None
        return
    columns = (BarColumn(40), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    # Results must stay on stdout: rich would print them to the bar's console.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total or None)
        yield lambda: progress.advance(task)
