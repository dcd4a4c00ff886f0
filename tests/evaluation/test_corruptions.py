import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import MienError
from mien.evaluation.corruptions import CAMERAS, CORRUPTIONS, SEVERITIES, by_cameras, corrupt


def faces(n: int = 6) -> NDArray[np.uint8]:
    """Smooth faces with one bright spot."""
    ramp = np.add.outer(np.arange(48), np.arange(48)).astype(np.uint8)
    images = np.repeat(ramp[None, :, :, None] + 60, n, axis=0)
    images[:, 20:24, 10:14] = 250
    return images


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_changes_faces_more_than_the_one_before(name: str) -> None:
    clean = faces(40)
    changes = []
    for severity in range(len(SEVERITIES)):
        damaged = corrupt(clean, name, severity, seed=7)
        assert damaged.shape == clean.shape
        assert damaged.dtype == np.uint8
        changes.append(np.abs(damaged.astype(int) - clean).mean())
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_does_the_same_damage_and_the_faces_stay_as_they_were(name: str) -> None:
    clean = faces()
    first, again = (corrupt(clean, name, 1, seed=7) for _ in "12")
    assert np.array_equal(first, again)
    assert np.array_equal(clean, faces())


@pytest.mark.parametrize("name", ["noise", "occlusion", "rotation", "scale"])
def test_another_seed_draws_anew(name: str) -> None:
    assert not np.array_equal(corrupt(faces(), name, 1, seed=7), corrupt(faces(), name, 1, seed=8))


def test_darkness_keeps_a_share_of_the_light() -> None:
    share = corrupt(faces(), "darkness", 1, seed=7).mean() / faces().mean()
    assert share == pytest.approx(CORRUPTIONS["darkness"].levels[1], abs=0.01)


def test_an_occlusion_hides_one_square() -> None:
    changed = corrupt(faces(1), "occlusion", 0, seed=7)[0, :, :, 0] != faces(1)[0, :, :, 0]
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[-1] - rows[0] < 12
    assert columns[-1] - columns[0] < 12
    assert changed.sum() > 100


def test_cameras_damage_every_face_in_one_way_at_a_severity_that_a_person_sees_through() -> None:
    clean, turns = faces(24), 2 * len(CAMERAS)
    damaged = by_cameras(clean, seed=7)
    assert np.array_equal(clean, faces(24))
    assert all(not np.array_equal(face, before) for face, before in zip(damaged, clean, strict=True))
    for turn in range(turns):
        name, severity = CAMERAS[turn % len(CAMERAS)], turn // len(CAMERAS)
        assert np.array_equal(damaged[turn::turns], corrupt(clean[turn::turns], name, severity, seed=7))
    assert by_cameras(faces(0), seed=7).shape == (0, 48, 48, 1)


def test_no_face_is_no_mistake_and_an_unknown_damage_is_one() -> None:
    assert corrupt(faces(0), "blur", 0, seed=7).shape == (0, 48, 48, 1)
    with pytest.raises(MienError, match=r"no corruption 'fog' of severity 0: expected one of blur, .*scale"):
        corrupt(faces(), "fog", 0, seed=7)
    with pytest.raises(MienError, match="severity 3"):
        corrupt(faces(), "blur", 3, seed=7)
