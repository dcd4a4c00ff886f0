"""`/predict` with two workers against the floor, two processes that answer the same photo without HTTP, in turns."""

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import cv2
import psutil
import samples
from load import Service, running
from timing import table

from mien.inference.predictor import Mien

CONCURRENCIES, RUNS, SECONDS, FLOORS = (8, 32), 5, 4.0, 2


@dataclass(frozen=True)
class Run:
    """Answers a second, CPU milliseconds an answer, and over HTTP p50 and p95 in milliseconds and other statuses.

    `loop` is the part of `cpu` in the threads that speak HTTP and find and classify nothing.
    """

    rate: float
    cpu: float
    loop: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    refused: int = 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run and side")
    options = parser.parse_args()
    print(section(options.runs, options.seconds))


def section(times: int = RUNS, seconds: float = SECONDS) -> str:
    """The comparison, as Markdown."""
    photo = Path(str(samples.PORTRAIT))
    started = time.monotonic()
    with running(photo.read_bytes()) as service:
        ready = time.monotonic() - started
        runs: dict[int, list[tuple[Run, Run]]] = {count: [] for count in CONCURRENCIES}
        for _ in range(times):
            for count, taken in runs.items():
                taken.append((floor(photo, seconds), over_http(service, photo, count, seconds)))
        held = " + ".join(f"{worker.memory_info().rss / 2**20:.0f}" for worker in service.workers())
    head = ["requests at a time", "floor, /s", "HTTP, /s", "share of the floor", "the same by CPU time", "p50 ms",
            "p95 ms", "p95 / p50", "CPU ms: floor", "HTTP adds", "event loop", "other than 2xx"]  # fmt: skip
    caption = f"Median of {times} runs, connected anew each time. First answer {ready:.1f} s after `bentoml serve`; "
    return (
        f"{table(head, [_row(count, taken) for count, taken in runs.items()])}\n\n{caption}the workers hold {held} MiB."
    )


def _row(count: int, taken: list[tuple[Run, Run]]) -> list[object]:
    bare, http = ([pair[side] for pair in taken] for side in (0, 1))
    share = median(b.rate / a.rate for a, b in taken)
    adds = median(b.cpu - a.cpu for a, b in taken)
    tail = median(run.p95 / run.p50 for run in http)
    by_cpu = median(a.cpu / b.cpu for a, b in taken)
    p50, p95 = median(run.p50 for run in http), median(run.p95 for run in http)
    loop = median(run.loop for run in http)
    rates = (f"{median(run.rate for run in side):.1f}" for side in (bare, http))
    return [count, *rates, f"**{share:.2f}**", f"{by_cpu:.2f}", f"{p50:.0f}", f"{p95:.0f}", f"{tail:.2f}",
            f"{median(run.cpu for run in bare):.1f}", f"{adds:+.1f}", f"{loop:.1f}",
            sum(run.refused for run in http)]  # fmt: skip


def over_http(service: Service, photo: Path, count: int, seconds: float) -> Run:
    """What `count` clients at a time get."""
    workers = service.workers()
    before = _spent(workers)
    clients = [sys.executable, Path(__file__).with_name("clients.py"), service.port, count, seconds, photo]
    seen = json.loads(subprocess.run([str(word) for word in clients], check=True, capture_output=True).stdout)
    cpu, loop = (after - then for after, then in zip(_spent(workers), before, strict=True))
    good = [1000 * taken for status, taken in seen if status // 100 == 2]  # noqa: PLR2004
    steps = quantiles(good, n=20)
    each = 1000 / len(seen)
    return Run(len(good) / seconds, cpu * each, loop * each, steps[9], steps[18], len(seen) - len(good))


def _spent(workers: list[psutil.Process]) -> tuple[float, float]:
    """CPU seconds of all threads so far, and of the main ones alone, in which the event loops are."""
    threads = [(thread.id == worker.pid, thread.user_time + thread.system_time)
               for worker in workers for thread in worker.threads()]  # fmt: skip
    return sum(seconds for _, seconds in threads), sum(seconds for main, seconds in threads if main)


def floor(photo: Path, seconds: float) -> Run:
    """What as many processes as the service has workers answer."""
    context = multiprocessing.get_context("spawn")
    result, together = context.Queue(), context.Barrier(FLOORS)
    work = (photo, seconds, result, together)
    processes = [context.Process(target=_answer, args=work, daemon=True) for _ in range(FLOORS)]
    for process in processes:
        process.start()
    # One that fails says why itself, and never answers.
    answers = [result.get(timeout=60 + seconds) for _ in processes]
    for process in processes:
        process.join()
    return Run(sum(rate for rate, _ in answers), sum(cpu for _, cpu in answers) / FLOORS)


def _answer(photo: Path, seconds: float, result: Any, together: Any) -> None:
    cv2.setNumThreads(1)
    mien, data = Mien(threads=1), photo.read_bytes()
    mien.predict(data)
    together.wait()
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        json.dumps(mien.predict(data).to_dict())
        count += 1
    result.put((count / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / count))


if __name__ == "__main__":
    main()
