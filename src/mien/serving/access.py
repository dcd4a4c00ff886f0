"""Who may use the service: API keys, and the web origins whose pages may call it."""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from mien.errors import MienError
from mien.serving.asgi import App, Receive, Scope, Send

KEYS, OPEN, ORIGINS = "MIEN_API_KEY", "MIEN_OPEN", "MIEN_CORS_ORIGINS"

MODULES = ("app", "client", "dom", "downloads", "faces", "photos", "results", "saliency", "state", "webcam")
"""The page's JavaScript."""
SCRIPTS = tuple(f"/app/{name}.js" for name in MODULES)

PATHS = {
    "health": ("/livez", "/readyz", "/healthz"),
    "metrics": ("/metrics",),
    # The page holds nothing secret, and asks for the key itself: a browser sends none when it opens an address.
    "page": ("/", "/app", "/app/", "/app/app.css", *SCRIPTS, "/docs", "/docs.json"),
}
ASSETS = "/static_content/"
EXPOSED = ("retry-after", "server-timing", "x-mien-commit", "x-mien-data", "x-mien-model", "x-request-id")
ADVICE = "Send it in the header `Authorization: Bearer KEY` or `X-API-Key: KEY`."
ORIGIN = re.compile(r"\*|https?://[^/\s*@]+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """What the environment says about it; without keys everyone is answered."""

    keys: tuple[str, ...] = field(default=(), repr=False)
    open: tuple[str, ...] = ("health", "page")
    """What of `PATHS` is answered without a key."""
    origins: tuple[str, ...] = ()
    """Web origins, such as `https://app.example`, whose pages may call the service; `*` for all."""

    def answers(self, path: str) -> bool:
        """Whether `path` is answered without a key."""
        opened = {each for name in self.open for each in PATHS[name]}
        return not self.keys or path in opened or ("page" in self.open and path.startswith(ASSETS))

    def cors(self) -> dict[str, Any]:
        """The options of Starlette's CORSMiddleware."""
        return {
            "allow_origins": list(self.origins),
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["authorization", "content-type", "x-api-key", "x-request-id"],
            "expose_headers": list(EXPOSED),
        }


def read(environment: Mapping[str, str] = os.environ) -> Access:
    """The keys, what is open and the origins that the environment names. Raises MienError for what makes no sense."""
    keys = _words(environment, KEYS)
    if KEYS in environment and not keys:
        raise MienError(f"{KEYS} is set but holds no key. Give one or more, with commas between, or unset it.")
    if any(not key.isascii() or not key.isprintable() for key in keys):
        raise MienError(f"{KEYS} holds a key with characters that no HTTP header carries: expected printable ASCII.")
    opened = _words(environment, OPEN) if OPEN in environment else Access.open
    for name in opened:
        if name not in PATHS:
            raise MienError(f"{OPEN} names {name!r}, expected some of {', '.join(PATHS)}, with commas between.")
    origins = _words(environment, ORIGINS)
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise MienError(f"{ORIGINS} names {origin!r}, expected origins such as https://app.example, or *.")
    return Access(keys, opened, origins)


def _words(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(environment.get(name, "").replace(",", " ").split())


class ApiKeys:
    """ASGI middleware: 401 for a request that needs a key and has none of those known."""

    def __init__(self, app: App, *, access: Access) -> None:
        self.app = app
        self.access = access
        self._known = [_digest(key) for key in access.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or self.access.answers(scope["path"]):
            return await self.app(scope, receive, send)
        given = _given(Headers(scope=scope))
        if given and self._knows(given):
            return await self.app(scope, receive, send)
        return await _unauthorised(bool(given))(scope, receive, send)

    def _knows(self, key: str) -> bool:
        # Digests are of one length, and every known one is compared: the time says nothing about any of them.
        digest = _digest(key)
        return sum(hmac.compare_digest(digest, known) for known in self._known) > 0


def _given(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _unauthorised(wrong: bool) -> JSONResponse:
    message = "The key is none of this service's." if wrong else "This service needs a key."
    challenge = 'Bearer realm="mien"' + (', error="invalid_token"' if wrong else "")
    return JSONResponse({"error": f"{message} {ADVICE}"}, 401, {"www-authenticate": challenge})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
