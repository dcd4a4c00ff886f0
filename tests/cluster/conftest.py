"""A project of three tiny trainings, and the processes that train on a test's cluster."""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mien.config.params import DistillationRecipe, Family, Params
from mien.files import write_json


@pytest.fixture
def small(params: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Two tiny families and a student of the first; the project is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(prepared, tmp_path / "data/prepared")
    recipe = {"batch_size": 32, "epochs": 3, "max_rows": 140, "precision": "float32"}
    network = dataclasses.replace(params.family("cnn").model, network="cnn", blocks=((8,),))
    write_json(tmp_path / "reports/tune/cnn.json", {"best": {"params": {"train.learning_rate": 0.03}}})
    families = {
        "cnn": Family(network, recipe, params.family("cnn").search),
        "wider": Family(dataclasses.replace(network, blocks=((12,),)), recipe),
    }
    distil = DistillationRecipe(("cnn",) * 5, start="cnn")
    return dataclasses.replace(params, families=families, students={"pupil": Family(network, recipe, distil=distil)})


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """Finds the processes that train now on this test's cluster, whose nodes are its children."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any("ray::train" in part for part in process.cmdline()):
                    found.append(process)
        return found

    return find
