"""The presets of params/baselines.yaml: their layers, and that each of them trains."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from mien.cli.main import main
from mien.config.params import Params, parse
from mien.data.dataset import Split
from mien.experiments import baselines, comparison, pipeline
from mien.files import read_json
from mien.learning import models
from mien.learning.training.loop import Plan, train

ROOT = Path(__file__).parents[2]
OVERLAY = yaml.safe_load((ROOT / baselines.OVERLAY).read_text())
PRESETS = tuple(OVERLAY["families"])
LARGE = ("efficientnetb0_224", "ladder_resnet50")

LAYERS: dict[str, tuple[int, dict[str, int]]] = {
    "efficientnetb0_224": (224, {"GlobalMaxPooling2D": 1, "DepthwiseConv2D": 16, "Dense": 1}),
    "two_conv_128": (128, {"Conv2D": 2, "MaxPooling2D": 2, "Flatten": 1, "Dense": 2, "BatchNormalization": 0}),
    "four_conv_28": (28, {"Conv2D": 4, "MaxPooling2D": 4, "Dense": 4, "BatchNormalization": 7, "Dropout": 7}),
    "ladder_cnn": (48, {"Conv2D": 4, "Flatten": 1, "Dense": 2}),
    "ladder_cnn_augmented": (48, {"Conv2D": 4, "Flatten": 1, "Dense": 2}),
    "ladder_vgg16": (48, {"Conv2D": 13, "Dense": 1}),
    "ladder_resnet50": (48, {"Conv2D": 53, "Add": 16, "Dense": 1}),
    "five_conv_48": (48, {"Conv2D": 5, "MaxPooling2D": 4, "Dense": 3, "BatchNormalization": 6, "Dropout": 6}),
}
"""Input size and kinds of layers of each preset; convolutions of shortcuts count."""


@pytest.fixture(scope="module")
def presets() -> Params:
    """The parameters as `mien baselines` lays them out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return parse(pipeline.parameters(baselines.OVERLAY))


def test_the_presets_take_the_place_of_the_projects_families(presets: Params) -> None:
    assert tuple(presets.families) == PRESETS == tuple(LAYERS)
    assert not presets.students
    for name in PRESETS:
        _, recipe = presets.training(name)
        assert (recipe.optimizer, recipe.schedule, recipe.label_smoothing, recipe.mixup) == ("adam", "constant", 0, 0)
        assert (recipe.balance == "weights") == name.startswith("ladder")
        assert not presets.family(name).search


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_layers_that_were_published(name: str, presets: Params) -> None:
    architecture, _ = presets.training(name)
    size, expected = LAYERS[name]
    network = models.build(architecture)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert {kind: kinds.count(kind) for kind in expected} == expected
    assert next(layer.output.shape[1] for layer in network.layers[1:]) == size
    if name == "ladder_resnet50":
        assert network.count_params() == pytest.approx(23.5e6, rel=0.02)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LARGE else name for name in PRESETS]
)
def test_a_preset_trains_one_step(name: str, presets: Params) -> None:
    architecture, recipe = presets.training(name)
    labels = np.arange(7)
    images = np.broadcast_to((30 * labels)[:, None, None, None], (7, 48, 48, 1)).astype(np.uint8)
    faces = Split(images, labels, np.zeros(7, bool), labels)
    # Narrow, because one step says as much of a small network as of a large one.
    small = dataclasses.replace(architecture, width=0.25 if architecture.network == "efficientnetb0" else 0.125)
    step = dataclasses.replace(recipe, epochs=1, batch_size=7, max_rows=0)
    result = train(Plan.of(small, step, faces, faces, seed=3))
    assert result.state.epoch == 1
    assert np.isfinite(result.state.history["loss"][0])


def test_every_preset_in_the_report_is_told_with_its_test_scores() -> None:
    scores = {"accuracy": 0.5, "macro_f1": 0.4, "without_leaks": {"accuracy": 0.45}}
    family = {"validation": scores, "test": scores, "parameters": 1234567, "gmac": 0.0125, "seconds": 90}
    assert baselines.table({"two_conv_128": family}).splitlines()[1:] == [
        "preset                  accuracy  macro-F1  accuracy  no leaks   parameters    GMAC   trained",
        "two_conv_128               50.0%     0.400     50.0%     45.0%    1,234,567   0.013     2 min",
    ]


def test_the_command_trains_the_presets_named_and_keeps_and_tells_their_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, report = tmp_path / "raw", tmp_path / "reports" / "baselines.json"
    raw.mkdir()
    (raw / "faces.parquet").touch()
    scores = {"accuracy": 0.5, "macro_f1": 0.4, "without_leaks": {"accuracy": 0.45}}
    told = {"validation": scores, "test": scores, "parameters": 7, "gmac": 0.01, "seconds": 90, "data": {"digest": "a"}}
    asked: list[tuple[str, bool]] = []

    def tell(name: str, _folder: Path, _params: Params, test: bool) -> dict[str, Any]:
        asked.append((name, test))
        return told

    for module in (comparison, pipeline):
        monkeypatch.setattr(module, "call", lambda *_: None)
    monkeypatch.setattr(comparison, "tell", tell)
    command = ["baselines", "--folder", str(tmp_path / "new"), "--raw", str(raw), "--report", str(report)]
    result = CliRunner().invoke(main, [*command, "--only", "two_conv_128"])
    assert asked == [("two_conv_128", True)]
    assert read_json(report, made_by="") == {"families": {"two_conv_128": told}}
    assert result.stdout.splitlines()[-1].startswith("two_conv_128               50.0%")


def test_without_faces_the_message_says_how_to_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["baselines"])
    assert result.exit_code == 1
    assert "data/raw holds no faces" in result.stderr
    assert not (tmp_path / "baselines").exists()
