"""What a run of the pipeline ends with: its families' scores, and the winner's on the test split."""

from collections.abc import Mapping
from typing import Any


def table(evaluation: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal; the winner is marked by a star."""
    lines = [f"{'family':<20}{'validation accuracy':>20}{'macro-F1':>10}{'parameters':>13}{'trained':>10}"]
    for name, family in evaluation["families"].items():
        scores, mark = family["validation"], "*" if name == evaluation["winner"] else " "
        lines.append(
            f"{mark} {name:<18}{scores['accuracy']:>20.1%}{scores['macro_f1']:>10.3f}{family['parameters']:>13,}"
            f"{family['seconds']:>9.0f}s"
        )
    data, test = evaluation["data"], evaluation["test"]
    low, high = test["accuracy_ci"]
    lines += [
        "",
        f"{evaluation['winner']} on the {data['name']}'s test split: accuracy {test['accuracy']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}), macro-F1 {test['macro_f1']:.3f}, ECE {test['ece']:.3f}",
    ]
    if data["synthetic"]:
        lines.append("These are drawn faces: the numbers show that the pipeline works and say nothing of real ones.")
    return lines
