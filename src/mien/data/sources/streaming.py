"""Sources larger than memory: their images wait in files whose memory maps are part of the batch."""

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from mien.data.raw import SCHEMA, Batch, slug
from mien.data.sources.names import SKIP, SPLIT_NAMES, SYNONYMS
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS
from mien.errors import MienError

Progress = Callable[[int, float], None]
"""Takes the rows that were read and their share of all."""

ROWS, BYTES = 1024, 2**26
"""The most rows, and about as many bytes, that are held together."""

KEPT = pa.schema([SCHEMA.field("image"), SCHEMA.field("sha256")])


class Row(NamedTuple):
    """One face: its image as it came, its label, the split that its source names, if any, and where it stood."""

    image: bytes
    emotion: int
    split: str | None
    origin: str


@dataclass
class Labels:
    """What stands for each emotion: its number as in FER-2013, its names, and what `extra` adds; `skipped` counts."""

    extra: Mapping[str, str] = field(default_factory=dict)
    skipped: int = 0

    def number(self, text: str, origin: str) -> int | None:
        """The label, or None for one that is left out; an unknown one raises MienError naming its row."""
        name = text.strip().lower()
        emotion = self.extra.get(name) or SYNONYMS.get(name)
        if emotion == SKIP:
            self.skipped += 1
            return None
        if emotion:
            return EMOTIONS.index(SYNONYMS[emotion])
        if name.isdecimal() and int(name) < len(EMOTIONS):
            return int(name)
        known = ", ".join(f"{label} {name}" for label, name in enumerate(EMOTIONS))
        raise MienError(
            f"{origin}: label {text[:20]!r}, expected one of {known}; map it: --label-map {name[:20]}=skip."
        )


@dataclass(frozen=True)
class Images:
    """Images and their SHA-256 in memory maps; `forget` lets go of the pages that were read."""

    table: pa.Table
    forget: Callable[[], object]

    @classmethod
    def mapped(cls, files: Iterable[IO[bytes]]) -> "Images":
        """Those in files that `write_images` filled, which may be removed afterwards."""
        maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
        tables = [pa.ipc.open_file(pa.py_buffer(part)).read_all() for part in maps]

        def forget() -> None:
            for part in maps:
                part.madvise(mmap.MADV_DONTNEED)

        return cls(pa.concat_tables([KEPT.empty_table(), *tables]), forget)

    @property
    def hashes(self) -> list[str]:
        """The SHA-256 of each image."""
        found: list[str] = self.table["sha256"].to_pylist()
        return found

    def batch(
        self, name: str, emotions: Sequence[int], splits: Sequence[str], origins: Sequence[str], notes: Sequence[str]
    ) -> Batch:
        """Raw rows of these images and columns as long."""
        image, sha256 = self.table.columns
        table = pa.table([image, emotions, splits, origins, sha256], SCHEMA)
        return Batch(name, table, tuple(notes), self.forget).renamed(name)


@dataclass(frozen=True)
class Kept:
    """All rows of a source, their images in a file without a name."""

    images: Images
    emotions: list[int]
    given: list[str | None]
    origins: list[str]


def found(path: Path, suffix: str) -> list[Path]:
    """The file `path`, or all of that suffix below the folder `path`, in order."""
    files = sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise MienError(f"{path} holds no {suffix} files, expected one or a folder of them. Check the path.")
    return files


def split_of(path: Path) -> str | None:
    """The split that a file's name begins with, such as `train-00000-of-00004.parquet`, or that of its folder."""
    words = (path.stem.lower().replace("_", "-").partition("-")[0], path.parent.name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def stream(path: Path, rows: Iterable[Row], labels: Labels, seed: int) -> Batch:
    """Make a batch of rows of which a few are held at a time; splits that none of them has are drawn with `seed`."""
    kept = keep(path, rows)
    if not kept.emotions:
        raise MienError(f"{path} holds no faces.")
    stems = [Path(origin).name for origin in kept.origins]
    splits, notes = complete(kept.given, kept.emotions, kept.images.hashes, stems, seed)
    notes += [f"Left out {labels.skipped:,} rows as the label map says."] if labels.skipped else []
    name = slug(path.name if path.is_dir() else path.stem)
    return kept.images.batch(name, kept.emotions, splits, kept.origins, notes)


def keep(path: Path, rows: Iterable[Row]) -> Kept:
    """Read the rows of `path` to their end, some at a time."""
    emotions, given, origins = list[int](), list[str | None](), list[str]()

    def images() -> Iterator[bytes]:
        for row in rows:
            emotions.append(row.emotion)
            given.append(row.split)
            origins.append(row.origin)
            yield row.image

    try:
        with tempfile.TemporaryFile() as file:
            write_images(file, images())
            return Kept(Images.mapped([file]), emotions, given, origins)
    except OSError as error:
        reason = f"{tempfile.gettempdir()} ({error.strerror or error})"
        raise MienError(f"The faces of {path} cannot be kept in {reason}. Set TMPDIR to a folder with room.") from error


def write_images(file: IO[bytes], images: Iterable[bytes]) -> None:
    """Write images and their SHA-256 to a file for `Images.mapped`."""
    with pa.ipc.new_file(file, KEPT) as writer:
        for some in _portions(images):
            hashes = [hashlib.sha256(image).hexdigest() for image in some]
            writer.write_batch(pa.record_batch([some, hashes], schema=KEPT))
    file.flush()


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
