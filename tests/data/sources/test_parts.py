"""A long reading of class folders that is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.fetch import read_so_far
from mien.data import sources
from mien.data.raw import Batch
from mien.data.sources import parts
from mien.errors import MienError

KILLED = """
import os, signal, sys
from pathlib import Path
from mien.data import sources
from mien.data.sources import parts

parts.PART, parts.ROWS = 10, 5

def progress(rows, share):
    if rows == 25:  # half of the third part
        os.kill(os.getpid(), signal.SIGKILL)

sources.folders(Path(sys.argv[1]), progress=progress, kept=Path(sys.argv[2]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Thirty-two files of noise in two class folders."""
    root = tmp_path / "faces"
    for number in range(32):
        path = root / ("happy" if number < 16 else "sad") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8))
    return root


def read(root: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    monkeypatch.setattr(parts, "PART", 10)
    return sources.folders(root, kept=kept)


def spoil(path: Path) -> None:
    """Make a file one that cannot be decoded, of the same size and time."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_reading_that_was_killed_carries_on_behind_its_finished_parts(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kept = sources.folders(tree), tmp_path / "kept"
    done = subprocess.run([sys.executable, "-c", KILLED, str(tree), str(kept)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(kept.glob("[!.]*"))) == 2
    assert len(list(kept.glob(".*"))) == 1, "half of the third part"
    for number in range(16):
        spoil(tree / f"happy/{number:02d}.png")
    resumed = read(tree, kept, monkeypatch)
    assert resumed.table.equals(whole.table)
    assert len(list(kept.iterdir())) == 4, "what was half-written is gone"


def test_a_part_whose_files_changed_is_read_again(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tree, tmp_path / "kept", monkeypatch)
    (tree / "happy/03.png").write_bytes((tree / "sad/20.png").read_bytes())
    after = read(tree, tmp_path / "kept", monkeypatch)
    hashes = after.table["sha256"].to_pylist()
    assert hashes[3] == hashes[20]
    assert sum(a != b for a, b in zip(hashes, before.table["sha256"].to_pylist(), strict=True)) == 1
    assert after.table.equals(sources.folders(tree).table)


def test_a_part_with_a_broken_image_is_not_kept(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, image = sources.folders(tree), (tree / "sad/31.png").read_bytes()
    spoil(tree / "sad/31.png")
    with pytest.raises(MienError, match=r"1 of 32 images .* cannot be read: sad/31.png"):
        read(tree, tmp_path / "kept", monkeypatch)
    assert len(list((tmp_path / "kept").iterdir())) == 3
    spoil(tree / "happy/00.png")
    (tree / "sad/31.png").write_bytes(image)
    assert read(tree, tmp_path / "kept", monkeypatch).table.equals(whole.table)


def begin(raw: Path, error: BaseException | None = None, part: bool = False) -> Path:
    """Read for `raw`, perhaps a part of it, until an error or the end."""
    with read_so_far(raw) as kept:
        if part:
            (kept / "part").touch()
        if error:
            raise error
    return kept


def test_what_was_read_is_left_behind_only_by_an_interruption(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with pytest.raises(KeyboardInterrupt):
        begin(raw, KeyboardInterrupt(), part=True)
    assert (tmp_path / ".raw-fetching/part").exists()
    assert not begin(raw).exists()
    with pytest.raises(MienError, match="no folder"):
        begin(raw, MienError("no folder"))
    assert list(tmp_path.iterdir()) == []


def test_two_readings_for_one_folder_exclude_each_other(tmp_path: Path) -> None:
    with read_so_far(tmp_path / "raw"), pytest.raises(MienError, match="Another `mien fetch` is reading for"):
        begin(tmp_path / "raw")
