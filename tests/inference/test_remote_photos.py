"""mien.inference.remote_photos: one photo from an address, and nothing else from anywhere."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mien import Mien
from mien.errors import MienError
from mien.inference import remote_photos
from mien.inference.remote_photos import download

Serve = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture
def redirecting() -> Iterator[tuple[str, list[str]]]:
    """A server that sends everyone to the address in the list."""
    target: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", target
        server.shutdown()
        thread.join()


def test_a_photo_is_answered_by_its_address(
    serve_files: Serve, tmp_path: Path, portrait: bytes, champion_folder: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(portrait)
    (tmp_path / "text").write_text("hello")
    mien = Mien(champion_folder)
    with serve_files(tmp_path) as address:
        answer = mien.predict_url(f"{address}/a.jpg")
        with pytest.raises(MienError, match=rf"^{address}/text: The 5 bytes are no image"):
            mien.predict_url(f"{address}/text")
    assert answer == mien.predict(portrait)
    assert answer.photo == f"{address}/a.jpg"


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1/a.jpg", "file:///etc/hostname", "a.jpg", "", "data:,a", Path("a.jpg"), None]
)
def test_other_addresses_are_refused(address: Any) -> None:
    with pytest.raises(MienError, match="no http or https address"):
        download(address)


@pytest.mark.parametrize("address", ["http://[::1", "http:///a.jpg", "http://127.0.0.1:port/", "http://127.0.0.1/a b"])
def test_a_malformed_address_is_told(address: str) -> None:
    with pytest.raises(MienError, match="Cannot download"):
        download(address)


def test_what_cannot_be_had_is_told(serve_files: Serve, tmp_path: Path) -> None:
    with serve_files(tmp_path) as address, pytest.raises(MienError, match=r"Cannot download .*/gone\.jpg \(HTTP .*404"):
        download(f"{address}/gone.jpg")
    with pytest.raises(MienError, match="Check the address and the network"):
        download(address)  # ended by now
    for wrong in ("http://", "http://127.0.0.1:x/"):
        with pytest.raises(MienError, match="Cannot download"):
            download(wrong)


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MienError, match="timed out"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.1)


def test_a_file_that_is_too_large_is_refused(
    serve_files: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_photos, "MOST_MIB", 1)
    (tmp_path / "fits").write_bytes(bytes(2**20))
    (tmp_path / "large").write_bytes(bytes(2**20 + 1))
    with serve_files(tmp_path) as address:
        assert len(download(f"{address}/fits")) == 2**20
        with pytest.raises(MienError, match="larger than 1 MiB"):
            download(f"{address}/large")


def test_a_redirect_leads_to_http_alone(redirecting: tuple[str, list[str]], serve_files: Serve, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"photo")
    address, target = redirecting
    with serve_files(tmp_path) as files:
        target[:] = [f"{files}/a"]
        assert download(address) == b"photo"
    for elsewhere in (f"file://{tmp_path}/a", "ftp://127.0.0.1/a"):
        target[:] = [elsewhere]
        with pytest.raises(MienError, match="Cannot download"):
            download(address)
