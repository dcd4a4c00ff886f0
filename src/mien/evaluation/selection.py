"""Choose among models by validation alone; ensembles and seeds of one recipe, reported beside single models."""

from collections.abc import Mapping
from typing import Any

from mien.config.params import Params
from mien.errors import MienError
from mien.evaluation import scores
from mien.evaluation.model_predictions import ModelPredictions
from mien.inference.tta import NO_TTA, Tta

Scores = Mapping[str, Mapping[str, Any]]


def select(validation: Scores) -> str:
    """The family of the highest macro-F1; equal to the thousandth is a tie, which accuracy, then the order, break.

    Where damaged faces were scored too, it is the mean of both.
    """
    if not validation:
        raise MienError("params.yaml has no families: there is no model to evaluate. Add one under families:.")
    return max(validation, key=lambda name: rank(validation[name]))


def rank(scored: Mapping[str, Any]) -> tuple[float, float]:
    """By which models are ranked."""
    decisive = scored.get("with_damaged", scored)
    # The same file's macro-F1 differs by more than a thousandth between two processors.
    return round(decisive["macro_f1"], 3), decisive["accuracy"]


def report_ensembles(predictions: ModelPredictions, judged: Scores, tta: Tta, params: Params) -> dict[str, Any]:
    """Every ensemble's validation, and the test scores of the best; apart from single models, and never served."""
    if not judged:
        return {}
    best, all_members = select(judged), params.evaluate.ensembles
    members = all_members[best]
    test = predictions.score_on_test(members, NO_TTA, params)
    if tta != NO_TTA:
        test["tta"] = predictions.score_on_test(members, tta, params)
    entries = {name: {"members": list(all_members[name]), "validation": result} for name, result in judged.items()}
    return {"ensembles": entries, "ensemble": {"winner": best, "members": list(members), "test": test}}


def report_seeds(
    predictions: ModelPredictions, judged: Scores, trained: Mapping[str, Mapping[str, Any]], winner: str, params: Params
) -> dict[str, Any]:
    """Mean and deviation over families that differ in nothing but their seed; on test for the winner's recipe alone."""
    result = []
    for group in scores.by_recipe(trained):
        families = list(group.values())
        if len(families) > 1:
            entry: dict[str, Any] = {"families": families, "seeds": list(group)}
            entry["validation"] = scores.spread([judged[family] for family in families])
            if winner in families:
                tests = [predictions.score_on_test([family], NO_TTA, params) for family in families]
                entry["test"] = scores.spread(tests)
                entry["test"]["without_leaks"] = scores.spread([one["without_leaks"] for one in tests])
            result.append(entry)
    return {"seeds": result} if result else {}
