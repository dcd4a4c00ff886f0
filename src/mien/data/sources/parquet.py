"""Read Parquet files with a column of images, as the Hugging Face hub serves data sets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mien.data.raw import Batch
from mien.data.sources.folders import label_names
from mien.data.sources.names import SPLIT_NAMES
from mien.data.sources.parts import ROWS, Progress, Row
from mien.data.sources.streaming import Labels, found, split_of, stream
from mien.errors import MienError

LABEL_COLUMNS = ("label", "labels", "emotion")
SPLIT_COLUMNS = ("split", "usage", "Usage")


def parquet(
    path: Path,
    label_map: Mapping[str, str] | None = None,
    seed: int = 7,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
) -> Batch:
    """Faces of one Parquet file, or of all in a folder: `image` is encoded, `label` or `emotion` says what it shows.

    Labels are numbers as in FER-2013, names, or numbers of the names that the hub's metadata list. The split is that of
    the column `split` or `Usage`, of the file's name or its folder's; what lacks is drawn with `seed`. An interrupted
    call carries on from the folder `kept`.
    """
    labels = Labels(label_names(label_map or {}))
    files = found(path, ".parquet")
    return stream(path, files, _rows(path, files, labels, progress), labels, seed, kept)


def _rows(path: Path, files: Sequence[Path], labels: Labels, progress: Progress) -> Iterator[Row]:
    tables = {file: _opened(file) for file in files}
    total, read = sum(table.metadata.num_rows for table in tables.values()), 0
    for file, table in tables.items():
        column = _label(file, table.schema_arrow)
        names = _names(table.schema_arrow, column)
        of_row = next((name for name in SPLIT_COLUMNS if name in table.schema_arrow.names), None)
        wanted = ["image", column, *([of_row] if of_row else [])]
        number, of_file = 0, split_of(file)
        try:
            for some in table.iter_batches(ROWS, columns=wanted):
                for row in some.to_pylist():
                    number += 1
                    origin = f"{file.relative_to(path).as_posix() if path.is_dir() else file.name}:{number}"
                    value = row[column]
                    label = labels.number(names[value] if names and isinstance(value, int) else str(value), origin)
                    if label is not None:
                        split = SPLIT_NAMES.get(str(row.get(of_row, "")).lower(), of_file)
                        yield Row(partial(_image, row["image"], origin), label, split, origin)
                read += len(some)
                progress(read, read / total)
        except (pa.ArrowException, OSError) as error:
            raise MienError(f"{file} cannot be read beyond row {number}: {error}. Download it anew.") from None


def _opened(file: Path) -> pq.ParquetFile:
    try:
        # With Arrow's buffer ahead, all that was read would stay in memory.
        return pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise MienError(f"{file} is no Parquet file ({error}). Download it anew.") from None


def _label(file: Path, schema: pa.Schema) -> str:
    column = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if column is None or "image" not in schema.names:
        listed = ", ".join(schema.names)[:80]
        raise MienError(f"{file} has the columns {listed}, expected image and label (or emotion). Rename them.")
    return column


def _names(schema: pa.Schema, column: str) -> list[str]:
    """The names of the numbers in the label's `column`, where the hub's metadata have them."""
    features: dict[str, Any] = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
    return list(features.get("features", {}).get(column, {}).get("names", ()))


def _image(value: Any, origin: str) -> bytes:
    """The encoded image itself; the hub puts it into `bytes`, beside `path`."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        raise MienError(f"{origin}: image holds no bytes, expected an encoded image such as PNG or JPEG.")
    return data
