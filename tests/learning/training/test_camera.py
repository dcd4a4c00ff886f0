from typing import Any

import cv2
import numpy as np
import pytest

from mien.config.params import Augmentation, Effect
from mien.learning.training.camera import CameraEffects

ALWAYS: dict[str, Any] = {
    "blur": Effect(1, 2),
    "gamma": Effect(1, 1),
    "dark": Effect(1, 0.8),
    "noise": Effect(1, 20),
    "jpeg": Effect(1, 90),
}


def faces(n: int = 64) -> Any:
    """Smooth shapes with an edge and some grain, different for every face."""
    x, y = np.meshgrid(np.arange(48), np.arange(48))
    shades = np.stack([110 + 60 * np.sin(x / (5 + i % 7) + i) + 50 * (y > 10 + i % 28) for i in range(n)])
    grain = np.random.default_rng(1).normal(0, 3, shades.shape)
    return np.clip(shades + grain, 0, 255).round().astype(np.float32)[..., None]


def taken(effects: dict[str, Any], seed: int = 1, n: int = 64) -> Any:
    return np.asarray(CameraEffects(Augmentation(**effects), seed)(faces(n), training=True))


def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw 1: each effect at its full strength."""
    monkeypatch.setattr(CameraEffects, "_draw", lambda self, batch: np.full((len(batch), 1, 1, 1), 0.999999, "float32"))


@pytest.mark.parametrize("effect", ALWAYS)
def test_an_effect_hits_its_share_of_the_faces_and_keeps_the_range(effect: str) -> None:
    answers = taken({effect: Effect(0.25, ALWAYS[effect].strength)}, n=256)
    changed = (answers != faces(256)).any(axis=(1, 2, 3))
    assert 40 <= changed.sum() <= 90
    assert answers.min() >= 0
    assert answers.max() <= 255


@pytest.mark.parametrize("effect", ALWAYS)
def test_strengths_differ_from_face_to_face(effect: str) -> None:
    answers = taken({effect: ALWAYS[effect]})
    changes = np.abs(answers - faces()).mean(axis=(1, 2, 3))
    assert np.quantile(changes, 0.9) > 1.5 * np.quantile(changes, 0.1)


def test_without_effects_the_network_sees_the_faces_themselves() -> None:
    symbolic = object()
    assert CameraEffects.applied(symbolic, Augmentation(blur=Effect(0.5, 0)), seed=1) is symbolic


def test_outside_training_faces_stay_as_they_are() -> None:
    layer = CameraEffects(Augmentation(**ALWAYS), seed=1)
    np.testing.assert_array_equal(np.asarray(layer(faces(), training=False)), faces())


def test_the_same_seed_takes_the_same_pictures() -> None:
    np.testing.assert_array_equal(taken(ALWAYS), taken(ALWAYS))
    assert (taken(ALWAYS, seed=2) != taken(ALWAYS)).any()


@pytest.mark.parametrize("quality", [10, 25, 60, 85])
def test_jpeg_is_what_opencv_writes_and_reads(quality: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    answers = taken({"jpeg": Effect(1, 100 - quality)})
    for face, answer in zip(faces().astype(np.uint8), answers, strict=True):
        data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        # A coefficient halfway between two steps may be rounded the other way, which changes its whole block.
        difference = np.abs(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) - answer[..., 0]).reshape(6, 8, 6, 8)
        assert np.median(difference.max(axis=(1, 3))) <= 1
        assert difference.mean() < 0.1 * np.abs(answer[..., 0] - face).mean()


def test_blur_is_opencvs_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    answers = taken({"blur": Effect(1, 1.25)})
    for face, answer in zip(faces()[..., 0], answers[..., 0], strict=True):
        np.testing.assert_allclose(answer[8:-8, 8:-8], cv2.GaussianBlur(face, (0, 0), 1.25)[8:-8, 8:-8], atol=0.5)


def test_noise_has_the_spread_that_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch)
    spread = (taken({"noise": Effect(1, 8)}) - faces())[(faces() > 60) & (faces() < 190)].std()
    assert spread == pytest.approx(8, rel=0.05)


def test_darkness_takes_up_to_its_share_of_the_light_away() -> None:
    left = taken({"dark": Effect(1, 0.8)}) / np.maximum(faces(), 1)
    np.testing.assert_allclose(left.max(axis=(1, 2)), left.min(axis=(1, 2)), atol=1e-4)
    assert left.min() >= 0.2 - 1e-6
    assert left.min() < 0.25
    assert left.max() > 0.9


def test_gamma_moves_the_midtones_and_leaves_black_and_white() -> None:
    layer = CameraEffects(Augmentation(gamma=Effect(1, 1)), seed=1)
    steps = np.tile(np.array([0, 128, 255], np.float32)[None, :, None, None], (64, 1, 1, 1))
    black, middle, white = np.asarray(layer(steps, training=True))[:, :, 0, 0].T
    np.testing.assert_allclose(black, 0, atol=0.2)
    np.testing.assert_allclose(white, 255, atol=1e-3)
    assert middle.min() < 100
    assert middle.max() > 150
    assert middle.min() >= 255 * (128 / 255) ** 2 - 1
    assert middle.max() <= 255 * (128 / 255) ** 0.5 + 1
