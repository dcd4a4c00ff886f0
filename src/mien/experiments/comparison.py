"""Recipes side by side: the families of an overlay, trained apart and scored; nothing is chosen or promoted."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.config.params import Params, load
from mien.data import dataset
from mien.errors import MienError
from mien.evaluation.model_predictions import ModelPredictions
from mien.experiments import own_folder
from mien.experiments.pipeline import call, lay_out, make_dvc, parameters
from mien.files import read_json, rounded, write_json
from mien.inference.tta import NO_TTA

TOLD = ("params", "seed", "parameters", "gmac", "epochs", "best_epoch", "seconds", "hardware", "data", "run_id")
"""What a comparison's report repeats of a training's own."""


def compare(
    overlay: Path, folder: Path, raw: Path, report: Path, only: Sequence[str] = (), test: bool = False
) -> dict[str, Any]:
    """Train the families of `overlay` (or `only` some) on the faces in `raw`; `report` keeps what each is worth.

    Every family is in the report as soon as it is trained, beside those that were there before. With `test` they are
    scored on the test split, too. Answers what the report holds of each family, in the overlay's order.
    """
    if not list(raw.glob("*.parquet")):
        raise MienError(f"{raw} holds no faces. Fetch FER-2013 first: mien fetch kaggle, or mien fetch csv PATH.")
    lay_out(folder, parameters(overlay))
    own_folder.mark(folder)
    params = load(folder / "params.yaml")
    if unknown := [name for name in only if name not in params.families]:
        raise MienError(f"There is no recipe {', '.join(unknown)} in {overlay}: expected {', '.join(params.families)}.")
    make_dvc(folder)
    shutil.copytree(raw, folder / "data/raw", dirs_exist_ok=True)
    kept = read_json(report, made_by=f"mien {overlay.stem}")["families"] if report.exists() else {}
    for name in only or params.families:
        call([sys.executable, "-m", "dvc", "repro", f"train@{name}"], folder)
        kept[name] = rounded(tell(name, folder, params, test))
        digest = kept[name]["data"]["digest"]
        # What is no longer in the overlay, or was trained on other faces, does not belong side by side.
        known = (each for each in params.families if each in kept)
        kept = {each: kept[each] for each in known if kept[each]["data"]["digest"] == digest}
        write_json(report, {"families": kept})
    return kept


def tell(name: str, folder: Path, params: Params, test: bool) -> dict[str, Any]:
    """What a family's training left, its scores on validation and, if wanted, on the test split."""
    trained = read_json(folder / f"reports/train/{name}.json", made_by=f"dvc repro train@{name}")
    predictions = ModelPredictions({name: folder / "models" / name / "model.onnx"})
    predictions.splits["validation"] = dataset.read_split(folder / "data/prepared", "validation")
    result = {"validation": predictions.score_on_validation([name], params)}
    if test:
        predictions.splits["test"] = dataset.read_split(folder / "data/prepared", "test")
        result["test"] = predictions.score_on_test([name], NO_TTA, params)
    return result | {key: trained[key] for key in TOLD}
