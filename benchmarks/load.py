"""The service under more load than it carries: what it refuses and how fast, whether the rest is right, its memory."""

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
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from statistics import quantiles

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

    port: int
    process: psutil.Process
    request: bytes
    right: bytes = b""

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        children = self.process.children(recursive=True)
        return [child for child in children if "_bentoml_impl.worker.service" in child.cmdline()]

    async def ask(self) -> tuple[int, bytes]:
        """The status and the body of one request over a connection of its own; status 0: no answer."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
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
    given = parser.parse_args()
    photo = given.photo.read_bytes() if given.photo else _portrait()
    with running(photo) as service:
        asyncio.run(measure(service, 60 * given.minutes if given.minutes else given.seconds, given.times))


async def measure(service: Service, seconds: float, times: float) -> None:
    """Print the table."""
    _, right = await service.ask()
    service = Service(service.port, service.process, service.request, right)
    await closed(service, 2.0)
    calm = await closed(service, PROBE_SECONDS)
    capacity = len(calm.seconds[OK]) / PROBE_SECONDS
    print(f"capacity: {capacity:.1f} requests/s at concurrency {CONNECTIONS}; asked for {times * capacity:.1f}/s now")
    watching = asyncio.create_task(watched(service, seconds / SAMPLES))
    busy = await opened(service, seconds, times * capacity)
    watching.cancel()
    again = await closed(service, PROBE_SECONDS)
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
        print(f"after {time.perf_counter() - started:5.0f} s the workers hold {held} MiB", flush=True)
        await asyncio.sleep(pause)


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
        service = Service(port, psutil.Process(server.pid), request(photo, "connection: close\r\n"))
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
