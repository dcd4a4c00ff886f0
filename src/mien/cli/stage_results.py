"""What each stage says at its end: its result in one to five lines, read from the reports that it wrote."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien.emotions import EMOTIONS, SPLITS
from mien.files import read_json

SHOWN = 2
"""Warnings that are spelled out; the others are named."""


def prepared(folder: Path) -> str:
    """Rows of each split, and those that were excluded or flagged, by reason."""
    info = read_json(folder / "dataset.json", made_by="dvc repro prepare")
    rows = {split: sum(info["counts"][split].values()) for split in SPLITS}
    excluded = sum(info["excluded"].values())
    some = ", ".join(f"{n:,} for {split}" for split, n in rows.items())
    missing = [name for name in EMOTIONS if not info["counts"]["train"][name]]
    lines = [
        f"{info['name']}: kept {sum(rows.values()):,} of {sum(rows.values()) + excluded:,} rows ({some})",
        f"excluded {_reasons(info['excluded'])}; flagged {_reasons(info['flagged'])}"
        f" (each row and its reason: {folder / 'exclusions.csv'})",
    ]
    lines += [f"no face for training is {', '.join(missing)}"] if missing else []
    return "\n".join([*lines, "Next: dvc repro validate"])


def validated(report: Path, data_docs: Path) -> str:
    """How many expectations were checked, and the warnings."""
    content = read_json(report, made_by="dvc repro validate")
    warned = [one for one in content["expectations"] if not one["success"] and one["severity"] == "warning"]
    n = len(content["expectations"])
    lines = [f"{n} expectations of profile {content['profile']!r}: none critical broken, {_some(warned)}"]
    lines += [f"  {one['name']}: {one['observed']}; expected {one['expected']}" for one in warned[:SHOWN]]
    lines += [f"  and {', '.join(one['name'] for one in warned[SHOWN:])}"] if warned[SHOWN:] else []
    return "\n".join([*lines, f"All of them: {data_docs / 'index.html'}. Next: dvc repro"])


def tuned(report: Path) -> str:
    """The best trial, and what the search started from."""
    content = read_json(report, made_by="dvc repro tune")
    family, trials, best = content["family"], content["trials"], content["best"]
    following = f"Next: dvc repro train@{family}"
    if not trials:
        return "\n".join([f"{family}: nothing to search, the values of params.yaml are used. {following}"])
    states = ", ".join(f"{n} {state}" for state, n in Counter(trial["state"] for trial in trials).items())
    if best["value"] is None:
        return "\n".join([f"{family}: none of {len(trials)} trials has a score ({states}). {following}"])
    number = next(trial["number"] for trial in trials if trial["params"] == best["params"])
    values = ", ".join(f"{key}={_number(value)}" for key, value in best["params"].items())
    recipe = next((one["full"] for one in content.get("confirmed", ()) if one["trial"] == 0), trials[0]["value"])
    start = f"; trial 0, the values of params.yaml: {recipe:.3f}" if recipe else ""
    return "\n".join(
        [
            f"{family}: {len(trials)} trials ({states})",
            f"best macro-F1 {best['value']:.3f} in trial {number} with {values}{start}",
            *_full_trainings(content),
            following,
        ]
    )


def trained(report: Path, model: Path) -> str:
    """The epoch that was kept with its scores, and the exported file."""
    content = read_json(report, made_by="dvc repro train")
    scores, onnx, best = content["validation"], content["onnx"], content["best_epoch"]
    epoch = f"best epoch {best} of {content['epochs']}" if best else "no epoch, the weights that it began with"
    return "\n".join(
        [
            f"{content['family']}: {epoch}, validation accuracy "
            f"{scores['accuracy']:.1%}, macro-F1 {scores['macro_f1']:.3f} (n = {scores['n']:,})",
            f"{model / 'model.onnx'}: {content['parameters']:,} parameters, {onnx['bytes'] / 1e6:.1f} MB, "
            f"the export differs by at most {onnx['max_probability_difference']:.0e}, trained in "
            f"{content['seconds'] / 60:.1f} min",
            "Next: dvc repro evaluate, once all families are trained",
        ]
    )


def evaluated(report: Path) -> str:
    """The winner with its scores on validation and test, and the second best."""
    from mien.evaluation.selection import rank

    content = read_json(report, made_by="dvc repro evaluate")
    winner, test = content["winner"], content["test"]
    scores = {name: family["validation"] for name, family in content["families"].items()}
    second = max((name for name in scores if name != winner), key=lambda name: rank(scores[name]), default=None)
    behind = f"; second {second}, {_macro_f1(scores[second])}" if second else ""
    low, high = test["accuracy_ci"]
    return "\n".join(
        [
            f"winner on validation: {winner}, macro-F1 {_macro_f1(scores[winner])}, accuracy "
            f"{scores[winner]['accuracy']:.1%} (n = {scores[winner]['n']:,}){behind}",
            f"on test, once: accuracy {test['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), macro-F1 "
            f"{test['macro_f1']:.3f}, ECE {test['ece']:.3f}; without leaked images "
            f"{test['without_leaks']['accuracy']:.1%}",
            "Next: dvc repro promote",
        ]
    )


def promoted(report: Path, cards: Path) -> str:
    """The gate's decision, by which rules and why, and who is champion now."""
    from mien.registry.promotion_log import named
    from mien.registry.promotion_report import decision

    content = read_json(report, made_by="dvc repro promote")
    champion = content["champion"]
    serves = f"{champion['family']}, {named(champion['version'])}" if champion else "none"
    following = "Next: dvc repro promote" if content.get("judged_only") else "Next: dvc repro package"
    return "\n".join(
        [
            decision(content),
            f"champion: {serves}; all rules: {report}, mien champion; cards: {cards}",
            following,
        ]
    )


def packaged(report: Path, champion: Path) -> str:
    """The Bento's tag, and how to serve it."""
    from mien.registry.promotion_log import named

    content = read_json(report, made_by="dvc repro package")
    version = named(content["model_version"])
    return "\n".join(
        [
            f"Bento {content['tag']}: {version}, detector {content['detector']}, "
            f"{content['bytes'] / 1e6:.1f} MB; the same model is in {champion}",
            f"Next: make serve (or bentoml serve {content['tag']}); mien predict photo.jpg",
        ]
    )


def _full_trainings(content: Mapping[str, Any]) -> list[str]:
    """Whether full trainings chose, and how the short trials had ranked them."""
    if "confirmed" not in content:
        return []
    ranked = content["rank_correlation"]
    low, high = ranked["interval"]
    return [
        f"chosen by {ranked['n']} full trainings, which the short trials ranked with a correlation of "
        f"{ranked['rho']:.2f} (95 % interval {low:.2f} to {high:.2f})"
    ]


def _macro_f1(validation: Mapping[str, Any]) -> str:
    damaged = validation.get("with_damaged")
    return f"{validation['macro_f1']:.3f}" + (f" ({damaged['macro_f1']:.3f} with damaged faces)" if damaged else "")


def _some(warned: Sequence[Any]) -> str:
    return f"{len(warned)} warning{'' if len(warned) == 1 else 's'}" if warned else "no warning"


def _reasons(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{total:,}" + (f" ({', '.join(f'{reason} {n:,}' for reason, n in counts.items())})" if total else "")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
