"""The clients that docs/serving.md shows, and the load test, run as they stand there against a running service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = "```{language}\n(.*?)```"
CLIENTS = {"python": ("client.py", sys.executable), "javascript": ("client.mjs", "node")}


@pytest.fixture(params=CLIENTS)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command that runs a client of the documentation."""
    name, program = CLIENTS[request.param]
    found = shutil.which(program)
    if found is None:
        pytest.skip("needs Node: install `nodejs`")
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(BLOCK.format(language=request.param), text, re.DOTALL)
    (tmp_path / name).write_text(block, encoding="utf-8")
    return [found, str(tmp_path / name)]


@pytest.fixture
def photo(tmp_path: Path, portrait: bytes) -> Path:
    """A photo's file."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(portrait)
    return path


@pytest.fixture
def busy(served: Any) -> Iterator[tuple[str, list[str]]]:
    """A front of the service that refuses the first request of each client as a busy one does, and the keys it saw."""
    keys: list[str] = []

    class Front(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            keys.append(self.headers.get("authorization", ""))
            if len(keys) == 1:
                self.answer(503, b'{"error": "busy"}')
            else:
                sent = {"content-type": self.headers["content-type"]}
                result = httpx.post(f"{served.url}{self.path}", content=body, headers=sent, timeout=60)
                self.answer(result.status_code, result.content)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Front) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", keys
        server.shutdown()
        thread.join()


def run(command: list[str], *files: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A client's run on these files."""
    return subprocess.run(
        [*command, *map(str, files)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_documented_client_names_faces(
    command: list[str], served: Any, photo: Path, encode: Callable[..., bytes]
) -> None:
    blank = photo.with_name("blank.png")
    blank.write_bytes(encode(Image.new("L", (300, 200)), "PNG"))
    done = run(command, photo, blank, MIEN_URL=served.url)
    named, none = done.stdout.splitlines()
    assert re.fullmatch(rf"{re.escape(str(photo))} [a-z]+ \d+% \((ok|uncertain)\)", named), done.stderr
    assert none == f"{blank} no face"


def test_a_documented_client_asks_a_busy_service_again_and_sends_its_key(
    command: list[str], busy: tuple[str, list[str]], photo: Path
) -> None:
    url, keys = busy
    done = run(command, photo, MIEN_URL=url, MIEN_KEY="secret")
    assert "%" in done.stdout, done.stderr
    assert keys == ["Bearer secret"] * 2


def test_a_documented_client_says_why_a_file_is_refused(command: list[str], served: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is no photo")
    done = run(command, tmp_path / "notes.txt", MIEN_URL=served.url)
    assert done.returncode != 0
    assert "no image that can be read" in done.stderr


def test_the_load_test_says_what_a_running_service_answered_and_refused(served: Any, photo: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "load.py")]
    done = run(script, "--url", served.url, "--photo", photo, "--seconds", 2, "--probe", 1, "--times", 3)
    assert done.returncode == 0, done.stderr
    rows = [line.rsplit(maxsplit=6) for line in done.stdout.splitlines() if re.search(r" (200|429|503) ", line)]
    assert {row[0].strip() for row in rows} == {"capacity", "3 × 2 s", "afterwards"}
    assert all(int(row[2]) > 0 and row[-1] == "0" for row in rows if row[1] == "200")


@pytest.mark.long
def test_the_benchmark_of_the_service_measures_it_and_its_floor() -> None:
    done = run([sys.executable, str(ROOT / "benchmarks" / "service.py")], "--runs", 1, "--seconds", 2)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["| 8", "| 32"]
    assert all(float(row[1]) > 1 and float(row[2]) > 1 for row in rows)


def test_the_load_test_refuses_an_address_that_does_not_answer() -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "load.py")]
    assert "answers with status 0: nothing" in run(script, "--url", "http://127.0.0.1:9").stderr
    assert "expected an address such as" in run(script, "--url", "localhost:3000").stderr
