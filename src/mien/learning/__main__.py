"""`python -m mien.learning JOBS`: train the jobs of a folder with NumPy, Keras, PyYAML and one Keras backend."""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mien.errors import MienError

DESCRIPTION = (
    "Train what is missing in a folder of jobs. Every epoch is kept: repeat the command after a kill. Students wait "
    "for their teachers. Any number of these commands may share a folder."
)

BACKENDS = ("tensorflow", "jax", "torch")
"""Keras' backends, which are named like their modules."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mien.learning", description=DESCRIPTION)
    parser.add_argument("jobs", type=Path, help="folder that `mien jobs write` wrote")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="train these alone")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="trainings side by side on this machine")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop in time, with every epoch kept")
    parser.add_argument("--float16", action="store_true", help="keep weights in half the bytes")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes
    try:
        if options.parallel > 1:
            return _side_by_side(options)
        return _train(options, until)
    except MienError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _train(options: argparse.Namespace, until: float) -> int:
    from mien.learning import jobs

    known = {job.name for job in jobs.read_all(options.jobs)}
    if unknown := set(options.only) - known:
        raise MienError(f"{options.jobs} has no job {', '.join(sorted(unknown))}, but {', '.join(sorted(known))}.")
    os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or _backend()
    from mien.learning.training import hardware

    hardware.start()
    from mien.learning.worker import Worker

    return int(Worker(options.jobs, frozenset(options.only), until, options.float16).run() > 0)


def _backend() -> str:
    """The first Keras backend that is installed."""
    for name in BACKENDS:
        if importlib.util.find_spec(name):
            return name
    raise MienError(f"Keras needs a backend: install one of {', '.join(BACKENDS)}.")


def _side_by_side(options: argparse.Namespace) -> int:
    """As many workers as wanted, each with its share of the GPU's memory; they claim jobs one by one."""
    command = [sys.executable, "-m", "mien.learning", str(options.jobs), "--minutes", str(options.minutes)]
    command += ["--float16"] if options.float16 else []
    command += ["--only", *options.only] if options.only else []
    share = f"{0.92 / options.parallel:.3f}"
    shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": share, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    workers = [subprocess.Popen(command, env={**os.environ, **shared}) for _ in range(options.parallel)]

    def forward(number: int, _: FrameType | None) -> None:
        for worker in workers:
            worker.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    return max(abs(worker.wait()) for worker in workers)


if __name__ == "__main__":
    sys.exit(main())
