"""YuNet on first use: its file is fetched once, and a machine that cannot have it hears so once a day."""

import math
import os
import sys
import time
from pathlib import Path

from mien.errors import MienError
from mien.inference.detector_file import YUNET_VARIABLE, cached, fetch, yunet_file

OFFLINE_VARIABLE = "MIEN_OFFLINE"
SECONDS = 5.0
"""How long a first use may wait for the file."""
POLL = 0.05
"""How often those look who wait for what another process fetches."""
DAY = 24 * 3600.0
TRIED, HINTED = "yunet.tried", "yunet.hinted"
"""Empty files beside the fetched one: the time of each says when a fetch was last tried, or its failure told.

A try that is over is marked as SECONDS older than it is: nobody waits for it.
"""

HINT = (
    "Faces are found with OpenCV's Haar cascade, which misses more of them than YuNet: {reason}. "
    f"Fetch it with `mien fetch detector` (--from FILE without a network), or name it in {YUNET_VARIABLE}."
)


def provided(folder: Path | None = None) -> Path | None:
    """YuNet's file where it is at hand, else fetched now, else None and, once a day, one line on stderr why.

    Nothing is fetched where MIEN_OFFLINE is set, nor within a day of a try that failed: no start waits twice.
    """
    if model := yunet_file(folder):
        return model
    if offline():
        _hint(f"{OFFLINE_VARIABLE} is set, and its file is not at hand")
        return None
    if _age(TRIED) < DAY:
        return _awaited(folder)
    # Marked before the try: one that is interrupted, or goes on in another process, is not repeated either.
    if not _mark(TRIED):
        _hint(f"its file cannot be kept in {cached().parent}")
        return None
    try:
        model = fetch(seconds=SECONDS)
    except MienError as error:
        _hint(str(error).split(". ")[0])
        return None
    finally:
        _mark(TRIED, ago=SECONDS)
    (model.parent / TRIED).unlink(missing_ok=True)
    _say(f"Fetched YuNet, which finds faces from now on, to {model}.")
    return model


def offline() -> bool:
    """Whether the environment forbids to fetch anything unasked."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in {"", "0", "false", "no"}


def _awaited(folder: Path | None) -> Path | None:
    """The file that another process may be fetching now."""
    while _age(TRIED) < SECONDS and not yunet_file(folder):
        time.sleep(POLL)
    model = yunet_file(folder)
    if model is None:
        _hint("its file could not be fetched lately")
    return model


def _hint(reason: str) -> None:
    if _age(HINTED) >= DAY:
        _say(HINT.format(reason=reason))
        _mark(HINTED)


def _say(line: str) -> None:
    if sys.stderr:  # which programs without a console lack
        sys.stderr.write(f"{line}\n")


def _age(name: str) -> float:
    """Seconds since a mark was set; one that is not there, or set by a clock that went back since, is old."""
    try:
        age = time.time() - cached().with_name(name).stat().st_mtime
    except OSError:
        return math.inf
    return age if age >= 0 else math.inf


def _mark(name: str, ago: float = 0.0) -> bool:
    """Set a mark to now, or some seconds `ago`; whether that could be done."""
    mark, then = cached().with_name(name), time.time() - ago
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.utime(mark, (then, then))
    except OSError:
        return False
    return True
