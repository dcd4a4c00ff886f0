"""mien.inference.drawing: what was found, drawn legibly on any photo."""

from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pytest

from mien.emotions import EMOTIONS
from mien.inference import drawing
from mien.inference.drawing import COLOURS, UNKNOWN, Box, annotate, caption, contrast, on
from mien.inference.photos import Pixels


def found(box: tuple[int, int, int, int], emotion: str = "happy", share: float = 0.7, **more: Any) -> dict[str, Any]:
    rest = dict.fromkeys(EMOTIONS, (1 - share) / 6)
    return {"box": list(box), "emotion": emotion, "probabilities": rest | {emotion: share}, "status": "ok", **more}


def page(height: int = 480, width: int = 640, gray: int = 128) -> Pixels:
    return np.full((height, width, 3), gray, np.uint8)


def watch_labels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Box, str]]:
    """A list that fills with the place and text of each label drawn from now on."""
    labels: list[tuple[Box, str]] = []
    write = drawing._text

    def watched(draw: Any, place: Box, text: str, *more: Any) -> None:
        labels.append((place, text))
        write(draw, place, text, *more)

    monkeypatch.setattr(drawing, "_text", watched)
    return labels


def pixels_of(picture: Pixels, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_the_photo_itself_stays_as_it_was() -> None:
    photo = page()
    drawn = annotate(photo, [found((200, 100, 150, 150))])
    assert drawn.shape == photo.shape
    assert drawn.dtype == np.uint8
    assert (photo == 128).all()
    assert not (drawn == photo).all()
    assert (annotate(photo, []) == photo).all()


def test_a_read_only_photo_can_be_drawn_on() -> None:
    photo = page()
    photo.flags.writeable = False
    assert annotate(photo, [found((200, 100, 150, 150))]).flags.writeable


@pytest.mark.parametrize("gray", [0, 128, 255])
def test_a_frame_stands_out_on_any_ground(gray: int) -> None:
    for emotion in EMOTIONS:
        drawn = annotate(page(gray=gray), [found((200, 100, 150, 150), emotion)])
        edge = drawn[170:180, 195:210].reshape(-1, 3)
        colours = {(int(r), int(g), int(b)) for r, g, b in edge}
        assert COLOURS[emotion] in colours
        assert max(contrast(colour, (gray, gray, gray)) for colour in colours) > 3


def test_every_label_has_enough_contrast_and_no_two_emotions_look_alike() -> None:
    assert list(COLOURS) == list(EMOTIONS)
    for colour in (*COLOURS.values(), UNKNOWN):
        assert contrast(on(colour), colour) >= 4.5
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    # How green-blind and red-blind eyes see sRGB (Viénot, Brettel and Mollon 1999), near enough in linear light.
    eyes = [
        np.eye(3),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
        np.array([[0.10889, 0.89111, 0], [0.10889, 0.89111, 0], [0.00447, -0.00447, 1]]),
    ]
    for eye in eyes:
        seen = (np.clip((np.array(list(COLOURS.values())) / 255) ** 2.2 @ eye.T, 0, 1) ** (1 / 2.2)).astype(np.float32)
        lab = cv2.cvtColor(seen[None], cv2.COLOR_RGB2LAB)[0]
        for one, other in combinations(range(len(EMOTIONS)), 2):
            assert np.linalg.norm(lab[one] - lab[other]) > 15, (EMOTIONS[one], EMOTIONS[other])


def test_the_longest_bar_is_the_likeliest_emotion() -> None:
    drawn = annotate(page(), [found((40, 100, 150, 150), "sad", 0.1, status="uncertain")])
    wide = annotate(page(), [found((40, 100, 150, 150), "sad", 0.9, status="uncertain")])
    assert pixels_of(wide, COLOURS["sad"]) > pixels_of(drawn, COLOURS["sad"])
    assert pixels_of(wide, COLOURS["angry"]) < pixels_of(drawn, COLOURS["angry"])


@pytest.mark.parametrize("status", ["uncertain", "too_small", "blurry", "anything"])
def test_a_face_that_is_not_ok_has_a_dashed_frame_and_a_question_mark(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = watch_labels(monkeypatch)
    solid = annotate(page(), [found((100, 200, 150, 150))])[200, 100:250]
    dashed = annotate(page(), [found((100, 200, 150, 150), status=status)])[200, 100:250]
    assert (solid == COLOURS["happy"]).all()
    assert 0.3 < (dashed == COLOURS["happy"]).all(axis=1).mean() < 0.8
    assert [text for _, text in labels] == ["happy 70%", "happy? 70%"]


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (480, 640, (0, 0, 640, 480)),
        (480, 640, (600, 440, 40, 40)),
        (480, 640, (0, 0, 30, 30)),
        (48, 48, (0, 0, 48, 48)),
        (16, 16, (0, 0, 16, 16)),
        (8, 300, (100, 0, 8, 8)),
        (1, 1, (0, 0, 1, 1)),
        (3000, 4000, (100, 100, 60, 60)),
        (60, 30000, (10000, 0, 60, 60)),
    ],
)
def test_labels_stay_in_the_picture(
    height: int, width: int, box: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = watch_labels(monkeypatch)
    annotate(page(height, width), [found(box, "surprise", 1.0, status="uncertain", track=12)])
    for place, _ in labels:
        assert 0 <= place.left < place.right <= width
        assert 0 <= place.top < place.bottom <= height
    assert labels or min(height, width) <= 16


def test_a_hundred_faces_each_have_a_label_and_none_hides_another(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = watch_labels(monkeypatch)
    boxes = [(20 + 125 * (i % 10), 30 + 68 * (i // 10), 44, 44) for i in range(100)]
    annotate(page(720, 1280), [found(box) for box in boxes])
    assert len(labels) == 100
    assert not any(one.shared([other]) for (one, _), (other, _) in combinations(labels, 2))


def test_cards_cover_no_face_and_labels_of_overlapping_faces_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = watch_labels(monkeypatch)
    boxes = [(300, 200, 200, 200), (420, 260, 180, 180), (500, 180, 150, 150)]
    annotate(page(720, 1280), [found(box) for box in boxes])
    assert len(labels) == 3
    assert not any(one.shared([other]) for (one, _), (other, _) in combinations(labels, 2))
    assert not any(place.shared([Box(x, y, x + w, y + h)]) for place, _ in labels for x, y, w, h in boxes)


def test_a_box_beyond_the_picture_is_cut_off_or_left_out() -> None:
    photo = page()
    assert (annotate(photo, [found((700, 500, 50, 50))]) == photo).all()
    assert not (annotate(photo, [found((-50, -50, 100, 100))]) == photo).all()


def test_an_emotion_that_is_not_known_is_drawn_in_white() -> None:
    face = found((200, 100, 150, 150)) | {"emotion": "awe"}
    assert pixels_of(annotate(page(), [face]), UNKNOWN)


def test_a_caption_is_written_on_a_copy() -> None:
    photo = page()
    drawn = caption(photo, "24 frames/s")
    assert (photo == 128).all()
    assert not (drawn[:20, :60] == 128).all()
    assert (drawn[200:] == 128).all()
