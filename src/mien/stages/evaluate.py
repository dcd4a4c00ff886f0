"""evaluate: score every family on validation, choose one, fit its temperature, score it once on test."""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import charts, metrics
from mien.data import dataset
from mien.data.dataset import Split
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.files import read_json, write_file, write_json
from mien.metrics import Reliability
from mien.params import Evaluate, Params
from mien.serving.runtime import Runtime

Probabilities = NDArray[np.floating[Any]]
Histories = Mapping[str, Mapping[str, Sequence[float]]]

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")


@dataclass(frozen=True)
class Final:
    """The winner's exam: faces, probabilities `(n, 7)` after `temperature`, scores, reliability before and after."""

    split: Split
    probabilities: Probabilities
    temperature: float
    scores: dict[str, Any]
    reliability: tuple[Reliability, Reliability]


def run(prepared: Path, models: Path, train_reports: Path, report: Path, plots: Path, params: Params) -> None:
    """Write evaluation.json to `report`, and charts, DVC plots and the classification report to the folder `plots`."""
    info = dataset.read_info(prepared)
    trained = {family: _read_training(train_reports / f"{family}.json", info) for family in params.families}
    paths = {family: models / family / "model.onnx" for family in params.families}
    validation = dataset.read_split(prepared, "validation")
    answers = {family: predict(Runtime(path), validation) for family, path in paths.items()}
    scores = {family: validate(answer, validation, params) for family, answer in answers.items()}
    winner = select(scores)
    runtime = Runtime(paths[winner])
    final = examine(runtime, validation, dataset.read_split(prepared, "test"), params)
    histories = {family: content["history"] for family, content in trained.items()}
    draw(final, scores, histories, winner, plots, note=info["name"])
    tabulate(final, histories, plots)
    content = {
        "winner": winner,
        "families": {family: _entry(scores[family], trained[family], paths[family]) for family in paths},
        "temperature": final.temperature,
        "test": final.scores,
        "data": {"name": info["name"], "digest": info["digest"], "synthetic": "synthetic" in info["name"]},
        "runtime": {"backend": runtime.backend, "precision": runtime.precision},
    }
    write_json(report, _rounded(content))


def predict(runtime: Runtime, split: Split, *, flip: bool = False) -> Probabilities:
    """Probabilities `(n, 7)` of a split's faces, or of their mirror images."""
    images = split.images[:, :, ::-1] if flip else split.images
    return runtime.predict(np.ascontiguousarray(images, dtype=np.float32))


def validate(probabilities: Probabilities, split: Split, params: Params) -> dict[str, Any]:
    """Scores on the faces that were not also trained on; `with_leaks` on all of them."""
    # A face seen in training is known by heart: counting it would favour the family that memorises best.
    clean = ~split.leaked
    scores = score(probabilities[clean], split.labels[clean], params)
    return {**scores, "with_leaks": score(probabilities, split.labels, params)}


def select(validation: Mapping[str, Mapping[str, Any]]) -> str:
    """The family of the highest macro-F1; accuracy, then the order in params.yaml, break a tie."""
    if not validation:
        raise MienError("params.yaml has no families: there is no model to evaluate. Add one under families:.")
    return max(validation, key=lambda family: (validation[family]["macro_f1"], validation[family]["accuracy"]))


def examine(runtime: Runtime, validation: Split, test: Split, params: Params) -> Final:
    """Fit the temperature on clean validation faces, then score the test split."""
    clean = validation.without_leaks()
    before, on_validation = predict(runtime, test), predict(runtime, clean)
    temperature = metrics.fit_temperature(on_validation, clean.labels)
    after = metrics.apply_temperature(before, temperature)
    scores = with_and_without_leaks(after, test, params)
    scores |= {
        "recall": metrics.recalls(test.labels, after.argmax(axis=1)),
        "support": dataset.counts(test),
        "before_temperature": calibration(before, test.labels, params.evaluate),
    }
    if params.evaluate.tta == "flip":
        both = (on_validation + predict(runtime, clean, flip=True)) / 2
        softness = metrics.fit_temperature(both, clean.labels)
        averaged = metrics.apply_temperature((before + predict(runtime, test, flip=True)) / 2, softness)
        scores["tta"] = {**with_and_without_leaks(averaged, test, params), "temperature": softness}
    bins = params.evaluate.ece_bins
    diagrams = metrics.reliability(before, test.labels, bins), metrics.reliability(after, test.labels, bins)
    return Final(test, after, temperature, scores, diagrams)


def with_and_without_leaks(probabilities: Probabilities, split: Split, params: Params) -> dict[str, Any]:
    """Scores on the whole split, as everyone publishes, and under `without_leaks` on faces never trained on."""
    clean = ~split.leaked
    without = score(probabilities[clean], split.labels[clean], params)
    return {**score(probabilities, split.labels, params), "without_leaks": without}


def score(probabilities: Probabilities, labels: NDArray[np.int64], params: Params) -> dict[str, Any]:
    """Every number by which a set of answers is judged."""
    predicted, n = probabilities.argmax(axis=1), len(labels)
    scores = {
        "n": n,
        "accuracy": metrics.accuracy(labels, predicted),
        "accuracy_ci": metrics.wilson_interval(int(np.sum(predicted == labels)), n),
        "macro_f1": metrics.macro_f1(labels, predicted),
        "uar": metrics.uar(labels, predicted),
    }
    if resamples := params.evaluate.bootstrap:
        interval = metrics.bootstrap_interval(
            metrics.macro_f1, labels, predicted, resamples=resamples, seed=params.seed
        )
        scores["macro_f1_ci"] = interval
    return {**scores, **calibration(probabilities, labels, params.evaluate)}


def calibration(probabilities: Probabilities, labels: NDArray[np.int64], params: Evaluate) -> dict[str, float]:
    """How far the probabilities can be believed."""
    return {
        "nll": metrics.nll(probabilities, labels),
        "brier": metrics.brier(probabilities, labels),
        "ece": metrics.ece(probabilities, labels, params.ece_bins),
    }


def draw(
    final: Final, scores: Mapping[str, Mapping[str, Any]], histories: Histories, winner: str, plots: Path, note: str
) -> None:
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
    charts.learning_curves(histories, plots / "learning_curves.png", note)
    charts.families(scores, plots / "families.png", winner, note)


def tabulate(final: Final, histories: Histories, plots: Path) -> None:
    """The same as CSV files for `dvc plots`, and the classification report as text."""
    labels, predicted = final.split.labels, final.probabilities.argmax(axis=1)
    named = ((EMOTIONS[label], EMOTIONS[answer]) for label, answer in zip(labels, predicted, strict=True))
    _write_csv(plots / "confusion.csv", ("actual", "predicted"), named)
    before, after = final.reliability
    middles = (before.edges[1:] + before.edges[:-1]) / 2
    bins = (
        (f"{middle:.4f}", *(f"{curve.accuracy[i]:.4f}" if curve.count[i] else "" for curve in (before, after)))
        for i, middle in enumerate(middles)
    )
    _write_csv(plots / "reliability.csv", ("confidence", "as_trained", "with_temperature"), bins)
    for family, history in histories.items():
        columns = [name for name in CURVES if history.get(name)]
        epochs = range(1, len(history["loss"]) + 1)
        rows = zip(epochs, *(history[name] for name in columns), strict=True)
        _write_csv(plots / "curves" / f"{family}.csv", ("epoch", *columns), rows)
    text = _classification_report(labels, predicted)
    write_file(plots / "classification_report.txt", lambda path: _write_text(path, text))


def _read_training(path: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    content = read_json(path, made_by=f"dvc repro train@{path.stem}")
    if content["data"]["digest"] != info["digest"]:
        raise MienError(
            f"{path} is of a model trained on other data ({content['data']['name']}, {content['data']['digest'][:12]}) "
            f"than the prepared ({info['name']}, {info['digest'][:12]}). Train it anew: dvc repro train@{path.stem}."
        )
    return content


def _entry(scores: Mapping[str, Any], trained: Mapping[str, Any], model: Path) -> dict[str, Any]:
    told = {key: trained[key] for key in ("parameters", "seconds", "run_id")}
    return {"validation": scores, **told, "onnx_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}


def _classification_report(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> str:
    columns = ("precision", "recall", "f1")
    rows = metrics.per_emotion(labels, predicted)
    lines = [" " * 10 + "".join(f"{column:>11}" for column in (*columns, "support")), ""]
    for emotion, row in rows.items():
        lines.append(f"{emotion:<10}" + "".join(f"{row[key]:>11.3f}" for key in columns) + f"{row['support']:>11}")
    present = [row for row in rows.values() if row["support"]]
    means = (sum(row[key] for row in present) / len(present) for key in columns)
    lines += ["", f"{'mean':<10}" + "".join(f"{mean:>11.3f}" for mean in means) + f"{len(labels):>11}"]
    lines += [f"{'accuracy':<10}{metrics.accuracy(labels, predicted):>11.3f}"]
    return "\n".join(lines) + "\n"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(target: Path) -> None:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_file(path, write)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _rounded(content: Any) -> Any:
    # Six digits outlast any use of these numbers; more would change with the processor and clutter every diff.
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return round(content, 6) if isinstance(content, float) else content
