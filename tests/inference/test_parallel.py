"""mien.inference.parallel: many things at a time, in order, and no further ahead than needed."""

import threading
from collections.abc import Iterator

import pytest

from mien.inference.parallel import AHEAD, chunks, cores, in_order


def counted(taken: list[int], count: int = 10**9) -> Iterator[int]:
    for number in range(count):
        taken.append(number)
        yield number


def test_results_come_in_the_order_of_the_items() -> None:
    first = threading.Event()

    def work(_: None, item: int) -> int:
        if item == 0:
            assert first.wait(30)  # done after the second one
        if item == 1:
            first.set()
        return 10 * item

    assert list(in_order(lambda: None, work, range(9), 2)) == [10 * n for n in range(9)]


def test_as_many_work_at_a_time_as_there_are_workers_each_with_a_tool_of_its_own() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(tool: object, _: int) -> int:
        together.wait()  # passes only where three are at work
        return id(tool)

    tools: list[object] = []

    def make() -> object:
        tools.append(object())
        return tools[-1]

    used = list(in_order(make, work, range(12), 3))
    assert len(tools) == 3
    assert set(used) == {id(tool) for tool in tools}


def test_an_endless_source_is_read_only_a_little_ahead() -> None:
    taken: list[int] = []
    results = in_order(lambda: None, lambda _, item: item, counted(taken), 2)
    assert taken == []
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) == 5 + 2 * AHEAD
    results.close()


def test_an_error_ends_it_where_it_happened() -> None:
    def work(_: None, item: int) -> int:
        return 12 // (3 - item)

    results = in_order(lambda: None, work, range(100), 2)
    assert [next(results) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_thread_is_left_behind_by_a_reader_who_stops_early() -> None:
    results = in_order(lambda: None, lambda _, item: item, counted([]), 2)
    next(results)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("mien")]
    results.close()
    for worker in workers:
        worker.join(30)
    assert [worker.is_alive() for worker in workers] == [False] * 2


def test_chunks_hold_everything_once() -> None:
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks([], 3)) == []
    assert cores() >= 1
