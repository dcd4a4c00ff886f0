"""How far what is seen now lies from what was seen before: two tests on counts in fixed bins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Drift
from mien.monitoring.histograms import EDGES, KINDS, Counts

Level = Literal["none", "watch", "drift", "too_few", "unknown"]
Numbers = NDArray[np.float64]

GROUPS = 10
"""Groups of bins that the tests compare, about as many of the reference in each: finer ones would measure noise."""

PROPERTIES = (*EDGES, *KINDS)


@dataclass(frozen=True)
class Finding:
    """One property: how many of it were seen, how far it moved (PSI), and the chance of that without any change.

    `psi` and `p_value` are None where there is too little, or nothing, to compare. `middle` and `reference_middle` are
    medians of what is measured, None for what is counted by kind.
    """

    property: str
    level: Level
    n: int
    reference_n: int
    psi: float | None = None
    p_value: float | None = None
    middle: float | None = None
    reference_middle: float | None = None


def compare(reference: Counts, now: Counts, limits: Drift) -> list[Finding]:
    """A finding for each property."""
    return [_finding(name, np.array(reference[name]), np.array(now[name]), limits) for name in PROPERTIES]


def worst(findings: Sequence[Finding]) -> Level:
    """The level of all together: that of the worst; `too_few` only where nothing could be compared."""
    levels = {finding.level for finding in findings}
    order: tuple[Level, ...] = ("drift", "watch", "none", "too_few")
    return next((level for level in order if level in levels), "unknown")


def psi(reference: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Population stability index of counts `(k,)`: the sum of (q - p) ln(q / p) over shares p and q, 0 for equal ones.

    Half a count is added to each, without which one empty group would make it infinite. Siddiqi (2006): below 0.1
    small, above 0.25 large.
    """
    before, after = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (reference, now))
    return float(((after - before) * np.log(after / before)).sum())


def chance(reference: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """p-value of Pearson's chi-square test that counts `(k,)` and `(k,)` come from the same distribution."""
    from scipy.stats import chi2_contingency

    table = np.stack([reference, now])
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def grouped(reference: NDArray[np.int64], now: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbouring bins put together until each group holds a tenth of the reference."""
    before = np.cumsum(reference) - reference
    # Bins beyond all of the reference join the last group: alone, one face in them would prove a change.
    places = np.minimum(before * GROUPS // max(int(reference.sum()), 1), GROUPS - 1)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    return np.add.reduceat(reference, starts), np.add.reduceat(now, starts)


def median(name: str, counts: NDArray[np.int64]) -> float | None:
    """The median of a measured property, within its bin as if the values were spread evenly; None without any."""
    if name not in EDGES or not counts.sum():
        return None
    edges = np.array([EDGES[name][0], *EDGES[name], EDGES[name][-1]])
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(0.5, below, edges))


def shares(counts: Sequence[int] | NDArray[np.int64]) -> Numbers:
    """Counts as shares; all 0 where there are none."""
    numbers = np.asarray(counts, dtype=np.float64)
    return numbers / max(float(numbers.sum()), 1.0)


def _finding(name: str, reference: NDArray[np.int64], now: NDArray[np.int64], limits: Drift) -> Finding:
    n, before_n = int(now.sum()), int(reference.sum())
    seen = Finding(name, "unknown", n, before_n, middle=median(name, now), reference_middle=median(name, reference))
    if not before_n:
        return seen
    if min(n, before_n) < limits.faces:
        return replace(seen, level="too_few")
    before, after = (reference, now) if name in KINDS else grouped(reference, now)
    moved, luck = psi(before, after), chance(before, after)
    return replace(seen, level=_level(moved, luck, limits), psi=moved, p_value=luck)


def _level(moved: float, luck: float, limits: Drift) -> Level:
    # Of many faces the smallest change is no chance any more, and of few a large one may be: both must agree.
    if luck > limits.alpha or moved < limits.watch:
        return "none"
    return "drift" if moved >= limits.psi else "watch"
