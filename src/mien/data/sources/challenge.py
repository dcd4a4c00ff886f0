"""Read FER-2013 as its challenge published it: the table `emotion,pixels,Usage`, or `emotion,pixels`."""

import csv as csv_format
import io
import itertools
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.data.raw import Batch, pgm, slug
from mien.data.sources.names import SPLIT_NAMES, SYNONYMS, USAGES
from mien.data.sources.parts import ROWS, Kept, Progress, Row, keep, numbered
from mien.data.sources.splitting import complete
from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError

BROKEN = (csv_format.Error, EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


DELIMITERS = ",;\t"
OWN_FILES = ("fer2013", "train", "icml_face_data")
"""What the challenge calls its tables; `train` has no splits."""


class Columns(NamedTuple):
    """Where a table's columns are; `usage` is None where it names no splits."""

    emotion: int
    pixels: int
    usage: int | None


def csv(path: Path, seed: int = 7, progress: Progress = lambda *_: None, kept: Path | None = None) -> Batch:
    """FER-2013's challenge table, plain or inside .zip, .tar.gz or .xz; commas, semicolons or tabs part its columns.

    `emotion` is a number or a name. `Usage` holds FER-2013's names or train, val and test; splits that are missing are
    drawn with `seed`, as for class folders. A row that does not hold a face raises MienError with its number, counted
    from 1 below the header. An interrupted call carries on from the folder `kept`.
    """
    found = keep(path, numbered(_rows(path, progress), [path]), kept)
    if not found.emotions:
        raise MienError(f"{path} has a header but no rows. Expected the challenge's fer2013.csv with 35,887 rows.")
    splits, official, notes = _splits(found, seed)
    stem = Path(found.origins[0].rpartition(":")[0]).stem
    title = "fer2013" if official else _title(stem, drawn=bool(notes))
    return found.batch(title, splits, notes)


def _rows(path: Path, progress: Progress) -> Iterator[Row]:
    """The table's rows; what its column Usage says stands for the split."""
    _refuse(path)
    number, size = 0, path.stat().st_size
    try:
        with (
            path.open("rb") as file,
            _unpacked(file, path) as (stream, name),
            io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="") as lines,
        ):
            reader = _reader(lines)
            columns = _columns(next(reader, []), path)
            for fields in filter(None, reader):
                number += 1
                yield _row(fields, columns, f"{path}, row {number}", f"{name}:{number}")
                if number % ROWS == 0:
                    progress(number, file.tell() / size)
    except BROKEN as error:
        raise MienError(f"{path} cannot be read beyond row {number}: {error}. Download it anew.") from None


def _splits(found: Kept, seed: int) -> tuple[list[str], bool, list[str]]:
    """Each row's split, whether they are the challenge's own, and a note on those that were drawn."""
    usages = [usage or "" for usage in found.given]
    if all(usage in USAGES for usage in usages):
        return [USAGES[usage] for usage in usages], True, []
    given = [SPLIT_NAMES.get(usage.lower()) for usage in usages]
    # Exact copies stay together: one in train and one in test would be a leak.
    splits, notes = complete(given, found.emotions, found.hashes, found.origins, seed)
    return splits, False, notes


def _title(stem: str, drawn: bool) -> str:
    """The data set's name. FER-2013 split anew is another one: its scores cannot be compared."""
    if slug(stem) in OWN_FILES:
        return "fer2013_resplit" if drawn else "fer2013"
    return slug(stem)


def _refuse(path: Path) -> None:
    if not path.exists():
        raise MienError(f"{path} does not exist. Expected fer2013.csv, or a .zip, .tar.gz or .xz that holds it.")
    if path.is_dir():
        raise MienError(f"{path} is a folder, expected fer2013.csv. For class folders run `mien fetch folders {path}`.")
    if path.stat().st_size == 0:
        raise MienError(f"{path} is empty, expected fer2013.csv. Download or unpack it anew.")


@contextmanager
def _unpacked(file: IO[bytes], path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """The one CSV in `file`, which is `path`, unpacked while it is read, and its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(file) as archive:
            member = _member(archive.namelist(), path)
            with archive.open(member) as stream:
                yield stream, Path(member).name
    elif ".tar" in path.suffixes or path.suffix == ".tgz":
        with tarfile.open(fileobj=file) as tar:
            member = _member([entry.name for entry in tar if entry.isfile()], path)
            unpacked = tar.extractfile(member)
            if unpacked is not None:
                yield unpacked, Path(member).name
    elif path.suffix == ".xz":
        with lzma.open(file) as stream:
            yield stream, path.stem
    else:
        yield file, path.name


def _member(names: Sequence[str], path: Path) -> str:
    """Find the CSV of an archive: fer2013.csv among several, else the only one."""
    found = [name for name in names if Path(name).suffix == ".csv" and not Path(name).name.startswith(".")]
    found = [name for name in found if Path(name).name == "fer2013.csv"] or found
    if len(found) != 1:
        listed = f" ({', '.join(found[:5])})" if found else ""
        raise MienError(f"{path} holds {len(found)} CSV files{listed}, expected one fer2013.csv. Unpack it.")
    return found[0]


def _reader(lines: Iterator[str]) -> Iterator[list[str]]:
    """Rows of fields, parted by what parts the header into most columns."""
    header = next(lines, "")
    delimiter = max(DELIMITERS, key=header.count)
    return csv_format.reader(itertools.chain([header], lines), delimiter=delimiter)


def _columns(header: Sequence[str], path: Path) -> Columns:
    names = [name.strip().lower().removeprefix("\ufeff") for name in header]
    if not {"emotion", "pixels"} <= set(names):
        found = ", ".join(names)[:80] or "nothing"
        raise MienError(
            f"{path} starts with {found!r}, expected the columns emotion, pixels, Usage of fer2013.csv, "
            "or emotion, pixels of train.csv."
        )
    return Columns(names.index("emotion"), names.index("pixels"), names.index("usage") if "usage" in names else None)


def _row(fields: Sequence[str], columns: Columns, place: str, origin: str) -> Row:
    if len(fields) <= max(column for column in columns if column is not None):
        wanted = "emotion, pixels" if columns.usage is None else "emotion, pixels, Usage"
        raise MienError(f"{place}: {len(fields)} columns, expected {wanted}. {MEND}")
    emotion, pixels = fields[columns.emotion].strip().lower(), fields[columns.pixels].strip()
    usage = "" if columns.usage is None else fields[columns.usage].strip()
    if emotion not in LABELS:
        known = ", ".join(f"{label} {name}" for label, name in enumerate(EMOTIONS))
        raise MienError(f"{place}: emotion is {emotion[:20]!r}, expected one of {known}. {MEND}")
    if columns.usage is not None and usage.lower() not in SPLIT_NAMES:
        raise MienError(f"{place}: Usage is {usage[:20]!r}, expected {', '.join(USAGES)}, or train, val, test. {MEND}")
    # Interned, as a million rows have three usages.
    return Row(partial(_image, pixels, place), LABELS[emotion], sys.intern(usage), origin)


def _image(text: str, place: str) -> bytes:
    return pgm(_pixels(text, place))


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


LABELS = {str(label): label for label in range(len(EMOTIONS))} | {
    name: EMOTIONS.index(emotion) for name, emotion in SYNONYMS.items()
}
"""What stands for each label: its number and the emotion's names."""

MEND = "Mend the row or download the file anew."
