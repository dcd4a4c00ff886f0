"""What docs/serving.md says about keeping the service running, held against systemd and nginx where they are there."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def block(language: str) -> str:
    """The documentation's only block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def program(name: str) -> str:
    """A program that is installed beside the project, or not."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name}: install it")
    return found


def test_the_unit_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    unit = tmp_path / "mien.service"
    unit.write_text(block("ini").replace("/opt/mien/bin/bentoml", shutil.which("true") or "/bin/true"))
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "mien.service" in line]
    assert ours == []
    unit.write_text(unit.read_text().replace("Restart=always", "Restart=sometimes"))
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert "mien.service" in done.stdout + done.stderr  # it does look


def test_the_unit_starts_the_service_with_options_that_bentoml_has() -> None:
    (line,) = re.findall(r"^ExecStart=\S+ serve (.+)$", block("ini"), re.MULTILINE)
    target, *options = line.split()
    assert target == "mien.serving.service:Mien"
    offered = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in offered.stdout for option in options if option.startswith("--"))


@pytest.fixture(params=["/", "/mien/"])
def proxied(request: pytest.FixtureRequest, served: Any, tmp_path: Path) -> Iterator[str]:
    """The address of the service behind the documented nginx, at its root and under a folder, without HTTPS."""
    nginx = program("nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = block("nginx").replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    text = re.sub(r"\n *ssl_certificate[^\n]*", "", text)
    below = "/" if request.param != "/" else ""
    text = text.replace("http://127.0.0.1:3000", served.url + below).replace(
        "location / {", f"location {request.param} {{"
    )
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error; daemon off; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text} }}"
    )
    with subprocess.Popen([nginx, "-c", configuration, "-e", tmp_path / "error"]) as process:
        try:
            yield f"http://127.0.0.1:{port}{request.param.rstrip('/')}"
        finally:
            process.terminate()


def test_the_service_answers_behind_the_documented_proxy(proxied: str, portrait: bytes) -> None:
    end = time.monotonic() + 30
    while True:
        with suppress(httpx.TransportError):
            page = httpx.get(f"{proxied}/app", timeout=60)
            break
        assert time.monotonic() < end
        time.sleep(0.1)
    assert page.status_code == 200
    assert httpx.get(f"{proxied}/app/app.js").status_code == 200
    answer = httpx.post(f"{proxied}/predict", files={"image": portrait + bytes(3 * 2**20)}, timeout=60)
    assert answer.status_code == 200
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert httpx.get(proxied, follow_redirects=True).url.path.endswith("/app")
