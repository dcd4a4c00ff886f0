"""The gate to alias `champion`: each rule answers a plain sentence where it refuses the challenger, else nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Promote
from mien.emotions import EMOTIONS
from mien.evaluation import metrics
from mien.evaluation.served import ServedScores
from mien.inference.champion import SHIPPED_VERSION


@dataclass(frozen=True)
class Comparison:
    """Challenger less champion on the same faces: macro-F1 gain and interval, McNemar's mid-p, faces only one got.

    Where damaged faces count, the gain is the mean of both; the other tests are of the faces as they are.
    """

    gain: float
    interval: tuple[float, float]
    p_value: float
    only_challenger: int
    only_champion: int
    falls: Mapping[str, tuple[float, float]]
    """Emotions whose recall fell: by how much, and how likely noise alone lets it fall so far (one-sided mid-p)."""
    with_damaged: bool = False


@dataclass(frozen=True)
class Case:
    """The input of the rules; `champion` and `comparison` are None for a first model."""

    challenger: ServedScores
    champion: ServedScores | None = None
    comparison: Comparison | None = None
    digest: str = ""
    validated: str = ""
    parity: float | None = None
    lineage: Mapping[str, str] | None = None
    withdrawn: str = ""
    """Why this very model was taken back before; empty if it was not."""


@dataclass(frozen=True)
class Finding:
    """What one rule said: the complaint, or what it measured and asks for."""

    rule: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger takes the alias, why in plain words, and what every rule said."""

    promoted: bool
    reason: str
    findings: tuple[Finding, ...] = ()


Rule = Callable[[Case, Promote], str | None]


def judge(case: Case, limits: Promote) -> Verdict:
    """Promote only what no rule complains of."""
    complaints = {name: rule(case, limits) for name, (rule, _) in RULES.items()}
    findings = tuple(
        Finding(name, complaint is None, complaint or RULES[name][1](case, limits))
        for name, complaint in complaints.items()
    )
    refused = [complaint for complaint in complaints.values() if complaint]
    return Verdict(not refused, " ".join(refused) or _praise(case, limits), findings)


def compare(
    labels: NDArray[np.int64], challenger: ServedScores, champion: ServedScores, limits: Promote, seed: int
) -> Comparison:
    """The paired tests, on faces that both have answered."""
    new, old = challenger.predicted, champion.predicted
    interval = metrics.bootstrap_difference(
        metrics.mean_macro_f1,
        labels,
        challenger.copies,
        champion.copies,
        resamples=limits.resamples,
        level=limits.confidence,
        seed=seed,
    )
    falls = {}
    for label, emotion in enumerate(EMOTIONS):
        rows = labels == label
        if (fall := champion.recall.get(emotion, 0) - challenger.recall.get(emotion, 0)) > 0:
            # The question has one side: half of the two-sided value.
            falls[emotion] = fall, metrics.mcnemar(labels[rows], new[rows], old[rows], mid=True) / 2
    only = metrics.discordant(labels, new, old)
    gain = challenger.decisive - champion.decisive
    damaged = challenger.with_damaged is not None
    return Comparison(gain, interval, metrics.mcnemar(labels, new, old, mid=True), *only, falls, damaged)


def floor(case: Case, limits: Promote) -> str | None:
    """Nothing below the floor is promoted."""
    if case.challenger.macro_f1 >= limits.floor:
        return None
    return (
        f"No model clears promote.floor: best macro-F1 {case.challenger.macro_f1:.2f} ({case.challenger.family}), "
        f"needs {limits.floor:.2f}. Train longer or lower promote.floor in params.yaml."
    )


def better(case: Case, limits: Promote) -> str | None:
    """The interval of the macro-F1 gain lies above zero: an equal score, or noise, keeps the incumbent."""
    if not (case.champion and case.comparison) or min(case.comparison.gain, case.comparison.interval[0]) > 0:
        return None
    unchanged = f"{_named(case.champion)} stays champion: {_named(case.challenger)}"
    # Equal keeps the incumbent: a change of what serves has a cost, and here it would buy nothing.
    if case.comparison.gain <= 0:
        return f"{unchanged} does not beat it."
    return f"{unchanged} is ahead by no more than noise, {_gain(case.comparison, limits)}."


def correctness(case: Case, limits: Promote) -> str | None:
    """McNemar's test does not find it less often right: macro-F1 alone could be bought with accuracy."""
    found = case.comparison
    if not found or found.only_challenger >= found.only_champion or found.p_value > 1 - limits.confidence:
        return None
    return (
        f"The challenger is less often right: {found.only_champion} faces only the champion names right, "
        f"{found.only_challenger} only the challenger (McNemar p {_p(found.p_value)})."
    )


def recall(case: Case, limits: Promote) -> str | None:
    """No emotion's recall falls by more than the margin.

    A class of fifty faces moves by five points through chance alone. So a fall counts where it is larger than the
    margin and one-sided McNemar's mid-p on that emotion's own faces is no chance either. The seven tests are not
    corrected for their number: a false alarm keeps the incumbent, which is the cheaper error.
    """
    fallen = {
        emotion: fall
        for emotion, (fall, chance) in (case.comparison.falls if case.comparison else {}).items()
        if fall > limits.recall_drop and chance <= 1 - limits.confidence
    }
    if not fallen:
        return None
    falls = ", ".join(f"{emotion} by {fall:.3f}" for emotion, fall in fallen.items())
    return f"Recall falls too far: {falls}; promote.recall_drop allows {limits.recall_drop:g}."


def calibration(case: Case, limits: Promote) -> str | None:
    """The probabilities can be believed."""
    if case.challenger.ece <= limits.ece:
        return None
    return f"Its calibration error is {case.challenger.ece:.3f}, promote.ece allows {limits.ece:g}."


def size(case: Case, limits: Promote) -> str | None:
    """The file fits where it is to be deployed."""
    if case.challenger.bytes <= limits.bytes:
        return None
    return f"Its file has {case.challenger.bytes:,} bytes, promote.bytes allows {limits.bytes:,}."


def latency(case: Case, limits: Promote) -> str | None:
    """One face is answered soon enough."""
    if case.challenger.milliseconds <= limits.milliseconds:
        return None
    return (
        f"It takes {case.challenger.milliseconds:.1f} ms a face (median), "
        f"promote.milliseconds allows {limits.milliseconds:g}."
    )


def validation(case: Case, _: Promote) -> str | None:
    """The data that it was trained and is judged on passed `mien validate`."""
    if case.digest and case.digest == case.validated:
        return None
    passed = f"data {case.validated[:12]} did" if case.validated else "none did"
    return f"The data {case.digest[:12]} did not pass validation ({passed}). Run dvc repro validate."


def parity(case: Case, limits: Promote) -> str | None:
    """The exported file answers as the trained network does."""
    if case.parity is None:
        return "Nothing shows that the exported file answers as the trained network does. Train it anew."
    if case.parity <= limits.parity:
        return None
    return (
        f"The exported file differs from the trained network by up to {case.parity:.2g} in a probability, "
        f"promote.parity allows {limits.parity:g}."
    )


def lineage(case: Case, limits: Promote) -> str | None:
    """Where it comes from is known."""
    missing = [key for key in limits.lineage if not (case.lineage or {}).get(key)]
    if not missing:
        return None
    return f"Its lineage lacks {', '.join(missing)}. Run dvc repro in a Git checkout, or shorten promote.lineage."


def withdrawal(case: Case, _: Promote) -> str | None:
    """What people rolled back does not come back by itself."""
    return f"It was taken back before: {case.withdrawn} Train another." if case.withdrawn else None


def _named(scored: ServedScores) -> str:
    named = f"version {scored.version}" if scored.version else "not registered"
    named = "shipped with the package" if scored.version == SHIPPED_VERSION else named
    damaged = "" if scored.with_damaged is None else f", with damaged faces {scored.with_damaged:.4f}"
    return f"{scored.family} ({named}, macro-F1 {scored.macro_f1:.4f}{damaged})"


def _gain(found: Comparison, limits: Promote) -> str:
    low, high = found.interval
    score = "macro-F1 with damaged faces" if found.with_damaged else "macro-F1"
    return f"{score} {found.gain:+.4f} ({limits.confidence:.0%} interval {low:+.4f} to {high:+.4f})"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"  # noqa: PLR2004 (three digits)


def _praise(case: Case, limits: Promote) -> str:
    result = _named(case.challenger)
    if not (case.champion and case.comparison):
        return f"{result} clears the floor of {limits.floor:.2f} and is the first champion."
    return f"{result} beats the champion {_named(case.champion)}: {_gain(case.comparison, limits)}."


def _shown_gain(case: Case, limits: Promote) -> str:
    return f"{_gain(case.comparison, limits)}, must lie above 0" if case.comparison else "no champion to beat"


def _shown_correctness(case: Case, _: Promote) -> str:
    found = case.comparison
    if not found:
        return "no champion to compare with"
    counts = f"{found.only_challenger} faces only it names right, {found.only_champion} only the champion"
    return f"{counts}, McNemar p {_p(found.p_value)}"


def _shown_recall(case: Case, limits: Promote) -> str:
    if not case.comparison:
        return "no champion to compare with"
    result = [f"{emotion} {fall:.3f} (p {_p(p)})" for emotion, (fall, p) in case.comparison.falls.items()]
    return f"falls: {', '.join(result) or 'none'}; beyond {limits.recall_drop:g} they must be noise"


RULES: Mapping[str, tuple[Rule, Callable[[Case, Promote], str]]] = {
    "floor": (floor, lambda case, limits: f"macro-F1 {case.challenger.macro_f1:.4f}, at least {limits.floor:g}"),
    "better": (better, _shown_gain),
    "correctness": (correctness, _shown_correctness),
    "recall": (recall, _shown_recall),
    "calibration": (calibration, lambda case, limits: f"ECE {case.challenger.ece:.3f}, at most {limits.ece:g}"),
    "size": (size, lambda case, limits: f"{case.challenger.bytes:,} bytes, at most {limits.bytes:,}"),
    "latency": (
        latency,
        lambda case, limits: f"{case.challenger.milliseconds:.2f} ms a face, at most {limits.milliseconds:g}",
    ),
    "validation": (validation, lambda case, _: f"data {case.digest[:12]} passed"),
    "parity": (parity, lambda case, limits: f"differs by {case.parity:.1e}, at most {limits.parity:g}"),
    "lineage": (lineage, lambda _, limits: f"known: {', '.join(limits.lineage)}"),
    "withdrawal": (withdrawal, lambda *_: "never taken back"),
}
"""Each rule with the words for what it measured where it has no complaint."""
