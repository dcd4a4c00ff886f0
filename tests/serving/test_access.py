"""mien.serving.access: who is answered, whose pages may call, and settings that make no sense."""

import asyncio
import hmac
from typing import Any

import httpx
import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from mien.errors import MienError
from mien.serving import access
from mien.serving.access import Access, ApiKeys

KEYS = Access(keys=("first-key", "second-key"))
PAGE = "https://app.example"


async def work(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("done")(scope, receive, send)


def ask(settings: Access, path: str = "/predict", method: str = "POST", **headers: str) -> httpx.Response:
    """The answer of a service with these settings."""
    app = CORSMiddleware(ApiKeys(work, access=settings), **settings.cors())
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mien") as client:
            return await client.request(method, path, headers=sent)

    return asyncio.run(answer())


@pytest.mark.parametrize("key", KEYS.keys)
def test_each_key_is_let_in_by_either_header(key: str) -> None:
    assert ask(KEYS, authorization=f"Bearer {key}").text == "done"
    assert ask(KEYS, authorization=f"bearer  {key} ").text == "done"
    assert ask(KEYS, x_api_key=key).text == "done"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer first"},
        {"authorization": "Bearer first-key, second-key"},
        {"authorization": "Basic first-key"},
        {"x_api_key": "FIRST-KEY"},
    ],
)
def test_without_a_known_key_nothing_is_answered(headers: dict[str, str]) -> None:
    answer = ask(KEYS, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer KEY" in answer.json()["error"]


def test_a_wrong_key_is_told_from_a_missing_one() -> None:
    assert "needs a key" in ask(KEYS).json()["error"]
    wrong = ask(KEYS, x_api_key="guess")
    assert "none of this service's" in wrong.json()["error"]
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]


def test_every_known_key_is_compared_whatever_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def counted(given: bytes, known: bytes) -> bool:
        compared.append((given, known))
        return bool(compare(given, known))

    monkeypatch.setattr("mien.serving.access.hmac.compare_digest", counted)
    for key in ("first-key", "second-key", "x"):
        compared.clear()
        ask(KEYS, x_api_key=key)
        assert len(compared) == 2
        assert {len(side) for pair in compared for side in pair} == {32}


@pytest.mark.parametrize(
    ("opened", "path", "status"),
    [
        ("health,page", "/livez", 200),
        ("health,page", "/app", 200),
        ("health,page", "/static_content/swagger-ui.css", 200),
        ("health,page", "/metrics", 401),
        ("health,page", "/model_info", 401),
        ("health,page", "/livez/", 401),
        ("health metrics", "/metrics", 200),
        ("health metrics", "/app", 401),
        ("", "/livez", 401),
    ],
)
def test_what_is_open_without_a_key_is_chosen(opened: str, path: str, status: int) -> None:
    settings = access.read({access.KEYS: "a-key", access.OPEN: opened})
    assert ask(settings, path, "GET").status_code == status
    assert ask(access.read({access.OPEN: opened}), path, "GET").status_code == 200


def test_the_pages_of_listed_origins_may_call_and_read_the_headers() -> None:
    settings = Access(KEYS.keys, origins=(PAGE,))
    asked = ask(settings, "/predict", "OPTIONS", origin=PAGE, access_control_request_method="POST",
                access_control_request_headers="authorization,content-type")  # fmt: skip
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PAGE)
    refused = ask(settings, origin=PAGE)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "server-timing" in ask(settings, origin=PAGE, x_api_key="first-key").headers["access-control-expose-headers"]


def test_the_pages_of_other_origins_may_not() -> None:
    for settings in (Access(), Access(origins=(PAGE,))):
        answer = ask(settings, origin="https://elsewhere.example")
        assert "access-control-allow-origin" not in answer.headers
    assert ask(Access(origins=("*",)), origin=PAGE).headers["access-control-allow-origin"] == "*"


def test_the_environment_names_keys_and_origins() -> None:
    assert access.read({"HOME": "/"}) == Access()
    named = {access.KEYS: "one, two", access.ORIGINS: f"{PAGE} http://localhost:5173"}
    assert access.read(named) == Access(("one", "two"), origins=(PAGE, "http://localhost:5173"))
    assert "one" not in repr(access.read(named))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({access.KEYS: " , "}, "MIEN_API_KEY is set but holds no key"),
        ({access.KEYS: "schlüssel"}, "expected printable ASCII"),
        ({access.OPEN: "health,everything"}, "MIEN_OPEN names 'everything', expected some of health, metrics, page"),
        ({access.ORIGINS: "app.example"}, "expected origins such as https://app.example"),
        ({access.ORIGINS: f"{PAGE}/page"}, "expected origins such as https://app.example"),
    ],
)
def test_settings_that_make_no_sense_are_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(MienError, match=message):
        access.read(environment)
