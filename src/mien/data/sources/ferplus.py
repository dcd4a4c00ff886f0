"""FER+ (Barsoum et al. 2016): ten annotators' votes on every face of FER-2013, for label agreement."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.sources.names import USAGES
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.files import write_file

ANSWERS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
COLUMNS = ("Usage", "Image name", *ANSWERS)
OURS = {"happiness": "happy", "sadness": "sad", "anger": "angry"}
NONE = -1
"""Label of a face whose votes have no plurality among the seven emotions."""


@dataclass(frozen=True)
class Votes:
    """One row a face of the challenge's table, in its order: its split, and its votes `(n, 10)` for ANSWERS."""

    splits: NDArray[np.str_]
    votes: NDArray[np.int64]

    def plurality(self) -> NDArray[np.int64]:
        """The label that most annotators chose; NONE where that is a tie, contempt, unknown or no face."""
        most = self.votes.max(axis=1)
        names = [OURS.get(answer, answer) for answer in ANSWERS]
        labels = np.array([EMOTIONS.index(name) if name in EMOTIONS else NONE for name in names])
        settled = (self.votes == most[:, None]).sum(axis=1) == 1
        return np.where(settled & (most > 0), labels[self.votes.argmax(axis=1)], NONE)


def read(path: Path) -> Votes:
    """Read FER+'s fer2013new.csv; a row that does not fit raises MienError with its number, from 1 below the header."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header = tuple(next(rows, []))
            if header != COLUMNS:
                raise MienError(f"{path} starts with {','.join(header)[:80]!r}, expected {','.join(COLUMNS)}.")
            found = [_fields(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MienError(f"{path} cannot be read ({error}). Expected fer2013new.csv of FER+'s repository.") from None
    if not found:
        raise MienError(f"{path} has a header but no rows. Download it anew.")
    return Votes(np.array([split for split, _ in found]), np.array([votes for _, votes in found], np.int64))


def keep(source: Path, target: Path) -> Votes:
    """Validate the votes, then copy their file to `target`."""
    votes = read(source)
    write_file(target, lambda path: shutil.copyfile(source, path))
    return votes


def labels(votes: Votes, prepared: Path, name: str, split: Split) -> NDArray[np.int64]:
    """FER+'s label `(n,)`, or NONE, of each face of a prepared split.

    Faces are identified by their row in the challenge's table. Raises MienError where they do not come from it, or
    where the two tables differ in a face's split.
    """
    table = pq.read_table(prepared / "statistics.parquet", columns=["origin"])
    origins = np.array(table["origin"].to_pylist())[split.rows]
    numbers = [_number(origin) for origin in origins]
    foreign = [origin for origin, number in zip(origins, numbers, strict=True) if not 1 <= number <= len(votes.splits)]
    if foreign:
        raise MienError(
            f"FER+ counts the rows of fer2013.csv, and {len(foreign)} faces of {name} are none of these, the first "
            f"being {foreign[0]}. Fetch the challenge's table (mien fetch csv), or remove the votes."
        )
    rows = np.array(numbers) - 1
    if wrong := np.flatnonzero(votes.splits[rows] != name).tolist():
        raise MienError(
            f"{origins[wrong[0]]} is a face of {name} here and of {votes.splits[rows[wrong[0]]]} in FER+: the "
            "tables have different orders. Fetch the challenge's own fer2013.csv and FER+'s own fer2013new.csv."
        )
    return np.asarray(votes.plurality()[rows])


def _fields(row: list[str], place: str) -> tuple[str, list[int]]:
    if len(row) != len(COLUMNS) or row[0] not in USAGES or not all(vote.isdecimal() for vote in row[2:]):
        raise MienError(
            f"{place} is {','.join(row)[:60]!r}, expected a usage, a name and ten counts. Download it anew."
        )
    return USAGES[row[0]], [int(vote) for vote in row[2:]]


def _number(origin: str) -> int:
    """The row's number in the challenge's table, from 1; 0 for a face that comes from elsewhere."""
    name, _, number = origin.rpartition(":")
    return int(number) if name.endswith(".csv") and "/" not in name and number.isdecimal() else 0
