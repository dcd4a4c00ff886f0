"""YuNet on first use: its file is fetched once, and a machine that cannot have it hears so once a day."""

import os
import sys
import time
from pathlib import Path

from mien.errors import MienError
from mien.inference.detector_file import YUNET_VARIABLE, cached, fetch, yunet_file

OFFLINE_VARIABLE = "MIEN_OFFLINE"
SECONDS = 5.0
"""How long a first use may wait for the file."""
DAY = 24 * 3600.0
TRIED, HINTED = "yunet.tried", "yunet.hinted"
"""Empty files beside the fetched one: the time of each says when a fetch was last tried, or its failure told."""

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
    if _recent(TRIED):
        return None
    # Marked before the try: one that is interrupted, or goes on in another process, is not repeated either.
    if not _mark(TRIED):
        _hint(f"its file cannot be kept in {cached().parent}")
        return None
    try:
        model = fetch(seconds=SECONDS)
    except MienError as error:
        _hint(str(error).split(". ")[0])
        return None
    (model.parent / TRIED).unlink(missing_ok=True)
    _say(f"Fetched YuNet, which finds faces from now on, to {model}.")
    return model


def offline() -> bool:
    """Whether the environment forbids to fetch anything unasked."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in {"", "0", "false", "no"}


def _hint(reason: str) -> None:
    if not _recent(HINTED):
        _say(HINT.format(reason=reason))
        _mark(HINTED)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _recent(name: str) -> bool:
    try:
        age = time.time() - cached().with_name(name).stat().st_mtime
    except OSError:
        return False
    return 0 <= age < DAY  # a clock that went back counts as long ago


def _mark(name: str) -> bool:
    """Set a mark to now; whether that could be done."""
    try:
        cached().parent.mkdir(parents=True, exist_ok=True)
        cached().with_name(name).touch()
    except OSError:
        return False
    return True
