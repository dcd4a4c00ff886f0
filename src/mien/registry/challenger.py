"""The challenger: the winner of an evaluation, registered as a version, and all that the promotion gate needs of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mien.config.params import Params
from mien.data.dataset import Split
from mien.errors import MienError
from mien.evaluation.served import ServedScores, score_as_served
from mien.files import read_json
from mien.inference.champion import SHIPPED_VERSION
from mien.registry import lineage, shipped, tracking
from mien.registry.promotion_gate import Case, Comparison
from mien.registry.promotion_log import Log
from mien.registry.tracking import versions
from mien.registry.tracking.store import MODEL_FILE
from mien.registry.tracking.versions import Version

METRICS = ("accuracy", "macro_f1", "uar", "nll", "brier", "ece")


@dataclass(frozen=True)
class Challenger:
    """The registered winner: its version, run, file, lineage, and its training and evaluation reports."""

    version: str
    family: str
    run_id: str
    onnx: Path
    tags: Mapping[str, str]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]


def register(content: Mapping[str, Any], models: Path, train_reports: Path, plots: Path, name: str) -> Challenger:
    """Make the winner a version of the model `name`, unless it is one."""
    family = content["winner"]
    onnx, tags = winner(content, models)
    scores = {f"validation_{key}": content["families"][family]["validation"][key] for key in METRICS}
    scores |= {f"test_{key}": content["test"][key] for key in METRICS}
    run_id = _training_run(content, onnx, name)
    version = versions.register(name, run_id, tags, scores)
    tracking.attach(run_id, plots, "evaluation")
    training = optional(train_reports / f"{family}.json")
    return Challenger(version, family, run_id, onnx, tags, training, content)


def winner(content: Mapping[str, Any], models: Path) -> tuple[Path, dict[str, str]]:
    """The winner's file, if it is the one that was evaluated, and the tags that its version is to have."""
    family, data = content["winner"], content["data"]
    onnx, entry = models / family / MODEL_FILE, content["families"][family]
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


def rescore(name: str, champion: Version, faces: Split, params: Params) -> ServedScores:
    """Score the champion anew: its old scores may be of other faces, and the tests want its answer to each."""
    if champion.version == SHIPPED_VERSION:
        return score_as_served(champion.version, shipped.ONNX, champion.tags, faces, params)
    with TemporaryDirectory() as folder:
        onnx = versions.download(name, champion.version, Path(folder) / "model")
        return score_as_served(champion.version, onnx, champion.tags, faces, params)


def gather(
    challenger: Challenger,
    scored: ServedScores,
    incumbent: ServedScores | None,
    comparison: Comparison | None,
    validated: Path,
    log: Log | None = None,
) -> Case:
    """Collect the input of the promotion gate's rules."""
    onnx, withdrawn = challenger.training.get("onnx", {}), (log or Log()).withdrawn.get(challenger.version)
    # The report of another training proves nothing of this file.
    proven = onnx.get("sha256") == challenger.tags["onnx_sha256"]
    return Case(
        challenger=scored,
        champion=incumbent,
        comparison=comparison,
        digest=challenger.tags["data.digest"],
        validated=str(optional(validated).get("digest", "")),
        parity=onnx["max_probability_difference"] if proven else None,
        lineage={**challenger.tags, "run_id": challenger.run_id},
        withdrawn=f"{withdrawn.why.rstrip('.')} ({withdrawn.who})." if withdrawn else "",
    )


def is_champion(champion: Version | None, challenger: Challenger) -> bool:
    """Whether the challenger's file is the champion's."""
    return champion is not None and champion.tags.get("onnx_sha256") == challenger.tags["onnx_sha256"]


def optional(path: Path) -> dict[str, Any]:
    """A report that may be missing: the rules, not a crash, say what that means."""
    return read_json(path, made_by="dvc repro") if path.exists() else {}


def _training_run(content: Mapping[str, Any], onnx: Path, name: str) -> str:
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
