"""mien.registry.tracking.versions against a real MLflow database in a folder of its own."""

from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.registry import tracking
from mien.registry.tracking import versions


@pytest.fixture
def model(store: Path, write_model: Any) -> Path:
    """A small ONNX file."""
    path: Path = write_model(store / "made" / "model.onnx")
    return path


def registered(model: Path, version_tags: dict[str, str] | None = None) -> tuple[str, str]:
    """A run with the model, made a version of `mien`."""
    with tracking.run("mien", "cnn") as run:
        run.log_model(model, {"validation_macro_f1": 0.5})
    return versions.register("mien", run.id, version_tags or {}, {"test_accuracy": 0.6}), run.id


def test_the_registered_model_is_the_file_byte_for_byte(store: Path, model: Path) -> None:
    version, run_id = registered(model, {"temperature": "1.5"})
    versions.set_alias("mien", "champion", version)
    champion = versions.champion("mien")
    assert champion == versions.Version(
        "1", run_id, {"temperature": "1.5"}, {"validation_macro_f1": 0.5, "test_accuracy": 0.6}
    )
    assert versions.download("mien", version, store / "fetched").read_bytes() == model.read_bytes()


def test_the_registered_model_has_a_signature(store: Path, model: Path) -> None:
    import mlflow.models

    version, _ = registered(model)
    folder = versions.download("mien", version, store / "fetched").parent
    signature = mlflow.models.Model.load(str(folder)).signature
    assert signature.inputs.inputs[0].shape == (-1, 48, 48, 1)
    assert signature.outputs.inputs[0].shape == (-1, 7)


def test_registering_a_model_again_keeps_its_version_and_renews_its_tags(model: Path) -> None:
    version, run_id = registered(model, {"temperature": "1.5"})
    assert versions.register("mien", run_id, {"temperature": "1.6"}) == version
    newest = versions.find_tagged("mien", "temperature", "1.6")
    assert newest is not None
    assert newest.version == version
    second, _ = registered(model)
    assert second == "2"


def test_the_alias_moves_from_one_version_to_the_next(model: Path) -> None:
    assert versions.champion("mien") is None
    first, _ = registered(model)
    assert versions.champion("mien") is None
    second, _ = registered(model)
    for version in (first, second):
        versions.set_alias("mien", "champion", version)
        champion = versions.champion("mien")
        assert champion is not None
        assert champion.version == version


@pytest.mark.usefixtures("store")
def test_a_run_without_a_model_cannot_be_registered() -> None:
    with tracking.run("mien", "cnn") as run:
        pass
    with pytest.raises(MienError, match=f"no model of run '{run.id}'"):
        versions.register("mien", run.id, {})
    assert versions.find_tagged("mien", "family", "cnn") is None
