"""mien.monitoring.histograms: the bins hold what the training's own statistics say, and counts add up."""

import numpy as np
import pytest

from mien.data.quality import statistics
from mien.data.sources.sample import face
from mien.monitoring import histograms


def test_a_face_measures_the_same_here_and_in_the_prepared_data() -> None:
    for seed in range(20):
        drawn = face(seed % 7, np.random.default_rng(seed))
        known = statistics.measure(drawn)
        expected = (known["mean"], known["std"], known["sharpness"])
        assert histograms.appearance(drawn) == pytest.approx(expected, rel=1e-6)
        assert histograms.appearance(drawn.astype(np.float32)[..., None]) == pytest.approx(expected, rel=1e-4)


def test_every_value_has_one_bin_also_beyond_the_last_edges() -> None:
    for name, edges in histograms.EDGES.items():
        assert list(edges) == sorted(set(edges))
        counts = histograms.empty()
        for value in (-1.0, 0.0, edges[0], edges[-1], 1e9):
            histograms.count_value(counts, name, value)
        assert (counts[name][0], counts[name][1], counts[name][-1]) == (2, 1, 2)
        assert sum(counts[name]) == 5


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (30, 48, 48, 1)).astype(np.uint8)
    answers = random.dirichlet(np.ones(7), 30)
    parts = histograms.of(faces[:11], answers[:20])
    histograms.add(parts, histograms.of(faces[11:], answers[20:]))
    assert parts == histograms.of(faces, answers)
    assert sum(parts["emotion"]) == sum(parts["contrast"]) == 30
    assert parts["emotion"] == np.bincount(answers.argmax(axis=1), minlength=7).tolist()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda counts: counts.pop("emotion"),
        lambda counts: counts.update(emotion=[1] * 6),
        lambda counts: counts.update(emotion=[1.5] * 7),
        lambda counts: counts.update(emotion=[-1] * 7),
        lambda counts: counts.update(emotion=7),
        lambda counts: counts.update(mood=[1]),
    ],
)
def test_counts_in_other_bins_do_not_fit(spoil: object) -> None:
    counts = histograms.empty()
    assert histograms.fits(counts)
    spoil(counts)  # type: ignore[operator]
    assert not histograms.fits(counts)
