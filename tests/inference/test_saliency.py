"""mien.inference.saliency: a map shows what the answer depends on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.inference import saliency

SPOT = (slice(28, 40), slice(8, 20))


def by_spot(faces: NDArray[np.float32]) -> NDArray[np.float64]:
    """A model that is the surer of emotion 3 the more texture there is in SPOT."""
    texture = faces[:, *SPOT, 0].std(axis=(1, 2)).astype(np.float64) / 255
    p = 0.05 + 0.9 * np.clip(2 * texture, 0, 1)
    return np.stack([np.where(i == 3, p, (1 - p) / 6) for i in range(7)], axis=1)


@pytest.fixture
def faces() -> NDArray[np.float32]:
    """Two faces of noise."""
    return np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 1)).astype(np.float32)


def test_the_map_is_high_where_the_answer_comes_from(faces: NDArray[np.float32]) -> None:
    for found in saliency.saliency(faces, np.array([3, 3]), by_spot):
        assert found.map.shape == (48, 48)
        assert np.abs(found.map).max() == pytest.approx(1)
        row, column = np.unravel_index(found.map.argmax(), found.map.shape)
        assert SPOT[0].start <= row < SPOT[0].stop
        assert SPOT[1].start <= column < SPOT[1].stop
        assert found.map[SPOT].mean() > 5 * abs(found.map[:, 30:].mean())


def test_the_map_is_negative_for_what_speaks_against_the_emotion(faces: NDArray[np.float32]) -> None:
    found = saliency.saliency(faces[:1], np.array([0]), by_spot)[0]
    row, column = np.unravel_index(found.map.argmin(), found.map.shape)
    assert SPOT[0].start <= row < SPOT[0].stop
    assert SPOT[1].start <= column < SPOT[1].stop


def test_hiding_what_is_salient_matters_more_than_hiding_what_is_not(faces: NDArray[np.float32]) -> None:
    found = saliency.saliency(faces[:1], np.array([3]), by_spot)[0]
    assert found.before == pytest.approx(by_spot(faces[:1])[0, 3])
    assert found.without_salient < 0.5 * found.before
    assert found.without_others == pytest.approx(found.before, abs=0.05)


def test_a_model_that_looks_at_nothing_gets_a_flat_map(faces: NDArray[np.float32]) -> None:
    (found,) = saliency.saliency(faces[:1], np.array([0]), lambda some: np.full((len(some), 7), 1 / 7))
    assert not found.map.any()


def test_many_faces_cost_two_calls_and_none_costs_nothing(faces: NDArray[np.float32]) -> None:
    calls: list[int] = []

    def counted(some: NDArray[np.float32]) -> NDArray[np.float64]:
        calls.append(len(some))
        return by_spot(some)

    assert saliency.saliency(faces[:0], np.zeros(0, np.int64), counted) == []
    assert calls == []
    saliency.saliency(faces, np.array([3, 3]), counted)
    assert calls == [2 + 2 * 144, 6]
