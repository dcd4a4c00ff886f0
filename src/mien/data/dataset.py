"""Read and write the prepared data: one Parquet file per split."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, FACE_SIZE, SPLITS
from mien.errors import MienError
from mien.files import read_json, write_file

Faces = NDArray[np.uint8]

GROUP = 2**16
"""Faces that are written together, and the most that are read into memory: 150 MB."""

PART = 2**13
"""Faces that are read together where a split is gone through."""

AGAIN = "Make it anew with `dvc repro -f prepare`."


@dataclass(frozen=True)
class Split:
    """Faces of one split: images uint8 `(n, 48, 48, 1)`, labels `(n,)`, leaked `(n,)`, raw row numbers `(n,)`."""

    images: Faces
    labels: NDArray[np.int64]
    leaked: NDArray[np.bool_]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def parts(self) -> Iterator[Faces]:
        """The faces in order, `PART` at a time."""
        return (self.images[start : start + PART] for start in range(0, len(self), PART))

    def take(self, chosen: NDArray[Any] | slice) -> "Split":
        """The rows picked by an index or a mask, in that order."""
        return Split(self.images[chosen], self.labels[chosen], self.leaked[chosen], self.rows[chosen])

    def without_leaks(self) -> "Split":
        """The rows that have no exact copy in the training split."""
        return self.take(~self.leaked)

    def stratified(self, rows: int, seed: int) -> "Split":
        """At most `rows` rows with the split's own class shares, in their order; 0 takes all."""
        if not 0 < rows < len(self):
            return self
        shuffled = np.random.default_rng(seed).permutation(len(self))
        # Sorting a shuffle by label and picking evenly spaced rows keeps every class's share to within one row.
        by_label = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        picked = by_label[np.linspace(0, len(self) - 1, rows).round().astype(int)]
        return self.take(np.sort(picked))


class StoredSplit:
    """A prepared split on disk: labels, leaked and raw row numbers `(n,)` in memory, its faces read in parts."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open train, validation or test; a missing or foreign file raises MienError naming the command to run."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = folder / f"{name}.parquet"
        if name not in SPLITS or not path.exists():
            raise MienError(f"{path} is missing. Make it with `dvc repro prepare` (splits: {', '.join(SPLITS)}).")
        try:
            # With Arrow's buffer ahead, all that was read would stay in memory.
            self._file = pq.ParquetFile(path, pre_buffer=False)
            table = self._file.read(["row", "emotion", "leaked"])
            columns = [table[column].to_numpy() for column in ("row", "emotion", "leaked")]
            pixels = self._file.schema_arrow.field("image").type
        except (pa.ArrowException, OSError, KeyError) as error:
            raise MienError(f"{path} is no prepared split ({error}). {AGAIN}") from None
        if pixels != pa.binary(FACE_SIZE**2):
            raise MienError(f"{path} holds no 48x48 faces. {AGAIN}")
        self.path, (self.rows, self.labels, self.leaked) = path, columns

    def __len__(self) -> int:
        return len(self.labels)

    def parts(self) -> Iterator[Faces]:
        """The faces in order, `PART` at a time: `(m, 48, 48, 1)`."""
        import pyarrow as pa

        size = FACE_SIZE**2
        try:
            for batch in self._file.iter_batches(PART, columns=["image"]):
                column = batch.column(0)
                pixels = np.frombuffer(column.buffers()[1], np.uint8, len(column) * size, column.offset * size)
                yield pixels.reshape(-1, FACE_SIZE, FACE_SIZE, 1)
        except (pa.ArrowException, OSError) as error:
            raise MienError(f"{self.path} is damaged ({error}). {AGAIN}") from None


def read_split(folder: Path, name: str) -> Split:
    """Read one of train, validation, test; its images are a memory map where they are more than `GROUP`."""
    stored = StoredSplit(folder, name)
    images = _mapped(stored, folder) if len(stored) > GROUP else np.concatenate([_NONE, *stored.parts()])
    return Split(images, stored.labels, stored.leaked, stored.rows)


def write_split(folder: Path, name: str, split: Split) -> None:
    """Write a split byte for byte the same for the same faces."""
    starts = range(0, max(1, len(split)), GROUP)
    write_parts(folder, name, (split.take(slice(start, start + GROUP)) for start in starts))


def write_parts(folder: Path, name: str, parts: Iterable[Split]) -> None:
    """Write a split that is given in parts of `GROUP` faces, the last one of fewer; one part is held at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"row": pa.int64(), "emotion": pa.int64(), "leaked": pa.bool_(), "image": pa.binary(FACE_SIZE**2)}

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, pa.schema(kinds), compression="zstd") as writer:
            for part in parts:
                pixels = pa.py_buffer(np.ascontiguousarray(part.images))
                image = pa.FixedSizeBinaryArray.from_buffers(kinds["image"], len(part), [None, pixels])
                writer.write_table(pa.table([part.rows, part.labels, part.leaked, image], pa.schema(kinds)))

    write_file(folder / f"{name}.parquet", write)


def read_info(folder: Path) -> dict[str, Any]:
    """Read the data set's description written by `prepare`: name, digest, counts."""
    return read_json(folder / "dataset.json", made_by="dvc repro prepare")


class Digest:
    """SHA-256 over pixels, labels and flags of the splits in order: the identity of the data."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._columns: tuple[list[bytes], list[bytes]] = [], []

    def add(self, part: Split) -> Split:
        """Take in the next part of a split, and return it."""
        self._sha.update(np.ascontiguousarray(part.images).data)
        for column, values in zip(self._columns, (part.labels, part.leaked), strict=True):
            column.append(values.tobytes())
        return part

    def end_split(self) -> None:
        """Take in the labels and flags, which follow all pixels of their split."""
        for column in self._columns:
            self._sha.update(b"".join(column))
            column.clear()

    def hexdigest(self) -> str:
        """The digest of all splits that have ended."""
        return self._sha.hexdigest()


def digest(splits: Iterable[Split]) -> str:
    """The digest of whole splits."""
    identity = Digest()
    for split in splits:
        identity.add(split)
        identity.end_split()
    return identity.hexdigest()


def counts(split: Split) -> dict[str, int]:
    """Faces of each emotion."""
    return count(split.labels)


def count(labels: NDArray[Any]) -> dict[str, int]:
    """Rows of each emotion."""
    numbers = np.bincount(labels, minlength=len(EMOTIONS))
    return {emotion: int(n) for emotion, n in zip(EMOTIONS, numbers, strict=True)}


_NONE = np.empty((0, FACE_SIZE, FACE_SIZE, 1), np.uint8)


def _mapped(stored: StoredSplit, folder: Path) -> Faces:
    """The faces as a map of a file without a name beside the data, which is gone when the process ends."""
    try:
        # Not filled through the map: there a full disk would kill the process.
        with tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None) as file:
            for part in stored.parts():
                file.write(part.data)
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(len(stored), *_NONE.shape[1:]))
    except OSError as error:
        size = f"{len(stored) * FACE_SIZE**2 / 2**30:.1f} GiB"
        raise MienError(
            f"{folder} needs {size} beside it to read its faces ({error.strerror}). Free the disk."
        ) from error
