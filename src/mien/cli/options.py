"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def path_option(name: str, text: str, **more: Any) -> Callable[[Command], Command]:
    """A path that dvc.yaml (or the caller) must name, unless it has a default."""
    return click.option(name, type=click.Path(path_type=Path), required="default" not in more, help=text, **more)
