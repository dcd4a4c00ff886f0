"""What an evaluation leaves in `reports/plots`: PNG charts for people, CSV files for `dvc plots`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.evaluation import charts, metrics, scores, tables
from mien.evaluation.selection import Scores
from mien.evaluation.winner import WinnerScores

Histories = Mapping[str, charts.History]


def draw(final: WinnerScores, judged: Scores, winner: str, plots: Path, note: str) -> None:
    """PNG charts for people: the families side by side, and the winner on the test split."""
    labels, tested = final.split.labels, f"{note}, {winner} on test"
    curves = {
        f"as trained, ECE {final.scores['before_temperature']['ece']:.3f}": final.reliability[0],
        f"temperature {final.temperature:.2f}, ECE {final.scores['ece']:.3f}": final.reliability[1],
    }
    matrix = metrics.confusion(labels, final.probabilities.argmax(axis=1))
    charts.confusion_matrix(matrix, plots / "confusion_matrix.png", tested)
    charts.reliability_diagram(curves, plots / "reliability.png", tested)
    charts.families(judged, plots / "families.png", winner, note)
    below = final.extras["uncertain"]["below"]
    charts.coverage(metrics.coverage(final.served, labels), below, plots / "coverage.png", tested)
    if "robustness" in final.extras:
        charts.robustness(final.extras["robustness"], plots / "robustness.png", tested)


def draw_examples(final: WinnerScores, faces: Path, note: str) -> None:
    """The surest mistakes on the test split, as a picture of faces for the folder `faces`, which Git does not keep."""
    split = final.split
    charts.example_errors(split.images, split.labels, final.probabilities, faces / "example_errors.png", note)


def draw_histories(trained: Mapping[str, Mapping[str, Any]], plots: Path, note: str) -> None:
    """The learning curves, those of one recipe's seeds together."""
    curves = {}
    for group in scores.by_recipe(trained):
        families = list(group.values())
        name = f"{families[0]} × {len(families)}" if len(families) > 1 else families[0]
        curves[name] = [trained[family]["history"] for family in families]
    charts.learning_curves(curves, plots / "learning_curves.png", note)


def tabulate(final: WinnerScores, histories: Histories, plots: Path) -> None:
    """The same as CSV files for `dvc plots`, and the classification report as text."""
    labels, predicted = final.split.labels, final.probabilities.argmax(axis=1)
    tables.confusion(plots / "confusion.csv", labels, predicted)
    tables.reliability(plots / "reliability.csv", *final.reliability)
    tables.coverage(plots / "coverage.csv", metrics.coverage(final.served, labels))
    if "robustness" in final.extras:
        tables.robustness(plots / "robustness.csv", final.extras["robustness"])
    for family, history in histories.items():
        tables.learning_curve(plots / "curves" / f"{family}.csv", history)
    tables.classification_report(plots / "classification_report.txt", labels, predicted)
