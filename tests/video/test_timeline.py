"""mien.video.timeline: emotions over time, in memory that does not grow with the video."""

from typing import Any

import numpy as np
import pytest

from mien.emotions import EMOTIONS
from mien.inference.drawing import COLOURS
from mien.video import timeline
from mien.video.timeline import LEFT, RIGHT, ROW, TOP, WIDTH, Timeline, clock


def face(number: int, emotion: str, share: float = 1.0) -> dict[str, Any]:
    return {"track": number, "probabilities": dict.fromkeys(EMOTIONS, (1 - share) / 6) | {emotion: share}}


def filled(frames: int, rate: float = 25.0, **more: Any) -> Timeline:
    drawn = Timeline(**more)
    for index in range(frames):
        drawn.add([face(1, "happy" if index < frames / 2 else "sad")], index / rate)
    return drawn


def colour_at(picture: np.ndarray[Any, Any], share: float, row: int = 0) -> tuple[int, ...]:
    x = LEFT + round((WIDTH - LEFT - RIGHT) * share)
    return tuple(picture[TOP + row * (ROW + timeline.GAP) + ROW // 2, x].tolist())


@pytest.mark.parametrize("rate", [4, 25, 60])
def test_a_row_shows_the_emotions_over_time_without_stripes(rate: float) -> None:
    picture = filled(round(8 * rate), rate).draw("clip")
    assert {colour_at(picture, share) for share in np.linspace(0.02, 0.45, 60)} == {COLOURS["happy"]}
    assert {colour_at(picture, share) for share in np.linspace(0.55, 0.96, 60)} == {COLOURS["sad"]}


def test_shares_are_heights() -> None:
    drawn = Timeline()
    for index in range(100):
        drawn.add([face(1, "neutral", 0.7)], index / 25)
    column = drawn.draw("clip")[TOP : TOP + ROW, WIDTH // 2]
    assert (column == COLOURS["neutral"]).all(axis=1).mean() == pytest.approx(0.7, abs=0.02)


def test_where_a_face_was_out_of_sight_nothing_is_drawn() -> None:
    drawn = Timeline()
    for index in range(250):
        drawn.add([face(1, "happy")] if not 100 <= index < 175 else [], index / 25)
    picture = drawn.draw("clip")
    assert colour_at(picture, 0.2) == COLOURS["happy"]
    assert colour_at(picture, 0.55) not in COLOURS.values()
    assert colour_at(picture, 0.9) == COLOURS["happy"]


def test_a_long_video_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_POINTS", 200)
    drawn = filled(20_000)
    assert drawn.points == sum(len(bins) for bins in drawn.bins.values()) <= 201
    assert sum(row[-1] for row in drawn.bins[1].values()) == 20_000
    picture = drawn.draw("clip")
    assert (colour_at(picture, 0.3), colour_at(picture, 0.7)) == (COLOURS["happy"], COLOURS["sad"])


def test_tracks_tell_when_each_face_came_and_went_and_how_it_felt() -> None:
    drawn = Timeline()
    for index in range(100):
        faces = [face(1, "fear", 0.8)] + ([face(2, "happy")] if index >= 50 else [])
        drawn.add(faces, index / 10)
    first, second = drawn.tracks()
    assert (first.number, first.start, first.end) == (1, 0, 9.9)
    assert (second.number, second.start) == (2, 5.0)
    np.testing.assert_allclose(first.means[EMOTIONS.index("fear")], 0.8)


def test_only_the_faces_longest_in_sight_are_drawn() -> None:
    drawn = Timeline()
    for index in range(400):
        drawn.add([face(number, "happy") for number in range(1, 41) if index % number == 0], index / 25)
    assert drawn.draw("clip").shape[0] == TOP + timeline.MOST_TRACKS * (ROW + timeline.GAP) + timeline.BOTTOM


@pytest.mark.parametrize("frames", [0, 1])
def test_a_video_of_no_face_or_one_frame_can_be_drawn(frames: int) -> None:
    assert filled(frames).draw("clip").shape[1] == WIDTH


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [(0.5, 0.1, "0.5 s"), (7, 1, "7 s"), (125, 15, "2:05"), (3725, 600, "1:02:05"), (0, 60, "0:00")],
)
def test_times_are_written_as_people_do(seconds: float, step: float, text: str) -> None:
    assert clock(seconds, step) == text
