"""The service under more load than it carries: what it refuses and how fast, whether the rest is right, its memory.

It starts a service of its own, or loads the one at `--url`.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import psutil
from clients import request

PROBE_SECONDS, CONNECTIONS = 5.0, 8
PAUSE = 0.2
"""Seconds that a client stays away after a refusal."""
SAMPLES = 10
OK = 200


@dataclass
class Tally:
    """Seconds that answers took, by status, and how many of the 200s were wrong."""

    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: int = 0


@dataclass(frozen=True)
class Service:
    """A running service, one request for it, and the answer that is right."""

    host: str
    port: int
    request: bytes
    process: psutil.Process | None = None
    """Unknown for a service that was running before."""
    right: bytes = b""

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        children = self.process.children(recursive=True) if self.process else []
        return [child for child in children if "_bentoml_impl.worker.service" in child.cmdline()]

    async def ask(self) -> tuple[int, bytes]:
        """The status and the body of one request over a connection of its own; status 0: no answer."""
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            writer.write(self.request)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split(b" ", 2)[1]), body
        except (OSError, IndexError):
            return 0, b""


def main() -> None:
    """Measure the capacity, then load the service with a multiple of it, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, help="the photo to ask about (default: Matplotlib's sample portrait)")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--times", type=float, default=1.5, help="how often its capacity the service is asked for")
    parser.add_argument("--probe", type=float, default=PROBE_SECONDS, help="seconds before and after, at its capacity")
    parser.add_argument("--url", help="a running service, such as http://127.0.0.1:3000 (default: one of its own)")
    parser.add_argument("--key", help="its API key, where it needs one")
    given = parser.parse_args()
    photo = given.photo.read_bytes() if given.photo else _portrait()
    with there(given.url, given.key, photo) if given.url else running(photo) as service:
        asyncio.run(measure(service, 60 * given.minutes if given.minutes else given.seconds, given.times, given.probe))


async def measure(service: Service, seconds: float, times: float, probe: float = PROBE_SECONDS) -> None:
    """Print the table."""
    status, right = await service.ask()
    if status != OK:
        raise SystemExit(f"error: the service answers with status {status}: {right.decode()[:300] or 'nothing'}")
    service = replace(service, right=right)
    await closed(service, min(2.0, probe))
    calm = await closed(service, probe)
    capacity = len(calm.seconds[OK]) / probe
    print(f"capacity: {capacity:.1f} requests/s at concurrency {CONNECTIONS}; asked for {times * capacity:.1f}/s now")
    watching = asyncio.create_task(watched(service, seconds / SAMPLES))
    busy = await opened(service, seconds, times * capacity)
    watching.cancel()
    again = await closed(service, probe)
    rows = (("capacity", calm), (f"{times:g} × {seconds:g} s", busy), ("afterwards", again))
    print(f"{'':<16}{'status':>8}{'answers':>10}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}{'wrong':>8}")
    for name, tally in rows:
        for status, took in sorted(tally.seconds.items()):
            p50, p95 = (1000 * quantiles(took, n=20)[i] if len(took) > 1 else 1000 * took[0] for i in (9, 18))
            wrong = tally.wrong if status == OK else 0
            print(f"{name:<16}{status:>8}{len(took):>10}{p50:>10.1f}{p95:>10.1f}{1000 * max(took):>10.1f}{wrong:>8}")


async def closed(service: Service, seconds: float) -> Tally:
    """A few clients that each ask again as soon as they are answered."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            if await _timed(service, tally) != OK:
                await asyncio.sleep(PAUSE)

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return tally


async def opened(service: Service, seconds: float, rate: float) -> Tally:
    """Clients that come at a steady rate and do not care how busy the service is."""
    tally, started, tasks = Tally(), time.perf_counter(), set[asyncio.Task[int]]()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        task = asyncio.create_task(_timed(service, tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return tally


async def _timed(service: Service, tally: Tally) -> int:
    started = time.perf_counter()
    status, body = await service.ask()
    tally.seconds[status].append(time.perf_counter() - started)
    tally.wrong += status == OK and body != service.right
    return status


async def watched(service: Service, pause: float) -> None:
    """Print now and then what the workers hold in memory."""
    started = time.perf_counter()
    while True:
        held = " + ".join(f"{worker.memory_info().rss / 2**20:.0f}" for worker in service.workers())
        if held:
            print(f"after {time.perf_counter() - started:5.0f} s the workers hold {held} MiB", flush=True)
        await asyncio.sleep(pause)


@contextlib.contextmanager
def there(url: str, key: str | None, photo: bytes) -> Iterator[Service]:
    """The service that runs at an address."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise SystemExit(f"error: --url is {url}, expected an address such as http://127.0.0.1:3000")
    more = "connection: close\r\n" + (f"x-api-key: {key}\r\n" if key else "")
    yield Service(parts.hostname, parts.port or 80, request(photo, more))


@contextlib.contextmanager
def running(photo: bytes) -> Iterator[Service]:
    """`bentoml serve` of this folder's service on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home, Path(home, "log").open("w") as log:
        environment = {**os.environ, "BENTOML_HOME": home}
        command = [sys.executable, "-m", "bentoml", "serve", str(Path(__file__).parents[1]), "--port", str(port)]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        asked = request(photo, "connection: close\r\n")
        service = Service("127.0.0.1", port, asked, psutil.Process(server.pid))
        try:
            end = time.monotonic() + 120
            while asyncio.run(service.ask())[0] != OK:
                if server.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"error: the service did not start:\n{Path(home, 'log').read_text()}")
                time.sleep(0.2)
            yield service
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def _portrait() -> bytes:
    return files("matplotlib").joinpath("mpl-data", "sample_data", "grace_hopper.jpg").read_bytes()


if __name__ == "__main__":
    main()
