"""Parquet files and WebDataset shards, read a few rows at a time."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.config.params import Params
from mien.data import dataset, sources
from mien.data.raw import Batch
from mien.data.sources import parts
from mien.emotions import EMOTIONS, SPLITS
from mien.errors import MienError
from mien.stages import prepare

HUB = {"info": {"features": {"label": {"names": ["anger", "joy", "contempt"], "_type": "ClassLabel"}}}}


def png(number: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)).save(target, "PNG")
    return target.getvalue()


def write_parquet(path: Path, labels: list[Any], column: str = "label", metadata: Any = None, first: int = 0) -> Path:
    images = [{"bytes": png(first + n), "path": f"{n}.png"} for n in range(len(labels))]
    table = pa.table({"image": images, column: labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)} if metadata else None), path)
    return path


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def column(rows: Batch, name: str) -> list[Any]:
    found: list[Any] = rows.table[name].to_pylist()
    return found


def test_parquet_of_the_hub_keeps_images_names_and_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS", 2)
    for first, split in enumerate(("train", "validation", "test")):
        write_parquet(
            tmp_path / f"faces/data/{split}-00000-of-00001.parquet", [1, 0, 2], metadata=HUB, first=10 * first
        )
    seen: list[tuple[int, float]] = []
    rows = sources.parquet(tmp_path / "faces", {"contempt": "skip"}, progress=lambda *now: seen.append(now))
    assert rows.name == "faces"
    assert column(rows, "image") == [png(n) for n in (20, 21, 0, 1, 10, 11)], "in the files' order"
    assert [EMOTIONS[label] for label in column(rows, "emotion")] == ["happy", "angry"] * 3
    assert column(rows, "split") == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2
    assert column(rows, "origin")[0] == "data/test-00000-of-00001.parquet:1"
    assert rows.notes == ("Left out 3 rows as the label map says.",)
    assert seen[-1] == (9, 1.0)


@pytest.mark.parametrize("name", ["split", "usage", "Usage"])
def test_parquet_that_names_the_split_in_a_column_is_not_split_anew(tmp_path: Path, name: str) -> None:
    usages = ["Training", "PublicTest", "PrivateTest", "train"]
    table = pa.table({"image": [png(n) for n in range(4)], "emotion": [0, 1, 2, 3], name: usages})
    pq.write_table(table, tmp_path / "faces.parquet")
    rows = sources.parquet(tmp_path / "faces.parquet")
    assert column(rows, "split") == ["train", "validation", "test", "train"]
    assert not rows.notes


def test_what_was_streamed_is_written_and_prepared_as_any_rows(tmp_path: Path, params: Params) -> None:
    rows = sources.parquet(write_parquet(tmp_path / "mine.parquet", [n % 7 for n in range(70)], "emotion"))
    assert sorted(set(column(rows, "split"))) == ["test", "train", "validation"]
    assert "Drew 10% of all images" in rows.notes[0]
    written = sources.write(rows, tmp_path / "raw")
    assert written.name == "000_mine.parquet"
    assert sources.write(rows, tmp_path / "raw") == written
    prepare.run(tmp_path / "raw", tmp_path / "prepared", tmp_path / "plots", params, progress=False)
    assert sum(len(dataset.read_split(tmp_path / "prepared", name)) for name in SPLITS) == 70


def test_shards_hold_images_beside_numbers_names_or_json(tmp_path: Path) -> None:
    files = {"a/1.png": png(1), "a/1.cls": b"3\n", "a/2.txt": b"Sadness", "a/2.png": png(2)}
    files |= {"a/3.json": b'{"label": "fear"}', "a/3.jpg": png(3), "a/4.png": png(4), "a/4.json": b'{"emotion": 6}'}
    shards = [write_shard(tmp_path / f"{split}-0000.tar", files) for split in ("train", "val", "test")]
    rows = sources.webdataset(shards)
    assert column(rows, "image")[:4] == [png(n) for n in (1, 2, 3, 4)]
    assert [EMOTIONS[label] for label in column(rows, "emotion")[:4]] == ["happy", "sad", "fear", "neutral"]
    assert column(rows, "split")[::4] == ["train", "validation", "test"]
    assert column(rows, "origin")[0] == "train-0000.tar/a/1"
    assert sources.webdataset([tmp_path]).table.num_rows == 12


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": b"x", "1.cls": b"9"}, r"train.tar/1: label '9', expected one of 0 angry.*--label-map 9=skip"),
        ({"1.png": b"x"}, r"train.tar/1 has png but no label"),
        ({"1.cls": b"1"}, r"train.tar/1 has cls but no image"),
        ({"1.png": b"x", "1.json": b"[]"}, r"train.tar/1.json is '\[\]', expected an object with label or emotion"),
        ({}, r"holds no faces"),
    ],
)
def test_a_broken_shard_is_refused_in_one_sentence(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(MienError, match=message):
        sources.webdataset([write_shard(tmp_path / "train.tar", files)])


def test_a_truncated_shard_names_the_last_sample(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "train.tar", {f"{n}.{suffix}": png(n) for n in range(9) for suffix in ("png", "cls")}
    )
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(MienError, match=r"train.tar cannot be read beyond sample 0: .*Download it anew"):
        sources.webdataset([shard])


def test_foreign_parquet_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MienError, match=r"holds no \.parquet files"):
        sources.parquet(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(MienError, match=r"a.parquet is no Parquet file"):
        sources.parquet(tmp_path)
    with pytest.raises(MienError, match=r"has the columns image, mood, expected image and label"):
        sources.parquet(write_parquet(tmp_path / "a.parquet", [1], "mood"))
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "1.png"}], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(MienError, match=r"a.parquet:1: image holds no bytes"):
        sources.parquet(tmp_path)
