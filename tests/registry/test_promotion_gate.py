"""The gate's rules, each on either side of its threshold, and the paired tests behind them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.config.params import Params, Promote
from mien.evaluation import metrics
from mien.evaluation.served import ServedScores, examine
from mien.registry import promotion_gate
from mien.registry.promotion_gate import Case, Comparison

Labels = NDArray[np.int64]


@pytest.fixture
def limits(params: Params) -> Promote:
    """Thresholds that the cases below stand on either side of."""
    return dataclasses.replace(
        params.promote,
        floor=0.35,
        confidence=0.95,
        recall_drop=0.05,
        ece=0.05,
        bytes=1000,
        milliseconds=5.0,
        parity=0.01,
    )


def scored(version: str = "2", **changes: Any) -> ServedScores:
    """A version of the CNN that keeps every limit."""
    values = {
        "family": "cnn",
        "macro_f1": 0.6,
        "accuracy": 0.6,
        "recall": {},
        "ece": 0.02,
        "bytes": 500,
        "milliseconds": 1.0,
    }
    return ServedScores(version, predicted=np.zeros(0, np.int64), **{**values, **changes})


def case(**changes: Any) -> Case:
    """A first model that breaks no rule."""
    known = {"git.commit": "c0de", "data.digest": "d", "dvc.lock": "10c", "run_id": "1"}
    values = {"challenger": scored(), "digest": "d", "validated": "d", "parity": 1e-6, "lineage": known}
    return Case(**{**values, **changes})


def against(gain: float, interval: tuple[float, float], **more: Any) -> Case:
    """A challenger that gained so much against version 1."""
    values = {"p_value": 1.0, "only_challenger": 5, "only_champion": 5, "falls": {}}
    comparison = Comparison(gain, interval, **{**values, **more})
    return case(champion=scored("1", macro_f1=0.6 - gain), comparison=comparison)


def test_the_first_champion_needs_only_to_keep_the_limits(limits: Promote) -> None:
    verdict = promotion_gate.judge(case(), limits)
    assert verdict.promoted
    assert verdict.reason == "cnn (version 2, macro-F1 0.6000) clears the floor of 0.35 and is the first champion."
    assert [finding.rule for finding in verdict.findings] == list(promotion_gate.RULES)
    assert all(finding.passed and finding.message for finding in verdict.findings)


@pytest.mark.parametrize("champion", [None, scored("1", macro_f1=0.2)])
def test_below_the_floor_nobody_is_promoted(limits: Promote, champion: ServedScores | None) -> None:
    limits = dataclasses.replace(limits, floor=0.55)
    low = dataclasses.replace(case(champion=champion), challenger=scored(macro_f1=0.41, family="vgg16"))
    verdict = promotion_gate.judge(low, limits)
    assert not verdict.promoted
    assert verdict.reason == (
        "No model clears promote.floor: best macro-F1 0.41 (vgg16), needs 0.55. "
        "Train longer or lower promote.floor in params.yaml."
    )
    assert promotion_gate.floor(case(challenger=scored(macro_f1=0.55)), limits) is None


def test_a_better_model_takes_the_place_of_the_champion(limits: Promote) -> None:
    verdict = promotion_gate.judge(against(0.05, (0.01, 0.09)), limits)
    assert verdict.promoted
    assert (
        "beats the champion cnn (version 1, macro-F1 0.5500): macro-F1 +0.0500 (95% interval +0.0100" in verdict.reason
    )


@pytest.mark.parametrize("gain", [0.0, -0.05])
def test_equal_or_worse_keeps_the_champion(limits: Promote, gain: float) -> None:
    verdict = promotion_gate.judge(against(gain, (-0.1, 0.1)), limits)
    assert not verdict.promoted
    assert "stays champion" in verdict.reason
    assert "does not beat it" in verdict.reason


def test_noise_does_not_promote(limits: Promote) -> None:
    verdict = promotion_gate.judge(against(0.02, (-0.001, 0.04)), limits)
    assert not verdict.promoted
    assert "ahead by no more than noise, macro-F1 +0.0200 (95% interval -0.0010 to +0.0400)" in verdict.reason
    assert promotion_gate.judge(against(0.02, (0.001, 0.04)), limits).promoted


def test_macro_f1_is_not_bought_with_accuracy(limits: Promote) -> None:
    found = {"only_challenger": 10, "only_champion": 30}
    complaint = promotion_gate.correctness(against(0.05, (0.01, 0.09), p_value=0.002, **found), limits)
    assert complaint == (
        "The challenger is less often right: 30 faces only the champion names right, 10 only the challenger "
        "(McNemar p 0.002)."
    )
    assert promotion_gate.correctness(against(0.05, (0.01, 0.09), p_value=0.06, **found), limits) is None
    turned = {"only_challenger": 30, "only_champion": 10}
    assert promotion_gate.correctness(against(0.05, (0.01, 0.09), p_value=0.002, **turned), limits) is None


def test_a_fall_of_recall_counts_beyond_the_margin_and_beyond_noise(limits: Promote) -> None:
    def told(fall: float, chance: float) -> str | None:
        return promotion_gate.recall(against(0.05, (0.01, 0.09), falls={"fear": (fall, chance)}), limits)

    assert told(0.051, 0.049) == "Recall falls too far: fear by 0.051; promote.recall_drop allows 0.05."
    assert told(0.051, 0.051) is None, "as much as chance does to a small class"
    assert told(0.049, 0.001) is None, "certain, and small"


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "message"),
    [
        ("calibration", {"ece": 0.05}, {"ece": 0.051}, "calibration error is 0.051, promote.ece allows 0.05"),
        ("size", {"bytes": 1000}, {"bytes": 1001}, "1,001 bytes, promote.bytes allows 1,000"),
        ("latency", {"milliseconds": 5.0}, {"milliseconds": 5.1}, "5.1 ms a face .*promote.milliseconds allows 5"),
    ],
)
def test_a_limit_holds_up_to_its_value(
    limits: Promote, rule: str, kept: dict[str, Any], broken: dict[str, Any], message: str
) -> None:
    assert promotion_gate.judge(case(challenger=scored(**kept)), limits).promoted
    verdict = promotion_gate.judge(case(challenger=scored(**broken)), limits)
    assert [finding.rule for finding in verdict.findings if not finding.passed] == [rule]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(verdict.reason)


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        ("validation", {"validated": ""}, "The data d did not pass validation (none did). Run dvc repro validate."),
        ("validation", {"validated": "e"}, "The data d did not pass validation (data e did). Run dvc repro validate."),
        ("validation", {"digest": "", "validated": ""}, "did not pass validation"),
        ("parity", {"parity": None}, "Nothing shows that the exported file answers"),
        ("parity", {"parity": 0.011}, "differs from the trained network by up to 0.011"),
        ("lineage", {"lineage": {"git.commit": "c", "run_id": "1", "dvc.lock": ""}}, "lacks data.digest, dvc.lock."),
        ("withdrawal", {"withdrawn": "Angry users (eve)."}, "was taken back before: Angry users (eve). Train another."),
    ],
)
def test_what_must_be_known_refuses_where_it_is_not(
    limits: Promote, rule: str, changes: dict[str, Any], message: str
) -> None:
    verdict = promotion_gate.judge(case(**changes), limits)
    assert not verdict.promoted
    assert [finding.rule for finding in verdict.findings if not finding.passed] == [rule]
    assert message in verdict.reason


def test_only_the_lineage_asked_for_is_needed(limits: Promote) -> None:
    known = case(lineage={"run_id": "1"})
    assert promotion_gate.lineage(known, dataclasses.replace(limits, lineage=("run_id",))) is None
    assert promotion_gate.lineage(known, dataclasses.replace(limits, lineage=("run_id", "git.commit"))) is not None


def seen(labels: Labels, predicted: Labels, version: str) -> ServedScores:
    """The exam of a model that answered so."""
    probabilities = np.eye(7)[predicted]
    return examine(version, "cnn", labels, probabilities, bins=15, bytes=1, milliseconds=1.0)


def test_two_models_of_equal_worth_are_seldom_taken_for_better(limits: Promote) -> None:
    random = np.random.default_rng(0)
    limits = dataclasses.replace(limits, resamples=200)
    won = 0
    for seed in range(60):
        labels = random.integers(0, 7, 400)
        both = [np.where(random.random(400) < 0.6, labels, random.integers(0, 7, 400)) for _ in range(2)]
        new, old = (seen(labels, predicted, str(i)) for i, predicted in enumerate(both))
        found = promotion_gate.compare(labels, new, old, limits, seed)
        won += promotion_gate.better(Case(new, old, found), limits) is None
    assert won <= 4, "2.5% of 60 is 1.5"


def test_where_damaged_faces_count_they_decide_and_the_words_say_so(limits: Promote) -> None:
    labels = np.arange(700) % 7
    random = np.random.default_rng(0)
    clean, poor = (np.where(random.random(700) < share, labels, (labels + 1) % 7) for share in (0.7, 0.4))

    def version(number: str, damaged: Labels) -> ServedScores:
        both = metrics.mean_macro_f1(labels, np.stack([clean, damaged], axis=1))
        return dataclasses.replace(seen(labels, clean, number), damaged=damaged, with_damaged=both)

    new, old = version("2", clean), version("1", poor)
    found = promotion_gate.compare(labels, new, old, limits, seed=0)
    assert found.gain == pytest.approx((new.macro_f1 - metrics.macro_f1(labels, poor)) / 2)
    assert found.interval[0] > 0
    believed = dataclasses.replace(new, ece=0.0)
    verdict = promotion_gate.judge(case(challenger=believed, champion=old, comparison=found), limits)
    assert f"with damaged faces {old.with_damaged:.4f}): macro-F1 with damaged faces +0.1" in verdict.reason
    alike = promotion_gate.compare(labels, seen(labels, clean, "2"), seen(labels, clean, "1"), limits, seed=0)
    assert (alike.gain, alike.interval, alike.with_damaged) == (0, (0, 0), False)


def test_a_small_class_may_waver_and_a_large_one_may_not(limits: Promote) -> None:
    labels = np.repeat(np.arange(7), [300, 20, 300, 300, 300, 300, 300])
    old, new = labels.copy(), labels.copy()
    old[1000:1300], new[1000:1100] = 6, labels[1000:1100]
    wavers = np.flatnonzero(labels == 1)[:2]
    new[wavers] = 6
    found = promotion_gate.compare(labels, seen(labels, new, "2"), seen(labels, old, "1"), limits, seed=0)
    fall, chance = found.falls["disgust"]
    assert fall == pytest.approx(0.1)
    assert chance == pytest.approx(0.125), "half of the mid-p of 0 against 2"
    assert promotion_gate.recall(Case(seen(labels, new, "2"), None, found), limits) is None
    new[np.flatnonzero(labels == 0)[:30]] = 6
    found = promotion_gate.compare(labels, seen(labels, new, "2"), seen(labels, old, "1"), limits, seed=0)
    assert "angry by 0.100" in (promotion_gate.recall(Case(seen(labels, new, "2"), None, found), limits) or "")
