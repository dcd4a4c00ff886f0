"""mien.serving.request_id: a request's id is in its answer and in what is logged about it."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mien.serving.request_id import HEADER, RequestIds, name_request


def ask(*ids: str) -> list[str]:
    """The ids of answers to requests that come together, each of which logs its path."""

    async def work(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        logging.getLogger("bentoml.access").warning("asked for %s", scope["path"])
        await PlainTextResponse("done")(scope, receive, send)

    async def answers() -> list[str]:
        transport = httpx.ASGITransport(RequestIds(work))
        async with httpx.AsyncClient(transport=transport, base_url="http://mien") as client:
            asked = (client.get(f"/{name}", headers={HEADER: name} if name else {}) for name in ids)
            return [answer.headers[HEADER] for answer in await asyncio.gather(*asked)]

    return asyncio.run(answers())


def test_a_clients_id_comes_back_and_one_without_gets_one_of_its_own() -> None:
    first, second, third = ask("order-17", "", "")
    assert first == "order-17"
    assert len({second, third, ""}) == 3


@pytest.mark.parametrize("name", ["with space", "a" * 129, 'quote"'])
def test_an_id_that_does_not_belong_into_a_log_is_replaced(name: str) -> None:
    assert ask(name)[0] != name


def test_each_line_of_the_log_names_its_own_request(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bentoml.access")
    caplog.handler.addFilter(name_request)
    logger.addHandler(caplog.handler)
    try:
        ask("one", "two")
        logger.warning("between requests")
    finally:
        logger.removeHandler(caplog.handler)
        caplog.handler.removeFilter(name_request)
    lines = {record.getMessage() for record in caplog.records}
    assert lines == {"asked for /one (request one)", "asked for /two (request two)", "between requests"}
