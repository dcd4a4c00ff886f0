"""Compare calls by the processor's time, in turns, so that a busy moment hits all; and print tables."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def milliseconds(calls: Mapping[Key, Callable[[], object]], rounds: int, block: int = 1) -> dict[Key, float]:
    """The median of each call's CPU time in milliseconds; it is made `block` times in a row in each of the rounds."""
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(block):
                started = time.process_time()
                call()
                times[name] += [1000 * (time.process_time() - started)] if number else []  # the first warms up
    return {name: median(taken) for name, taken in times.items()}


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
