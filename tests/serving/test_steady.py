"""`bentoml serve`, as people run it: it starts or says why not, drains, comes back, and refuses what is too much."""

import json
import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

Serve = Callable[..., AbstractContextManager[Any]]


def test_without_the_champion_that_is_named_the_service_says_so_and_stops(serve: Serve, tmp_path: Path) -> None:
    with serve(tmp_path, MIEN_CHAMPION="gone") as server:
        assert server.process.wait(150) == 1
    result = server.log.read_text()
    assert "There is no champion" in result
    assert "dvc repro" in result
    assert "Traceback" not in result


def test_a_limit_that_is_none_stops_the_service(serve: Serve, tmp_path: Path) -> None:
    with serve(tmp_path, MIEN_LIMIT_WORKERS="many") as server:
        assert server.process.wait(150) != 0
    result = server.log.read_text()
    assert "MIEN_LIMIT_WORKERS='many' is no limit" in result
    assert "Traceback" not in result


def test_a_service_with_a_key_answers_who_has_it_and_logs_each_request_under_its_id(
    serve: Serve, champion_folder: Path, portrait: bytes, tmp_path: Path
) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    with serve(tmp_path, MIEN_API_KEY="old-key new-key", MIEN_CORS_ORIGINS="https://app.example") as server:
        server.wait()
        key = {"authorization": "Bearer new-key", "origin": "https://app.example"}
        assert httpx.get(f"{server.url}/app").status_code == 200
        assert [httpx.get(f"{server.url}/{path}").status_code for path in ("metrics", "model_info")] == [401, 401]
        refused = httpx.post(f"{server.url}/predict", files={"image": portrait})
        assert (refused.status_code, "WWW-Authenticate" in refused.headers) == (401, True)
        answer = httpx.post(f"{server.url}/predict", files={"image": portrait}, headers=key, timeout=60)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, key["origin"])
        described = httpx.get(f"{server.url}/docs.json").json()
        assert set(described["components"]["securitySchemes"]) == {"bearer", "header"}
        assert described["paths"]["/livez"]["get"]["security"] == []
    log = server.log.read_text()
    for each in (refused, answer):
        (line,) = (line for line in log.splitlines() if f"(request {each.headers['x-request-id']})" in line)
        assert f"status={each.status_code}" in line
    assert "new-key" not in log


def test_the_metrics_count_photos_faces_and_emotions_over_all_workers(served: Any, portrait: bytes) -> None:
    for _ in range(4):  # connections of their own, so that both workers answer
        assert httpx.post(f"{served.url}/predict", files={"image": portrait}, timeout=60).status_code == 200
    assert httpx.post(f"{served.url}/predict", files={"image": b"text"}).status_code == 415
    metrics = httpx.get(f"{served.url}/metrics").text
    numbers = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("mien_"))
    photos = float(numbers['mien_photos_total{faces="some"}'])
    assert photos >= 4
    assert sum(float(n) for name, n in numbers.items() if name.startswith("mien_faces_total")) >= photos
    assert float(numbers['mien_refused_total{status="415"}']) >= 1
    assert float(numbers["mien_detection_seconds_count"]) >= 4
    assert float(numbers["mien_classification_seconds_count"]) >= 4
    assert 'endpoint="/predict",http_response_code="200"' in metrics


def test_a_killed_worker_comes_back_and_the_other_answers_meanwhile(served: Any, portrait: bytes) -> None:
    _until(lambda: served.started() == 2)
    os.kill(killed := min(served.workers()), signal.SIGKILL)
    assert httpx.post(f"{served.url}/predict", files={"image": portrait}, timeout=60).status_code == 200
    _until(lambda: served.started() == 3)
    assert len(served.workers() - {killed}) == 2


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_too_many_requests_are_refused_the_rest_answered_and_sigterm_drains(
    serve: Serve, champion_folder: Path, portrait: bytes, tmp_path: Path
) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    with serve(tmp_path, MIEN_LIMIT_CONCURRENCY="2", MIEN_LIMIT_WORKERS="1") as server:
        server.wait()
        right = httpx.post(f"{server.url}/predict", files={"image": portrait}, timeout=60).json()

        def ask(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/predict", files={"image": portrait}, timeout=60)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(24)))
        assert set(Counter(answer.status_code for answer in answers)) == {200, 429}
        assert all(answer.json() == right for answer in answers if answer.status_code == 200)
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert "Try again" in refused.json()["error"]
        assert ask(0).json() == right

        status, body = _ask_around_a_sigterm(server, portrait)
        assert (status, json.loads(body)) == (200, right)
        assert server.process.wait(60) == 0


def _ask_around_a_sigterm(server: Any, photo: bytes) -> tuple[int, bytes]:
    """Send half a request, SIGTERM to the service, then the other half."""
    request = httpx.Request("POST", f"{server.url}/predict", files={"image": photo}, headers={"connection": "close"})
    head = "POST /predict HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    body = request.read()
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=60) as connection:
        connection.sendall(f"{head}\r\n".encode() + body[:1000])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(body[1000:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), content.encode()
