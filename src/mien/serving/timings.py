"""Where the time of one request goes, for its `Server-Timing` header."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Timings = dict[str, float]
"""Seconds by the name of what took them."""

_current: ContextVar[Timings | None] = ContextVar("timings", default=None)


@contextmanager
def collected() -> Iterator[Timings]:
    """Collect what is timed in this thread until the block ends, and the whole block as `total`."""
    timings: Timings = {"detection": 0.0, "classification": 0.0}
    token, started = _current.set(timings), time.perf_counter()
    try:
        yield timings
    finally:
        _current.reset(token)
        timings["total"] = time.perf_counter() - started


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the block's time to what is collected, if anything is."""
    started = time.perf_counter()
    try:
        yield
    finally:
        timings = _current.get()
        if timings is not None:
            timings[name] = timings.get(name, 0.0) + time.perf_counter() - started


def header(timings: Timings) -> str:
    """The value of `Server-Timing`, in milliseconds."""
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in timings.items())
