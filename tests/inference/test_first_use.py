"""mien.inference.first_use: YuNet's file is fetched once, and nobody waits twice for one that cannot be had."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from mien.errors import MienError
from mien.inference import detector_file, detectors, first_use

WEIGHTS = b"weights" * 1000


class Zoo(ThreadingHTTPServer):
    """A web server that has one file; it counts who asks, and may send wrong bytes, or ever fewer of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body, self.trickles, self.requests, self.closing = WEIGHTS, False, 0, threading.Event()
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/yunet.onnx"


class Answer(BaseHTTPRequestHandler):
    server: Zoo

    def do_GET(self) -> None:
        self.server.requests += 1
        time.sleep(self.server.delay)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        while self.server.trickles and not self.server.closing.wait(0.05):
            self.wfile.write(b"w")
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    """That server, named as the mirror, its file pinned; the cache is empty and the network allowed."""
    monkeypatch.delenv(detector_file.YUNET_VARIABLE, raising=False)
    monkeypatch.delenv(first_use.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv(detector_file.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(detector_file, "SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    with Zoo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv(detector_file.URL_VARIABLE, server.url)
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def test_the_first_use_fetches_the_file_and_the_next_ones_find_it(zoo: Zoo, capfd: pytest.CaptureFixture[str]) -> None:
    model = first_use.provided()
    assert model == first_use.provided() == detector_file.cached()
    assert model.read_bytes() == WEIGHTS
    assert zoo.requests == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"Fetched YuNet, which finds faces from now on, to {model}.\n")


def test_who_comes_while_another_fetches_waits_for_the_same_file(
    zoo: Zoo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    zoo.delay = 0.3
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(first_use.provided)
        while not zoo.requests:
            time.sleep(0.01)
        assert first_use.provided() == first.result() == detector_file.cached()
    assert zoo.requests == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_after_a_fetch_that_was_interrupted_nobody_waits_and_haar_is_told(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(first_use, "fetch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        first_use.provided()
    started = time.monotonic()
    assert first_use.provided() is first_use.provided() is None
    assert time.monotonic() - started < first_use.SECONDS / 2
    assert capfd.readouterr().err.count("could not be fetched lately") == 1


def test_a_program_without_stderr_is_answered_all_the_same(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert first_use.provided() == detector_file.cached()


def wrong_bytes(zoo: Zoo, patch: pytest.MonkeyPatch) -> str:
    zoo.body = b"something else"
    return "SHA-256"


def an_answer_that_trickles(zoo: Zoo, patch: pytest.MonkeyPatch) -> str:
    zoo.trickles = True
    patch.setattr(first_use, "SECONDS", 0.4)
    return "not there after 0.4 s"


def a_closed_port(zoo: Zoo, patch: pytest.MonkeyPatch) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        patch.setenv(detector_file.URL_VARIABLE, f"http://127.0.0.1:{free.getsockname()[1]}/yunet.onnx")
    return "ConnectionError"


@pytest.mark.parametrize("trouble", [wrong_bytes, an_answer_that_trickles, a_closed_port])
def test_a_fetch_that_fails_leaves_haar_says_so_once_and_is_not_repeated_today(
    trouble: Callable[[Zoo, pytest.MonkeyPatch], str],
    zoo: Zoo,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    reason = trouble(zoo, monkeypatch)
    assert detectors.detector("auto").name == "haar"
    hint = capfd.readouterr().err
    assert hint.count("\n") == 1
    assert reason in hint
    assert "mien fetch detector" in hint
    asked = zoo.requests
    assert first_use.provided() is None
    assert (zoo.requests, capfd.readouterr().err) == (asked, "")
    assert not detector_file.cached().exists()


def test_the_next_day_it_is_tried_again(zoo: Zoo) -> None:
    zoo.body = b"something else"
    assert first_use.provided() is None
    zoo.body, yesterday = WEIGHTS, time.time() - first_use.DAY - 1
    os.utime(detector_file.cached().with_name(first_use.TRIED), (yesterday, yesterday))
    assert first_use.provided() == detector_file.cached()
    assert zoo.requests == 2


def test_nothing_is_fetched_offline_and_the_network_is_tried_as_soon_as_it_is_allowed(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(first_use.OFFLINE_VARIABLE, "1")
    assert first_use.provided() is first_use.provided() is None
    assert zoo.requests == 0
    assert capfd.readouterr().err.count("MIEN_OFFLINE is set") == 1
    monkeypatch.setenv(first_use.OFFLINE_VARIABLE, "0")
    assert first_use.provided() == detector_file.cached()


def test_where_nothing_can_be_kept_nothing_is_fetched(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(detector_file.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert first_use.provided() is None
    assert zoo.requests == 0
    assert "cannot be kept in" in capfd.readouterr().err


def test_haar_by_choice_fetches_nothing_and_yunet_by_choice_insists(zoo: Zoo) -> None:
    assert detectors.detector("haar").name == "haar"
    assert zoo.requests == 0
    zoo.body = b"something else"
    with pytest.raises(MienError, match="mien fetch detector"):
        detectors.detector("yunet")


def test_the_command_line_answers_with_what_it_fetched(
    zoo: Zoo, tmp_path: Path, portrait: bytes, yunet_file: Path
) -> None:
    """Another process knows the real digest alone, so this one needs the real file."""
    zoo.body = yunet_file.read_bytes()
    (tmp_path / "photo.jpg").write_bytes(portrait)
    command = [sys.executable, "-m", "mien", "predict", "photo.jpg", "--csv", "-"]
    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert first.stderr.startswith("Fetched YuNet")
    assert (second.stderr, zoo.requests) == ("", 1)
    assert ",yunet," in first.stdout
    assert first.stdout == second.stdout


def test_a_service_fetches_once_at_its_start_and_never_for_a_request(
    zoo: Zoo, tmp_path: Path, portrait: bytes, yunet_file: Path, serve: Callable[..., AbstractContextManager[Any]]
) -> None:
    zoo.body = yunet_file.read_bytes()
    with serve(tmp_path) as server:
        server.wait()
        assert (zoo.requests, server.log.read_text().count("Fetched YuNet")) == (1, 1)
        for _ in range(4):
            answer = httpx.post(f"{server.url}/predict", files={"image": portrait}, timeout=60).json()
            assert answer["faces"][0]["found_by"] == "yunet"
    assert zoo.requests == 1


def test_a_service_that_cannot_fetch_answers_with_haar_and_tries_no_more(
    zoo: Zoo, tmp_path: Path, portrait: bytes, serve: Callable[..., AbstractContextManager[Any]]
) -> None:
    zoo.body = b"something else"
    with serve(tmp_path) as server:
        server.wait()
        answer = httpx.post(f"{server.url}/predict", files={"image": portrait}, timeout=60).json()
        assert answer["faces"][0]["found_by"] == "haar"
        assert (zoo.requests, server.log.read_text().count("mien fetch detector")) == (1, 1)
