"""mien.evaluation.metrics against scikit-learn, SciPy and numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.evaluation import metrics
from mien.evaluation.calibration import fit_temperature
from mien.inference.calibration import apply_temperature

Answers = tuple[NDArray[np.int64], NDArray[np.int64]]

seeded = settings(deadline=None, derandomize=True)
"""The same cases on every machine, however busy it is."""


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    """Labels and predictions of the same length, at least one."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
    array = np.array(pairs, np.int64)
    return array[:, 0], array[:, 1]


def random_answers(n: int = 3000, seed: int = 0, strength: float = 2.0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Probabilities, and labels drawn from them, so that they are calibrated."""
    random = np.random.default_rng(seed)
    powers = np.exp(strength * random.normal(size=(n, 7)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return probabilities, (probabilities.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)


@seeded
@given(answers())
def test_scores_of_labels_agree_with_scikit_learn(pair: Answers) -> None:
    labels, predicted = pair
    present = np.unique(labels)
    recall = sklearn.metrics.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert metrics.accuracy(labels, predicted) == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert metrics.macro_f1(labels, predicted) == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    assert metrics.uar(labels, predicted) == pytest.approx(recall)
    matrix = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(7))
    np.testing.assert_array_equal(metrics.confusion(labels, predicted), matrix)


@seeded
@given(answers(), st.randoms())
def test_the_order_of_faces_does_not_matter(pair: Answers, random: Any) -> None:
    labels, predicted = pair
    order = np.array(random.sample(range(len(labels)), len(labels)))
    assert metrics.macro_f1(labels[order], predicted[order]) == metrics.macro_f1(labels, predicted)


@seeded
@given(answers())
def test_a_perfect_answer_scores_one_whatever_emotions_are_absent(pair: Answers) -> None:
    labels, _ = pair
    assert metrics.accuracy(labels, labels) == metrics.macro_f1(labels, labels) == metrics.uar(labels, labels) == 1


def test_an_absent_emotion_has_no_recall_and_a_missed_one_has_zero() -> None:
    found = metrics.recalls(np.array([0, 0, 3]), np.array([0, 1, 1]))
    assert found == {"angry": 0.5, "happy": 0.0}


def test_every_emotion_has_a_row_in_the_report() -> None:
    rows = metrics.per_emotion(np.array([0, 0, 3]), np.array([0, 1, 1]))
    assert tuple(rows) == EMOTIONS
    assert rows["angry"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows["neutral"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_probability_scores_agree_with_scikit_learn() -> None:
    probabilities, labels = random_answers()
    assert metrics.nll(probabilities, labels) == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities, labels=range(7))
    )
    one_hot = np.eye(7)[labels]
    assert metrics.brier(probabilities, labels) == pytest.approx(np.square(probabilities - one_hot).sum(axis=1).mean())


def test_a_probability_of_zero_keeps_the_likelihood_finite() -> None:
    probabilities = np.eye(7, dtype=np.float32)[[1, 2]]
    assert np.isfinite(metrics.nll(probabilities, np.array([0, 0])))
    assert np.isfinite(apply_temperature(probabilities, 0.05)).all()


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.zeros((10, 7))
    probabilities[:, 0], probabilities[:, 1] = 0.8, 0.2
    labels = np.array([0] * 5 + [1] * 5)
    assert metrics.ece(probabilities, labels) == pytest.approx(0.3)
    assert metrics.ece(probabilities, np.array([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-12)


def test_the_bins_of_the_reliability_diagram_hold_every_face() -> None:
    probabilities, labels = random_answers(500)
    binned = metrics.reliability(np.vstack([probabilities, np.eye(7)[:1]]), np.append(labels, 0), bins=10)
    assert binned.count.sum() == 501
    inside = binned.count > 0
    assert (binned.confidence[inside] > binned.edges[:-1][inside]).all()
    assert (binned.confidence[inside] <= binned.edges[1:][inside]).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_distorted_the_probabilities_is_found(temperature: float) -> None:
    honest, labels = random_answers(20_000)
    distorted = apply_temperature(honest, 1 / temperature)
    assert fit_temperature(distorted, labels) == pytest.approx(temperature, rel=0.05)


@seeded
@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_temperature_never_changes_the_answer_nor_the_sum(temperature: float, seed: int) -> None:
    probabilities, _ = random_answers(20, seed)
    scaled = apply_temperature(probabilities, temperature)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(MienError, match="expected a number above 0"):
        apply_temperature(np.full((1, 7), 1 / 7), temperature)


@seeded
@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_interval_agrees_with_scipy(k: int, n: int, level: float) -> None:
    k = min(k, n)
    expected = scipy.stats.binomtest(k, n).proportion_ci(level, method="wilson")
    assert metrics.wilson_interval(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_interval_of_the_official_test_split_is_about_one_and_a_half_points() -> None:
    low, high = metrics.wilson_interval(2500, 3589)
    assert (high - low) / 2 == pytest.approx(0.015, abs=0.0005)
    assert metrics.wilson_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="expected 0 to n"):
        metrics.wilson_interval(3, 2)


def test_bootstrap_interval_is_seeded_and_holds_the_score() -> None:
    probabilities, labels = random_answers(800)
    predicted = probabilities.argmax(axis=1)
    interval = metrics.bootstrap_interval(metrics.accuracy, labels, predicted, resamples=300, seed=1)
    assert interval == metrics.bootstrap_interval(metrics.accuracy, labels, predicted, resamples=300, seed=1)
    hits = int((labels == predicted).sum())
    assert interval == pytest.approx(metrics.wilson_interval(hits, 800), abs=0.01)


def test_mcnemar_counts_only_the_faces_on_which_the_two_disagree() -> None:
    labels = np.zeros(100, np.int64)
    a, b = labels.copy(), labels.copy()
    a[:2], b[2:12] = 1, 1
    assert metrics.mcnemar(labels, a, b) == pytest.approx(scipy.stats.binomtest(2, 12).pvalue)
    assert metrics.mcnemar(labels, a, b) == metrics.mcnemar(labels, b, a)
    assert metrics.mcnemar(labels, a, a) == 1


def paired(only_a: int, only_b: int, both: int = 20) -> tuple[NDArray[np.int64], ...]:
    """Labels and two predictions: so many faces only `a`, only `b`, and both name right."""
    labels = np.zeros(only_a + only_b + both, np.int64)
    a, b = labels.copy(), labels.copy()
    b[:only_a], a[only_a : only_a + only_b] = 1, 1
    return labels, a, b


def test_mcnemars_mid_p_is_the_published_one() -> None:
    # Fagerland, Lydersen and Laake (2013): airway hyper-responsiveness before and after a transplant.
    labels, a, b = paired(1, 7)
    assert metrics.mcnemar(labels, a, b) == pytest.approx(0.0703, abs=5e-5)
    assert metrics.mcnemar(labels, a, b, mid=True) == pytest.approx(0.0391, abs=5e-5)
    assert metrics.mcnemar(labels, b, a, mid=True) == metrics.mcnemar(labels, a, b, mid=True)
    assert metrics.mcnemar(*paired(6, 6), mid=True) == 1
    assert metrics.mcnemar(*paired(0, 0), mid=True) == 1
    assert metrics.discordant(labels, a, b) == (1, 7)


def test_the_bootstrap_pairs_the_faces_of_both_models() -> None:
    labels, a, b = paired(30, 10, both=160)
    low, high = metrics.bootstrap_difference(metrics.accuracy, labels, a, b, resamples=4000, seed=1)
    # The paired difference has mean 0.1 and variance (30 + 10 - 20 ** 2 / 200) / 200 ** 2.
    half = 1.96 * np.sqrt((40 - 20**2 / 200) / 200**2)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.01)
    assert metrics.bootstrap_difference(metrics.macro_f1, labels, a, a) == (0, 0)


def test_copies_of_a_face_are_drawn_together() -> None:
    labels = np.arange(70) % 7
    right, wrong = labels, (labels + 1) % 7
    a, b = np.stack([right, right], axis=1), np.stack([right, wrong], axis=1)
    assert metrics.mean_macro_f1(labels, b) == pytest.approx(0.5)
    low, high = metrics.bootstrap_difference(metrics.mean_macro_f1, labels, a, b, resamples=50)
    assert (low, high) == pytest.approx((0.5, 0.5)), "whatever faces are drawn, one copy of each is right"
    with pytest.raises(ValueError, match="expected"):
        metrics.bootstrap_difference(metrics.mean_macro_f1, labels, a[:-1], b)


def test_rank_correlation_has_the_interval_of_bonett_and_wright() -> None:
    a, b = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [2, 1, 4, 3, 6, 5, 8, 7, 10, 9]
    rho, low, high = metrics.rank_correlation(a, b)
    assert rho == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / 7)
    assert (low, high) == pytest.approx((np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)))
    assert metrics.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx((-1, -1, 1)), "three pairs tell no interval"
    assert metrics.rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) == (0, -1, 1)


def test_nothing_to_score_is_said_in_words() -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(MienError, match="no faces to score"):
        metrics.accuracy(none, none)
    with pytest.raises(MienError, match="no faces to score"):
        metrics.ece(np.zeros((0, 7)), none)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(n,\) and \(n,\) or \(n, 7\)"):
        metrics.accuracy(np.zeros(3, np.int64), np.zeros(4, np.int64))


def test_leaving_unsure_faces_out_trades_coverage_for_accuracy() -> None:
    probabilities = np.full((4, 7), 0.01)
    probabilities[[0, 1, 2, 3], [0, 1, 2, 3]] = [0.9, 0.5, 0.7, 0.3]
    labels = np.array([0, 1, 6, 6])
    curve = metrics.coverage(probabilities, labels)
    np.testing.assert_allclose(curve.confidence, [0.9, 0.7, 0.5, 0.3])
    np.testing.assert_allclose(curve.share, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.accuracy, [1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    at = metrics.answered_above(probabilities, labels, 0.5)
    assert (at["answered"], at["coverage"], at["accuracy_of_uncertain"]) == (3, 0.75, 0)
    assert at["accuracy"] == pytest.approx(2 / 3)
    assert at["accuracy_ci"] == metrics.wilson_interval(2, 3)


def test_a_limit_that_all_or_none_reach_divides_by_nothing() -> None:
    probabilities, labels = random_answers(50)
    assert metrics.answered_above(probabilities, labels, 0.0)["accuracy_of_uncertain"] is None
    nobody = metrics.answered_above(probabilities, labels, 1.1)
    assert (nobody["accuracy"], nobody["coverage"]) == (None, 0)


def test_calibrated_answers_are_the_better_the_surer_they_are() -> None:
    probabilities, labels = random_answers()
    curve = metrics.coverage(probabilities, labels)
    assert curve.accuracy[300] > curve.accuracy[1500] > curve.accuracy[-1]
    assert curve.accuracy[-1] == metrics.accuracy(labels, probabilities.argmax(axis=1))
