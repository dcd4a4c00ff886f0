"""The parameters of a run: overlays laid over params.yaml, some of its families, and every fault in one message."""

from pathlib import Path
from typing import Any

import pytest

from mien.config.params import parse
from mien.errors import MienError
from mien.experiments import own_folder, pipeline

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def overlay(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "params").iterdir()), ids=lambda path: path.stem)
def test_each_overlay_of_the_project_fits(path: Path) -> None:
    named = pipeline.read_yaml(path)["families"]
    assert parse(pipeline.parameters(path)).families.keys() == named.keys()


def test_without_overlay_or_names_the_parameters_are_the_projects_own() -> None:
    assert pipeline.parameters() == pipeline.read_yaml(Path("params.yaml"))


def test_a_family_alone_leaves_out_what_needs_others() -> None:
    params = parse(pipeline.parameters(only=["cnn"]))
    assert (list(params.candidates), params.evaluate.ensembles) == (["cnn"], {})


def test_a_student_brings_its_teachers_and_the_ensemble_of_those() -> None:
    params = parse(pipeline.parameters(only=["student_8"]))
    assert list(params.families) == ["cnn_wide", "cnn_wide_8", "cnn_wide_9", "cnn_deep", "vgg16"]
    assert list(params.students) == ["student_8"]
    assert list(params.evaluate.ensembles) == ["wides", "teachers"]


def test_students_and_ensembles_whose_teachers_an_overlay_leaves_out_go_with_them(tmp_path: Path) -> None:
    tree = pipeline.parameters(overlay(tmp_path, "train: {epochs: 3}\nfamilies:\n  vgg16: {train: {batch_size: 64}}"))
    params = parse(tree)
    assert (list(params.candidates), params.evaluate.ensembles) == (["vgg16"], {})
    assert params.training("vgg16")[1].batch_size == 64


def test_an_overlay_that_names_no_family_keeps_all(tmp_path: Path) -> None:
    params = parse(pipeline.parameters(overlay(tmp_path, "train: {epochs: 3}")))
    assert params.candidates.keys() == parse(pipeline.parameters()).candidates.keys()
    assert params.training("cnn_deep")[1].epochs == 40, "its own block comes after train:"


def test_one_message_names_the_overlay_and_all_that_does_not_fit(tmp_path: Path) -> None:
    path = overlay(
        tmp_path,
        """
        train: {epoch: 3}
        families:
          cnn: {model: {network: vgg19}}
          mobile: {train: {}}
        evaluate: {ensembles: {two: [cnn, vgg16]}}
        """,
    )
    with pytest.raises(MienError) as caught:
        pipeline.parameters(path)
    first, *faults = str(caught.value).splitlines()
    assert first == f"{path} laid over params.yaml does not fit:"
    assert [fault.split(":")[0] for fault in faults] == [
        "Unknown key train.epoch",
        "Missing key families.mobile.model in params.yaml.",
    ]
    path.write_text("families:\n  cnn: {model: {network: vgg19}}\nevaluate: {ensembles: {two: [cnn, vgg16]}}")
    with pytest.raises(MienError, match=r"evaluate\.ensembles\.two is \['cnn', 'vgg16'\]"):
        pipeline.parameters(path)
    path.write_text("families:\n  cnn: {model: {network: vgg19}}")
    with pytest.raises(MienError, match="Unknown network 'vgg19'"):
        pipeline.parameters(path)


@pytest.mark.parametrize(("text", "message"), [("- 3", "expected a mapping"), ("a: [", "not valid YAML")])
def test_a_file_that_is_no_overlay_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = overlay(tmp_path, text)
    with pytest.raises(MienError, match=rf"{path} .*{message}"):
        pipeline.parameters(path)


def test_unknown_families_and_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MienError, match=r"no family vgg19: expected some of cnn, .*, student_9"):
        pipeline.parameters(only=["cnn", "vgg19"])
    with pytest.raises(MienError, match=r"none\.yaml not found in"):
        pipeline.parameters(Path("none.yaml"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MienError, match=r"params\.yaml not found in .*Run this in the project's root"):
        pipeline.parameters()


def test_only_a_marked_folder_keeps_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert pipeline.environment(tmp_path)["MLFLOW_TRACKING_URI"] == "sqlite:///elsewhere.db"
    own_folder.mark(tmp_path)
    inside: dict[str, Any] = pipeline.environment(tmp_path)
    assert "MLFLOW_TRACKING_URI" not in inside
    assert inside["BENTOML_HOME"] == str(tmp_path / ".bentoml")
