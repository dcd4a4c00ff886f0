"""mien.serving.load_shedding: what is too much is refused at once, and room is given back."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from mien.serving.backlog import Backlog
from mien.serving.load_shedding import CROWD, EACH, LoadShedder

ROOM, LARGEST = 100, 60


class Slow:
    """An application that answers when told to, or fails."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.go.wait()
        if scope["path"] == "/fail":
            raise RuntimeError("a bug")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def shedder(app: Any, requests: int = 3, cost: float = 0.0, patience: float = 1.0) -> LoadShedder:
    """A shedder of an application whose requests took `cost` seconds so far."""
    backlog = Backlog(frozenset(), patience)
    paths = frozenset({"/work", "/fail"})
    backlog.measured = {path: deque([cost, cost]) for path in paths}
    return LoadShedder(app, paths=paths, requests=requests, room=ROOM, largest=LARGEST, backlog=backlog)


async def statuses(bodies: Iterable[Any], path: str = "/work", **options: Any) -> tuple[list[int], LoadShedder]:
    """What requests with these bodies are answered that all come before the first is done."""
    slow = Slow()
    gate = shedder(slow, **options)
    transport = httpx.ASGITransport(gate, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://mien") as client:
        tasks = [asyncio.create_task(client.post(path, content=body)) for body in bodies]
        await asyncio.sleep(0.05)
        slow.go.set()
        answers = await asyncio.gather(*tasks)
    for answer in answers:
        if answer.status_code in (429, 503):
            assert "Try again in " + answer.headers["retry-after"] in answer.json()["error"]
    return [answer.status_code for answer in answers], gate


async def pieces() -> Any:
    """A body whose length is not told."""
    yield b"x"


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([b"x"] * 5, [200, 200, 200, 429, 429]),
        ([b"x" * 50, b"x" * 50, b"x"], [200, 200, 503]),
        ([b"x" * 500, b"x" * 40], [200, 200]),
        ([pieces(), pieces()], [200, 503]),
    ],
    ids=["too many", "too large together", "one that is refused later anyway", "of unknown length"],
)
def test_what_is_too_much_is_refused(bodies: list[Any], expected: list[int]) -> None:
    answered, gate = asyncio.run(statuses(bodies))
    assert answered == expected
    assert (gate.requests, gate.room) == (3, ROOM)


@pytest.mark.parametrize(
    ("cost", "expected"), [(0.1, [200] * 3 + [429] * 2), (0.4, [200] * 3 + [429] * 2), (30.0, [200] + [503] * 4)]
)
def test_what_would_wait_too_long_is_refused_and_the_first_never(cost: float, expected: list[int]) -> None:
    answered, gate = asyncio.run(statuses([b"x"] * 5, cost=cost))
    assert answered == expected
    assert (gate.requests, gate.room, gate.backlog.jobs) == (3, ROOM, [])


def test_a_client_that_would_wait_long_is_told_how_long_to_stay_away() -> None:
    async def pauses(cost: float) -> list[str]:
        gate = shedder(Slow(), cost=cost)
        gate.backlog.arrive("/work", 1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://mien") as client:
            return [(await client.post("/work", content=b"x")).headers["retry-after"]]

    assert asyncio.run(pauses(3.2)) == ["4"]
    assert asyncio.run(pauses(500.0)) == ["30"]


def test_what_requests_take_is_learnt_from_answers() -> None:
    _, gate = asyncio.run(statuses([b"x"], cost=0.0))
    assert gate.backlog.measured["/work"][-1] > 0.04
    _, gate = asyncio.run(statuses([b"x"], "/fail", cost=0.0))
    assert list(gate.backlog.measured["/fail"]) == [0, 0]


def test_a_failing_application_gives_its_room_back() -> None:
    answered, gate = asyncio.run(statuses([b"x" * 50] * 2, "/fail"))
    assert answered == [500, 500]
    assert (gate.requests, gate.room) == (3, ROOM)


def test_other_paths_pass_a_full_house() -> None:
    answered, _ = asyncio.run(statuses([b"x"] * 9, "/livez"))
    assert answered == [200] * 9


def test_a_crowded_worker_closes_some_connections_and_one_at_ease_none() -> None:
    async def closed(together: int) -> int:
        slow = Slow()
        slow.go.set()
        gate = shedder(slow, requests=9)
        gate.within = together - 1  # others that are being answered meanwhile
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://mien") as client:
            answers = [await client.post("/work", content=b"x") for _ in range(2 * EACH)]
        return sum(answer.headers.get("connection") == "close" for answer in answers)

    assert asyncio.run(closed(CROWD)) == 2
    assert asyncio.run(closed(CROWD - 1)) == 0
