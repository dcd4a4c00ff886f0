"""Draw how each face's emotions went over a video, in memory that its length does not change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mien.emotions import EMOTIONS
from mien.inference.drawing import COLOURS, font
from mien.inference.photos import Pixels

MOST_POINTS = 6_000
"""Points kept of all faces together: when there are more, neighbours in time are merged."""
MOST_TRACKS = 12
"""Faces drawn, those longest in sight."""
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MINUTE, HOUR = 60, 3600

WIDTH, ROW, GAP = 1400, 110, 26
LEFT, RIGHT, TOP, BOTTOM = 130, 40, 110, 64
INK, MUTED, GRID, PAPER = (34, 48, 60), (96, 110, 122), (228, 233, 237), (255, 255, 255)


@dataclass(frozen=True)
class Track:
    """What a timeline says of one face: when it came and went, and its mean probabilities."""

    number: int
    start: float
    end: float
    means: NDArray[np.float64]


@dataclass
class Timeline:
    """Emotions of each track over time, in bins of `step` seconds: sums of probabilities and counts.

    What is seen again within `hold` seconds was there all the time.
    """

    hold: float = 1.0
    step: float = 1 / 32
    end: float = 0.0
    bins: dict[int, dict[int, NDArray[np.float64]]] = field(default_factory=dict)
    points: int = 0

    def add(self, faces: Sequence[Mapping[str, Any]], time: float) -> None:
        """Take in the tracked faces of the frame at `time` seconds."""
        self.end = max(self.end, time)
        for face in faces:
            row = np.array([*(face["probabilities"][name] for name in EMOTIONS), 1.0])
            self._put(self.bins.setdefault(face["track"], {}), int(time / self.step), row)
        while self.points > MOST_POINTS + len(self.bins):
            self._halve()

    def tracks(self) -> list[Track]:
        """Every face, the one longest in sight first."""
        longest = sorted(self.bins.items(), key=lambda item: -len(item[1]))
        return [self._track(number, bins) for number, bins in longest]

    def _track(self, number: int, bins: Mapping[int, NDArray[np.float64]]) -> Track:
        total = np.sum(list(bins.values()), axis=0)
        end = min(self.end, (max(bins) + 1) * self.step)
        return Track(number, min(bins) * self.step, end, total[:-1] / total[-1])

    def _put(self, track: dict[int, NDArray[np.float64]], index: int, row: NDArray[np.float64]) -> None:
        self.points += index not in track
        track[index] = track[index] + row if index in track else row

    def _halve(self) -> None:
        old, self.bins, self.points, self.step = self.bins, {}, 0, 2 * self.step
        for number, track in old.items():
            self.bins[number] = {}
            for index, row in track.items():
                self._put(self.bins[number], index // 2, row)

    def draw(self, title: str) -> Pixels:
        """A picture of white ground: a row for each of the faces longest in sight, in order of appearance."""
        shown = sorted(track.number for track in self.tracks()[:MOST_TRACKS])
        height = TOP + max(1, len(shown)) * (ROW + GAP) + BOTTOM
        canvas = Image.new("RGB", (WIDTH, height), PAPER)
        draw = ImageDraw.Draw(canvas)
        _head(draw, title, self._counts(len(shown)))
        _axis(draw, self.end, TOP + max(1, len(shown)) * (ROW + GAP))
        for index, number in enumerate(shown):
            top = TOP + index * (ROW + GAP)
            self._row(draw, self.bins[number], top)
            draw.text((LEFT - 18, top + ROW / 2), f"face {number}", INK, font(19), anchor="rm")
        if not shown:
            draw.text((WIDTH / 2, TOP + ROW / 2), "no face was found", MUTED, font(24), anchor="mm")
        return np.array(canvas, dtype=np.uint8)

    def _counts(self, shown: int) -> str:
        total = len(self.bins)
        return f"the {shown} faces longest in sight, of {total}" if total > shown else ""

    def _row(self, draw: ImageDraw.ImageDraw, track: Mapping[int, NDArray[np.float64]], top: int) -> None:
        """Stacked shares over time; where the face was out of sight the ground is left white."""
        room = WIDTH - LEFT - RIGHT
        draw.rectangle((LEFT, top, WIDTH - RIGHT - 1, top + ROW - 1), fill=(246, 248, 249))
        span = max(self.end, self.step)
        starts = sorted(track)
        for index, following in zip(starts, [*starts[1:], starts[-1] + 1], strict=True):
            row, until = track[index], following if (following - index) * self.step <= self.hold else index + 1
            x0 = LEFT + round(room * min(1, index * self.step / span))
            x1 = LEFT + round(room * min(1, until * self.step / span))
            edges = top + np.round(ROW * np.cumsum([0, *(row[:-1] / row[:-1].sum())])).astype(int)
            for name, y0, y1 in zip(EMOTIONS, edges[:-1], edges[1:], strict=True):
                if y1 > y0:
                    draw.rectangle((x0, y0, max(x0, x1 - 1), y1 - 1), fill=COLOURS[name])


def _head(draw: ImageDraw.ImageDraw, title: str, note: str) -> None:
    draw.text((LEFT, 34), title, INK, font(26), anchor="lm")
    draw.text((WIDTH - RIGHT, 34), note, MUTED, font(17), anchor="rm")
    x = float(LEFT)
    for name in EMOTIONS:
        draw.rectangle((x, 66, x + 17, 83), fill=COLOURS[name], outline=MUTED)
        draw.text((x + 26, 75), name, INK, font(19), anchor="lm")
        x += 26 + font(19).getlength(name) + 34


def _axis(draw: ImageDraw.ImageDraw, end: float, bottom: int) -> None:
    room = WIDTH - LEFT - RIGHT
    step = next((step for step in STEPS if end / step <= 10), STEPS[-1])  # noqa: PLR2004 (ticks that fit)
    for advance in np.arange(0, end + step / 100, step):
        x = LEFT + room * advance / max(end, step / 10)
        draw.line((x, TOP - 6, x, bottom - GAP + 8), fill=GRID)
        draw.text((x, bottom - GAP + 26), clock(float(advance), step), MUTED, font(17), anchor="mm")


def clock(seconds: float, step: float = 1) -> str:
    """A time as people write it: 7 s, 0.5 s, 2:05, 1:02:05."""
    if seconds < MINUTE and step < MINUTE:
        return f"{seconds:.1f} s" if step < 1 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
