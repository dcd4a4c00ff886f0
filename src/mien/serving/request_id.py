"""An id for every request: in its answer's header, and in each line that is logged about it."""

import logging
import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders

from mien.serving.asgi import App, Message, Receive, Scope, Send

HEADER = "x-request-id"
# What a client sends is logged: no line breaks, nothing long.
USABLE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

_current: ContextVar[str] = ContextVar("request_id", default="")


class RequestIds:
    """ASGI middleware: keeps the client's `X-Request-ID`, or makes one."""

    def __init__(self, app: App) -> None:
        self.app = app
        for logger in (logging.getLogger("bentoml"), logging.getLogger()):
            for handler in logger.handlers:
                handler.addFilter(name_request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request under its id."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get(HEADER, "")
        name = given if USABLE.fullmatch(given) else uuid.uuid4().hex

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        token = _current.set(name)
        try:
            return await self.app(scope, receive, named)
        finally:
            _current.reset(token)


def name_request(record: logging.LogRecord) -> bool:
    """A log filter that puts the id of the request that is being answered behind the message."""
    name = _current.get()
    if name and not hasattr(record, "mien_request"):
        record.mien_request = name
        record.msg = f"{record.msg} (request {name})"
    return True
