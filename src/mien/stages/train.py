"""Train one family with its best hyperparameters, export it to ONNX and prove that both answer alike."""

import dataclasses
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mien.config.params import Params
from mien.data.dataset import read_info, read_split
from mien.errors import MienError
from mien.evaluation import headline
from mien.evaluation.metrics import accuracy, macro_f1, uar
from mien.files import read_json, rounded, write_file, write_json
from mien.inference.runtime import Runtime
from mien.learning.training import hardware
from mien.learning.training.checkpoints import State
from mien.learning.training.cost import macs
from mien.learning.training.distillation import Teachers
from mien.learning.training.loop import Plan, Result, export, in_float32, predict, train
from mien.registry import tracking

PARITY = 1e-3
"""Largest accepted difference of any probability between Keras and the exported file, both in float32."""


def run(
    family: str, prepared: Path, tuned: Path | None, model: Path, report: Path, checkpoints: Path, params: Params
) -> None:
    """Write `model`/model.keras, `model`/model.onnx and `report`; carry on from `checkpoints` where a run was cut.

    A student's teachers stand beside `model`; it has no search, so that `tuned` is None.
    """
    best = read_json(tuned, made_by=f"dvc repro tune@{family}")["best"]["params"] if tuned else {}
    architecture, recipe = params.training(family, best)
    info, distil = read_info(prepared), params.family(family).distil
    splits = read_split(prepared, "train"), read_split(prepared, "validation")
    teachers = Teachers.of(distil, model.parent) if distil else None
    plan = Plan.of(architecture, recipe, splits[0], splits[1], params.seed_of(family), teachers)
    resumed = _known_run(checkpoints, plan)
    with tracking.run(
        tracking.EXPERIMENT,
        family,
        tags={"family": family, "stage": "train"},
        resume=resumed,
        system_metrics=True,
    ) as tracked:
        write_json(checkpoints / "run.json", {"fingerprint": plan.fingerprint, "run_id": tracked.id})
        tracked.log_params(_flat(plan))
        tracked.log_dataset(info["name"], info["digest"], len(plan.training))
        telling = EpochLogger(tracked, plan)
        result = in_float32(train(plan, checkpoints, telling, bar=sys.stdout.isatty()), architecture)
        if not resumed:
            telling.catch_up(result.state)
        tracked.set_tags(hardware.as_tags(result.state.origin))
        written = _write(result, plan, model)
        content = _report(family, plan, result, info, tracked.id) | written
        write_json(report, content)
        tracked.log_artifact(report)
        tracked.log_model(model / "model.onnx", {f"validation_{k}": v for k, v in content["validation"].items()})
    shutil.rmtree(checkpoints)


def write_metrics(report: Path, metrics: Path) -> None:
    """Write the few numbers of a training's report that DVC compares."""
    write_json(metrics, headline.of_training(rounded(read_json(report, made_by="mien train"))))


class EpochLogger:
    """Tell MLflow and the terminal about each epoch."""

    def __init__(self, tracked: tracking.Run, plan: Plan) -> None:
        self.tracked, self.plan = tracked, plan
        self.logged: set[int] = set()

    def __call__(self, epoch: int, numbers: dict[str, float]) -> None:
        """Log the numbers as points of curves, and print one line."""
        self.tracked.log_metrics(numbers, step=epoch)
        self.logged.add(epoch)
        print(
            f"epoch {epoch}/{self.plan.recipe.epochs}  loss {numbers['loss']:.3f}  accuracy {numbers['accuracy']:.3f}"
            f"  validation accuracy {numbers['val_accuracy']:.3f}  macro-F1 {numbers['val_macro_f1']:.3f}",
            flush=True,
        )

    def catch_up(self, state: State) -> None:
        """Log the epochs of a checkpoint that came without its MLflow run, from another machine for example."""
        names = state.history
        for epoch, (ended, *values) in enumerate(zip(state.ended, *names.values(), strict=True), start=1):
            if epoch not in self.logged:
                self.tracked.log_metrics(dict(zip(names, values, strict=True)), step=epoch, when=ended)


def _known_run(checkpoints: Path, plan: Plan) -> str | None:
    """The MLflow run of the training that was cut short, if it was this one."""
    path = checkpoints / "run.json"
    known = read_json(path, made_by="mien train") if path.exists() else {}
    return known["run_id"] if known.get("fingerprint") == plan.fingerprint else None


def _write(result: Result, plan: Plan, model: Path) -> dict[str, Any]:
    """Both files of the model, and how far their answers differ on validation faces."""
    onnx = model / "model.onnx"
    write_file(model / "model.keras", result.network.save)
    export(result.network, onnx)
    content = onnx.read_bytes()
    return {
        "onnx": {
            "max_probability_difference": _parity(result, onnx, plan),
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }
    }


def _parity(result: Result, onnx: Path, plan: Plan) -> float:
    """Largest difference of any probability; beyond PARITY the export is refused."""
    faces = plan.validation.take(np.arange(min(256, len(plan.validation))))
    served = Runtime(onnx, backend="onnxruntime").predict(faces.images.astype(np.float32))
    difference = float(np.abs(served - predict(result.network, faces)).max())
    if not difference <= PARITY:
        raise MienError(
            f"{onnx} answers otherwise than the trained model: probabilities differ by up to {difference:.2g}, "
            f"expected at most {PARITY:g}. Train again; if it stays, report which layer was added."
        )
    return difference


def _report(family: str, plan: Plan, result: Result, info: dict[str, Any], run_id: str) -> dict[str, Any]:
    guesses = predict(result.network, plan.validation).argmax(axis=1)
    labels, state = plan.validation.labels, result.state
    teachers = {"distil": plan.teachers.to_dict()} if plan.teachers else {}
    return {
        "family": family,
        "params": {"model": dataclasses.asdict(plan.architecture), "train": dataclasses.asdict(plan.recipe)},
        **teachers,
        **({"start_sha256": plan.start} if plan.start else {}),
        "parameters": int(result.network.count_params()),
        "gmac": round(macs(result.network) / 1e9, 6),
        "epochs": state.epoch,
        "best_epoch": state.best,
        "validation": {
            "n": len(labels),
            "accuracy": float(accuracy(labels, guesses)),
            "macro_f1": float(macro_f1(labels, guesses)),
            "uar": float(uar(labels, guesses)),
        },
        "history": state.history,
        "seconds": round(state.seconds, 1),
        "images_per_second": round(result.state.images_per_second, 1),
        "precision": state.precision,
        "hardware": state.origin,
        "data": {"name": info["name"], "digest": info["digest"], "rows": len(plan.training)},
        "seed": plan.seed,
        "run_id": run_id,
    }


def _flat(plan: Plan) -> dict[str, Any]:
    """Parameters as MLflow's columns."""
    recipe = dataclasses.asdict(plan.recipe)
    augmentation = {f"augment.{key}": value for key, value in recipe.pop("augmentation").items()}
    model = {f"model.{key}": value for key, value in dataclasses.asdict(plan.architecture).items()}
    result = plan.teachers.to_dict() if plan.teachers else {}
    distil = {f"distil.{key}": ", ".join(value) if key == "teachers" else value for key, value in result.items()}
    return {**model, **recipe, **augmentation, **distil, "seed": plan.seed}
