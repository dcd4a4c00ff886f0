"""Refuse at once what cannot be answered soon, so that the rest is."""

import math

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from mien.serving.asgi import App, Message, Receive, Scope, Send
from mien.serving.backlog import Backlog, Job

CROWD, EACH = 3, 8
"""Where so many requests are answered at a time, each so many-th answer closes its connection."""
LONGEST_PAUSE = 30
"""Seconds after which a client that was refused may come back in any case."""
REFUSED = 400


class LoadShedder:
    """ASGI middleware: 503 for a request that would wait too long or for whose body there is no room, 429 for too many.

    Connections that come together are often all taken by one worker, while the others stand idle. A crowded worker
    closes one now and then: its client opens another, which any worker may take.
    """

    # BentoML's own limit counts the page and its files too, says nothing of when to return, and knows no memory.
    def __init__(
        self, app: App, *, paths: frozenset[str], requests: int, room: int, largest: int, backlog: Backlog
    ) -> None:
        self.app = app
        self.paths = paths
        self.requests = requests
        self.room = room
        self.largest = largest
        self.backlog = backlog
        self.within = self.answered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self.paths:
            return await self.app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        size = min(int(declared), self.largest) if declared.isdecimal() else self.largest  # more is never read
        refusal = self._refusal(size)
        if refusal:
            return await refusal(scope, receive, send)
        job = self.backlog.arrive(scope["path"], size)
        self.requests, self.room, self.within = self.requests - 1, self.room - size, self.within + 1
        try:
            await self.app(scope, self._counting(receive, job), self._parting(send, job))
        finally:
            self.requests, self.room, self.within = self.requests + 1, self.room + size, self.within - 1
            self.backlog.leave(job)
        return None

    def _refusal(self, size: int) -> JSONResponse | None:
        wait = self.backlog.wait()
        if self.requests < 1:
            return _busy(429, "as many requests as it takes", wait)
        if self.room < size:
            return _busy(503, "as many bytes as it holds", wait)
        if wait > self.backlog.patience:
            return _busy(503, f"work for {wait:.1f} seconds", wait)
        return None

    def _counting(self, receive: Receive, job: Job) -> Receive:
        """Note when a request is there as a whole, and how large it was."""
        count = 0

        async def counting() -> Message:
            nonlocal count
            message = await receive()
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                if not message.get("more_body") and job.ready is None:
                    self.backlog.complete(job, count)
            return message

        return counting

    def _parting(self, send: Send, job: Job) -> Send:
        """Let the answer close its connection where it is time to."""

        async def parting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.backlog.answer(job, refused=message["status"] >= REFUSED)
                self.answered += 1
                if self.within >= CROWD and self.answered % EACH == 0:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return parting


def _busy(status: int, what: str, wait: float) -> JSONResponse:
    seconds = min(max(math.ceil(wait), 1), LONGEST_PAUSE)
    return JSONResponse(
        {"error": f"The service has {what}. Try again in {seconds} second{'s' * (seconds > 1)} or later."},
        status_code=status,
        headers={"retry-after": str(seconds)},
    )
