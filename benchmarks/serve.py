"""All that serving is measured by, in one run, as Markdown: `make bench-serve`."""

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import against_fer
import classification
import detection
import growth
import service

SECTIONS: dict[str, Callable[[], str]] = {
    "Photo to answer, in process": against_fer.section,
    "Naming faces, one thread": classification.section,
    "Finding faces, one thread": detection.section,
    "Over HTTP, two workers": service.section,
    "Starting, and how cost grows": growth.section,
}


def main() -> None:
    """Print every table as soon as it is there; one that cannot be made is told and left out."""
    print(f"Measured on {processor()}; load before: {os.getloadavg()[0]:.1f}.")
    failed = False
    for title, section in SECTIONS.items():
        print(f"\n### {title}\n", flush=True)
        try:
            print(section(), flush=True)
        # What fails here is a library or program of others, and the tables that follow do not need it.
        except Exception as error:
            failed = True
            print(f"Not measured: {type(error).__name__}: {error}", flush=True)
    sys.exit(failed)


def processor() -> str:
    """The processor's name and number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
