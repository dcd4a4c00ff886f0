"""Do many things at a time, lazily and in order."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Tool = TypeVar("Tool")

AHEAD = 2
"""Items in work or done for each worker: one more than it works on, so that it never waits for the reader."""


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    make: Callable[[], Tool], work: Callable[[Tool, Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield `work(tool, item)` for each item, in order, from threads that each `make` a tool of their own.

    Only AHEAD items a worker are taken before their results are wanted, so that memory stays flat and an endless
    source can be read. Threads suffice, since decoders and networks let go of Python's lock.
    """
    own = threading.local()

    def done(item: Item) -> Result:
        if not hasattr(own, "tool"):
            own.tool = make()
        return work(own.tool, item)

    source, pending = iter(items), deque[Future[Result]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mien")
    try:
        pending.extend(pool.submit(done, item) for item in itertools.islice(source, AHEAD * workers))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(done, item) for item in itertools.islice(source, 1))
            yield result
    finally:
        # Left early, by an error or a reader who has seen enough: what was not begun is not done.
        pool.shutdown(wait=False, cancel_futures=True)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    source = iter(items)
    while chunk := list(itertools.islice(source, size)):
        yield chunk
