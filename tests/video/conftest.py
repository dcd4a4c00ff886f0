"""A camera that speaks RTSP on 127.0.0.1 and can be cut off."""

import itertools
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

PACKET = 7 * 188
"""Bytes of transport stream in an RTP packet (RFC 2250)."""


class Camera(socketserver.ThreadingTCPServer):
    """Sends a recording as MPEG transport stream in RTP in RTSP's own connection (RFC 2326, 10.12).

    `plans` are how many packets each viewer gets before the camera hangs up; the last one holds for all that follow.
    """

    daemon_threads = True

    def __init__(self, recording: Path, plans: list[int], pause: float) -> None:
        super().__init__(("127.0.0.1", 0), Viewer)
        data = recording.read_bytes()
        self.packets = [data[start : start + PACKET] for start in range(0, len(data), PACKET)]
        self.plans, self.pause, self.played = plans, pause, 0
        self.over = threading.Event()
        self.address = f"rtsp://127.0.0.1:{self.server_address[1]}/1"


class Viewer(socketserver.StreamRequestHandler):
    """One connection: a handful of questions, then the recording."""

    server: Camera

    def handle(self) -> None:
        """Answer until the viewer or the plan ends it."""
        with suppress(OSError):
            while asked := self._request():
                method, number = asked
                if method == "DESCRIBE":
                    self._answer(number, "Content-Type: application/sdp", body="v=0\r\nm=video 0 RTP/AVP 33\r\n")
                elif method == "SETUP":
                    self._answer(number, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
                else:
                    self._answer(number, "Session: 1", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
                if method == "PLAY":
                    self._play()
                    return

    def _request(self) -> tuple[str, str] | None:
        lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
        number = next((found[1] for line in lines if (found := re.match(r"(?i)cseq: *(\d+)", line))), "0")
        return (lines[0].split()[0], number) if lines else None

    def _answer(self, number: str, *headers: str, body: str = "") -> None:
        head = ["RTSP/1.0 200 OK", f"CSeq: {number}", *headers, f"Content-Length: {len(body)}", "", body]
        self.wfile.write("\r\n".join(head).encode())

    def _play(self) -> None:
        camera = self.server
        plan = camera.plans[min(camera.played, len(camera.plans) - 1)]
        camera.played += 1
        for number, packet in enumerate(itertools.islice(itertools.cycle(camera.packets), plan)):
            header = struct.pack(">BBHII", 0x80, 33, number % 2**16, int(number * camera.pause * 90_000), 1)
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(header) + len(packet)) + header + packet)
            if camera.over.wait(camera.pause):
                return


@pytest.fixture
def rtsp() -> Iterator[Callable[..., Camera]]:
    """Show a recording again and again, `pause` seconds between its packets, until the test ends."""
    with ExitStack() as stack:

        def start(recording: Path, plans: list[int], pause: float = 0.005) -> Camera:
            camera = stack.enter_context(Camera(recording, plans, pause))
            thread = threading.Thread(target=camera.serve_forever)
            thread.start()
            for ending in (thread.join, camera.shutdown, camera.over.set):
                stack.callback(ending)
            return camera

        yield start
