"""mien.monitoring.drift_windows: lines that several processes append add up, and broken ones are counted out."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.monitoring import drift_windows, histograms
from mien.monitoring.drift_windows import PROFILE_FILE, Window

NOON = 1_790_078_400  # 2026-09-22 12:00 UTC


def counts(happy: int) -> histograms.Counts:
    made = histograms.empty()
    made["emotion"][3] = happy
    return made


def test_two_processes_add_up_and_no_line_is_lost(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mien.monitoring import histograms, drift_windows as windows;"
        "from mien.monitoring.drift_windows import Window\n"
        "for n in range(200):\n"
        "    made = histograms.empty(); made['emotion'][3] = 1\n"
        "    windows.append(Path(sys.argv[1]), Window(1790078400 + 3600 * (n % 30), 60, '1', made))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in "12"]
    assert [process.wait(60) for process in both] == [0, 0]
    found, broken = drift_windows.read([tmp_path])
    assert (len(found), broken) == (400, 0)
    assert drift_windows.total(found)["emotion"][3] == 400
    assert len({path.name.split("-", 3)[3] for path in tmp_path.iterdir()}) == 2, "a file of its own for each process"


def test_lines_that_were_cut_off_or_come_from_elsewhere_are_counted_and_left_out(tmp_path: Path) -> None:
    drift_windows.append(tmp_path, Window(NOON, 60, "1", counts(5)))
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    other = json.loads(whole) | {"format": histograms.FORMAT + 1}
    path.write_text(f"{whole}{json.dumps(other)}\n[]\n{whole[:100]}")
    found, broken = drift_windows.read([tmp_path])
    assert ([window.counts["emotion"][3] for window in found], broken) == ([5], 3)
    assert (found[0].start, found[0].minutes, found[0].model) == (NOON, 60, "1")


def test_a_disk_that_fills_up_within_a_line_leaves_the_lines_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift_windows.append(tmp_path, Window(NOON, 60, "1", counts(5)))
    (path,) = tmp_path.iterdir()
    before, write = path.read_bytes(), os.write

    def half(file: int, data: bytes) -> int:
        return write(file, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        drift_windows.append(tmp_path, Window(NOON + 3600, 60, "1", counts(5)))
    assert path.read_bytes() == before


def test_what_is_older_than_it_is_kept_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("2026-06-01-host-1.jsonl", "2026-09-01-host-1.jsonl", "notes.jsonl", "2026-06-01-host-1.txt"):
        (tmp_path / name).touch()
    drift_windows.remove_old(tmp_path, NOON)
    assert {path.name for path in tmp_path.iterdir()} == {"2026-09-01-host-1.jsonl", "notes.jsonl",
                                                          "2026-06-01-host-1.txt"}  # fmt: skip


def test_a_folder_without_windows_says_how_they_come_about(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="MIEN_DRIFT_FOLDER"):
        drift_windows.read([tmp_path])
    with pytest.raises(MienError, match="is no folder"):
        drift_windows.read([tmp_path / "nowhere"])
    (tmp_path / "2026-09-22-host-1.jsonl").write_text("{}\n")
    with pytest.raises(MienError, match="1 lines are none of this version's"):
        drift_windows.read([tmp_path])


@pytest.mark.parametrize(
    ("profile", "message"),
    [(None, "carries no"), ({"format": 0}, "other bins"), ({"format": histograms.FORMAT, "counts": {}}, "other bins")],
)
def test_a_champion_without_a_usable_profile_says_how_to_make_one(
    tmp_path: Path, profile: dict[str, Any] | None, message: str
) -> None:
    if profile is not None:
        (tmp_path / PROFILE_FILE).write_text(json.dumps(profile))
    with pytest.raises(MienError, match=rf"{message}.*dvc repro promote package"):
        drift_windows.read_profile(tmp_path)
