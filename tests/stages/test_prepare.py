import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from mien.config.params import Params
from mien.data import dataset, sources
from mien.data.raw import batch, pgm
from mien.emotions import SPLITS
from mien.errors import MienError
from mien.stages import prepare


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def face(tone: int) -> bytes:
    return pgm(np.random.default_rng(tone).integers(0, 256, (48, 48), np.uint8))


def write_raw(folder: Path, *extra: tuple[bytes, int, str]) -> Path:
    """One face per split, and what a test adds."""
    rows = [(face(1), 0, "train"), (face(2), 1, "validation"), (face(3), 2, "test"), *extra]
    images, labels, splits = zip(*rows, strict=True)
    sources.write(batch("faces", images, labels, splits, [f"faces:{n}" for n in range(len(rows))]), folder)
    return folder


def run(raw: Path, params: Params) -> Path:
    prepared = raw.parent / "prepared"
    prepare.run(raw, prepared, raw.parent / "plots", params, progress=False)
    return prepared


def test_prepare_writes_splits_statistics_and_charts(prepared: Path) -> None:
    assert sorted(contents(prepared)) == [
        "dataset.json", "exclusions.csv", "statistics.parquet", "test.parquet", "train.parquet", "validation.parquet",
    ]  # fmt: skip
    info = dataset.read_info(prepared)
    splits = {name: dataset.read_split(prepared, name) for name in SPLITS}
    assert info["name"] == "synthetic sample"
    assert info["digest"] == dataset.digest(splits.values())
    assert info["counts"] == {name: dataset.counts(split) for name, split in splits.items()}
    assert [path.name for path in (prepared.parent / "plots").iterdir()] == ["class_distribution.png"]


def test_pictures_of_faces_go_to_a_folder_of_their_own(tmp_path: Path, params: Params) -> None:
    raw, faces = write_raw(tmp_path / "raw"), tmp_path / "faces"
    prepare.run(raw, tmp_path / "prepared", tmp_path / "plots", params, progress=False, faces=faces)
    assert [path.name for path in faces.iterdir()] == ["contact_sheet.png"]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["class_distribution.png"]


def test_a_second_run_gives_the_same_bytes(tmp_path: Path, params: Params) -> None:
    raw = write_raw(tmp_path / "raw", (face(1), 0, "train"))
    first = contents(run(raw, params))
    assert contents(run(raw, params)) == first
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["plots", "prepared", "raw"], "left-overs"


def test_every_row_is_accounted_for(tmp_path: Path, params: Params) -> None:
    flat = pgm(np.zeros((48, 48), np.uint8))
    raw = write_raw(tmp_path / "raw", (face(1), 0, "train"), (flat, 4, "train"), (face(1), 0, "test"))
    prepared = run(raw, params)
    statistics = pq.read_table(prepared / "statistics.parquet").to_pylist()
    assert [row["origin"] for row in statistics] == [f"faces:{n}" for n in range(6)]
    assert [(row["status"], row["reason"]) for row in statistics] == [
        ("kept", ""), ("kept", ""), ("kept", ""), ("excluded", "copy"), ("excluded", "flat"), ("flagged", "leaked"),
    ]  # fmt: skip
    info = json.loads((prepared / "dataset.json").read_text())
    assert info["excluded"] == {"copy": 1, "flat": 1}
    assert info["flagged"] == {"leaked": 1}
    with (prepared / "exclusions.csv").open() as stream:
        listed = [(line["origin"], line["emotion"], line["reason"]) for line in csv.DictReader(stream)]
    assert listed == [("faces:3", "angry", "copy"), ("faces:4", "sad", "flat"), ("faces:5", "angry", "leaked")]
    assert dataset.read_split(prepared, "train").rows.tolist() == [0]
    assert dataset.read_split(prepared, "test").leaked.tolist() == [False, True]


def test_dropping_leaks_from_train_leaves_no_row_leaked(tmp_path: Path, params: Params) -> None:
    raw = write_raw(tmp_path / "raw", (face(1), 0, "test"), (face(9), 3, "train"))
    policy = replace(params.prepare, leaks="drop_from_train")
    prepared = run(raw, replace(params, prepare=policy))
    assert dataset.read_split(prepared, "train").rows.tolist() == [4]
    assert not dataset.read_split(prepared, "test").leaked.any()
    assert dataset.read_info(prepared)["excluded"] == {"leak": 1}


def test_large_and_colour_photos_become_faces(tmp_path: Path, params: Params) -> None:
    photo = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8))[1]
    raw = write_raw(tmp_path / "raw", (photo.tobytes(), 0, "train"))
    prepared = run(raw, params)
    last = pq.read_table(prepared / "statistics.parquet").to_pylist()[-1]
    assert (last["width"], last["height"]) == (90, 120)
    gray = cv2.imdecode(photo, cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    expected = cv2.resize(gray, (48, 48), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(dataset.read_split(prepared, "train").images[-1, ..., 0], expected)


def test_batches_are_read_in_file_name_order(tmp_path: Path, params: Params) -> None:
    raw = write_raw(tmp_path / "raw")
    sources.write(batch("faces", [face(7)], [5], ["train"], ["more:1"]), raw, append=True)
    prepared = run(raw, params)
    assert dataset.read_split(prepared, "train").rows.tolist() == [0, 3]
    assert dataset.read_info(prepared)["name"] == "faces"


def test_a_corrupt_image_is_named_and_the_old_output_stays(tmp_path: Path, params: Params) -> None:
    raw = write_raw(tmp_path / "raw")
    before = contents(run(raw, params))
    sources.write(batch("faces", [b"no image"], [5], ["train"], ["more:1"]), raw, append=True)
    with pytest.raises(MienError, match="Image more:1 cannot be read"):
        run(raw, params)
    assert contents(tmp_path / "prepared") == before


def test_missing_raw_data_says_how_to_get_some(tmp_path: Path, params: Params) -> None:
    with pytest.raises(MienError, match=r"holds no raw data.*mien fetch"):
        run(tmp_path / "raw", params)


def test_a_split_without_rows_is_named(tmp_path: Path, params: Params) -> None:
    sources.write(batch("faces", [face(1)], [0], ["train"], ["faces:1"]), tmp_path / "raw")
    with pytest.raises(MienError, match="leaves no rows for validation, test"):
        run(tmp_path / "raw", params)


def test_a_full_disk_leaves_the_old_output(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw")
    before = contents(run(raw, params))
    write_parts = dataset.write_parts

    def full(folder: Path, name: str, parts: Iterator[dataset.Split]) -> None:
        if name == "test":
            raise OSError(28, "No space left on device")
        write_parts(folder, name, parts)

    monkeypatch.setattr(dataset, "write_parts", full)
    with pytest.raises(MienError, match=r"Cannot write .*prepared: No space left on device"):
        run(raw, params)
    assert contents(tmp_path / "prepared") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plots", "prepared", "raw"]


def test_data_larger_than_a_group_are_written_and_read_as_whole_ones(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tmp_path / "raw", *((face(n), n % 7, "train") for n in range(10, 19)), (face(10), 3, "train"))
    whole = {name: dataset.read_split(run(raw, params), name) for name in SPLITS}
    digest = dataset.read_info(tmp_path / "prepared")["digest"]
    statistics = pq.read_table(tmp_path / "prepared" / "statistics.parquet")
    for module in (dataset, prepare):
        monkeypatch.setattr(module, "GROUP", 4)
    monkeypatch.setattr(dataset, "PART", 3)
    prepared = run(raw, params)
    assert dataset.read_info(prepared)["digest"] == digest
    assert pq.read_table(prepared / "statistics.parquet").equals(statistics)
    again = dataset.read_split(prepared, "train")
    assert isinstance(again.images, np.memmap)
    assert not isinstance(whole["train"].images, np.memmap)
    for name in ("images", "labels", "leaked", "rows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole["train"], name))
    np.testing.assert_array_equal(np.concatenate([*again.parts()]), whole["train"].images)
    assert len(contents(prepared)) == 6, "the map's file has no name"


def test_a_damaged_split_says_how_to_make_it_anew(tmp_path: Path, params: Params) -> None:
    path = run(write_raw(tmp_path / "raw"), params) / "train.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(MienError, match=r"train.parquet is damaged.*dvc repro -f prepare"):
        dataset.read_split(path.parent, "train")


def test_progress_is_silent_without_a_terminal(
    tmp_path: Path, params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw")
    prepare.run(raw, tmp_path / "prepared", tmp_path / "plots", params, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.real_data
def test_a_slice_of_the_real_csv_keeps_its_pixels(fer2013_folder: Path, tmp_path: Path, params: Params) -> None:
    table = tmp_path / "fer2013.csv"
    subprocess.run([sys.executable, fer2013_folder / "unpack.py", "csv", table, "--limit", "80"], check=True)
    sources.write(sources.csv(table), tmp_path / "raw")
    prepared = run(tmp_path / "raw", params)
    with table.open() as stream:
        lines = list(csv.DictReader(stream))
    for name, usage in zip(SPLITS, ("Training", "PublicTest", "PrivateTest"), strict=True):
        split = dataset.read_split(prepared, name)
        for row, image, label in zip(split.rows, split.images, split.labels, strict=True):
            line = lines[row]
            assert (line["Usage"], int(line["emotion"])) == (usage, label)
            assert line["pixels"] == " ".join(map(str, image.ravel()))


@pytest.mark.real_data
def test_the_whole_of_fer2013_has_the_known_copies_and_leaks(
    fer2013_folder: Path, tmp_path: Path, params: Params
) -> None:
    table = pq.read_table(fer2013_folder / "fer2013.parquet")
    names = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    splits = [names[usage] for usage in table["usage"].to_pylist()]
    images, labels = table["image"].to_pylist(), table["emotion"].to_pylist()
    # As lossless WebP: flat ones OpenCV refuses; pixels, and so the digest, are those of the CSV.
    sources.write(batch("fer2013", images, labels, splits, [str(n) for n in range(len(images))]), tmp_path / "raw")
    prepared = run(tmp_path / "raw", params)

    info: dict[str, Any] = dataset.read_info(prepared)
    assert info["digest"] == "f2ebfc4ef22d7b77f97efaa6ee4752891b6e5a1688d1d0b2bb24f9ea86c35d39"
    assert info["excluded"] == {"conflict": 98, "copy": 1168, "flat": 10, "placeholder": 31}
    assert info["flagged"] == {"conflict": 4, "copy": 22, "leaked": 568, "placeholder": 8}
    assert list(info["counts"]["validation"].values()) == [467, 56, 496, 895, 653, 415, 607]
    assert list(info["counts"]["test"].values()) == [491, 55, 528, 879, 594, 416, 626]

    found = pq.read_table(prepared / "statistics.parquet").to_pandas()
    assert len(found) == 35_887
    train = found[found.split == "train"].groupby("emotion").size()
    assert train.to_list() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    distinct = found.drop_duplicates("pixels")
    assert len(distinct) == 34_033
    assert (distinct.copies > 1).sum() == 1_518
    assert distinct.conflict.sum() == 58
    assert (found.groupby("pixels").split.nunique() > 1).sum() == 557
    assert found.groupby("split").leaked.sum().to_dict() == {"test": 288, "train": 0, "validation": 280}
    assert found.flat.sum() == 11
