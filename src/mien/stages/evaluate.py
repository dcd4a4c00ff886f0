"""evaluate: score every family on validation, choose one, fit its temperature, score it once on test."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.data.sources import ferplus
from mien.errors import MienError
from mien.evaluation import charts, corruptions, metrics, scores, tables
from mien.evaluation.metrics import Reliability
from mien.evaluation.model_predictions import ModelPredictions, Probabilities, floats
from mien.evaluation.scores import with_and_without_leaks
from mien.files import read_json, rounded, write_json
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, TtaName, average

Histories = Mapping[str, charts.History]
Scores = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Final:
    """The winner's exam: faces, probabilities `(n, 7)` after `temperature`, scores, reliability before and after.

    `served` holds the probabilities of the way in which it will answer in service, after that way's temperature.
    """

    split: Split
    probabilities: Probabilities
    temperature: float
    scores: dict[str, Any]
    reliability: tuple[Reliability, Reliability]
    served: Probabilities
    extras: dict[str, Any]


def run(
    prepared: Path,
    models: Path,
    train_reports: Path,
    report: Path,
    plots: Path,
    params: Params,
    votes: Path | None = None,
) -> None:
    """Write evaluation.json to `report`, and charts, DVC plots and the classification report to the folder `plots`.

    `votes` are FER+'s, told as a second opinion where the file exists.
    """
    way, served = (tta_named(tta, params) for tta in (params.evaluate.tta, params.package.tta))
    info = dataset.read_info(prepared)
    trained = {family: _read_training(train_reports, family, info, params) for family in params.candidates}
    predictions = ModelPredictions({family: models / family / "model.onnx" for family in params.candidates})
    predictions.splits["validation"] = dataset.read_split(prepared, "validation")
    judged = {family: predictions.score_on_validation([family], params) for family in predictions.paths}
    winner = select(judged)
    ensembles = {
        name: predictions.score_on_validation(members, params) for name, members in params.evaluate.ensembles.items()
    }
    # From here on the test split is open, and nothing is chosen any more.
    predictions.splits["test"] = dataset.read_split(prepared, "test")
    opinion = read_votes(votes, prepared, predictions.splits["test"])
    final = examine(predictions, winner, way, served, params)
    histories = {family: content["history"] for family, content in trained.items()}
    draw(final, judged, winner, plots, note=info["name"])
    draw_histories(trained, plots, note=info["name"])
    tabulate(final, histories, plots)
    runtime = predictions.runtime(winner)
    content = {
        "winner": winner,
        "families": {
            family: _entry(judged[family], trained[family], path) for family, path in predictions.paths.items()
        },
        "temperature": final.temperature,
        "test": final.scores,
        **final.extras,
        **report_ensembles(predictions, ensembles, way, params),
        **report_seeds(predictions, judged, trained, winner, params),
        **report_votes(final, opinion),
        "data": {"name": info["name"], "digest": info["digest"], "synthetic": "synthetic" in info["name"]},
        "runtime": {"backend": runtime.backend, "precision": runtime.precision},
    }
    write_json(report, rounded(content))


def select(validation: Scores) -> str:
    """The family of the highest macro-F1; equal to the thousandth is a tie, which accuracy, then the order, break."""
    if not validation:
        raise MienError("params.yaml has no families: there is no model to evaluate. Add one under families:.")
    # The same file's macro-F1 differs by more than this between two processors.
    return max(validation, key=lambda name: (round(validation[name]["macro_f1"], 3), validation[name]["accuracy"]))


def tta_named(tta: TtaName, params: Params) -> Tta:
    """The way of that name, with the sides of `evaluate.crops` where it has any; ONCE for none."""
    if tta in ("none", "flip"):
        return Tta(tta)
    if not params.evaluate.crops:
        raise MienError(f"evaluate.crops is empty, expected the sides that {tta} looks at, such as [44, 48, 52].")
    return Tta(tta, params.evaluate.crops)


def examine(predictions: ModelPredictions, winner: str, tta: Tta, served: Tta, params: Params) -> Final:
    """Fit the temperature of every way on clean validation faces, then score the test split."""
    test = predictions.splits["test"]
    before, labels = predictions.probabilities([winner], "test"), test.labels
    after, temperature = predictions.calibrated([winner], NO_TTA)
    result = with_and_without_leaks(after, test, params) | {
        "recall": metrics.recalls(labels, after.argmax(axis=1)),
        "support": dataset.counts(test),
        "before_temperature": scores.calibration(before, labels, params.evaluate),
    }
    if tta != NO_TTA:
        result["tta"] = predictions.score_on_test([winner], tta, params)
        result["tta"]["validation"] = predictions.score_on_validation([winner], params, tta)
    bins = params.evaluate.ece_bins
    diagrams = metrics.reliability(before, labels, bins), metrics.reliability(after, labels, bins)
    answers, softness = predictions.calibrated([winner], served)
    extras = {
        "served": served.as_report() | {"temperature": softness},
        "uncertain": scores.uncertainty(answers, test, params.package.uncertain_below),
    }
    if params.evaluate.robustness:
        extras["robustness"] = damage(predictions.runtime(winner), test.without_leaks(), served, softness, params)
    return Final(test, after, temperature, result, diagrams, answers, extras)


def damage(runtime: Runtime, faces: Split, tta: Tta, temperature: float, params: Params) -> dict[str, Any]:
    """The winner's scores on test faces that were damaged, as it is served; leaked faces are left out.

    On the test split, because it chooses nothing: neither the winner nor its recipe is looked for by these numbers.
    """

    def scored(images: NDArray[np.uint8]) -> dict[str, Any]:
        answers = apply_temperature(average(runtime.predict, floats(images), tta), temperature)
        predicted = answers.argmax(axis=1)
        return {
            "accuracy": metrics.accuracy(faces.labels, predicted),
            "macro_f1": metrics.macro_f1(faces.labels, predicted),
            "ece": metrics.ece(answers, faces.labels, params.evaluate.ece_bins),
            "uncertain": float(np.mean(answers.max(axis=1) < params.package.uncertain_below)),
        }

    def severities(name: str) -> dict[str, Any]:
        return {
            word: {
                "level": corruptions.CORRUPTIONS[name].level_text(severity),
                **scored(corruptions.corrupt(faces.images, name, severity, params.seed)),
            }
            for severity, word in enumerate(corruptions.SEVERITIES)
        }

    return {
        "split": "test, without images also in training",
        "n": len(faces),
        "clean": scored(faces.images),
        "corruptions": {name: severities(name) for name in corruptions.CORRUPTIONS},
    }


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


def read_votes(path: Path | None, prepared: Path, test: Split) -> NDArray[np.int64] | None:
    """FER+'s label of each test face, where the file exists; votes that are not of these faces are refused."""
    return ferplus.labels(ferplus.read(path), prepared, "test", test) if path and path.exists() else None


def report_votes(final: Final, opinion: NDArray[np.int64] | None) -> dict[str, Any]:
    """How much of the winner's error FER+'s voters share: its single pass on test by their labels, too."""
    result = {} if opinion is None else scores.label_agreement(final.probabilities, final.split, opinion, ferplus.NONE)
    return {"ferplus": result} if result else {}


def draw(final: Final, judged: Scores, winner: str, plots: Path, note: str) -> None:
    """PNG charts for people: the families side by side, and the winner on the test split."""
    labels, tested = final.split.labels, f"{note}, {winner} on test"
    curves = {
        f"as trained, ECE {final.scores['before_temperature']['ece']:.3f}": final.reliability[0],
        f"temperature {final.temperature:.2f}, ECE {final.scores['ece']:.3f}": final.reliability[1],
    }
    matrix = metrics.confusion(labels, final.probabilities.argmax(axis=1))
    charts.confusion_matrix(matrix, plots / "confusion_matrix.png", tested)
    charts.reliability_diagram(curves, plots / "reliability.png", tested)
    charts.example_errors(final.split.images, labels, final.probabilities, plots / "example_errors.png", tested)
    charts.families(judged, plots / "families.png", winner, note)
    below = final.extras["uncertain"]["below"]
    charts.coverage(metrics.coverage(final.served, labels), below, plots / "coverage.png", tested)
    if "robustness" in final.extras:
        charts.robustness(final.extras["robustness"], plots / "robustness.png", tested)


def draw_histories(trained: Mapping[str, Mapping[str, Any]], plots: Path, note: str) -> None:
    """The learning curves, those of one recipe's seeds together."""
    curves = {}
    for group in scores.by_recipe(trained):
        families = list(group.values())
        name = f"{families[0]} × {len(families)}" if len(families) > 1 else families[0]
        curves[name] = [trained[family]["history"] for family in families]
    charts.learning_curves(curves, plots / "learning_curves.png", note)


def tabulate(final: Final, histories: Histories, plots: Path) -> None:
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


def _read_training(reports: Path, family: str, info: Mapping[str, Any], params: Params) -> dict[str, Any]:
    path, stage = reports / f"{family}.json", "distil" if family in params.students else "train"
    command = f"dvc repro {stage}@{family}"
    content = read_json(path, made_by=command)
    if content["data"]["digest"] != info["digest"]:
        raise MienError(
            f"{path} is of a model trained on other data ({content['data']['name']}, {content['data']['digest'][:12]}) "
            f"than the prepared ({info['name']}, {info['digest'][:12]}). Train it anew: {command}."
        )
    return content


def _entry(judged: Mapping[str, Any], trained: Mapping[str, Any], model: Path) -> dict[str, Any]:
    result = {
        key: trained[key] for key in ("parameters", "gmac", "seconds", "seed", "distil", "run_id") if key in trained
    }
    return {"validation": judged, **result, "onnx_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
