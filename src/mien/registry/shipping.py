"""Replace the champion that ships with the package by one of the project's champions."""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.files import read_json, swap
from mien.inference.champion import MODEL_FILE, SHIPPED, Card, folder, read_card, write_card
from mien.inference.tta import Tta
from mien.monitoring.drift_windows import PROFILE_FILE

TEXT_FILE = "CARD.md"
MAX_BYTES = 10_000_000
"""Largest shipped folder: everybody who installs the package downloads it."""


def ship(champion: Path, evaluation: Path, target: Path = SHIPPED) -> Card:
    """Copy the champion in `champion` into the package, with a Markdown card made from `evaluation`.

    Raises MienError, leaving the shipped one, if it was trained on synthetic faces, is too large, or is not the model
    in `evaluation`.
    """
    source = folder(champion)
    card, scores = read_card(source), read_json(evaluation, made_by="dvc repro evaluate")
    if card.synthetic:
        raise MienError(f"The champion in {champion} was trained on drawn faces. Ship one trained on real faces.")
    model = (source / MODEL_FILE).read_bytes()
    evaluated = scores.get("families", {}).get(scores.get("winner"), {}).get("onnx_sha256")
    if hashlib.sha256(model).hexdigest() != evaluated:
        raise MienError(f"{evaluation} is not about {source / MODEL_FILE}. Run `dvc repro`, then ship.")
    if len(model) > MAX_BYTES:
        raise MienError(f"{source / MODEL_FILE} has {len(model):,} bytes, at most {MAX_BYTES:,} are shipped.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".shipped-") as scratch:
        fresh = Path(scratch) / target.name
        fresh.mkdir()
        shutil.copyfile(source / MODEL_FILE, fresh / MODEL_FILE)
        if (source / PROFILE_FILE).exists():
            shutil.copyfile(source / PROFILE_FILE, fresh / PROFILE_FILE)
        # YuNet's file does not come with the package: it is taken where a user has fetched it.
        write_card(fresh, dataclasses.replace(card, detector="auto"))
        (fresh / TEXT_FILE).write_text(text(card, scores), encoding="utf-8")
        swap(fresh, target)
    return card


def text(card: Card, scores: Mapping[str, Any]) -> str:
    """The Markdown card: what the model is, its measured numbers, its limits and its use."""
    test, family = scores["test"], scores["families"][scores["winner"]]
    rows = {
        "PublicTest (chose it), without images that also stand in Training": family["validation"],
        "PrivateTest, whole": test,
        "PrivateTest, without images that also stand in Training": test["without_leaks"],
    }
    if "tta" in test:
        served = "" if Tta.of(test["tta"]) == card.test_time_augmentation else " (not served)"
        rows[f"PrivateTest, whole, TTA: {test['tta']['description']}{served}"] = test["tta"]
    table = "\n".join(f"| {name} | {_row(row)} |" for name, row in rows.items())
    recall = ", ".join(f"{name} {test['recall'][name]:.2f} ({test['support'][name]:,})" for name in EMOTIONS)
    hard = sorted(EMOTIONS, key=lambda name: float(test["recall"][name]))[:3]
    return TEXT.format(
        family=card.family,
        parameters=family["parameters"],
        version=card.version,
        commit=card.git_commit or "unknown",
        origin=_origin(scores["families"], scores["winner"]),
        data=card.data_name,
        digest=card.data_digest,
        table=table,
        recall=recall,
        temperature=card.temperature,
        uncertain=card.uncertain_below,
        hard=f"{hard[0].capitalize()}, {hard[1]} and {hard[2]}",
    )


def _origin(families: Mapping[str, Any], name: str) -> str:
    """Sentences on the teachers, and on what began with the weights of an earlier shipped model."""
    teachers = list(families[name].get("distil", {}).get("teachers", {}))
    taught = f" Its teachers, trained on the same faces: {', '.join(teachers)}." if teachers else ""
    starts = {one: families.get(one, {}).get("start_sha256") for one in (name, *teachers)}
    return taught + "".join(
        f" `{one}` began with the weights of the model shipped before, SHA-256 `{sha256}`."
        for one, sha256 in starts.items()
        if sha256
    )


def _row(scores: Mapping[str, Any]) -> str:
    low, high = scores["accuracy_ci"]
    rest = " | ".join(f"{scores[key]:.3f}" for key in ("macro_f1", "uar", "nll", "brier", "ece"))
    return f"{scores['n']:,} | {scores['accuracy']:.2%} ({low:.1%} to {high:.1%}) | {rest}"


TEXT = """\
# The model that comes with Mien

A `{family}` of {parameters:,} parameters that names the emotion a face shows: angry, disgust, fear, happy, sad,
surprise or neutral. Input: one gray face of 48×48 pixels, framed as FER-2013 frames its own; Mien finds and crops
faces by itself.
Version {version}, trained from scratch by this project's pipeline and judged at commit `{commit}`.{origin}

## Trained on

The Training split of `{data}`, without copies, conflicting labels and images without a face. No other data, no
pretrained weights.
Its labels are one reading of a face; people agree with them on about two faces in three.
Digest of the data: `{digest}`.

## Measured

On the exported file and the runtime that serves it. Everything was chosen on PublicTest; PrivateTest was scored
once.

| faces | n | accuracy (95 % interval) | macro-F1 | UAR | NLL | Brier | ECE |
| --- | --- | --- | --- | --- | --- | --- | --- |
{table}

Recall on PrivateTest (number of faces): {recall}.
Probabilities are calibrated with temperature {temperature:.3f}; a face whose best emotion gets less than
{uncertain:.0%} is `uncertain`.

## Limits

- It reads an expression in one still picture, not what a person feels. Acted, masked, cultural and medical
  differences defeat it.
- {hard} are recognised least often; see the recalls.
- FER-2013 comes from web searches: ages, skin tones, head coverings and cameras are unevenly present, and no labels
  of them exist to measure by. Measure on your own people before you rely on it.
- Faces turned far aside, covered, blurred, or smaller than about 30 pixels are answered worse; `status` says so
  where it can tell.

## Use

Meant for: sorting photos, prototypes, teaching, research, accessibility aids whose user stays in charge, statistics
over many faces.

Not meant for: decisions about a person - hiring, schooling, policing, border control, credit, insurance, health,
truthfulness - or watching people without their consent. The European Union prohibits emotion recognition at work
and in schools, but for medical and safety reasons.
"""
