from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import MienError
from mien.inference.champion import Card, read_card, write_card
from mien.inference.predictor import Mien
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, average

FACES = np.random.default_rng(0).uniform(0, 255, (3, 48, 48, 1)).astype(np.float32)


def quarters(faces: Any) -> Any:
    """A stand-in for a network: the mean gray of each face's left upper quarter, and the rest."""
    share = faces[:, :24, :24].mean(axis=(1, 2)) / 255
    return np.concatenate([share, 1 - share, np.zeros((len(faces), 5))], axis=1)


WAYS = {
    NO_TTA: 1,
    Tta("flip"): 2,
    Tta("ten_crop", (44,)): 10,
    Tta("ten_crop", (44, 46, 48)): 22,
    Tta("multi_scale", (44, 48, 52)): 6,
}


@pytest.mark.parametrize(("tta", "passes"), WAYS.items(), ids=str)
def test_every_way_costs_the_passes_that_it_tells_and_gives_the_mean(tta: Tta, passes: int) -> None:
    seen: list[Any] = []

    def predict(faces: Any) -> Any:
        seen.append(faces)
        return quarters(faces)

    answers = average(predict, FACES, tta)
    assert sum(len(faces) for faces in seen) == tta.passes * len(FACES) == passes * len(FACES)
    assert all(faces.dtype == np.float32 and faces.shape[1:] == (48, 48, 1) for faces in seen)
    np.testing.assert_allclose(answers, np.mean([quarters(view) for view in tta.augmented(FACES)], axis=0), atol=1e-6)


def test_flip_is_the_mean_over_the_face_and_its_mirror_image() -> None:
    expected = (quarters(FACES) + quarters(FACES[:, :, ::-1])) / 2
    np.testing.assert_allclose(average(quarters, FACES, Tta("flip")), expected, atol=1e-6)


def test_crops_are_the_corners_and_the_middle_at_the_faces_own_size() -> None:
    ramp = np.broadcast_to(np.arange(48, dtype=np.float32)[None, None, :, None], (1, 48, 48, 1))
    views = list(Tta("ten_crop", (40,)).augmented(np.ascontiguousarray(ramp)))
    assert len(views) == 10
    middles = [view.mean() for view in views[::2]]
    np.testing.assert_allclose(middles, [19.5, 27.5, 19.5, 27.5, 23.5], atol=0.1)
    np.testing.assert_array_equal(views[1], views[0][:, :, ::-1])


def test_scales_are_the_middle_larger_and_smaller_with_its_edges_drawn_on() -> None:
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(48, dtype=np.float32)[None, None, :, None], (1, 48, 48, 1)))
    larger, _, whole, _, smaller, _ = (view[0, 24, :, 0] for view in Tta("multi_scale", (40, 48, 60)).augmented(ramp))
    np.testing.assert_array_equal(whole, ramp[0, 24, :, 0])
    assert (larger[0], larger[-1]) == pytest.approx((4, 43), abs=0.2)
    # Six pixels of edge on each side of the 60 become 4.8 of the 48.
    assert set(smaller[:4]) == {0}
    assert set(smaller[-4:]) == {47}
    assert np.diff(smaller[6:-6]) == pytest.approx(60 / 48)


def test_no_face_is_no_mistake() -> None:
    for tta in WAYS:
        assert average(quarters, FACES[:0], tta).shape == (0, 7)


@pytest.mark.parametrize(
    ("tta", "crops"),
    [
        ("zoom", (48,)),
        ("ten_crop", (44, 0)),
        ("ten_crop", (49,)),
        ("ten_crop", ()),
        ("flip", (46,)),
        ("multi_scale", (97,)),
    ],
)
def test_what_is_no_way_is_refused(tta: Any, crops: tuple[int, ...]) -> None:
    with pytest.raises(MienError, match="expected"):
        Tta(tta, crops)


def test_a_way_is_told_in_words_and_read_from_reports_cards_and_tags() -> None:
    words = {
        NO_TTA: "once",
        Tta("flip"): "twice, also in the mirror",
        Tta("ten_crop", (44, 46, 48)): "22 times, in crops of 44, 46, 48 pixels and in the mirror",
        Tta("multi_scale", (44, 52)): "4 times, at sizes of 44, 52 pixels and in the mirror",
    }
    for tta, result in words.items():
        assert str(tta) == result
        assert Tta.of(tta.as_report()) == tta
        assert Tta.of({"tta": tta.tta, "crops": ",".join(map(str, tta.crops))}) == tta
    assert Tta.of({"tta": "flip"}) == Tta("flip")
    assert Tta.of({}) == NO_TTA
    for crops in ("44,", "large", 44, [None]):
        with pytest.raises(MienError, match="expected sides in pixels"):
            Tta.of({"tta": "ten_crop", "crops": crops})


def test_a_champion_that_looks_in_the_mirror_answers_both_sides_alike(
    tmp_path: Path, write_onnx: Callable[..., Path], card: Card
) -> None:
    folder = tmp_path / "champion"
    onnx = write_onnx(folder / "model.onnx")
    face = np.tile(np.arange(96, dtype=np.uint8) * 2, (96, 1))

    def probabilities(tta: Any, picture: Any) -> Any:
        write_card(folder, replace(card, tta=tta, temperature=1.0))
        assert read_card(folder).tta == tta
        (answer,) = Mien(folder).classify([picture])
        return np.array(list(answer["probabilities"].values()))

    mirrored = np.ascontiguousarray(face[:, ::-1])
    assert not np.allclose(probabilities("none", face), probabilities("none", mirrored), atol=1e-3)
    np.testing.assert_allclose(probabilities("flip", face), probabilities("flip", mirrored), atol=1e-5)
    both = (probabilities("none", face) + probabilities("none", mirrored)) / 2
    np.testing.assert_allclose(probabilities("flip", face), both, atol=5e-3)  # bf16 where the processor has it
    assert Runtime(onnx).predict(FACES).shape == (3, 7)


def test_a_champion_looks_at_the_sizes_on_its_card(tmp_path: Path, write_onnx: Callable[..., Path], card: Card) -> None:
    folder, face = tmp_path / "champion", np.arange(96 * 96, dtype=np.int64).reshape(96, 96) % 251
    write_onnx(folder / "model.onnx")
    seen = []
    for crops in ((48,), (30, 60)):
        write_card(folder, replace(card, tta="multi_scale", crops=crops))
        assert read_card(folder).test_time_augmentation == Tta("multi_scale", crops)
        (answer,) = Mien(folder).classify([face.astype(np.uint8)])
        seen.append(np.array(list(answer["probabilities"].values())))
    assert np.abs(seen[1] - seen[0]).max() > 1e-3


def test_a_card_names_a_way_that_there_is(card: Card) -> None:
    assert card.test_time_augmentation == NO_TTA
    with pytest.raises(MienError, match="is 'zoom', expected one of none, flip, ten_crop, multi_scale"):
        replace(card, tta="zoom")  # type: ignore[arg-type]
