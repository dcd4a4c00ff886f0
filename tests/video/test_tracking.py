"""mien.video.tracking: each face keeps its number, and its emotions are smoothed over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.video.tracking import Tracker, likeness, match

RATE = 25


def face(x: float, y: float = 100, side: float = 60, happy: float = 0.7, status: str = "ok") -> dict[str, Any]:
    probabilities = dict.fromkeys(EMOTIONS, (1 - happy) / 6) | {"happy": happy}
    box = [round(x), round(y), round(side), round(side)]
    return {"box": box, "emotion": "happy", "probabilities": probabilities, "status": status, "found_by": "haar"}


def numbers(tracker: Tracker, frames: Sequence[Sequence[dict[str, Any]]], rate: float = RATE) -> list[list[int]]:
    return [[f["track"] for f in tracker.update(faces, index / rate)] for index, faces in enumerate(frames)]


def test_a_face_that_moves_keeps_its_number() -> None:
    assert numbers(Tracker(), [[face(10 + 8 * i)] for i in range(50)]) == [[1]] * 50


def test_two_people_who_cross_keep_their_numbers() -> None:
    frames = [[face(20 + 6 * i, 100), face(380 - 6 * i, 112)] for i in range(60)]
    # Each is hidden behind the other for a while, in turn.
    for i in range(27, 33):
        frames[i] = frames[i][:1]
    seen = numbers(Tracker(), frames)
    assert seen[0] == [1, 2]
    assert seen[-1] == [1, 2]
    assert seen[30] == [1]
    assert all(pair == [1, 2] for pair in seen[:27] + seen[33:])


def test_the_order_in_which_faces_are_found_does_not_matter() -> None:
    seen = numbers(Tracker(), [[face(10), face(200)], [face(202), face(12)], [face(14), face(204)]])
    assert seen == [[1, 2], [2, 1], [1, 2]]


@pytest.mark.parametrize(("missed", "number"), [(10, 1), (24, 1), (26, 2)])
def test_a_face_lost_and_found_again_keeps_its_number_within_the_limit(missed: int, number: int) -> None:
    frames = [[face(100)]] * 10 + [[]] * missed + [[face(100)]] * 3
    assert numbers(Tracker(patience=1.0), frames)[-1] == [number]


def test_a_face_that_moved_on_while_it_was_lost_is_known_again() -> None:
    moving = [[face(20 + 10 * i)] for i in range(40)]
    frames = [*moving[:20], *[[]] * 10, *moving[30:]]
    assert numbers(Tracker(), frames)[-1] == [1]


def test_numbers_are_never_given_twice() -> None:
    frames = [[face(40 + 300 * (i % 3))] if i % 40 == 0 else [] for i in range(400)]
    seen = [number for row in numbers(Tracker(patience=0.5), frames) for number in row]
    assert seen == list(range(1, 11))


def test_a_face_of_quite_another_size_is_another_face() -> None:
    assert numbers(Tracker(), [[face(100, side=200)], [face(190, 190, side=20)]]) == [[1], [2]]


@pytest.mark.parametrize("half_life", [0.0, 0.4, 10.0])
def test_a_constant_input_stays(half_life: float) -> None:
    tracker = Tracker(half_life)
    for index in range(30):
        (answer,) = tracker.update([face(100, happy=0.83)], index / RATE)
        assert answer["probabilities"]["happy"] == pytest.approx(0.83)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("rate", [5, 25, 120])
def test_after_one_half_life_half_of_the_old_is_left_at_any_frame_rate(rate: int) -> None:
    tracker = Tracker(half_life=0.4)
    tracker.update([face(100, happy=1.0)], 0.0)
    for index in range(1, round(0.4 * rate) + 1):
        (answer,) = tracker.update([face(100, happy=0.0)], index / rate)
    assert answer["probabilities"]["happy"] == pytest.approx(0.5)
    assert answer["confidence"] == answer["probabilities"][answer["emotion"]]


def test_frames_at_uneven_times_weigh_by_their_time() -> None:
    tracker = Tracker(half_life=1.0)
    tracker.update([face(100, happy=1.0)], 0.0)
    (answer,) = tracker.update([face(100, happy=0.0)], 0.9)
    assert answer["probabilities"]["happy"] == pytest.approx(0.5**0.9)


def test_without_smoothing_each_frame_speaks_for_itself() -> None:
    tracker = Tracker(half_life=0)
    tracker.update([face(100, happy=1.0)], 0.0)
    (answer,) = tracker.update([face(100, happy=0.1)], 0.01)
    assert answer["probabilities"]["happy"] == pytest.approx(0.1)
    assert answer["emotion"] != "happy"


def test_the_status_follows_the_smoothed_probability_but_keeps_what_else_is_wrong() -> None:
    tracker = Tracker(half_life=100, uncertain_below=0.5)
    tracker.update([face(100, happy=0.9), face(300, happy=0.9)], 0.0)
    statuses = [
        f["status"] for f in tracker.update([face(100, happy=0.2, status="uncertain"), face(300, status="blurry")], 0.1)
    ]
    assert statuses == ["ok", "blurry"]
    lone = Tracker(half_life=0, uncertain_below=0.5)
    assert lone.update([face(100, happy=0.3)], 0)[0]["status"] == "uncertain"


def test_what_else_an_answer_holds_is_kept_and_the_answer_itself_left_alone() -> None:
    answer = face(100) | {"landmarks": None}
    (tracked,) = Tracker().update([answer], 0.0)
    assert tracked["landmarks"] is None
    assert "track" not in answer


def test_the_likeliest_pair_is_matched_first() -> None:
    boxes = [np.array([x, 0.0, 10, 10]) for x in (0, 6)]
    assert match(boxes, [np.array([5.0, 0, 10, 10])]) == {0: 1}
    assert match(boxes, [np.array([500.0, 0, 10, 10])]) == {}
    assert match([], [boxes[0]]) == {}


def test_likeness_is_one_for_the_same_box_and_falls_with_distance() -> None:
    box = np.array([0.0, 0, 10, 10])
    scores = [likeness(box, np.array([dx, 0.0, 10, 10])) for dx in (0, 3, 7, 8, 100)]
    assert scores[0] == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    assert scores[2] > 0 > scores[3]
    assert scores[-1] > -1


@pytest.mark.parametrize(("half_life", "patience"), [(-1, 1), (float("nan"), 1), (1, -1), (1, float("inf"))])
def test_times_that_make_no_sense_are_refused(half_life: float, patience: float) -> None:
    with pytest.raises(MienError, match="expected numbers of seconds"):
        Tracker(half_life, patience)
