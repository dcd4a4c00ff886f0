"""promote: judge the winner against the champion on the same faces, and let it take over if it deserves to."""

import hashlib
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data import dataset
from mien.data.dataset import Split
from mien.emotions import FACE_SIZE
from mien.errors import MienError
from mien.files import read_json, rounded, write_json
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, average
from mien.monitoring import histograms
from mien.monitoring.drift_windows import PROFILE_FILE
from mien.registry import card, data_card, lineage, model_card, promotion_gate, promotion_log, tracking
from mien.registry.card import Facts
from mien.registry.promotion_gate import Case, Comparison, ServedScores, Verdict
from mien.registry.promotion_log import Entry, Log
from mien.registry.tracking import versions
from mien.registry.tracking.store import MODEL_FILE
from mien.registry.tracking.versions import Version

METRICS = ("accuracy", "macro_f1", "uar", "nll", "brier", "ece")

ATTEMPTS = 10
"""Times that the champion may change under a judgement before it is given up."""

LAPS = 50
"""Faces timed, one at a time, of which the median counts."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads: reports, models, charts, and the prepared data with the file that says that they passed."""

    evaluation: Path
    models: Path
    plots: Path
    prepared: Path
    validated: Path
    validation: Path
    train_reports: Path


@dataclass(frozen=True)
class Challenger:
    """The registered winner: its version, run, file, lineage, and what training and evaluation said of it."""

    version: str
    family: str
    run_id: str
    onnx: Path
    tags: Mapping[str, str]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]


def run(inputs: Inputs, report: Path, folder: Path, params: Params) -> None:
    """Write `report`, and cards and profile to `folder`; raises MienError, after that, where there is no champion."""
    content, info, name = _evaluated(inputs), dataset.read_info(inputs.prepared), params.promote.model
    challenger = register(content, inputs, name)
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
    onnx, tags = _winner(content, inputs)
    known = versions.find_tagged(name, "onnx_sha256", tags["onnx_sha256"])
    family, version = content["winner"], known.version if known else ""
    training, run_id = optional(inputs.train_reports / f"{family}.json"), content["families"][family]["run_id"]
    challenger = Challenger(version, family, run_id, onnx, tags, training, content)
    faces, log = dataset.read_split(inputs.prepared, "validation").without_leaks(), promotion_log.read(name)
    champion = versions.find(name, log.champion) if log.champion else None
    scored = score_as_served(version, onnx, tags, faces, params)
    if _same(champion, challenger):
        result = _standing(challenger, gather(challenger, scored, None, None, inputs), log, params, finished=False)
    else:
        result, _, _ = weigh(challenger, scored, champion, log, faces, inputs, params)
    write_json(report, rounded(result | {"judged_only": True, "log_entry": None}))


def register(content: Mapping[str, Any], inputs: Inputs, name: str) -> Challenger:
    """Make the winner a version of the model `name`, unless it is one."""
    family = content["winner"]
    onnx, tags = _winner(content, inputs)
    scores = {f"validation_{key}": content["families"][family]["validation"][key] for key in METRICS}
    scores |= {f"test_{key}": content["test"][key] for key in METRICS}
    run_id = _run_of(content, onnx, name)
    version = versions.register(name, run_id, tags, scores)
    tracking.attach(run_id, inputs.plots, "evaluation")
    training = optional(inputs.train_reports / f"{family}.json")
    return Challenger(version, family, run_id, onnx, tags, training, content)


def decide(challenger: Challenger, inputs: Inputs, params: Params, finished: bool) -> dict[str, Any]:
    """Judge, write the judgement into the log and move the aliases; answers the report.

    `finished` says that aliases had been left behind by a run that was cut short. Where another promotion comes first,
    the entry is void and the new champion is the one to beat.
    """
    name, faces = params.promote.model, dataset.read_split(inputs.prepared, "validation").without_leaks()
    scored = score_as_served(challenger.version, challenger.onnx, challenger.tags, faces, params)
    for _ in range(ATTEMPTS):
        log = promotion_log.read(name)
        champion = versions.find(name, log.champion) if log.champion else None
        if _same(champion, challenger):
            return _standing(challenger, gather(challenger, scored, None, None, inputs), log, params, finished)
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
    incumbent = score_champion_as_served(name, champion, faces, params) if champion else None
    comparison = (
        promotion_gate.compare(faces.labels, scored, incumbent, params.promote, params.seed) if incumbent else None
    )
    case = gather(challenger, scored, incumbent, comparison, inputs, log)
    verdict = promotion_gate.judge(case, params.promote)
    return _report(challenger, case, verdict, name, champion.tags if champion else {}), case, verdict


def score_as_served(version: str, onnx: Path, tags: Mapping[str, str], faces: Split, params: Params) -> ServedScores:
    """Score one model on validation faces as it is served: its file, way, temperature and runtime, on one thread."""
    runtime, tta = _as_served(onnx, tags)
    answers = _answers(runtime, tta, tags, faces)
    measured = {"bytes": onnx.stat().st_size, "milliseconds": median_milliseconds(runtime, tta)}
    family = tags.get("family", "unknown")
    return promotion_gate.examine(version, family, faces.labels, answers, bins=params.evaluate.ece_bins, **measured)


def score_champion_as_served(name: str, champion: Version, faces: Split, params: Params) -> ServedScores:
    """Score the champion anew: its old scores may be of other faces, and the tests want its answer to each."""
    with TemporaryDirectory() as folder:
        onnx = versions.download(name, champion.version, Path(folder) / "model")
        return score_as_served(champion.version, onnx, champion.tags, faces, params)


def median_milliseconds(runtime: Runtime, tta: Tta = NO_TTA) -> float:
    """The median time for one face, looked at as it is served."""
    face = np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.float32)
    laps = []
    for _ in range(LAPS):
        start = time.perf_counter()
        average(runtime.predict, face, tta)
        laps.append(time.perf_counter() - start)
    return 1000 * statistics.median(laps)


def gather(
    challenger: Challenger,
    scored: ServedScores,
    incumbent: ServedScores | None,
    comparison: Comparison | None,
    inputs: Inputs,
    log: Log | None = None,
) -> Case:
    """All that the rules look at."""
    onnx, withdrawn = challenger.training.get("onnx", {}), (log or Log()).withdrawn.get(challenger.version)
    # The report of another training proves nothing of this file.
    proven = onnx.get("sha256") == challenger.tags["onnx_sha256"]
    return Case(
        challenger=scored,
        champion=incumbent,
        comparison=comparison,
        digest=challenger.tags["data.digest"],
        validated=str(optional(inputs.validated).get("digest", "")),
        parity=onnx["max_probability_difference"] if proven else None,
        lineage={**challenger.tags, "run_id": challenger.run_id},
        withdrawn=f"{withdrawn.why.rstrip('.')} ({withdrawn.who})." if withdrawn else "",
    )


def record(name: str, case: Case, verdict: Verdict, result: Mapping[str, Any], log: Log) -> Entry:
    """Write the judgement into the log; a refusal that stands there last is not written twice."""
    champion = case.champion.version if case.champion else None
    facts = rounded({key: result[key] for key in ("scores", "comparison", "rules", "run_id")})
    kind: Literal["promotion", "refusal"] = "promotion" if verdict.promoted else "refusal"
    entry = Entry(kind, case.challenger.version, champion, log.head, verdict.reason, facts=facts)
    last = log.entries[-1] if log.entries else None
    if last and kind == last.kind == "refusal" and (last.version, last.why) == (entry.version, entry.why):
        return last
    return promotion_log.append(name, entry)


def training_profile(challenger: Challenger, prepared: Path) -> dict[str, Any]:
    """What drift is measured against: how the training's faces look, and what the model says of validation faces."""
    training, validation = (dataset.read_split(prepared, name) for name in ("train", "validation"))
    answers = _answers(*_as_served(challenger.onnx, challenger.tags), challenger.tags, validation.without_leaks())
    data = {key: challenger.tags[f"data.{key}"] for key in ("name", "digest")}
    counts = histograms.of(training.images, answers)
    return {"format": histograms.FORMAT, "version": challenger.version, "data": data, "counts": counts}


def optional(path: Path) -> dict[str, Any]:
    """A report that may be missing: the rules, not a crash, say what that means."""
    return read_json(path, made_by="dvc repro") if path.exists() else {}


def _as_served(onnx: Path, tags: Mapping[str, str]) -> tuple[Runtime, Tta]:
    """The runtime on one thread, and how each face is looked at."""
    return Runtime(onnx, threads=1), Tta.of(tags)


def _answers(runtime: Runtime, tta: Tta, tags: Mapping[str, str], faces: Split) -> NDArray[np.floating[Any]]:
    """Calibrated probabilities `(n, 7)`, as they are served."""
    seen = average(runtime.predict, np.ascontiguousarray(faces.images, dtype=np.float32), tta)
    return apply_temperature(seen, float(tags.get("temperature", 1)))


def _evaluated(inputs: Inputs) -> dict[str, Any]:
    """The evaluation, if it is of the data that are there."""
    content, info = read_json(inputs.evaluation, made_by="dvc repro evaluate"), dataset.read_info(inputs.prepared)
    if content["data"]["digest"] != info["digest"]:
        raise MienError(
            f"{inputs.evaluation} is not of the data in {inputs.prepared}. Evaluate them: dvc repro evaluate."
        )
    return content


def _winner(content: Mapping[str, Any], inputs: Inputs) -> tuple[Path, dict[str, str]]:
    """The winner's file, if it is the one that was evaluated, and the tags that its version is to have."""
    family, data = content["winner"], content["data"]
    onnx, entry = inputs.models / family / MODEL_FILE, content["families"][family]
    sha256 = hashlib.sha256(onnx.read_bytes()).hexdigest() if onnx.exists() else "no file"
    if sha256 != entry["onnx_sha256"]:
        raise MienError(f"{onnx} is not the file that was evaluated. Evaluate it: dvc repro evaluate.")
    served = content["served"]
    return onnx, lineage.tags(family) | {
        "family": family,
        "onnx_sha256": sha256,
        "validation_macro_f1": str(entry["validation"]["macro_f1"]),
        "temperature": str(served["temperature"]),
        "tta": served["tta"],
        "crops": ",".join(map(str, served["crops"])),
        "data.name": data["name"],
        "data.digest": data["digest"],
        "synthetic": str(data["synthetic"]).lower(),
    }


def _same(champion: Version | None, challenger: Challenger) -> bool:
    return champion is not None and champion.tags.get("onnx_sha256") == challenger.tags["onnx_sha256"]


def _standing(challenger: Challenger, case: Case, log: Log, params: Params, finished: bool) -> dict[str, Any]:
    """The report of a winner that is champion already: nothing is judged, its own entry is told again."""
    made = [entry for entry in log.entries if entry.moves and entry.version == log.champion]
    facts = {key: made[-1].facts[key] for key in ("scores", "comparison", "rules") if made and key in made[-1].facts}
    known = f", by entry {made[-1].number} of the promotion log" if made else ""
    score = f"macro-F1 {case.challenger.macro_f1:.4f}"
    reason = f"{challenger.family} (version {log.champion}, {score}) is champion already{known}."
    if finished:
        reason = f"{reason} This run set the aliases that an earlier one had left behind."
    verdict = replace(promotion_gate.judge(case, params.promote), promoted=finished, reason=reason)
    result = _report(challenger, case, verdict, params.promote.model, {})
    champion = {**result["candidate"], "version": log.champion}
    return result | {"champion": champion, "log_entry": made[-1].number if made else None} | facts


def _run_of(content: Mapping[str, Any], onnx: Path, name: str) -> str:
    """The winner's training run; where it was made on another machine, a run that stands in for it."""
    family, data = content["winner"], content["data"]
    entry = content["families"][family]
    if tracking.exists(entry["run_id"]):
        return str(entry["run_id"])
    if known := versions.find_tagged(name, "onnx_sha256", entry["onnx_sha256"]):
        return known.run_id
    tags = {"family": family, "stage": "train", "imported_from_run": entry["run_id"]}
    with tracking.run(name, f"{family} (imported)", tags=tags) as stand_in:
        stand_in.log_dataset(data["name"], data["digest"], entry["validation"]["n"], context="validation")
        stand_in.log_model(onnx, {})
    return stand_in.id


def _report(
    challenger: Challenger, case: Case, verdict: Verdict, name: str, champion: Mapping[str, str]
) -> dict[str, Any]:
    """promotion.json; `champion` holds the tags of the one to beat, whose old score tells what other data change."""
    digest = challenger.tags["data.digest"]
    candidate = _contender(case.challenger, digest)
    incumbent = _contender(case.champion, champion.get("data.digest", "")) if case.champion else None
    result: dict[str, Any] = {
        "promoted": verdict.promoted,
        "reason": verdict.reason,
        "model": name,
        "version": challenger.version,
        "champion": candidate if verdict.promoted else incumbent,
        "candidate": candidate,
        "run_id": challenger.run_id,
        "scores": {"challenger": _scores(case.challenger)},
        "comparison": asdict(case.comparison) if case.comparison else None,
        "rules": [asdict(finding) for finding in verdict.findings],
    }
    if case.champion:
        result["scores"]["champion"] = _scores(case.champion)
        result["scores"]["champion_when_promoted"] = {
            "macro_f1": float(champion.get("validation_macro_f1", 0)),
            "same_data": champion.get("data.digest") == digest,
        }
    return result


def _contender(scored: ServedScores, digest: str) -> dict[str, Any]:
    return {
        "version": scored.version,
        "family": scored.family,
        "macro_f1": scored.macro_f1,
        "digest": digest,
    }


def _scores(scored: ServedScores) -> dict[str, Any]:
    keys = ("version", "family", "macro_f1", "accuracy", "recall", "ece", "bytes", "milliseconds")
    return {"n": len(scored.predicted), **{key: getattr(scored, key) for key in keys}}
