"""Follow faces from frame to frame, and smooth what is said of each over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError

Floats = NDArray[np.float64]

SPEED_HALF_LIFE = 0.2
"""Seconds after which half of what was known of a face's speed is forgotten; boxes jitter from frame to frame."""
LEAST_SHARE = 0.2
"""Share of a box's area that the next one must have to be of the same face."""
JUDGED = ("ok", "uncertain")
"""Statuses that follow from the probabilities, and so from the smoothed ones; the others stay as they are."""


@dataclass
class Track:
    """One face over time: its last `box` (x, y, width, height), its speed in pixels a second, its emotions."""

    number: int
    box: Floats
    probabilities: Floats
    seen: float
    speed: Floats = field(default_factory=lambda: np.zeros(2))

    def expected(self, time: float) -> Floats:
        """Where the face is at `time` if it moves on as it did."""
        return np.concatenate([self.box[:2] + self.speed * (time - self.seen), self.box[2:]])

    def update(self, box: Floats, probabilities: Floats, time: float, half_life: float) -> None:
        """Take in what was seen at `time`."""
        passed = time - self.seen
        if passed > 0:
            moved = (_centre(box) - _centre(self.box)) / passed
            self.speed = _blend(self.speed, moved, passed, SPEED_HALF_LIFE)
        self.probabilities = _blend(self.probabilities, probabilities, passed, half_life)
        self.box, self.seen = box, time


class Tracker:
    """Gives each face a number that it keeps while it is in sight, and that no other face ever gets."""

    def __init__(self, half_life: float = 0.4, patience: float = 1.0, uncertain_below: float = 0.0) -> None:
        """Smooth with `half_life` seconds (0: not at all); forget a face not seen for `patience` seconds.

        A smoothed probability under `uncertain_below` makes an `ok` face `uncertain`.
        """
        if not (0 <= half_life < float("inf") and 0 <= patience < float("inf")):
            raise MienError(
                f"half-life {half_life} s and patience {patience} s: expected numbers of seconds from 0 up."
            )
        self.half_life, self.patience, self.uncertain_below = half_life, patience, uncertain_below
        self.tracks: list[Track] = []
        self.count = 0

    def update(self, faces: Sequence[Mapping[str, Any]], time: float) -> list[dict[str, Any]]:
        """The faces found at `time` seconds, which must not run back, each with its `track` and smoothed emotions."""
        self.tracks = [track for track in self.tracks if time - track.seen <= self.patience]
        boxes = [np.array(face["box"], np.float64) for face in faces]
        rows = [np.array([face["probabilities"][name] for name in EMOTIONS]) for face in faces]
        matches = match([track.expected(time) for track in self.tracks], boxes)
        known = list(self.tracks)
        answers = []
        for index, (face, box, row) in enumerate(zip(faces, boxes, rows, strict=True)):
            if index in matches:
                track = known[matches[index]]
                track.update(box, row, time, self.half_life)
            else:
                track = self._start(box, row, time)
            answers.append(self._answer(face, track))
        return answers

    def _start(self, box: Floats, probabilities: Floats, time: float) -> Track:
        self.count += 1
        self.tracks.append(Track(self.count, box, probabilities, time))
        return self.tracks[-1]

    def _answer(self, face: Mapping[str, Any], track: Track) -> dict[str, Any]:
        best = int(track.probabilities.argmax())
        share = float(track.probabilities[best])
        judged = "ok" if share >= self.uncertain_below else "uncertain"
        return {
            **face,
            "track": track.number,
            "emotion": EMOTIONS[best],
            "confidence": share,
            "probabilities": dict(zip(EMOTIONS, track.probabilities.tolist(), strict=True)),
            "status": judged if face["status"] in JUDGED else face["status"],
        }


def match(expected: Sequence[Floats], found: Sequence[Floats]) -> dict[int, int]:
    """Pair boxes (x, y, width, height), the likeliest pair first: the index of each found box to that expected.

    Pairs need a likeness above 0; boxes of one size reach it up to three quarters of a side apart.
    """
    pairs = [(likeness(old, new), i, j) for i, old in enumerate(expected) for j, new in enumerate(found)]
    taken: dict[int, int] = {}
    for score, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if score > 0 and j not in taken and i not in taken.values():
            taken[j] = i
    return taken


def likeness(one: Floats, other: Floats) -> float:
    """DIoU of two boxes, in (-1, 1]: overlap less the centres' squared distance, in shares (Zheng et al. 2020).

    It is -1 for boxes of too different a size: a face in the background of another is not that one.
    """
    areas = sorted((float(np.prod(one[2:])), float(np.prod(other[2:]))))
    if areas[0] < LEAST_SHARE * areas[1]:
        return -1.0
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = float(np.prod(np.maximum(0, high - low)))
    around = np.maximum(one[:2] + one[2:], other[:2] + other[2:]) - np.minimum(one[:2], other[:2])
    union = sum(areas) - shared
    apart = _centre(one) - _centre(other)
    return shared / max(union, 1e-9) - float(apart @ apart) / max(float(around @ around), 1e-9)


def _centre(box: Floats) -> Floats:
    return box[:2] + box[2:] / 2


def _blend(old: Floats, new: Floats, passed: float, half_life: float) -> Floats:
    """An exponential mean in time, not in frames: twice as many frames a second give the same answer."""
    kept = 0.5 ** (passed / half_life) if half_life > 0 else 0.0
    return kept * old + (1 - kept) * new
