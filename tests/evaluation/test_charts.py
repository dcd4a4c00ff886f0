"""Every chart is a readable PNG, also for the odd shapes that small data bring."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.emotions import EMOTIONS, SPLITS
from mien.errors import MienError
from mien.evaluation import charts, metrics

RANDOM = np.random.default_rng(0)
FACES = RANDOM.integers(0, 256, (30, 48, 48, 1), np.uint8)
LABELS = RANDOM.integers(0, 7, 30)
PROBABILITIES = RANDOM.dirichlet(np.ones(7), 30)
RELIABILITY = metrics.reliability(PROBABILITIES, LABELS)
HISTORY = {"loss": [2.0, 1.5], "accuracy": [0.2, 0.4], "val_loss": [2.1, 1.8], "val_accuracy": [0.2, 0.3]}
SEVERITIES = {word: {"level": "σ 1", "accuracy": 0.5, "macro_f1": 0.4} for word in ("mild", "medium", "strong")}
ROBUSTNESS = {"clean": {"accuracy": 0.6}, "corruptions": {"blur": SEVERITIES, "noise": SEVERITIES}}
TRIALS = [
    {"number": n, "state": state, "value": value, "params": {"train.learning_rate": rate, "train.optimizer": name}}
    for n, (state, value, rate, name) in enumerate([
        ("complete", 0.4, 0.01, "sgd"), ("complete", 0.6, 0.2, "adam"), ("pruned", 0.1, 0.5, "sgd")
    ])
]  # fmt: skip
SCORES = {"accuracy": 0.6, "macro_f1": 0.5, "uar": 0.55}

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "class distribution": lambda path: charts.class_distribution(
        {split: dict.fromkeys(EMOTIONS, 9) for split in SPLITS}, path
    ),
    "class distribution of one split with absent emotions": lambda path: charts.class_distribution(
        {"train": {"happy": 3}}, path
    ),
    "contact sheet": lambda path: charts.contact_sheet(FACES, LABELS, path, note="synthetic sample"),
    "contact sheet of two-dimensional faces of one emotion": lambda path: charts.contact_sheet(
        FACES[:2, :, :, 0], np.array([3, 3]), path
    ),
    "contact sheet of nothing": lambda path: charts.contact_sheet(FACES[:0], LABELS[:0], path),
    "confusion matrix": lambda path: charts.confusion_matrix(
        metrics.confusion(LABELS, PROBABILITIES.argmax(axis=1)), path
    ),
    "confusion matrix without a face": lambda path: charts.confusion_matrix(np.zeros((7, 7), np.int64), path),
    "reliability diagram": lambda path: charts.reliability_diagram({"before": RELIABILITY, "after": RELIABILITY}, path),
    "learning curves": lambda path: charts.learning_curves({"cnn": [HISTORY, HISTORY], "vgg16": [HISTORY]}, path),
    "learning curves of many recipes": lambda path: charts.learning_curves(
        {str(recipe): [HISTORY] for recipe in range(16)}, path
    ),
    "learning curves of one epoch": lambda path: charts.learning_curves({"cnn": [{"loss": [2.0]}]}, path),
    "example errors": lambda path: charts.example_errors(FACES, LABELS, PROBABILITIES, path),
    "example errors of a perfect model": lambda path: charts.example_errors(FACES, LABELS, np.eye(7)[LABELS], path),
    "coverage": lambda path: charts.coverage(metrics.coverage(PROBABILITIES, LABELS), 0.4, path, note="sample"),
    "coverage of one face, never sure": lambda path: charts.coverage(
        metrics.coverage(PROBABILITIES[:1], LABELS[:1]), 1.0, path
    ),
    "robustness": lambda path: charts.robustness(ROBUSTNESS, path, note="sample"),
    "search history": lambda path: charts.search_history(TRIALS, path),
    "search history of one pruned trial": lambda path: charts.search_history(TRIALS[2:], path),
    "parallel coordinates": lambda path: charts.parallel_coordinates(TRIALS, path, note="cnn"),
    "parallel coordinates of one trial": lambda path: charts.parallel_coordinates(TRIALS[:1], path),
    "importances": lambda path: charts.importances({"train.learning_rate": 0.9, "model.dropout": 0.1}, path),
    "importances of one value": lambda path: charts.importances({"train.learning_rate": 1.0}, path),
    "ablations": lambda path: charts.ablations({"no_flip": [-0.01, -0.02], "mixup": [0.01]}, path, "against recipe"),
    "families": lambda path: charts.families({"cnn": SCORES, "vgg16": SCORES}, path, winner="cnn"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_chart_is_a_png_of_a_legible_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / "charts" / "chart.png"
    DRAWINGS[name](path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 200 <= image.width <= 2400
        assert 200 <= image.height <= 2400
    assert list(path.parent.iterdir()) == [path]


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        charts.contact_sheet(FACES, LABELS, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_charts_leave_the_global_style_alone(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    charts.learning_curves({"cnn": [HISTORY]}, tmp_path / "chart.png")
    assert dict(mpl.rcParams) == before


def test_a_chart_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "chart.png").mkdir()
    with pytest.raises(MienError, match="Cannot write"):
        charts.confusion_matrix(np.eye(7, dtype=np.int64), tmp_path / "chart.png")
