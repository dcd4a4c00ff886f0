"""`mien predict` on many photos: photos a second on one core and on all, in turns, and memory as their number grows."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import samples
from timing import table

COUNTS, ROUNDS = (1_000, 10_000), 5
COMMAND = (sys.executable, "-m", "mien", "predict")
# A process counts what its parent held when it was started, so a small one starts the command.
LAUNCHER = """
import os, resource, subprocess, sys, time
os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
started = time.perf_counter()
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=COUNTS[0], help="photos of 640 px for the comparison of cores")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--memory", action="store_true", help=f"also the memory for {COUNTS} photos")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(speeds(Path(folder), chosen.photos, chosen.rounds))
        if chosen.memory:
            print(f"\n{memory(Path(folder))}")


def speeds(folder: Path, photos: int, rounds: int) -> str:
    """The start of the command included, the median of the rounds."""
    place, cores = filled(folder, photos), sorted(os.sched_getaffinity(0))
    runs = [(run(place, cores[:1]), run(place, cores)) for _ in range(rounds)]
    rates = [[photos / wall for wall, _, _ in side] for side in zip(*runs, strict=True)]
    used = [[cpu / wall for wall, cpu, _ in side] for side in zip(*runs, strict=True)]
    ratio = median(many / one for one, many in zip(*rates, strict=True))
    head = [f"{photos:,} photos of 640 px", "photos/s", "cores kept busy", "ratio"]
    names = ("one core", f"{len(cores)} cores")
    rows = [
        [name, f"{median(rate):.0f}", f"{median(busy):.2f}"]
        for name, rate, busy in zip(names, rates, used, strict=True)
    ]
    return table(head, [[*rows[0], "1"], [*rows[1], f"**{ratio:.2f}×**"]])


def memory(folder: Path) -> str:
    """The most that the command held."""
    cores = sorted(os.sched_getaffinity(0))
    held = [run(filled(folder, count), cores)[2] for count in COUNTS]
    return table(
        ["photos", *(f"{count:,}" for count in COUNTS)], [["most memory, MiB", *(f"{mib:.0f}" for mib in held)]]
    )


def filled(folder: Path, count: int) -> Path:
    """A folder with so many photos, each a link to one of the samples."""
    if not (sources := folder / "samples").exists():
        sources.mkdir()
        samples.write(sources)
    known, place = sorted(sources.iterdir()), folder / str(count)
    place.mkdir(exist_ok=True)
    for number in range(count):
        target = place / f"{number:06}.jpg"
        if not target.exists():
            os.link(known[number % len(known)], target)
    return place


def run(place: Path, cores: list[int]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the most MiB that the command takes on these cores."""
    answers = place.with_suffix(".jsonl")
    words = [",".join(map(str, cores)), *COMMAND, "--jsonl", str(answers), str(place)]
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *words], capture_output=True, text=True, check=True)
    answers.unlink()
    wall, cpu, held = map(float, done.stdout.split())
    return wall, cpu, held


if __name__ == "__main__":
    main()
