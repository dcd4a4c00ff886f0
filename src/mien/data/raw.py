"""Raw rows on disk: one Parquet file per fetched batch, images as they came."""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE, SPLITS
from mien.errors import MienError
from mien.files import write_file

SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("emotion", pa.int8()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("sha256", pa.string()),
    ]
)

GROUP = 4096
"""Rows that are written together."""

KEYS = ["emotion", "split", "origin", "sha256"]
"""All but the images."""


@dataclass(frozen=True)
class Batch:
    """Raw rows of one source, in its order, under the data set's name; `notes` are messages to the user.

    `forget` lets go of images that were read from a memory map, which would count as this process's memory.
    """

    name: str
    table: pa.Table
    notes: tuple[str, ...] = ()
    forget: Callable[[], object] = lambda: None

    def renamed(self, name: str) -> "Batch":
        """The same rows as part of the data set `name`."""
        return replace(self, name=name, table=self.table.replace_schema_metadata({"dataset": name}))

    def counts(self) -> dict[str, int]:
        """Count the rows of each split."""
        found = self.table["split"].to_pylist()
        return {split: found.count(split) for split in SPLITS}


def batch(
    name: str,
    images: Sequence[bytes],
    emotions: Sequence[int],
    splits: Sequence[str],
    origins: Sequence[str],
    notes: Sequence[str] = (),
) -> Batch:
    """Make raw rows from columns of equal length; the hashes are taken here."""
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    table = pa.table([images, emotions, splits, origins, hashes], schema=SCHEMA)
    return Batch(name, table, tuple(notes)).renamed(name)


def pgm(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a gray face `(48, 48)` or `(2304,)` as binary PGM, the smallest lossless form that every decoder reads."""
    return b"P5\n%d %d\n255\n" % (FACE_SIZE, FACE_SIZE) + pixels.tobytes()


def write(rows: Batch, folder: Path, append: bool = False, force: bool = False) -> Path:
    """Write `rows` to `folder`, byte for byte the same for the same rows, and return the file.

    Rows that are there already are left alone; other data is an error unless `append` adds one more file or `force`
    replaces all files.
    """
    with _alone(folder):
        for unfinished in folder.glob(".*.parquet"):
            unfinished.unlink()  # left by a killed fetch: no other is running while this one holds the lock
        files = listed(folder)
        if append and files:
            rows = _checked(rows, folder, files)
        # The hashes stand for the images, which may be more than the memory holds.
        elif len(files) == 1 and read(files[0], KEYS).equals(rows.table.select(KEYS), check_metadata=True):
            return files[0]
        elif files and not force:
            raise MienError(
                f"{folder} holds other data already ({', '.join(file.name for file in files)}). "
                "Pass --append to add to it, --force to replace it, or --raw DIR to write elsewhere."
            )
        number = int(files[-1].name[:3]) + 1 if append and files else 0
        path = folder / f"{number:03d}_{slug(rows.name)}.parquet"
        write_file(path, lambda target: _write(rows, target))
        for old in files:
            if not append and old != path:
                old.unlink()
    return path


def _write(rows: Batch, path: Path) -> None:
    with pq.ParquetWriter(path, rows.table.schema, compression="zstd") as writer:
        for start in range(0, rows.table.num_rows, GROUP):
            writer.write_table(rows.table.slice(start, GROUP))
            rows.forget()


def listed(folder: Path) -> list[Path]:
    """List the raw files of `folder` in order, passing over those that are still being written."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one raw file, its data set's name in the schema's metadata; a foreign file is an error."""
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:
        raise MienError(f"{path} is no raw data ({error}). Remove it, then fetch anew.") from None
    _name(path, table.schema)
    return table


def head(path: Path) -> tuple[str, int]:
    """Read the data set's name and the number of rows of one raw file, without its rows."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise MienError(f"{path} is no raw data ({error}). Remove it, then fetch anew.") from None
    return _name(path, file.schema_arrow), file.metadata.num_rows


def slug(name: str) -> str:
    """Make a name for files and data sets: `CK+48` is ck48, `my faces` is my_faces."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("+", "")).strip("_") or "faces"


def _name(path: Path, schema: pa.Schema) -> str:
    name = str((schema.metadata or {}).get(b"dataset", b""), "utf-8")
    if not name or not set(SCHEMA.names) >= set(schema.names) or not re.match(r"\d{3}_", path.name):
        raise MienError(f"{path} was not written by `mien fetch`. Move it out of {path.parent}.")
    return name


def _checked(rows: Batch, folder: Path, files: Sequence[Path]) -> Batch:
    """`rows` fit to be appended: none there already, same data set, origins unique over all files."""
    tables = [read(file, ["sha256", "emotion", "split", "origin"]) for file in files]
    name = head(files[0])[0]
    if rows.name != name:
        raise MienError(
            f"{folder} holds {name!r}, the new rows are {rows.name!r}. Pass --name {name!r} if they belong to it, "
            "or --raw DIR to keep them apart."
        )
    known = {key: origin for table in tables for key, origin in _keyed(table)}
    # A known image under another label or split is a new row; `mien validate` checks for such conflicts and leaks.
    twice = [f"{origin} (there as {known[key]})" for key, origin in _keyed(rows.table) if key in known]
    if twice:
        raise MienError(
            f"{len(twice)} of {rows.table.num_rows} rows are in {folder} already, the first being "
            f"{', '.join(twice[:3])}. Nothing was added; remove them from the batch."
        )
    origins = rows.table["origin"].to_pylist()
    if set(origins).isdisjoint(known.values()):
        return rows
    marked = pa.array([f"{len(files)}/{origin}" for origin in origins], pa.string())
    return replace(rows, table=rows.table.set_column(3, SCHEMA.field("origin"), marked))


def _keyed(table: pa.Table) -> Iterator[tuple[tuple[str, int, str], str]]:
    columns = (table[name].to_pylist() for name in ("sha256", "emotion", "split", "origin"))
    for sha256, emotion, split, origin in zip(*columns, strict=True):
        yield (sha256, emotion, split), origin


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold `folder` for one writer; the lock dies with its process, so none is ever left behind."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise MienError(f"Cannot write to {folder}: {error.strerror}. Mend its rights or pass --raw DIR.") from None
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MienError(f"Another `mien fetch` is writing to {folder}. Wait for its end, then try again.") from None
