"""Rows of a source of any size: their images wait on disk in parts, which an interrupted reading finds again."""

import hashlib
import mmap
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mien.data.raw import SCHEMA, Batch
from mien.errors import MienError, listed
from mien.files import write_file

Progress = Callable[[int, float], None]
"""Takes the rows that were read and their share of all."""

PART = 2**13
"""Rows of one part, and the most whose images have to be read again."""

ROWS, BYTES = 1024, 2**26
"""The most rows, and about as many bytes, that are held together."""

KEPT = pa.schema([SCHEMA.field("image"), SCHEMA.field("sha256")])


class Row(NamedTuple):
    """One face: what gives its image as it came, its label, the split that its source names, and where it stood."""

    image: Callable[[], bytes]
    emotion: int
    split: str | None
    origin: str


Part = tuple[str, Iterable[Row]]
"""Rows, and what identifies them: it changes with all that could change their images."""


class BrokenImageError(Exception):
    """An image cannot be read; the message names it. The others are read all the same."""


@dataclass(frozen=True)
class Kept:
    """All rows of a source, images and their SHA-256 in memory maps; `forget` lets go of the pages that were read."""

    table: pa.Table
    forget: Callable[[], object]
    emotions: list[int]
    given: list[str | None]
    origins: list[str]

    @property
    def hashes(self) -> list[str]:
        """The SHA-256 of each image."""
        found: list[str] = self.table["sha256"].to_pylist()
        return found

    def batch(self, name: str, splits: Sequence[str], notes: Sequence[str]) -> Batch:
        """Raw rows of these and their splits."""
        image, sha256 = self.table.columns
        table = pa.table([image, self.emotions, splits, self.origins, sha256], SCHEMA)
        return Batch(name, table, tuple(notes), self.forget).renamed(name)


def numbered(rows: Iterator[Row], files: Iterable[Path], *options: object) -> Iterator[Part]:
    """Parts of rows that are read from `files` in order, and in that way for these `options` only."""
    source = identity(files, PART, *options)
    for number, first in enumerate(rows):
        yield f"{source}-{number:05d}", chain([first], islice(rows, PART - 1))


def identity(files: Iterable[Path], *options: object) -> str:
    """A hash that changes with the options and with the files' places, sizes and times."""
    sha = hashlib.sha256(repr(options).encode())
    for file in files:
        with suppress(OSError):
            status = file.stat()
            sha.update(f"\n{file.absolute()} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape"))
    return sha.hexdigest()


def place(kept: Path | None) -> AbstractContextManager[Path | str]:
    """The folder for parts; a temporary one where none is given."""
    return nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="mien-fetch-")


def keep(root: Path, parts: Iterable[Part], kept: Path | None) -> Kept:
    """Read the parts of `root`, but not the images of those in the folder `kept`, and keep each there.

    Raises MienError that names the first broken images; their parts are not kept.
    """
    emotions, given, origins = list[int](), list[str | None](), list[str]()
    files, broken = list[Path](), list[str]()

    def images(rows: Iterable[Row]) -> Iterator[Callable[[], bytes]]:
        for row in rows:
            emotions.append(row.emotion)
            given.append(row.split)
            origins.append(row.origin)
            yield row.image

    with place(kept) as folder:
        for unfinished in Path(folder).glob(".*.arrow"):
            unfinished.unlink()
        for name, rows in parts:
            files.append(Path(folder, f"{name}.arrow"))
            if files[-1].exists():
                deque(images(rows), maxlen=0)
            else:
                broken += _write(files[-1], images(rows))
        if broken:
            raise MienError(
                f"{len(broken)} of {len(origins)} images in {root} cannot be read: {listed(broken)}. "
                "Replace or delete them, then run this again."
            )
        table, forget = _mapped(files)
    return Kept(table, forget, emotions, given, origins)


def _write(path: Path, images: Iterable[Callable[[], bytes]]) -> list[str]:
    """Write one part, or return which of its images are broken."""
    broken = list[str]()

    def whole() -> Iterator[bytes]:
        for image in images:
            try:
                yield image()
            except BrokenImageError as error:
                broken.append(str(error))

    def write(target: Path) -> None:
        with target.open("wb") as file:
            with pa.ipc.new_file(file, KEPT) as writer:
                for some in _portions(whole()):
                    hashes = [hashlib.sha256(image).hexdigest() for image in some]
                    writer.write_batch(pa.record_batch([some, hashes], schema=KEPT))
            file.flush()
            # Else a power cut could leave the file's name without its content.
            os.fsync(file.fileno())
        if broken:
            raise BrokenImageError

    with suppress(BrokenImageError):
        write_file(path, write)
    return broken


def _portions(images: Iterable[bytes]) -> Iterator[list[bytes]]:
    some, size = list[bytes](), 0
    for image in images:
        some.append(image)
        size += len(image)
        if len(some) == ROWS or size > BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _mapped(files: Iterable[Path]) -> tuple[pa.Table, Callable[[], object]]:
    """The files' tables, which stay when the files are removed, and what lets go of their pages."""
    maps = list[mmap.mmap]()
    for path in files:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def forget() -> None:
        for part in maps:
            part.madvise(mmap.MADV_DONTNEED)

    tables = [pa.ipc.open_file(pa.py_buffer(part)).read_all() for part in maps]
    return pa.concat_tables([KEPT.empty_table(), *tables]), forget
