"""Scores of a classifier: pure functions of labels `(n,)`, predicted labels `(n,)` and probabilities `(n, 7)`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference.calibration import TINY, Floats

Labels = NDArray[Any]


@dataclass(frozen=True)
class Reliability:
    """Faces by confidence: the edges of the bins `(b + 1,)`; count, mean confidence and accuracy of each `(b,)`."""

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Risk-coverage curve, most confident faces first: confidence `(n,)` of each, share and accuracy up to it."""

    confidence: NDArray[np.float64]
    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve, the mean error rate: 0 best (Geifman & El-Yaniv 2017)."""
        return float(np.mean(1 - self.accuracy))


def confusion(labels: Labels, predicted: Labels) -> NDArray[np.int64]:
    """Counts `(7, 7)`: row = actual emotion, column = predicted emotion."""
    _check(labels, predicted)
    n = len(EMOTIONS)
    return np.bincount(labels.astype(np.int64) * n + predicted, minlength=n * n).reshape(n, n)


def accuracy(labels: Labels, predicted: Labels) -> float:
    """Share of correct predictions."""
    _check(labels, predicted)
    return float(np.mean(labels == predicted))


def macro_f1(labels: Labels, predicted: Labels) -> float:
    """Mean F1 of the emotions that occur in either array (scikit-learn's convention)."""
    matrix = confusion(labels, predicted)
    occurring = matrix.sum(axis=0) + matrix.sum(axis=1)
    return float(np.mean(2 * np.diag(matrix)[occurring > 0] / occurring[occurring > 0]))


def mean_macro_f1(labels: Labels, predicted: Labels) -> float:
    """Mean of the macro-F1 over several predictions of the same faces, `(n, k)`, such as those of damaged copies."""
    return float(np.mean([macro_f1(labels, column) for column in predicted.T]))


def uar(labels: Labels, predicted: Labels) -> float:
    """Unweighted average recall over the emotions that occur in `labels`: balanced accuracy."""
    return float(np.mean(list(recalls(labels, predicted).values())))


def recalls(labels: Labels, predicted: Labels) -> dict[str, float]:
    """Recall of each emotion that occurs in `labels`."""
    return {emotion: row["recall"] for emotion, row in per_emotion(labels, predicted).items() if row["support"]}


def per_emotion(labels: Labels, predicted: Labels) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every emotion; a ratio without cases is 0."""
    matrix = confusion(labels, predicted)
    rows = {}
    for index, emotion in enumerate(EMOTIONS):
        hits, support, named = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
        rows[emotion] = {
            "precision": float(hits / max(named, 1)),
            "recall": float(hits / max(support, 1)),
            "f1": float(2 * hits / max(support + named, 1)),
            "support": int(support),
        }
    return rows


def nll(probabilities: Floats, labels: Labels) -> float:
    """Mean negative log likelihood of the labels, in nats."""
    _check(labels, probabilities)
    return float(-np.mean(np.log(np.maximum(_of_labels(probabilities, labels), TINY))))


def brier(probabilities: Floats, labels: Labels) -> float:
    """Mean squared distance between the probabilities and the one-hot label: 0 best, 2 worst (Brier 1950)."""
    _check(labels, probabilities)
    squares = np.square(probabilities.astype(np.float64)).sum(axis=1)
    return float(np.mean(squares - 2 * _of_labels(probabilities, labels) + 1))


def reliability(probabilities: Floats, labels: Labels, bins: int = 15) -> Reliability:
    """Confidence against accuracy in bins of equal width; an empty bin has 0 for both."""
    _check(labels, probabilities)
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    means = [total / np.maximum(count, 1) for total in sums]
    return Reliability(np.linspace(0, 1, bins + 1), count, means[0], means[1])


def ece(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over the bins (Guo et al. 2017)."""
    binned = reliability(probabilities, labels, bins)
    return float(np.sum(binned.count * np.abs(binned.confidence - binned.accuracy)) / binned.count.sum())


def coverage(probabilities: Floats, labels: Labels) -> Coverage:
    """Accuracy by share of the most confident faces; faces of equal confidence keep their order."""
    _check(labels, probabilities)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    answered = np.arange(1, len(labels) + 1)
    right = np.cumsum(probabilities.argmax(axis=1)[order] == labels[order])
    confidence = probabilities.max(axis=1)[order].astype(np.float64)
    return Coverage(confidence, answered / len(labels), right / answered)


def answered_above(probabilities: Floats, labels: Labels, limit: float) -> dict[str, Any]:
    """Coverage and accuracy of the predictions with a confidence of at least `limit`; accuracy None without any."""
    _check(labels, probabilities)
    sure, right = probabilities.max(axis=1) >= limit, probabilities.argmax(axis=1) == labels
    k, n = int(np.sum(right & sure)), int(np.sum(sure))
    return {
        "answered": n,
        "coverage": n / len(labels),
        "accuracy": k / n if n else None,
        "accuracy_ci": wilson_interval(k, n),
        "accuracy_of_uncertain": float(np.mean(right[~sure])) if n < len(labels) else None,
    }


def wilson_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of the share `k / n`; without cases it is (0, 1)."""
    if not 0 <= k <= n:
        raise ValueError(f"k is {k}, expected 0 to n = {n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (k + z * z / 2) / (n + z * z)
    half = z * np.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def bootstrap_interval(
    score: Callable[[Labels, Labels], float],
    labels: Labels,
    predicted: Labels,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `score(labels, predicted)` over faces drawn with replacement."""
    _check(labels, predicted)
    random = np.random.default_rng(seed)
    drawn = (random.integers(0, len(labels), len(labels)) for _ in range(resamples))
    scores = [score(labels[rows], predicted[rows]) for rows in drawn]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_difference(
    score: Callable[[Labels, Labels], float],
    labels: Labels,
    a: Labels,
    b: Labels,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `score` of predictions `a` less that of `b`, both on the same faces of each resample.

    They are `(n,)`, or `(n, k)` where `score` takes several predictions of each face: copies of a face are drawn
    together, because they are no independent faces.
    """
    for predicted in (a, b):
        _check(labels, predicted[:, 0] if predicted.ndim > 1 else predicted)
    random = np.random.default_rng(seed)
    drawn = (random.integers(0, len(labels), len(labels)) for _ in range(resamples))
    gains = [score(labels[rows], a[rows]) - score(labels[rows], b[rows]) for rows in drawn]
    low, high = np.quantile(gains, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(labels: Labels, a: Labels, b: Labels, *, mid: bool = False) -> float:
    """Exact two-sided p-value that predictions `a` and `b` are equally often correct (McNemar 1947).

    `mid` gives the mid-p value, which counts the observed split by half: less conservative where the two seldom differ
    (Fagerland et al. 2013).
    """
    from scipy.stats import binom, binomtest

    only_a, only_b = discordant(labels, a, b)
    if not only_a + only_b:
        return 1.0
    exact = float(binomtest(only_a, only_a + only_b).pvalue)
    # Where both are right equally often, the exact value is already cut down to 1.
    return exact - float(binom.pmf(only_a, only_a + only_b, 0.5)) if mid and only_a != only_b else exact


def discordant(labels: Labels, a: Labels, b: Labels) -> tuple[int, int]:
    """Number of faces that only `a` classifies correctly, and that only `b` does."""
    _check(labels, a)
    _check(labels, b)
    return int(np.sum((a == labels) & (b != labels))), int(np.sum((b == labels) & (a != labels)))


def rank_correlation(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Spearman's rank correlation and its interval (Bonett & Wright 2000).

    The interval is (-1, 1) for fewer than four pairs; all is 0, -1, 1 where one side is constant.
    """
    from scipy.stats import spearmanr

    if len(set(a)) < 2 or len(set(b)) < 2:  # noqa: PLR2004 (a constant has no order)
        return 0.0, -1.0, 1.0
    rho = float(spearmanr(a, b).statistic)
    if len(a) < 4:  # noqa: PLR2004 (the error has n - 3 below the line)
        return rho, -1.0, 1.0
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt((1 + rho**2 / 2) / (len(a) - 3))
    middle = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return rho, float(np.tanh(middle - half)), float(np.tanh(middle + half))


def _of_labels(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    return probabilities[np.arange(len(labels)), labels].astype(np.float64)


def _check(labels: Labels, answers: NDArray[Any]) -> None:
    if len(labels) == 0:
        raise MienError("There are no faces to score: the split is empty, or every row of it is flagged as leaked.")
    shapes = ((len(labels),), (len(labels), len(EMOTIONS)))
    if labels.shape != shapes[0] or answers.shape not in shapes:
        raise ValueError(f"labels are {labels.shape}, answers {answers.shape}: expected (n,) and (n,) or (n, 7)")
