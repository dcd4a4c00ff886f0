"""promote: judge the winner against the champion on the same faces, and let it take over if it deserves to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.errors import MienError
from mien.evaluation.served import ServedScores, calibrated, score_as_served
from mien.files import read_json, rounded, write_json
from mien.inference.runtime import Runtime
from mien.monitoring import histograms
from mien.monitoring.drift_windows import PROFILE_FILE
from mien.registry import card, data_card, model_card, promotion_gate, promotion_log, promotion_report
from mien.registry.card import Facts
from mien.registry.challenger import Challenger, gather, is_champion, optional, register, rescore, winner
from mien.registry.promotion_gate import Case, Verdict
from mien.registry.promotion_log import Log
from mien.registry.promotion_report import record, standing
from mien.registry.shipped import incumbent
from mien.registry.tracking import versions
from mien.registry.tracking.versions import Version

ATTEMPTS = 10
"""Times that the champion may change under a judgement before it is given up."""


@dataclass(frozen=True)
class Inputs:
    """The stage's inputs: reports, models, charts, and the prepared data with the file that names data that passed."""

    evaluation: Path
    models: Path
    plots: Path
    prepared: Path
    validated: Path
    validation: Path
    train_reports: Path


def run(inputs: Inputs, report: Path, folder: Path, params: Params) -> None:
    """Write `report`, and cards and profile to `folder`; raises MienError, after that, where there is no champion."""
    content, info, name = _evaluated(inputs), dataset.read_info(inputs.prepared), params.promote.model
    challenger = register(content, inputs.models, inputs.train_reports, inputs.plots, name)
    finished = promotion_log.settle(name)
    result = decide(challenger, inputs, params, finished)
    write_json(report, rounded(result))
    validation = optional(inputs.validation)
    facts = Facts(content, result, info, validation, challenger.training, challenger.tags, inputs.plots)
    card.write(folder, "model_card", model_card.make(facts))
    card.write(folder, "data_card", data_card.make(facts))
    write_json(folder / PROFILE_FILE, training_profile(challenger, inputs.prepared))
    versions.attach(name, challenger.version, folder, "cards", model_card.summary(facts))
    if result["champion"] is None:
        raise MienError(result["reason"])


def judge(inputs: Inputs, report: Path, params: Params) -> None:
    """Write what `run` would decide now, and leave registry, log, aliases and cards as they are."""
    content, name = _evaluated(inputs), params.promote.model
    onnx, tags = winner(content, inputs.models)
    known = versions.find_tagged(name, "onnx_sha256", tags["onnx_sha256"])
    family, version = content["winner"], known.version if known else ""
    training, run_id = optional(inputs.train_reports / f"{family}.json"), content["families"][family]["run_id"]
    challenger = Challenger(version, family, run_id, onnx, tags, training, content)
    faces, log = dataset.read_split(inputs.prepared, "validation").without_leaks(), promotion_log.read(name)
    champion = incumbent(name, log, params.promote, tags["onnx_sha256"])
    scored = score_as_served(version, onnx, tags, faces, params)
    if is_champion(champion, challenger):
        result = standing(
            challenger, gather(challenger, scored, None, None, inputs.validated), log, params, finished=False
        )
    else:
        result, _, _ = weigh(challenger, scored, champion, log, faces, inputs, params)
    write_json(report, rounded(result | {"judged_only": True, "log_entry": None}))


def decide(challenger: Challenger, inputs: Inputs, params: Params, finished: bool) -> dict[str, Any]:
    """Judge, write the judgement into the log and move the aliases; answers the report.

    `finished` says that aliases were set late, after a run that was interrupted. Where another promotion comes first,
    the entry is void and the new champion is the one to beat.
    """
    name, faces = params.promote.model, dataset.read_split(inputs.prepared, "validation").without_leaks()
    scored = score_as_served(challenger.version, challenger.onnx, challenger.tags, faces, params)
    for _ in range(ATTEMPTS):
        log = promotion_log.read(name)
        champion = incumbent(name, log, params.promote, challenger.tags["onnx_sha256"])
        if is_champion(champion, challenger):
            return standing(challenger, gather(challenger, scored, None, None, inputs.validated), log, params, finished)
        promotion_log.challenge(name, challenger.version)
        result, case, verdict = weigh(challenger, scored, champion, log, faces, inputs, params)
        entry = record(name, case, verdict, result, log)
        if not entry.void:
            promotion_log.settle(name)
            return result | {"log_entry": entry.number}
    raise MienError(
        f"The champion of {name!r} changed {ATTEMPTS} times while it was judged. Repeat: dvc repro promote."
    )


def weigh(
    challenger: Challenger,
    scored: ServedScores,
    champion: Version | None,
    log: Log,
    faces: Split,
    inputs: Inputs,
    params: Params,
) -> tuple[dict[str, Any], Case, Verdict]:
    """Hold the challenger against the champion and the rules; changes nothing."""
    name = params.promote.model
    incumbent = rescore(name, champion, faces, params) if champion else None
    comparison = (
        promotion_gate.compare(faces.labels, scored, incumbent, params.promote, params.seed) if incumbent else None
    )
    case = gather(challenger, scored, incumbent, comparison, inputs.validated, log)
    verdict = promotion_gate.judge(case, params.promote)
    return promotion_report.report(challenger, case, verdict, name, champion.tags if champion else {}), case, verdict


def training_profile(challenger: Challenger, prepared: Path) -> dict[str, Any]:
    """The reference of drift: histograms of the training faces and of the probabilities on validation faces."""
    training, validation = dataset.StoredSplit(prepared, "train"), dataset.read_split(prepared, "validation")
    probabilities = calibrated(Runtime(challenger.onnx, threads=1), challenger.tags, validation.without_leaks())
    data = {key: challenger.tags[f"data.{key}"] for key in ("name", "digest")}
    counts = histograms.of((face for part in training.parts() for face in part), probabilities)
    return {"format": histograms.FORMAT, "version": challenger.version, "data": data, "counts": counts}


def _evaluated(inputs: Inputs) -> dict[str, Any]:
    """The evaluation, if it is of the data that are there."""
    content, info = read_json(inputs.evaluation, made_by="dvc repro evaluate"), dataset.read_info(inputs.prepared)
    if content["data"]["digest"] != info["digest"]:
        raise MienError(
            f"{inputs.evaluation} is not of the data in {inputs.prepared}. Evaluate them: dvc repro evaluate."
        )
    return content
