"""promote: register the winner, and let it take the alias `champion` if it deserves to."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.errors import MienError
from mien.files import read_json, write_json
from mien.params import Params
from mien.registry import provenance, tracking

ALIAS = "champion"
METRICS = ("accuracy", "macro_f1", "uar", "nll", "brier", "ece")


@dataclass(frozen=True)
class Contender:
    """A registered version: its family, its macro-F1 on clean validation faces, the digest of the data behind it."""

    version: str
    family: str
    macro_f1: float
    digest: str


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate takes the alias, and why, in a plain sentence."""

    promoted: bool
    reason: str


def run(evaluation: Path, models: Path, plots: Path, report: Path, params: Params) -> None:
    """Write `report`; raises MienError, after that, where the registry is left without any champion."""
    content = read_json(evaluation, made_by="dvc repro evaluate")
    name = params.promote.model
    candidate, run_id = register(content, models, plots, name)
    incumbent = _contender(tracking.champion(name, ALIAS))
    verdict = decide(candidate, incumbent, params.promote.floor)
    if verdict.promoted:
        tracking.set_alias(name, ALIAS, candidate.version)
    champion = candidate if verdict.promoted else incumbent
    write_json(report, _report(verdict, name, candidate, champion, run_id))
    if champion is None:
        raise MienError(verdict.reason)


def decide(candidate: Contender, champion: Contender | None, floor: float) -> Verdict:
    """Only a candidate that clears `floor` and beats the champion's macro-F1 takes its place."""
    if candidate.macro_f1 < floor:
        return Verdict(
            False,
            f"No model clears promote.floor: best macro-F1 {candidate.macro_f1:.2f} ({candidate.family}), "
            f"needs {floor:.2f}. Train longer or lower promote.floor in params.yaml.",
        )
    told = f"{candidate.family} (version {candidate.version}, macro-F1 {candidate.macro_f1:.4f})"
    if champion is None:
        return Verdict(True, f"{told} clears the floor of {floor:.2f} and is the first champion.")
    against = f"{champion.family} (version {champion.version}, macro-F1 {champion.macro_f1:.4f})"
    caveat = "" if candidate.digest == champion.digest else " They were scored on different data."
    # Equal keeps the incumbent: a change of what serves has a cost, and here it would buy nothing.
    if candidate.macro_f1 <= champion.macro_f1:
        return Verdict(False, f"{against} stays champion: {told} does not beat it.{caveat}")
    return Verdict(True, f"{told} beats the champion {against}.{caveat}")


def register(content: Mapping[str, Any], models: Path, plots: Path, name: str) -> tuple[Contender, str]:
    """Make the winner a version of the model `name`, unless it is one, and answer it with its run."""
    family, data = content["winner"], content["data"]
    onnx, entry = models / family / tracking.MODEL_FILE, content["families"][family]
    sha256 = hashlib.sha256(onnx.read_bytes()).hexdigest() if onnx.exists() else "no file"
    if sha256 != entry["onnx_sha256"]:
        raise MienError(f"{onnx} is not the file that was evaluated. Evaluate it: dvc repro evaluate.")
    scores = {f"validation_{key}": entry["validation"][key] for key in METRICS}
    scores |= {f"test_{key}": content["test"][key] for key in METRICS}
    run_id = _run_of(content, onnx, name)
    tags = {
        "family": family,
        "onnx_sha256": sha256,
        "validation_macro_f1": str(scores["validation_macro_f1"]),
        "temperature": str(content["temperature"]),
        "data.name": data["name"],
        "data.digest": data["digest"],
        "synthetic": str(data["synthetic"]).lower(),
        "dvc.data": provenance.data_hash(),
        "git.commit": provenance.commit(),
    }
    version = tracking.register(name, run_id, {key: value for key, value in tags.items() if value}, scores)
    tracking.attach(run_id, plots, "evaluation")
    return Contender(version, family, scores["validation_macro_f1"], data["digest"]), run_id


def _run_of(content: Mapping[str, Any], onnx: Path, name: str) -> str:
    """The winner's training run; where it was made on another machine, a run that stands in for it."""
    family, data = content["winner"], content["data"]
    entry = content["families"][family]
    if tracking.exists(entry["run_id"]):
        return str(entry["run_id"])
    if known := tracking.version_with(name, "onnx_sha256", entry["onnx_sha256"]):
        return known.run_id
    tags = {"family": family, "stage": "train", "imported_from_run": entry["run_id"]}
    with tracking.run(name, f"{family} (imported)", tags=tags) as stand_in:
        stand_in.log_dataset(data["name"], data["digest"], entry["validation"]["n"], context="validation")
        stand_in.log_model(onnx, {})
    return stand_in.id


def _contender(version: tracking.Version | None) -> Contender | None:
    if version is None:
        return None
    tags = version.tags
    score = float(tags.get("validation_macro_f1", 0))
    return Contender(version.version, tags.get("family", "unknown"), score, tags.get("data.digest", ""))


def _report(
    verdict: Verdict, model: str, candidate: Contender, champion: Contender | None, run_id: str
) -> dict[str, Any]:
    return {
        **asdict(verdict),
        "model": model,
        "version": candidate.version,
        "champion": asdict(champion) if champion else None,
        "candidate": asdict(candidate),
        "run_id": run_id,
    }
