"""GET routes: the web page, the model card, the OpenAPI document, and a hint where a POST call is fetched."""

import hashlib
from itertools import chain
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mien.serving import openapi
from mien.serving.access import PATHS, SCRIPTS, Access
from mien.serving.limits import Limits
from mien.serving.requests import hint

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = Path(__file__).parent / "page"
FILES = {
    "/app": ("app.html", "text/html; charset=utf-8"),
    "/app/app.css": ("app.css", "text/css; charset=utf-8"),
    **{path: (Path(path).name, "text/javascript; charset=utf-8") for path in SCRIPTS},
    "/docs": ("docs.html", "text/html; charset=utf-8"),
}
FETCHED = {"/model_info", *chain(*PATHS.values())}
HEADERS = {
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # revalidated each time, 304 while nothing has changed
}


def site(limits: Limits, access: Access) -> Starlette:
    """The application that is mounted beside the calls."""

    async def info(_: Request) -> Response:
        from bentoml import get_current_service

        return JSONResponse(get_current_service().answers.info())

    async def described(_: Request) -> Response:
        from bentoml import get_current_service

        return JSONResponse(openapi.document(get_current_service().mien.card.version, limits, access))

    pages = [Route(path, _file(name, kind)) for path, (name, kind) in FILES.items()]
    others = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            *pages,
            Route("/app/", lambda _: RedirectResponse("../app", 308)),
            # Instead of BentoML's page, which loads a tracker from elsewhere; what it shows is at /docs.
            Route("/", lambda _: RedirectResponse("app", 307)),
            Route("/model_info", info),
            Route("/docs.json", described),
            *(Route(path, _only_post, methods=others) for path in openapi.CALLS),
            Route("/{path:path}", _nothing, methods=[*others, "POST"]),
        ]
    )


def _file(name: str, kind: str) -> Any:
    async def answer(request: Request) -> Response:
        content = (PAGE / name).read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        # Swagger's page, and only it, sets styles in its markup.
        policy = POLICY.format(styles=" 'unsafe-inline'" if name == "docs.html" else "")
        headers = HEADERS | {"etag": tag, "content-security-policy": policy}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer


async def _nothing(request: Request) -> Response:
    """What is not there, or only to be fetched, in the form of every other refusal."""
    path = request.url.path
    fetched = path in FETCHED
    known = "Fetch it with GET." if fetched else f"Ask {', '.join(openapi.CALLS)}, /model_info, /app or /docs."
    return JSONResponse(
        {"error": f"{request.method} {path[:200]} is not answered. {known}"},
        status_code=405 if fetched else 404,
        headers={"allow": "GET, HEAD"} if fetched else None,
    )


async def _only_post(request: Request) -> Response:
    path = request.url.path
    message = f"{path} is asked with POST, not {request.method}. {hint(path)}"
    return JSONResponse({"error": message}, status_code=405, headers={"allow": "POST"})
