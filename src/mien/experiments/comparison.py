"""Recipes side by side: the families of an overlay, trained apart and scored; nothing is chosen or promoted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.config.params import Params, load
from mien.data import dataset
from mien.errors import MienError
from mien.evaluation.model_predictions import ModelPredictions
from mien.experiments import own_folder
from mien.experiments.pipeline import DVC, bring, call, check_faces, lay_out, make_dvc, parameters
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
    check_faces(raw)
    lay_out(folder, parameters(overlay))
    own_folder.mark(folder)
    params = load(folder / "params.yaml")
    if unknown := [name for name in only if name not in params.families]:
        raise MienError(f"There is no recipe {', '.join(unknown)} in {overlay}: expected {', '.join(params.families)}.")
    make_dvc(folder)
    bring(raw, folder / "data/raw")
    kept = read_json(report, made_by=f"mien {overlay.stem}")["families"] if report.exists() else {}
    for name in only or params.families:
        call([*DVC, "repro", f"train@{name}"], folder)
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
