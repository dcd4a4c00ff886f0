"""prepare: raw images become 48x48 gray faces; doubtful rows are excluded or flagged, each with its reason."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.config.params import Params, Prepare
from mien.data import dataset
from mien.data.dataset import Split
from mien.data.quality import statistics
from mien.data.quality.exclusions import Columns, decide, reasons, write_list
from mien.data.raw import SCHEMA, head, listed
from mien.emotions import EMOTIONS, FACE_SIZE, SPLITS
from mien.errors import MienError
from mien.files import write_file, write_json

BATCH = 1024
"""Raw rows held as encoded images at a time."""

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

    A sheet of sample faces goes to `faces`, if it is given, a folder that Git does not keep.
    """
    name, columns, images = read(raw, progress)
    columns |= decide(columns, params.prepare)
    splits = {split: select(split, columns, images, params.prepare) for split in SPLITS}
    empty = [split for split, content in splits.items() if not len(content)]
    if empty:
        raise MienError(f"{raw} leaves no rows for {', '.join(empty)}. Fetch data that has all of {', '.join(SPLITS)}.")
    info = {
        "name": name,
        "digest": dataset.digest(splits.values()),
        "counts": {split: dataset.counts(content) for split, content in splits.items()},
        "excluded": reasons(columns, "excluded"),
        "flagged": reasons(columns, "flagged"),
    }
    write(prepared, splits, columns, info)
    draw(splits, plots, faces, params.seed)


def read(raw: Path, progress: bool) -> tuple[str, Columns, NDArray[np.uint8]]:
    """Read the data set's name, one column per statistic over all raw rows, and the faces `(n, 48, 48)`."""
    from rich.console import Console
    from rich.progress import track

    paths = listed(raw)
    heads = [head(path) for path in paths]
    total = sum(rows for _, rows in heads)
    if not total:
        raise MienError(f"{raw} holds no raw data. Bring some with `mien fetch` (kaggle, csv, folders or sample).")
    images = np.empty((total, FACE_SIZE, FACE_SIZE), np.uint8)
    records: list[dict[str, Any]] = []
    silent = not (progress and sys.stderr.isatty())
    for row in track(_rows(paths), "prepare", total, console=Console(stderr=True), disable=silent):
        gray = statistics.decode(row.pop("image"), row["origin"])
        image = images[len(records)] = statistics.face(gray)
        records.append({**row, "width": gray.shape[1], "height": gray.shape[0], **statistics.measure(image)})
    columns = {"row": np.arange(total), **{key: np.array([each[key] for each in records]) for key in records[0]}}
    columns |= statistics.groups(columns["pixels"], columns["emotion"], columns["split"])
    return " + ".join(dict.fromkeys(name for name, _ in heads)), columns, images


def select(name: str, columns: Mapping[str, NDArray[Any]], images: NDArray[np.uint8], policy: Prepare) -> Split:
    """Take the faces of one split that were not excluded; with `drop_from_train` none is leaked any more."""
    rows = np.flatnonzero((columns["split"] == name) & (columns["status"] != "excluded"))
    leaked = columns["leaked"][rows] & (policy.leaks == "flag")
    return Split(images[rows][..., None], columns["emotion"][rows].astype(np.int64), leaked, rows.astype(np.int64))


def write(folder: Path, splits: Mapping[str, Split], columns: Columns, info: Mapping[str, Any]) -> None:
    """Fill a folder beside `folder`, then swap it in: a failure leaves the old one as it was."""
    table = pa.table({name: pa.array(columns[name].tolist(), kind) for name, kind in STATISTICS.items()})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary) / "new"
            for name, split in splits.items():
                dataset.write_split(new, name, split)
            write_file(new / "statistics.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
            write_file(new / "exclusions.csv", lambda path: write_list(path, columns))
            write_json(new / "dataset.json", info)
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            new.rename(folder)
    except OSError as error:
        raise MienError(
            f"Cannot write {folder}: {error.strerror or error}. Free the disk or mend the rights."
        ) from error


def draw(splits: Mapping[str, Split], plots: Path, faces: Path | None, seed: int) -> None:
    """Draw how many faces each emotion has per split, and a sheet of sample faces to the folder `faces`."""
    from mien.evaluation import charts

    counts = {name: dataset.counts(split) for name, split in splits.items()}
    charts.class_distribution(counts, plots / "class_distribution.png")
    if faces is None:
        return
    train = splits["train"]
    shuffled = np.random.default_rng(seed).permutation(len(train))
    chosen = [shuffled[train.labels[shuffled] == label][:SHEET_FACES] for label in range(len(EMOTIONS))]
    sample = train.take(np.concatenate(chosen))
    charts.contact_sheet(sample.images, sample.labels, faces / "contact_sheet.png")


def _rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for rows in pq.ParquetFile(path).iter_batches(BATCH, columns=SCHEMA.names):
            yield from rows.to_pylist()
