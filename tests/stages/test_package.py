"""mien.stages.package: the champion's folder is whole or untouched, and its Bento answers by itself."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from mien.config.params import Params
from mien.errors import MienError
from mien.inference import detector_file
from mien.inference.champion import CHAMPION_VARIABLE, SHIPPED, Card, read_card
from mien.inference.tta import Tta
from mien.monitoring.drift_windows import PROFILE_FILE
from mien.registry.tracking import versions
from mien.stages import package

WriteModel = Callable[..., Path]

BENTOFILE = """
service: "mien.serving.service:Mien"
include:
  - src/mien/*.py
  - src/mien/inference/
  - src/mien/monitoring/
  - src/mien/serving/
  - models/champion/
python:
  is_src_layout: true
  requirements_txt: requirements-serving.lock
  lock_packages: false
"""

TAGS = {
    "family": "cnn",
    "temperature": "1.5",
    "data.name": "synthetic sample",
    "data.digest": "d1ce",
    "git.commit": "c0de",
    "synthetic": "true",
}


class Registry:
    """A registry with one model file, in place of MLflow's."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.tagged: dict[str, str] = {}
        self.profile = ""
        self.version: versions.Version | None = self.of("4")

    def of(self, version: str, tags: Mapping[str, str] = TAGS) -> versions.Version:
        """A version of the model."""
        digest = hashlib.sha256(self.model.read_bytes()).hexdigest()
        return versions.Version(version, "run", {**tags, "onnx_sha256": digest}, {"test_accuracy": 0.5})

    def champion(self, name: str) -> versions.Version | None:
        """The version."""
        assert name == "mien"
        return self.version

    def download(self, _name: str, _version: str, folder: Path) -> Path:
        """A copy of the file."""
        folder.mkdir(parents=True)
        (folder / "cards").mkdir()
        (folder / "cards" / "model_card.md").write_text("# Model card")
        if self.profile:
            (folder / "cards" / PROFILE_FILE).write_text(self.profile)
        return Path(shutil.copy(self.model, folder / "model.onnx"))

    def tag(self, _name: str, version: str, tags: Mapping[str, str]) -> None:
        """Remember the tags of the champion."""
        assert self.version is not None
        assert version == self.version.version
        self.tagged |= tags


@pytest.fixture
def registry(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry, its champion being version 4."""
    made = Registry(write_model(tmp_path / "store" / "model.onnx"))
    monkeypatch.setattr(versions, "champion", made.champion)
    monkeypatch.setattr(versions, "download", made.download)
    monkeypatch.setattr(versions, "tag", made.tag)
    return made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's root after `promote`, as the current folder, with a store for Bentos of its own."""
    root = tmp_path / "project"
    (root / "reports").mkdir(parents=True)
    (root / "bentofile.yaml").write_text(BENTOFILE)
    (root / "requirements-serving.lock").write_text("numpy==2.4.0\n")
    (root / "reports" / "promotion.json").write_text('{"model": "mien"}')
    monkeypatch.chdir(root)
    monkeypatch.setenv("BENTOML_HOME", str(root / "bentoml"))
    for name in (CHAMPION_VARIABLE, detector_file.YUNET_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def _no_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bentos that cost no time."""
    monkeypatch.setattr(package, "build", lambda *_: ("mien:v0", tmp_path / "bento"))


def run(params: Params) -> None:
    """The stage, as dvc.yaml calls it."""
    reports = Path("reports")
    package.run(reports / "promotion.json", Path("models/champion"), reports / "bento.json", params)


@pytest.mark.usefixtures("registry")
def test_the_bento_answers_with_its_own_code_and_champion(
    project: Path, params: Params, tmp_path: Path, yunet_or_none: Path | None
) -> None:
    if yunet_or_none:
        (project / "models" / "detector").mkdir(parents=True)
        shutil.copy(yunet_or_none, project / "models" / "detector" / "face_detector.onnx")
    run(params)
    report = json.loads((project / "reports" / "bento.json").read_text())
    bento = project / "bentoml" / "bentos" / report["name"] / report["version"]
    detector = "yunet" if yunet_or_none else "auto"
    assert {key: report[key] for key in ("model_version", "data_digest", "git_commit", "detector")} == {
        "model_version": "4",
        "data_digest": "d1ce",
        "git_commit": "c0de",
        "detector": detector,
    }
    assert report["tag"] == f"mien:{report['version']}"
    assert bento.is_relative_to(project / "bentoml")
    assert report["bytes"] > 10_000
    assert (bento / "src" / "models" / "champion" / detector_file.YUNET_FILE).exists() == bool(yunet_or_none)
    assert not (bento / "src" / "mien" / "stages").exists()
    assert not list((bento / "src" / "mien").glob("**/*.onnx"))  # the champion that comes with the package stays out
    assert "numpy==2.4.0" in (bento / "env" / "python" / "requirements.txt").read_text()

    code = (
        "import numpy, mien; from mien import Mien; answer = Mien().predict(numpy.full((48, 48), 80, 'uint8'));"
        "print(mien.__file__, answer['faces'][0]['emotion'], answer['model']['version'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(bento / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(bento / "src" / "mien" / "__init__.py"), "fear", "4"]


@pytest.fixture(scope="session")
def yunet_or_none(request: pytest.FixtureRequest) -> Path | None:
    """YuNet's file where it is at hand."""
    try:
        found: Path = request.getfixturevalue("yunet_file")
    except pytest.skip.Exception:
        return None
    return found


@pytest.mark.usefixtures("registry", "_no_build")
def test_the_folder_holds_the_registrys_file_and_its_card(project: Path, params: Params, registry: Registry) -> None:
    run(params)
    folder = project / "models" / "champion"
    assert (folder / "model.onnx").read_bytes() == registry.model.read_bytes()
    assert read_card(folder) == Card(
        version="4",
        temperature=1.5,
        uncertain_below=params.package.uncertain_below,
        detector="auto",
        family="cnn",
        data_name="synthetic sample",
        data_digest="d1ce",
        git_commit="c0de",
        synthetic=True,
        metrics={"test_accuracy": 0.5},
    )
    assert (folder / "model_card.md").read_text() == "# Model card"
    assert [path.name for path in (project / "models").iterdir()] == ["champion"]


@pytest.mark.usefixtures("_no_build")
def test_the_champion_takes_its_training_profile_along(project: Path, params: Params, registry: Registry) -> None:
    registry.profile = '{"format": 1}'
    run(params)
    assert (project / "models" / "champion" / PROFILE_FILE).read_text() == registry.profile


def test_the_card_says_how_the_version_was_judged_whatever_the_parameter_says_now(
    project: Path, params: Params, registry: Registry
) -> None:
    registry.version = registry.of("5", {**TAGS, "tta": "multi_scale", "crops": "44,52"})
    run(params)
    assert params.package.tta == "none"
    assert read_card(project / "models" / "champion").test_time_augmentation == Tta("multi_scale", (44, 52))
    registry.version = registry.of("6", {**TAGS, "tta": "multi_scale", "crops": "large"})
    with pytest.raises(MienError, match="crops of multi_scale are 'large', expected sides in pixels"):
        run(params)
    assert read_card(project / "models" / "champion").version == "5"


@pytest.mark.usefixtures("project", "_no_build")
def test_the_version_remembers_every_bento_made_of_it(
    params: Params, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(params)
    monkeypatch.setattr(package, "build", lambda *_: ("mien:v4-2", tmp_path / "bento"))
    run(params)
    assert registry.tagged == {"bento.v0": "mien:v0", "bento.v4-2": "mien:v4-2"}


@pytest.mark.usefixtures("_no_build")
def test_a_new_champion_replaces_the_old_one_whole(project: Path, params: Params, registry: Registry) -> None:
    run(params)
    (project / "models" / "champion" / "stale").touch()
    registry.version = registry.of("5")
    run(params)
    folder = project / "models" / "champion"
    assert read_card(folder).version == "5"
    assert sorted(path.name for path in folder.iterdir()) == ["champion.json", "model.onnx", "model_card.md"]


@pytest.mark.usefixtures("_no_build")
def test_a_failed_build_leaves_the_old_champion(
    project: Path, params: Params, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params)
    before = (project / "reports" / "bento.json").read_bytes()

    def fail(*_: object) -> None:
        raise MienError("`bentoml build` failed: disk full.")

    monkeypatch.setattr(package, "build", fail)
    registry.version = registry.of("5")
    with pytest.raises(MienError, match="disk full"):
        run(params)
    assert read_card(project / "models" / "champion").version == "4"
    assert (project / "reports" / "bento.json").read_bytes() == before
    assert [path.name for path in (project / "models").iterdir()] == ["champion"]


@pytest.mark.usefixtures("project", "store")
def test_without_a_champion_the_message_says_how_to_get_one(
    project: Path, params: Params, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.version = None
    monkeypatch.chdir(project)
    others = dataclasses.replace(params, promote=dataclasses.replace(params.promote, shipped=False))
    with pytest.raises(MienError, match=r"No version of 'mien' is champion.*dvc repro promote"):
        run(others)


@pytest.mark.usefixtures("_no_build", "store")
def test_where_no_version_is_champion_the_shipped_model_is_packaged(
    project: Path, params: Params, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.version = None
    monkeypatch.chdir(project)
    run(dataclasses.replace(params, package=dataclasses.replace(params.package, uncertain_below=0.3)))
    packed, ours = project / "models" / "champion", read_card(SHIPPED)
    assert (packed / "model.onnx").read_bytes() == (SHIPPED / "model.onnx").read_bytes()
    assert read_card(packed) == dataclasses.replace(ours, version="shipped", uncertain_below=0.3)
    assert (packed / PROFILE_FILE).exists()
    assert json.loads((project / "reports" / "bento.json").read_text())["model_version"] == "shipped"
    assert not registry.tagged


@pytest.mark.usefixtures("registry")
def test_without_a_promotion_the_message_names_the_command(project: Path, params: Params) -> None:
    (project / "reports" / "promotion.json").unlink()
    with pytest.raises(MienError, match="dvc repro promote"):
        run(params)


@pytest.mark.usefixtures("project", "_no_build")
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({**TAGS, "temperature": "warm"}, "no tag `temperature`"),
        ({"family": "cnn"}, "no tag `temperature`"),
        ({**TAGS, "temperature": "-1"}, "temperature is -1"),
    ],
)
def test_a_version_that_was_not_evaluated_is_refused(
    params: Params, registry: Registry, tags: dict[str, str], message: str
) -> None:
    registry.version = registry.of("6", tags)
    with pytest.raises(MienError, match=message):
        run(params)


@pytest.mark.usefixtures("project", "_no_build")
def test_a_file_that_is_not_the_evaluated_one_is_refused(params: Params, registry: Registry) -> None:
    registry.version = registry.of("4")
    registry.model.write_bytes(b"tampered with")
    with pytest.raises(MienError, match="not the file that was evaluated"):
        run(params)


@pytest.mark.usefixtures("registry", "_no_build")
def test_the_detector_is_packed_as_the_parameters_say(
    project: Path, params: Params, yunet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = project / "models" / "champion" / detector_file.YUNET_FILE

    def with_detector(wanted: Literal["auto", "haar", "yunet"]) -> Params:
        return dataclasses.replace(params, package=dataclasses.replace(params.package, detector=wanted))

    with pytest.raises(MienError, match=r"package.detector is yunet, but its file is not at hand"):
        run(with_detector("yunet"))
    monkeypatch.setenv(detector_file.YUNET_VARIABLE, str(yunet_file))
    run(with_detector("auto"))
    assert packed.read_bytes() == yunet_file.read_bytes()
    assert read_card(packed.parent).detector == "yunet"
    monkeypatch.delenv(detector_file.YUNET_VARIABLE)
    monkeypatch.setenv(detector_file.CACHE_VARIABLE, str(tmp_path / "cache"))
    detector_file.fetch(str(yunet_file))
    run(with_detector("yunet"))
    assert packed.read_bytes() == yunet_file.read_bytes()
    run(with_detector("haar"))
    assert not packed.exists()
    assert read_card(packed.parent).detector == "haar"


@pytest.mark.usefixtures("registry")
def test_what_the_build_lacks_is_named(project: Path, params: Params) -> None:
    (project / "requirements-serving.lock").unlink()
    with pytest.raises(MienError, match=r"bentofile.yaml names requirements-serving.lock, which is missing"):
        run(params)
    (project / "bentofile.yaml").unlink()
    with pytest.raises(MienError, match=r"bentofile.yaml is missing"):
        run(params)


@pytest.mark.usefixtures("registry")
def test_a_bentofile_with_a_mistake_ends_in_one_message(project: Path, params: Params) -> None:
    (project / "bentofile.yaml").write_text("service: mien.serving.service:Mine\n")
    with pytest.raises(MienError, match=r'`bentoml build` failed: .*"Mine" not found.*Mend bentofile.yaml'):
        run(params)
    assert not (project / "models" / "champion").exists()
