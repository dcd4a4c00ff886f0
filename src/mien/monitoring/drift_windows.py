"""Counts over windows of time on disk: lines of JSON that may be added up, one file a day and process."""

import errno
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mien.errors import MienError
from mien.files import read_json
from mien.monitoring import histograms
from mien.monitoring.histograms import Counts

PROFILE_FILE = "training_profile.json"
"""Counts of the training's faces and of the champion's answers to validation faces, in the champion's folder."""

KEPT_DAYS = 90
"""Files of earlier days are removed by whoever writes: what a service keeps has an end."""

NAME = re.compile(r"(\d{4}-\d\d-\d\d)-.+\.jsonl")


@dataclass(frozen=True)
class Window:
    """What one process counted from `start` (seconds since 1970) on, for at most `minutes`, with version `model`."""

    start: int
    minutes: int
    model: str
    counts: Counts


def append(folder: Path, window: Window) -> None:
    """Add a line to this process's file of the day. Raises OSError, and then nothing is added.

    A line is added by one write to a file that no other process writes, so that readers and crashes meet whole lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _append(folder / f"{_day(window.start)}-{_process()}.jsonl", _line(window).encode())


def remove_old(folder: Path, now: float) -> None:
    """Remove the files of days that are over by more than KEPT_DAYS."""
    oldest = _day(now - timedelta(days=KEPT_DAYS).total_seconds())
    for path in folder.glob("*.jsonl"):
        found = NAME.fullmatch(path.name)
        if found and found[1] < oldest:
            path.unlink(missing_ok=True)


def read(folders: Sequence[Path]) -> tuple[list[Window], int]:
    """All windows in the folders, in order of time, and how many lines could not be used.

    Raises MienError for a folder that is none, and where there is no window at all.
    """
    found, broken = list[Window](), 0
    for folder in folders:
        if not folder.is_dir():
            raise MienError(f"{folder} is no folder. Pass the one that MIEN_DRIFT_FOLDER names for the service.")
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                window = _parse(line)
                found += [window] if window else []
                broken += window is None
    if not found:
        named = ", ".join(map(str, folders))
        unusable = f" ({broken} lines are none of this version's)" if broken else ""
        raise MienError(
            f"{named} holds no windows{unusable}. The service writes one at the end of each hour and when it is "
            "stopped, if MIEN_DRIFT_FOLDER names the folder."
        )
    return sorted(found, key=lambda window: window.start), broken


def total(windows: Iterable[Window]) -> Counts:
    """The windows added up."""
    counts = histograms.empty()
    for window in windows:
        histograms.add(counts, window.counts)
    return counts


def read_profile(folder: Path) -> dict[str, Any]:
    """The training profile in a champion's folder. Raises MienError where there is none that can be used."""
    path, mend = folder / PROFILE_FILE, "dvc repro promote package"
    if not path.exists():
        raise MienError(
            f"The champion in {folder} carries no {PROFILE_FILE}. Make it with `{mend}`, or compare with windows of a "
            "healthy time: --baseline FOLDER."
        )
    profile = read_json(path, made_by=mend)
    if profile.get("format") != histograms.FORMAT or not histograms.fits(profile.get("counts")):
        raise MienError(f"{path} has other bins than this version of mien. Make it anew with `{mend}`.")
    return profile


def _append(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        if os.write(file, data) < len(data):
            # A disk that fills up takes the beginning of a line, and says so only at the next write.
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def _line(window: Window) -> str:
    start = datetime.fromtimestamp(window.start, UTC).isoformat()
    content = {"format": histograms.FORMAT, "start": start, "minutes": window.minutes, "model": window.model}
    return json.dumps({**content, "counts": window.counts}, separators=(",", ":")) + "\n"


def _parse(line: str) -> Window | None:
    try:
        content: dict[str, Any] = json.loads(line)
        start = int(datetime.fromisoformat(content["start"]).timestamp())
        usable = content["format"] == histograms.FORMAT and histograms.fits(content["counts"])
        window = Window(start, int(content["minutes"]), str(content["model"]), content["counts"])
    except (ValueError, KeyError, TypeError):
        return None
    return window if usable else None


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _process() -> str:
    # Containers that share a folder may all be process 1.
    host = re.sub(r"[^\w.-]", "_", platform.node()) or "unknown"
    return f"{host}-{os.getpid()}"
