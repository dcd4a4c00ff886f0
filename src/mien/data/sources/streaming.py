"""Sources larger than memory: their images wait in a file without a name, whose memory map is part of the batch."""

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mien.data.raw import SCHEMA, Batch, slug
from mien.data.sources.names import SKIP, SPLIT_NAMES, SYNONYMS
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS
from mien.errors import MienError

Progress = Callable[[int, float], None]
"""Takes the rows that were read and their share of all."""

ROWS = 1024


class Row(NamedTuple):
    """One face: its image as it came, its label, the split that its file names, if any, and where it stood."""

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
    emotions, given, origins, hashes = list[int](), list[str | None](), list[str](), list[str]()

    def images() -> Iterator[bytes]:
        for row in rows:
            emotions.append(row.emotion)
            given.append(row.split)
            origins.append(row.origin)
            hashes.append(hashlib.sha256(row.image).hexdigest())
            yield row.image

    try:
        column, forget = _kept(images())
    except OSError as error:
        reason = f"{tempfile.gettempdir()} ({error.strerror or error})"
        raise MienError(f"The faces of {path} cannot be kept in {reason}. Set TMPDIR to a folder with room.") from error
    if not emotions:
        raise MienError(f"{path} holds no faces.")
    splits, notes = complete(given, emotions, hashes, [Path(origin).name for origin in origins], seed)
    notes += [f"Left out {labels.skipped:,} rows as the label map says."] if labels.skipped else []
    table = pa.table([column, emotions, splits, origins, hashes], SCHEMA)
    name = slug(path.name if path.is_dir() else path.stem)
    return Batch(name, table, tuple(notes), forget).renamed(name)


def _kept(images: Iterator[bytes]) -> tuple[pa.ChunkedArray, Callable[[], object]]:
    with tempfile.TemporaryFile() as file:
        with pa.ipc.new_file(file, pa.schema([SCHEMA.field("image")])) as writer:
            while some := list(islice(images, ROWS)):
                writer.write_batch(pa.record_batch([pa.array(some, pa.binary())], ["image"]))
        file.flush()
        kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.py_buffer(kept)).read_all()["image"], partial(kept.madvise, mmap.MADV_DONTNEED)
