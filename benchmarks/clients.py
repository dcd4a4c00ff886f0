"""Clients that ask the service again as soon as it has answered, in a process of their own; prints what they saw."""

import asyncio
import json
import sys
import time
from pathlib import Path

BOUNDARY = "mien"


def request(photo: bytes, more: str = "") -> bytes:
    """A POST of the photo to /predict, with `more` lines in its head."""
    part = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'.encode()
    body = part + photo + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        f"POST /predict HTTP/1.1\r\nhost: localhost\r\n{more}"
        f"content-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def client(port: int, asked: bytes, end: float, seen: list[tuple[int, float]]) -> None:
    """Ask over one connection, and over another where the service closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        started = time.perf_counter()
        writer.write(asked)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(lines[b"content-length"]))
        seen.append((int(head.split(b" ", 2)[1]), time.perf_counter() - started))
        if lines.get(b"connection") == b"close":
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def main(port: int, count: int, seconds: float, photo: Path) -> None:
    """Print [status, seconds] of every answer as JSON."""
    seen: list[tuple[int, float]] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, request(photo.read_bytes()), end, seen) for _ in range(count)))
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
