import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from mien.config.params import DistillationRecipe, Family, Params
from mien.data.dataset import read_info, read_split
from mien.errors import MienError
from mien.evaluation.metrics import accuracy
from mien.files import write_json
from mien.inference.runtime import Runtime
from mien.learning.training.distillation import weights_digest
from mien.registry.tracking.store import tracking_uri
from mien.stages import train


@pytest.fixture
def short(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """One tiny network, two epochs; MLflow writes to the test's own folder, which holds a tuning report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    family = params.family("cnn")
    # In bfloat16 on any processor, because what is kept, exported and told must be float32 even so.
    recipe = {"batch_size": 32, "epochs": 2, "max_rows": 140, "precision": "mixed_bfloat16"}
    small = Family(dataclasses.replace(family.model, blocks=((8,),)), recipe, family.search)
    write_json(tmp_path / "tuned.json", {"best": {"value": 0.2, "params": {"train.learning_rate": 0.03}}})
    return dataclasses.replace(params, families={"cnn": small})


def run(prepared: Path, folder: Path, params: Params) -> None:
    checkpoints = folder / "checkpoints"
    train.run("cnn", prepared, folder / "tuned.json", folder / "model", folder / "cnn.json", checkpoints, params)


def test_a_training_leaves_models_report_and_run_that_agree(short: Params, prepared: Path, tmp_path: Path) -> None:
    run(prepared, tmp_path, short)
    report = json.loads((tmp_path / "cnn.json").read_text())
    validation = read_split(prepared, "validation").without_leaks()
    served = Runtime(tmp_path / "model" / "model.onnx").predict(validation.images.astype(np.float32))
    assert report["validation"]["accuracy"] == pytest.approx(
        accuracy(validation.labels, served.argmax(axis=1)), abs=0.02
    )
    assert report["onnx"]["max_probability_difference"] < train.PARITY
    assert report["params"]["train"]["learning_rate"] == 0.03, "the tuned value"
    assert report["data"] == {**{key: read_info(prepared)[key] for key in ("name", "digest")}, "rows": 140}
    assert report["epochs"] == len(report["history"]["val_macro_f1"]) == 2
    assert (tmp_path / "model" / "model.keras").stat().st_size > 0
    assert not (tmp_path / "checkpoints").exists(), "a finished training leaves nothing to carry on"

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    kept = client.get_run(report["run_id"])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["learning_rate"] == "0.03"
    curve = client.get_metric_history(report["run_id"], "val_macro_f1")
    assert [point.value for point in curve] == report["history"]["val_macro_f1"]


def test_a_student_is_trained_by_the_models_beside_its_own(short: Params, prepared: Path, tmp_path: Path) -> None:
    teacher = short.family("cnn")
    distil = DistillationRecipe(("cnn",) * 5, temperature=3.0)
    network = dataclasses.replace(teacher.model, network="cnn")
    student = dataclasses.replace(teacher, model=network, seed=11, distil=distil)
    params = dataclasses.replace(short, students={"small": student})
    args = prepared, None, tmp_path / "models" / "small", tmp_path / "small.json", tmp_path / "kept", params
    with pytest.raises(MienError, match=r"teacher .*cnn/model\.keras is missing"):
        train.run("small", *args)
    run(prepared, tmp_path, short)
    (tmp_path / "models").mkdir()
    (tmp_path / "model").rename(tmp_path / "models" / "cnn")
    train.run("small", *args)
    result = json.loads((tmp_path / "small.json").read_text())
    trained = keras.saving.load_model(tmp_path / "models" / "cnn" / "model.keras", compile=False)
    digest = weights_digest(trained.get_weights())
    assert result["distil"] == {"teachers": {"cnn": digest}, "temperature": 3.0, "weight": 0.7, "start": None}
    assert (result["seed"], result["family"]) == (11, "small")
    own = json.loads((tmp_path / "cnn.json").read_text())
    assert (own["seed"], "distil" in own) == (short.seed, False)
    assert result["gmac"] == own["gmac"] == pytest.approx(48 * 48 * 9 * 8 / 1e9, rel=0.01)


def test_a_killed_training_carries_on_in_the_same_run(
    short: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = train.EpochLogger.__call__

    def kill(self: train.EpochLogger, epoch: int, numbers: dict[str, float]) -> None:
        tell(self, epoch, numbers)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(train.EpochLogger, "__call__", kill)
        with pytest.raises(KeyboardInterrupt):
            run(prepared, tmp_path, short)
    assert not (tmp_path / "cnn.json").exists()
    begun = json.loads((tmp_path / "checkpoints" / "run.json").read_text())["run_id"]
    run(prepared, tmp_path, short)
    report = json.loads((tmp_path / "cnn.json").read_text())
    assert report["run_id"] == begun
    assert report["epochs"] == 2


def test_an_export_that_answers_otherwise_is_refused(
    short: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "predict", lambda runtime, faces: np.full((len(faces), 7), 0.9, np.float32))
    with pytest.raises(MienError, match=r"answers otherwise than the trained model: probabilities differ by up to"):
        run(prepared, tmp_path, short)
    assert not (tmp_path / "cnn.json").exists()


def test_without_a_tuning_report_the_error_says_how_to_make_it(short: Params, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned.json").unlink()
    with pytest.raises(MienError, match="dvc repro tune@cnn"):
        run(prepared, tmp_path, short)
