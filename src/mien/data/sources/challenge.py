"""Read FER-2013 as its challenge published it: the table `emotion,pixels,Usage`."""

import csv as csv_format
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mien.data.raw import Batch, batch, pgm
from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError

USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""FER-2013's own split names."""

BROKEN = (csv_format.Error, EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


def csv(path: Path) -> Batch:
    """FER-2013's challenge table `emotion,pixels,Usage`, plain or inside .zip, .tar.gz or .xz.

    A row that does not hold a face raises MienError with its number, counted from 1 below the header.
    """
    images: list[bytes] = []
    emotions: list[int] = []
    splits: list[str] = []
    try:
        with _open(path) as (stream, name):
            reader = csv_format.reader(io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=""))
            columns = _columns(next(reader, []), path)
            for number, row in enumerate(filter(None, reader), start=1):
                emotion, pixels, split = _fields(row, columns, f"{path}, row {number}")
                images.append(pgm(pixels))
                emotions.append(emotion)
                splits.append(split)
    except BROKEN as error:
        raise MienError(f"{path} cannot be read beyond row {len(images)}: {error}. Download it anew.") from None
    if not images:
        raise MienError(f"{path} has a header but no rows. Expected the challenge's fer2013.csv with 35,887 rows.")
    return batch("fer2013", images, emotions, splits, [f"{name}:{n}" for n in range(1, len(images) + 1)])


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """Open the one CSV in `path`, unpacked while it is read, and name it."""
    if not path.exists():
        raise MienError(f"{path} does not exist. Expected fer2013.csv, or a .zip, .tar.gz or .xz that holds it.")
    if path.is_dir():
        raise MienError(f"{path} is a folder, expected fer2013.csv. For class folders run `mien fetch folders {path}`.")
    if path.stat().st_size == 0:
        raise MienError(f"{path} is empty, expected fer2013.csv. Download or unpack it anew.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = _member(archive.namelist(), path)
            with archive.open(member) as stream:
                yield stream, Path(member).name
    elif ".tar" in path.suffixes or path.suffix == ".tgz":
        with tarfile.open(path) as tar:
            member = _member([entry.name for entry in tar if entry.isfile()], path)
            unpacked = tar.extractfile(member)
            if unpacked is not None:
                yield unpacked, Path(member).name
    elif path.suffix == ".xz":
        with lzma.open(path) as stream:
            yield stream, path.stem
    else:
        with path.open("rb") as stream:
            yield stream, path.name


def _member(names: Sequence[str], path: Path) -> str:
    """Find the CSV of an archive: fer2013.csv among several, else the only one."""
    found = [name for name in names if Path(name).suffix == ".csv" and not Path(name).name.startswith(".")]
    found = [name for name in found if Path(name).name == "fer2013.csv"] or found
    if len(found) != 1:
        listed = f" ({', '.join(found[:5])})" if found else ""
        raise MienError(f"{path} holds {len(found)} CSV files{listed}, expected one fer2013.csv. Unpack it.")
    return found[0]


def _columns(header: Sequence[str], path: Path) -> tuple[int, int, int]:
    names = [name.strip().lower().removeprefix("\ufeff") for name in header]
    if not {"emotion", "pixels", "usage"} <= set(names):
        found = ", ".join(names)[:80] or "nothing"
        raise MienError(f"{path} starts with {found!r}, expected the columns emotion, pixels, Usage of fer2013.csv.")
    return names.index("emotion"), names.index("pixels"), names.index("usage")


def _fields(row: Sequence[str], columns: tuple[int, int, int], place: str) -> tuple[int, NDArray[np.uint8], str]:
    if len(row) <= max(columns):
        raise MienError(f"{place}: {len(row)} columns, expected emotion, pixels, Usage. {MEND}")
    emotion, pixels, usage = (row[column].strip() for column in columns)
    if emotion not in LABELS:
        known = ", ".join(f"{label} {name}" for label, name in LABELS.items())
        raise MienError(f"{place}: emotion is {emotion[:20]!r}, expected one of {known}. {MEND}")
    if usage not in USAGES:
        raise MienError(f"{place}: Usage is {usage[:20]!r}, expected {', '.join(USAGES)}. {MEND}")
    return int(emotion), _pixels(pixels, place), USAGES[usage]


def _pixels(text: str, place: str) -> NDArray[np.uint8]:
    try:
        # int16, as uint8 would silently wrap 300 to 44.
        values = np.fromstring(text, np.int16, sep=" ")
    except ValueError:
        raise MienError(f"{place}: pixels hold something other than whole numbers. {MEND}") from None
    if values.size != FACE_SIZE**2:
        raise MienError(f"{place}: {values.size} pixels, expected {FACE_SIZE**2} (48x48). {MEND}")
    if values.min() < 0 or values.max() > np.iinfo(np.uint8).max:
        raise MienError(f"{place}: pixels from {values.min()} to {values.max()}, expected 0 to 255. {MEND}")
    return values.astype(np.uint8)


LABELS = {str(label): name for label, name in enumerate(EMOTIONS)}

MEND = "Mend the row or download the file anew."
