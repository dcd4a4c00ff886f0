"""Batches appended to real faces, as a pull request brings them: prepared and validated by the stages themselves."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.config.params import Params
from mien.data import sources
from mien.data.raw import Batch, pgm
from mien.data.raw import batch as make
from mien.errors import MienError
from mien.experiments import story_batches
from mien.experiments.story_batches import Faces
from mien.stages import prepare, validate

ROWS, LATER = 1500, 400

pytestmark = [pytest.mark.real_data, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def slice_of_fer2013(fer2013_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    path = tmp_path_factory.mktemp("real") / "fer2013.csv"
    unpack = [sys.executable, str(fer2013_folder / "unpack.py"), "csv", str(path), "--limit", str(ROWS)]
    subprocess.run(unpack, check=True)
    return sources.csv(path)


def faces(rows: Batch, split: str) -> Faces:
    chosen = [row for row in rows.table.to_pylist() if row["split"] == split]
    images = [np.frombuffer(row["image"][-48 * 48 :], np.uint8).reshape(48, 48) for row in chosen]
    return Faces(np.stack(images), np.array([row["emotion"] for row in chosen]))


def judge(rows: Batch, later: Faces, folder: Path, params: Params) -> None:
    """Append the batch to the slice without it, prepare and validate."""
    train = [row for row, split in enumerate(rows.table["split"].to_pylist()) if split == "train"]
    kept = np.setdiff1d(np.arange(rows.table.num_rows), train[-LATER:])
    sources.write(replace(rows, table=rows.table.take(kept)), folder / "raw")
    n = len(later.labels)
    images = [pgm(image) for image in later.images]
    batch = make(rows.name, images, later.labels.tolist(), ["train"] * n, [f"later:{i}" for i in range(n)])
    sources.write(batch, folder / "raw", append=True)
    prepare.run(folder / "raw", folder / "prepared", folder / "plots", params, progress=False)
    part = replace(params, validate=replace(params.validate, profile="fer2013_part"))
    validate.run(folder / "prepared", folder / "validation.json", folder / "docs", part, raw=folder / "raw")


def newest(rows: Batch) -> Faces:
    """The faces that are taken out of the slice to come later, without those of which it holds copies."""
    hashes, every = rows.table["sha256"].to_pylist(), faces(rows, "train")
    own = [row["sha256"] for row in rows.table.to_pylist() if row["split"] == "train"]
    once = np.array([hashes.count(image) == 1 for image in own[-LATER:]])
    return Faces(every.images[-LATER:][once], every.labels[-LATER:][once])


def test_a_good_batch_of_real_faces_passes(slice_of_fer2013: Batch, params: Params, tmp_path: Path) -> None:
    judge(slice_of_fer2013, newest(slice_of_fer2013), tmp_path, params)


@pytest.mark.parametrize(
    ("kind", "telling"),
    [("shuffled", r"probe\.001_fer2013"), ("blurred", r"sharpness\.001_fer2013"), ("leaked", r"leaks\.test\.new")],
)
def test_a_poisoned_batch_of_real_faces_stops_the_pipeline(
    slice_of_fer2013: Batch, params: Params, tmp_path: Path, kind: str, telling: str
) -> None:
    later, exam = newest(slice_of_fer2013), faces(slice_of_fer2013, "test")
    poisoned = {
        "shuffled": story_batches.shuffled(later, seed=1),
        "blurred": story_batches.blurred(later),
        "leaked": story_batches.leaked(later, exam, LATER // 10),
    }
    with pytest.raises(MienError, match=telling):
        judge(slice_of_fer2013, poisoned[kind], tmp_path, params)
