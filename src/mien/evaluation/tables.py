"""Write an evaluation's tables: CSV for `dvc plots`, and the classification report as text."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.evaluation import metrics
from mien.evaluation.metrics import Coverage, Reliability
from mien.files import write_file, write_text

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")
POINTS = 200
"""Rows of a coverage curve: more would not be visible."""


def confusion(path: Path, labels: NDArray[Any], predicted: NDArray[Any]) -> None:
    """One row per face: the actual and the predicted emotion."""
    named = ((EMOTIONS[label], EMOTIONS[answer]) for label, answer in zip(labels, predicted, strict=True))
    _write_csv(path, ("actual", "predicted"), named)


def reliability(path: Path, before: Reliability, after: Reliability) -> None:
    """One row per confidence bin: its accuracy, as trained and with temperature."""
    middles = (before.edges[1:] + before.edges[:-1]) / 2
    bins = (
        (f"{middle:.4f}", *(f"{curve.accuracy[i]:.4f}" if curve.count[i] else "" for curve in (before, after)))
        for i, middle in enumerate(middles)
    )
    _write_csv(path, ("confidence", "as_trained", "with_temperature"), bins)


def coverage(path: Path, curve: Coverage) -> None:
    """Accuracy and least confidence at evenly spaced coverages."""
    rows = np.unique(np.linspace(0, len(curve.share) - 1, POINTS).round().astype(int))
    columns = (curve.share, curve.accuracy, curve.confidence)
    _write_csv(path, ("coverage", "accuracy", "confidence"), ([f"{c[row]:.4f}" for c in columns] for row in rows))


def robustness(path: Path, found: Mapping[str, Any]) -> None:
    """One row per corruption and severity; severity 0 is the uncorrupted face."""
    rows = [
        (name, severity, result["level"], f"{result['accuracy']:.4f}", f"{result['macro_f1']:.4f}")
        for name, severities in found["corruptions"].items()
        for severity, result in enumerate([{"level": "none", **found["clean"]}, *severities.values()])
    ]
    _write_csv(path, ("corruption", "severity", "level", "accuracy", "macro_f1"), rows)


def learning_curve(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """One row per epoch."""
    columns = [name for name in CURVES if history.get(name)]
    epochs = range(1, len(history.get("loss", [])) + 1)
    _write_csv(path, ("epoch", *columns), zip(epochs, *(history[name] for name in columns), strict=True))


def classification_report(path: Path, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
    """Precision, recall and F1 of each emotion, laid out as scikit-learn does."""
    columns = ("precision", "recall", "f1")
    rows = metrics.per_emotion(labels, predicted)
    lines = [" " * 10 + "".join(f"{column:>11}" for column in (*columns, "support")), ""]
    for emotion, row in rows.items():
        lines.append(f"{emotion:<10}" + "".join(f"{row[key]:>11.3f}" for key in columns) + f"{row['support']:>11}")
    present = [row for row in rows.values() if row["support"]]
    means = (sum(row[key] for row in present) / len(present) for key in columns)
    lines += ["", f"{'mean':<10}" + "".join(f"{mean:>11.3f}" for mean in means) + f"{len(labels):>11}"]
    lines += [f"{'accuracy':<10}{metrics.accuracy(labels, predicted):>11.3f}"]
    write_text(path, "\n".join(lines) + "\n")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(target: Path) -> None:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_file(path, write)
