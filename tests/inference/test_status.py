"""mien.inference.status: what is wrong with a face is told, the reason behind the others first."""

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.inference.champion import Card
from mien.inference.faces import Face
from mien.inference.status import STATUSES, sharpness, status

LIMITS = Card("1", 1.0, 0.4, "haar", too_small_below=20, blurry_below=0.05, low_confidence_below=0.75)
SHARP = np.random.default_rng(0).uniform(0, 255, (48, 48, 1)).astype(np.float32)
GOOD = Face((0, 0, 90, 90), SHARP, "yunet", side=90, score=0.9)


def blurred(sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(SHARP[:, :, 0], (0, 0), sigma), np.float32)[:, :, None]


@pytest.mark.parametrize(
    ("changes", "confidence", "expected"),
    [
        ({}, 0.5, "ok"),
        ({}, 0.4, "ok"),
        ({}, 0.39, "uncertain"),
        ({"score": 0.7}, 0.5, "low_confidence"),
        ({"score": None}, 0.5, "ok"),
        ({"pixels": blurred(3)}, 0.9, "blurry"),
        ({"side": 19.9}, 0.9, "too_small"),
        ({"score": 0.7}, 0.1, "low_confidence"),
        ({"score": 0.7, "pixels": blurred(3)}, 0.1, "blurry"),
        ({"score": 0.7, "pixels": blurred(3), "side": 19}, 0.1, "too_small"),
    ],
)
def test_of_several_reasons_the_first_is_told(changes: dict[str, float], confidence: float, expected: str) -> None:
    assert status(dataclasses.replace(GOOD, **changes), confidence, LIMITS) == expected  # type: ignore[arg-type]
    assert expected in STATUSES


def test_limits_of_zero_mark_nothing() -> None:
    lax = Card("1", 1.0, 0.0, "haar", too_small_below=0, blurry_below=0, low_confidence_below=0)
    worst = Face((0, 0, 1, 1), np.zeros((48, 48, 1), np.float32), "yunet", side=1, score=0.1)
    assert status(worst, 0.15, lax) == "ok"


def test_sharpness_falls_with_blur_and_does_not_mind_contrast() -> None:
    values = [sharpness(face) for face in (SHARP, blurred(0.7), blurred(1.5), blurred(3))]
    assert values == sorted(values, reverse=True)
    assert sharpness((100 + SHARP / 10).astype(np.float32)) == pytest.approx(sharpness(SHARP), rel=1e-3)
    assert sharpness(np.full((48, 48, 1), 9, np.float32)) == 0
