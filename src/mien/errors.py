"""The exception for errors that the user can fix."""

from collections.abc import Sequence

LISTED = 6
"""How many names a message lists."""


class MienError(Exception):
    """An error that the user can fix; the message states what was passed, what was expected and how to fix it."""


def listed(items: Sequence[str], most: int = LISTED) -> str:
    """The first items for a message, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
