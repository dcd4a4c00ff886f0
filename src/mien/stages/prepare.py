"""prepare: raw images become 48x48 gray faces; doubtful rows are excluded or flagged, each with its reason."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.config.params import Params, Prepare
from mien.data import dataset
from mien.data.dataset import GROUP, Split
from mien.data.quality import statistics
from mien.data.quality.exclusions import Columns, decide, reasons, write_list
from mien.data.raw import head, listed
from mien.data.raw import read as read_raw
from mien.emotions import EMOTIONS, FACE_SIZE, SPLITS
from mien.errors import MienError
from mien.files import write_file, write_json

BATCH = 1024
"""Raw rows held as encoded images at a time."""

MEASURED = {
    "split": np.dtype("U10"),
    "emotion": np.dtype(np.int8),
    "pixels": np.dtype("S32"),
    "width": np.dtype(np.int32),
    "height": np.dtype(np.int32),
    "mean": np.dtype(np.float64),
    "std": np.dtype(np.float64),
    "sharpness": np.dtype(np.float64),
    "flat": np.dtype(np.bool_),
    "placeholder": np.dtype(np.bool_),
    "place": np.dtype(np.int64),
}
"""What is held of every raw row; `pixels` is the hash's 32 bytes, `place` the face's number in its split."""

SHEET_FACES = 10
"""Faces per emotion on the contact sheet."""

STATISTICS = {
    "row": pa.int32(),
    "origin": pa.string(),
    "split": pa.string(),
    "emotion": pa.int8(),
    "sha256": pa.string(),
    "pixels": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "mean": pa.float64(),
    "std": pa.float64(),
    "sharpness": pa.float64(),
    "flat": pa.bool_(),
    "placeholder": pa.bool_(),
    "copies": pa.int32(),
    "conflict": pa.bool_(),
    "leaked": pa.bool_(),
    "status": pa.string(),
    "reason": pa.string(),
}
"""Columns of statistics.parquet, which has a line for every raw row, also for excluded ones."""


def run(raw: Path, prepared: Path, plots: Path, params: Params, progress: bool, faces: Path | None = None) -> None:
    """Write three splits, statistics, exclusions and `dataset.json` to `prepared`, a chart to `plots`.

    A sheet of sample faces goes to `faces`, if it is given, a folder that Git does not keep. Of the rows some hundred
    bytes each are held in memory; their faces wait in files beside `prepared`.
    """
    with replacing_folder(prepared) as (temporary, new), closing(FaceFiles(temporary)) as store:
        name, columns = read(raw, store, progress)
        columns |= decide(columns, params.prepare)
        rows = {split: select(split, columns) for split in SPLITS}
        empty = [split for split in SPLITS if not len(rows[split])]
        if empty:
            lacking = f"{raw} leaves no rows for {', '.join(empty)}."
            raise MienError(f"{lacking} Fetch data that has all of {', '.join(SPLITS)}.")
        parts = {split: partial(in_parts, rows[split], columns, store, params.prepare) for split in SPLITS}
        counts = {split: dataset.count(columns["emotion"][rows[split]]) for split in SPLITS}
        info = {
            "name": name,
            "digest": write_splits(new, parts),
            "counts": counts,
            "excluded": reasons(columns, "excluded"),
            "flagged": reasons(columns, "flagged"),
        }
        write_tables(new, columns, info)
        sample = sheet(rows["train"], columns, store, params.seed) if faces else None
    draw(counts, sample, plots, faces)


class FaceFiles:
    """The faces of each split in a file of its own, in the order of their rows."""

    def __init__(self, folder: Path) -> None:
        self.paths = {split: folder / split for split in SPLITS}
        self._open = {split: path.open("wb") for split, path in self.paths.items()}
        self._written = dict.fromkeys(SPLITS, 0)

    def add(self, split: str, face: NDArray[np.uint8]) -> int:
        """Keep a face and return its place in its split's file."""
        if split not in self._open:
            return -1  # `validate` names such rows; no split holds them
        self._open[split].write(face.data)
        self._written[split] += 1
        return self._written[split] - 1

    def close(self) -> None:
        """End writing; what was added can be taken from now on."""
        for file in self._open.values():
            file.close()

    def take(self, split: str, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the faces `(n, 48, 48, 1)` at some places."""
        # A new map each time: the pages of an old one would count as this process's memory.
        shape = (self._written[split], FACE_SIZE, FACE_SIZE, 1)
        return np.asarray(np.memmap(self.paths[split], np.uint8, "r", shape=shape)[places])


def read(raw: Path, store: FaceFiles, progress: bool) -> tuple[str, Columns]:
    """Read the data set's name and one column per statistic over all raw rows; the faces go to `store`."""
    from rich.console import Console
    from rich.progress import track

    paths = listed(raw)
    heads = [head(path) for path in paths]
    total = sum(rows for _, rows in heads)
    if not total:
        raise MienError(f"{raw} holds no raw data. Bring some with `mien fetch` (kaggle, csv, folders or sample).")
    columns: Columns = {name: np.empty(total, kind) for name, kind in MEASURED.items()}
    silent = not (progress and sys.stderr.isatty())
    rows = track(_rows(paths), "prepare", total, console=Console(stderr=True), disable=silent)
    for number, row in enumerate(rows):
        gray = statistics.decode(row.pop("image"), row["origin"])
        image = statistics.face(gray)
        place = store.add(row["split"], np.ascontiguousarray(image))
        found = {**row, "width": gray.shape[1], "height": gray.shape[0], **statistics.measure(image), "place": place}
        found["pixels"] = bytes.fromhex(found["pixels"])
        for column in MEASURED:
            columns[column][number] = found[column]
    store.close()
    columns |= {"row": np.arange(total), **{name: _texts(paths, name) for name in ("origin", "sha256")}}
    columns |= statistics.groups(columns["pixels"], columns["emotion"], columns["split"])
    return " + ".join(dict.fromkeys(name for name, _ in heads)), columns


def select(name: str, columns: Mapping[str, Any]) -> NDArray[np.int64]:
    """The rows of one split that were not excluded."""
    return np.flatnonzero((columns["split"] == name) & (columns["status"] != "excluded"))


def in_parts(rows: NDArray[np.int64], columns: Columns, store: FaceFiles, policy: Prepare) -> Iterator[Split]:
    """The faces of one split's rows, `GROUP` at a time; with `drop_from_train` none is leaked any more."""
    for start in range(0, len(rows), GROUP):
        some = rows[start : start + GROUP]
        images = store.take(columns["split"][some[0]], columns["place"][some])
        leaked = columns["leaked"][some] & (policy.leaks == "flag")
        yield Split(images, columns["emotion"][some].astype(np.int64), leaked, some)


def write_splits(folder: Path, parts: Mapping[str, Callable[[], Iterator[Split]]]) -> str:
    """Write each split and return the digest of them all."""
    identity = dataset.Digest()
    for name, split in parts.items():
        dataset.write_parts(folder, name, map(identity.add, split()))
        identity.end_split()
    return identity.hexdigest()


def write_tables(folder: Path, columns: Columns, info: Mapping[str, Any]) -> None:
    """Write statistics, exclusions and what the data set is."""

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, pa.schema(STATISTICS), compression="zstd") as writer:
            for start in range(0, len(columns["row"]), GROUP):
                some = [_values(columns[name][start : start + GROUP], name) for name in STATISTICS]
                writer.write_table(pa.table(some, pa.schema(STATISTICS)))

    write_file(folder / "statistics.parquet", write)
    write_file(folder / "exclusions.csv", lambda path: write_list(path, columns))
    write_json(folder / "dataset.json", info)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A temporary folder, and one in it that replaces `folder` at the end; a failure leaves the old one as it was."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary) / "new"
            yield Path(temporary), new
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            new.rename(folder)
    except OSError as error:
        raise MienError(
            f"Cannot write {folder}: {error.strerror or error}. Free the disk or mend the rights."
        ) from error


def sheet(rows: NDArray[np.int64], columns: Columns, store: FaceFiles, seed: int) -> Split:
    """Some training faces of every emotion, by chance."""
    shuffled = rows[np.random.default_rng(seed).permutation(len(rows))]
    labels = columns["emotion"]
    chosen = np.concatenate([shuffled[labels[shuffled] == label][:SHEET_FACES] for label in range(len(EMOTIONS))])
    images = store.take("train", columns["place"][chosen])
    return Split(images, labels[chosen].astype(np.int64), np.zeros(len(chosen), bool), chosen)


def draw(counts: Mapping[str, Mapping[str, int]], sample: Split | None, plots: Path, faces: Path | None) -> None:
    """Draw how many faces each emotion has per split, and a sheet of sample faces to the folder `faces`."""
    from mien.evaluation import charts

    charts.class_distribution(counts, plots / "class_distribution.png")
    if faces and sample:
        charts.contact_sheet(sample.images, sample.labels, faces / "contact_sheet.png")


def _rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        # With Arrow's buffer ahead, all that was read would stay in memory.
        for rows in pq.ParquetFile(path, pre_buffer=False).iter_batches(
            BATCH, columns=["image", "emotion", "split", "origin"]
        ):
            yield from rows.to_pylist()


def _texts(paths: list[Path], column: str) -> pa.ChunkedArray:
    """One column of texts over all files, as compact as Arrow holds it."""
    return pa.chunked_array([chunk for path in paths for chunk in read_raw(path, [column])[column].chunks], pa.string())


def _values(values: Any, name: str) -> pa.Array:
    if name == "pixels":
        values = [digest.hex() for digest in values.view("V32").tolist()]
    elif name not in ("origin", "sha256"):
        values = values.tolist()
    return values if isinstance(values, pa.ChunkedArray) else pa.array(values, STATISTICS[name])
