"""Refuse at once what cannot be answered soon, so that the rest is."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from mien.serving.asgi import App, Message, Receive, Scope, Send

RETRY_SECONDS = 1
CROWD, EACH = 3, 8
"""Where so many requests are answered at a time, each so many-th answer closes its connection."""


class LoadShedder:
    """ASGI middleware: 429 above `requests` at a time, 503 where their bodies could fill more than `room` bytes.

    Connections that come together are often all taken by one worker, while the others stand idle. A crowded worker
    closes one now and then: its client opens another, which any worker may take.
    """

    # BentoML's own limit counts the page and its files too, says nothing of when to return, and knows no memory.
    def __init__(self, app: App, *, paths: frozenset[str], requests: int, room: int, largest: int) -> None:
        self.app = app
        self.paths = paths
        self.requests = requests
        self.room = room
        self.largest = largest
        self.within = self.answered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or scope["path"] not in self.paths:
            return await self.app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        size = min(int(declared), self.largest) if declared.isdecimal() else self.largest  # more is never read
        if self.requests < 1 or self.room < size:
            return await _busy(429 if self.requests < 1 else 503)(scope, receive, send)
        self.requests, self.room, self.within = self.requests - 1, self.room - size, self.within + 1
        try:
            await self.app(scope, receive, self._parting(send))
        finally:
            self.requests, self.room, self.within = self.requests + 1, self.room + size, self.within - 1
        return None

    def _parting(self, send: Send) -> Send:
        """Let the answer close its connection where it is time to."""

        async def parting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered += 1
                if self.within >= CROWD and self.answered % EACH == 0:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return parting


def _busy(status: int) -> JSONResponse:
    return JSONResponse(
        {"error": f"The service has all the work it can do. Try again in {RETRY_SECONDS} second or later."},
        status_code=status,
        headers={"retry-after": str(RETRY_SECONDS)},
    )
