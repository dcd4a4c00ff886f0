"""evaluate: score every family on validation, choose one, fit its temperature, score it once on test."""

import dataclasses
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
from mien.evaluation import corruptions, headline, scores
from mien.evaluation.model_predictions import ModelPredictions
from mien.evaluation.plots import draw, draw_examples, draw_histories, tabulate
from mien.evaluation.selection import report_ensembles, report_seeds, select
from mien.evaluation.winner import WinnerScores, score_winner
from mien.files import read_json, rounded, write_json
from mien.inference.tta import Tta, TtaName


@dataclass(frozen=True)
class Outputs:
    """The report, the numbers of it that DVC compares, the folder of charts and CSV, and that of pictures of faces."""

    report: Path
    metrics: Path
    plots: Path
    faces: Path


def run(
    prepared: Path,
    models: Path,
    train_reports: Path,
    outputs: Outputs,
    params: Params,
    votes: Path | None = None,
) -> None:
    """Write evaluation.json, its headline numbers, and charts, DVC plots and the classification report.

    `votes` is FER+'s table; where the file exists, the report has the agreement of labels.
    """
    tta, served = (tta_named(name, params) for name in (params.evaluate.tta, params.package.tta))
    info = dataset.read_info(prepared)
    trained = {family: _read_training(train_reports, family, info, params) for family in params.candidates}
    predictions = ModelPredictions({family: models / family / "model.onnx" for family in params.candidates})
    predictions.splits["validation"] = dataset.read_split(prepared, "validation")
    if params.evaluate.damaged:
        predictions.splits["damaged"] = damaged(predictions.splits["validation"], params.seed)
    judged = {family: predictions.score_on_validation([family], params) for family in predictions.paths}
    winner = select(judged)
    ensembles = {
        name: predictions.score_on_validation(members, params) for name, members in params.evaluate.ensembles.items()
    }
    # The test split is read only now, when nothing is left to choose.
    predictions.splits["test"] = dataset.read_split(prepared, "test")
    voted = read_votes(votes, prepared, predictions.splits["test"])
    final = score_winner(predictions, winner, tta, served, params)
    histories = {family: content["history"] for family, content in trained.items()}
    draw(final, judged, winner, outputs.plots, note=info["name"])
    draw_examples(final, outputs.faces, note=f"{info['name']}, {winner} on test")
    draw_histories(trained, outputs.plots, note=info["name"])
    tabulate(final, histories, outputs.plots)
    runtime = predictions.runtime(winner)
    content = {
        "winner": winner,
        "families": {
            family: _entry(judged[family], trained[family], path) for family, path in predictions.paths.items()
        },
        "temperature": final.temperature,
        "test": final.scores,
        **final.extras,
        **report_ensembles(predictions, ensembles, tta, params),
        **report_seeds(predictions, judged, trained, winner, params),
        **report_votes(final, voted),
        "data": {"name": info["name"], "digest": info["digest"], "synthetic": "synthetic" in info["name"]},
        "runtime": {"backend": runtime.backend, "precision": runtime.precision},
    }
    write_json(outputs.report, rounded(content))
    write_json(outputs.metrics, headline.of_evaluation(rounded(content)))


def damaged(split: Split, seed: int) -> Split:
    """The split with its faces as poor cameras give them; leaked ones, which decide nothing, stay as they are."""
    images, clean = split.images.copy(), ~split.leaked
    images[clean] = corruptions.by_cameras(images[clean], seed)
    return dataclasses.replace(split, images=images)


def tta_named(name: TtaName, params: Params) -> Tta:
    """The test-time augmentation of that name, with the sides of `evaluate.crops` where it has any."""
    if name in ("none", "flip"):
        return Tta(name)
    if not params.evaluate.crops:
        raise MienError(f"evaluate.crops is empty, expected the sides of the crops of {name}, such as [44, 48, 52].")
    return Tta(name, params.evaluate.crops)


def read_votes(path: Path | None, prepared: Path, test: Split) -> NDArray[np.int64] | None:
    """FER+'s label of each test face, where the file exists; votes that are not of these faces are refused."""
    return ferplus.labels(ferplus.read(path), prepared, "test", test) if path and path.exists() else None


def report_votes(final: WinnerScores, voted: NDArray[np.int64] | None) -> dict[str, Any]:
    """How much of the winner's error FER+'s voters share: its single pass on test by their labels, too."""
    agreement = {} if voted is None else scores.label_agreement(final.probabilities, final.split, voted, ferplus.NONE)
    return {"ferplus": agreement} if agreement else {}


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
    keys = ("parameters", "gmac", "seconds", "seed", "distil", "start_sha256", "run_id")
    result = {key: trained[key] for key in keys if key in trained}
    return {"validation": judged, **result, "onnx_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
