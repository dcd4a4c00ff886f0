"""A long reading that is interrupted."""

import os
import signal
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.cli.fetch import read_so_far
from mien.data import sources
from mien.data.raw import Batch
from mien.data.sources import parts
from mien.errors import MienError

KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from mien.data import sources
from mien.data.sources import parts

parts.PART = 10
for name in ("parts", "challenge", "parquet", "webdataset"):
    importlib.import_module(f"mien.data.sources.{name}").ROWS = 5

def progress(rows, share):
    if rows == 25:  # half of the third part
        os.kill(os.getpid(), signal.SIGKILL)

source, path, kept = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
getattr(sources, source)([path] if source == "webdataset" else path, progress=progress, kept=kept)
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


def packed(source: str, tree: Path) -> Path:
    """The thirty-two faces in another form."""
    files, target = sorted(tree.rglob("*.png")), tree.with_name(f"packed-{source}")
    if source == "folders":
        return tree
    if source == "csv":
        pixels = [" ".join(map(str, np.asarray(Image.open(file)).ravel())) for file in files]
        target.write_text("emotion,pixels\n" + "".join(f"3,{text}\n" for text in pixels))
    elif source == "parquet":
        target = target.with_suffix(".parquet")
        pq.write_table(pa.table({"image": [file.read_bytes() for file in files], "label": [3] * 32}), target)
    else:
        target = target.with_suffix(".tar")
        with tarfile.open(target, "w") as tar:
            for file in files:
                tar.add(file, file.name)
                (label := tree.with_name("label")).write_text("3")
                tar.add(label, f"{file.stem}.cls")
    return target


@pytest.mark.parametrize("source", ["folders", "csv", "parquet", "webdataset"])
def test_a_reading_that_was_killed_carries_on_behind_its_finished_parts(
    source: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = packed(source, tree), tmp_path / "kept"
    done = subprocess.run([sys.executable, "-c", KILLED, source, str(path), str(kept)], check=False)
    assert done.returncode == -signal.SIGKILL
    finished = {file: file.stat().st_mtime_ns for file in kept.glob("[!.]*")}
    assert len(finished) == 2
    assert len(list(kept.glob(".*"))) == 1, "half of the third part"
    monkeypatch.setattr(parts, "PART", 10)
    read: Any = partial(getattr(sources, source), [path] if source == "webdataset" else path)
    assert read(kept=kept).table.equals(read().table)
    assert len(list(kept.iterdir())) == 4, "what was half-written is gone"
    assert all(file.stat().st_mtime_ns == time for file, time in finished.items())


def test_a_changed_table_is_read_anew(tree: Path, tmp_path: Path) -> None:
    path, kept = packed("csv", tree), tmp_path / "kept"
    sources.csv(path, kept=kept)
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    assert sources.csv(path, kept=kept).table.equals(sources.csv(path).table)
    assert len(list(kept.iterdir())) == 2


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
