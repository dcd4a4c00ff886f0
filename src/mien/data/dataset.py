"""Read and write the prepared data: one Parquet file per split."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, FACE_SIZE, SPLITS
from mien.errors import MienError
from mien.files import read_json, write_file


@dataclass(frozen=True)
class Split:
    """Faces of one split: images uint8 `(n, 48, 48, 1)`, labels `(n,)`, leaked `(n,)`, raw row numbers `(n,)`."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    leaked: NDArray[np.bool_]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[Any]) -> "Split":
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


def write_split(folder: Path, name: str, split: Split) -> None:
    """Write a split byte for byte the same for the same faces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = FACE_SIZE * FACE_SIZE
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(split), [None, pa.py_buffer(np.ascontiguousarray(split.images))]
    )
    table = pa.table({"row": split.rows, "emotion": split.labels, "leaked": split.leaked, "image": pixels})
    write_file(folder / f"{name}.parquet", lambda path: pq.write_table(table, path, compression="zstd"))


def read_split(folder: Path, name: str) -> Split:
    """Read one of train, validation, test; a missing or foreign file raises MienError naming the command to run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    if name not in SPLITS or not path.exists():
        raise MienError(f"{path} is missing. Make it with `dvc repro prepare` (splits: {', '.join(SPLITS)}).")
    try:
        table = pq.read_table(path, columns=["row", "emotion", "leaked", "image"]).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise MienError(f"{path} is no prepared split ({error}). Make it anew with `dvc repro -f prepare`.") from None
    column = table["image"].combine_chunks()
    pixels = np.frombuffer(column.buffers()[1], np.uint8, len(table) * FACE_SIZE**2, column.offset * FACE_SIZE**2)
    return Split(
        images=pixels.reshape(-1, FACE_SIZE, FACE_SIZE, 1),
        labels=table["emotion"].to_numpy(),
        leaked=table["leaked"].to_numpy(),
        rows=table["row"].to_numpy(),
    )


def read_info(folder: Path) -> dict[str, Any]:
    """Read the data set's description written by `prepare`: name, digest, counts."""
    return read_json(folder / "dataset.json", made_by="dvc repro prepare")


def digest(splits: Iterable[Split]) -> str:
    """SHA-256 over pixels, labels and flags of the splits in order: the identity of the data."""
    sha = hashlib.sha256()
    for split in splits:
        for array in (split.images, split.labels, split.leaked):
            sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def counts(split: Split) -> dict[str, int]:
    """Faces of each emotion."""
    numbers = np.bincount(split.labels, minlength=len(EMOTIONS))
    return {emotion: int(n) for emotion, n in zip(EMOTIONS, numbers, strict=True)}
