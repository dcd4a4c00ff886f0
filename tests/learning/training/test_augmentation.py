from typing import Any

import numpy as np
import pytest

from mien.config.params import Augmentation
from mien.learning.training.augmentation import Augment


def faces(n: int = 64) -> Any:
    """Faces that are brighter to the right, so that a mirror image shows."""
    ramp = np.linspace(40, 200, 48, dtype=np.float32)
    return np.broadcast_to(ramp[None, None, :, None], (n, 48, 48, 1)).copy()


def augmented(**recipe: Any) -> Any:
    return np.asarray(Augment(Augmentation(**recipe), seed=1)(faces(), training=True))


def test_outside_training_faces_stay_as_they_are() -> None:
    layer = Augment(Augmentation(flip=True, rotation=30, erasing=1.0), seed=1)
    np.testing.assert_array_equal(np.asarray(layer(faces(), training=False)), faces())


def test_an_empty_recipe_changes_nothing() -> None:
    np.testing.assert_array_equal(augmented(), faces())


def test_a_flip_mirrors_about_half_of_the_faces_exactly() -> None:
    answers = augmented(flip=True)
    mirrored = answers[:, 0, 0, 0] > answers[:, 0, -1, 0]
    assert 20 < mirrored.sum() < 44
    np.testing.assert_allclose(answers[mirrored], faces()[mirrored][:, :, ::-1], atol=1e-3)
    np.testing.assert_allclose(answers[~mirrored], faces()[~mirrored], atol=1e-3)


def test_a_shift_moves_by_no_more_than_its_share() -> None:
    step = 160 / 47
    moved = (augmented(shift=0.1)[:, 24, 24, 0] - faces()[:, 24, 24, 0]) / step
    assert 2 < np.abs(moved).max() <= 4.8 + 1e-3
    assert moved.min() < 0 < moved.max()


def test_zoom_and_rotation_leave_the_centre_in_place() -> None:
    answers = augmented(zoom=0.3, rotation=45)
    centre = answers[:, 23:25, 23:25, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(centre, faces()[0, 23:25, 23:25, 0].mean(), atol=0.01)
    assert np.abs(answers - faces()).max() > 20


@pytest.mark.parametrize("recipe", [{"brightness": 0.3}, {"contrast": 0.5}])
def test_light_stays_within_the_range_of_pixels(recipe: dict[str, float]) -> None:
    answers = augmented(**recipe)
    assert answers.min() >= 0
    assert answers.max() <= 255
    assert answers.mean(axis=(1, 2, 3)).std() > (5 if "brightness" in recipe else -1)
    assert answers.std(axis=(1, 2, 3)).std() > (-1 if "brightness" in recipe else 5)


def test_erasing_hides_one_rectangle_behind_the_faces_mean() -> None:
    answers = augmented(erasing=1.0)
    hidden = np.isclose(answers, faces().mean(), atol=1e-3)[..., 0]
    shares = hidden.mean(axis=(1, 2))
    assert shares.max() < 0.45**2 + 0.05
    assert (shares > 0.01).mean() > 0.9
    rows, columns = hidden[0].any(axis=1), hidden[0].any(axis=0)
    assert hidden[0].sum() == rows.sum() * columns.sum()


def test_erasing_spares_the_share_that_it_should() -> None:
    changed = (augmented(erasing=0.25) != faces()).any(axis=(1, 2, 3))
    assert 5 <= changed.sum() <= 28


def test_the_same_seed_draws_the_same_views() -> None:
    recipe = {"flip": True, "rotation": 10, "zoom": 0.1, "brightness": 0.2, "erasing": 0.5}
    np.testing.assert_array_equal(augmented(**recipe), augmented(**recipe))
