"""Draw what was found onto a photo: a box, the emotion and seven bars for each face."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.emotions import EMOTIONS
from mien.inference.photos import Pixels

Colour = tuple[int, int, int]

# Okabe and Ito's colours, which stay apart under every common colour blindness, and a gray for the neutral face.
COLOURS: Mapping[str, Colour] = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (204, 121, 167),
    "happy": (240, 228, 66),
    "sad": (0, 114, 178),
    "surprise": (86, 180, 233),
    "neutral": (200, 204, 208),
}
UNKNOWN: Colour = (255, 255, 255)
INK, PAPER, DIM = (16, 20, 24), (255, 255, 255), (176, 184, 192)

SMALLEST_TEXT = 9
"""Pixels: letters below this cannot be read."""


class Box(NamedTuple):
    """A rectangle: its left and top pixels, and the first pixels right of it and below it."""

    left: int
    top: int
    right: int
    bottom: int

    def at(self, left: int, top: int) -> "Box":
        """The same rectangle elsewhere."""
        return Box(left, top, left + self.right - self.left, top + self.bottom - self.top)

    def shared(self, others: Sequence["Box"]) -> int:
        """Pixels of this rectangle that lie in others, summed over these."""
        x0, y0, x1, y1 = np.array(others, np.int64).reshape(-1, 4).T
        width = np.minimum(self.right, x1) - np.maximum(self.left, x0)
        height = np.minimum(self.bottom, y1) - np.maximum(self.top, y0)
        return int((np.maximum(0, width) * np.maximum(0, height)).sum())


@dataclass(frozen=True)
class Mark:
    """One face as it is drawn: `sure` faces have a plain frame, others a dashed one and a question mark.

    `texts` are its label, ever shorter; letters are `size` pixels high, or fewer, down to `least`, for want of room.
    """

    box: Box
    emotion: str
    texts: tuple[str, ...]
    probabilities: tuple[float, ...]
    sure: bool
    size: int
    least: int

    @property
    def colour(self) -> Colour:
        """The colour of the emotion."""
        return COLOURS.get(self.emotion, UNKNOWN)

    @property
    def line(self) -> int:
        """Width of the frame in pixels."""
        return max(1, round(self.size / 6))


def annotate(pixels: Pixels, faces: Sequence[Mapping[str, Any]]) -> Pixels:
    """A copy of RGB pixels (h, w, 3) uint8 with every face of an answer drawn on it; boxes are in these pixels.

    A face needs `box`, `emotion`, `probabilities` and `status`; a `track` is written before its emotion.
    """
    canvas = Image.fromarray(pixels)
    page = Box(0, 0, canvas.width, canvas.height)
    marks = [mark for face in faces if (mark := _mark(face, page))]
    draw = ImageDraw.Draw(canvas, "RGBA")
    for mark in marks:
        _frame(draw, mark)
    taken: list[Box] = []
    for mark in sorted(marks, key=lambda mark: mark.box.top - mark.box.bottom):
        # A card may cover no face at all, its own included; where there is no room, label and bars go to the frame.
        others = [*taken, *(other.box for other in marks)]
        taken += _card(draw, mark, page, others) or _badge(draw, mark, page, taken)
    return np.array(canvas, dtype=np.uint8)


def caption(pixels: Pixels, text: str) -> Pixels:
    """A copy of RGB pixels with a line of text in the upper left corner."""
    canvas = Image.fromarray(pixels)
    size = max(SMALLEST_TEXT, round(min(canvas.size) / 28))
    draw = ImageDraw.Draw(canvas, "RGBA")
    _text(draw, _plate(text, size), text, size, INK, PAPER)
    return np.array(canvas, dtype=np.uint8)


@cache
def font(size: int) -> Any:
    """The typeface that Pillow brings with it, in pixels."""
    return ImageFont.load_default(size)


def contrast(one: Colour, other: Colour) -> float:
    """WCAG 2's contrast of two sRGB colours, from 1 to 21; text needs 4.5 (w3.org/TR/WCAG21/#dfn-contrast-ratio)."""
    values = np.array([one, other]) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)  # noqa: PLR2004 (sRGB)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return float((high + 0.05) / (low + 0.05))


@cache
def on(colour: Colour) -> Colour:
    """The ink or the paper, whichever is read better on a colour."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, colour))


def _mark(face: Mapping[str, Any], page: Box) -> Mark | None:
    x, y, width, height = (round(value) for value in face["box"])
    box = Box(max(0, x), max(0, y), min(page.right, x + width), min(page.bottom, y + height))
    if box.right <= box.left or box.bottom <= box.top:
        return None
    sure, emotion = face["status"] == "ok", str(face["emotion"])
    name = emotion if sure else f"{emotion}?"
    share = f"{name} {face['probabilities'].get(emotion, 0):.0%}"
    number = [f"{face['track']} {share}"] if "track" in face else []
    texts = (*number, share, name, name[:3])
    probabilities = tuple(float(face["probabilities"].get(name, 0)) for name in EMOTIONS)
    # Letters as tall as let a card be as tall as its face, within what is read when the whole photo is shown.
    short, long = sorted((page.right, page.bottom))
    least = max(SMALLEST_TEXT, round(min(long / 120, short / 12)))
    most = max(least, round(short / 24))
    size = min(max(round((box.bottom - box.top) / 11), least), most)
    return Mark(box, emotion, texts, probabilities, sure, size, least)


def _frame(draw: ImageDraw.ImageDraw, mark: Mark) -> None:
    left, top, right, bottom = mark.box
    corners = [(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1), (left, top)]
    sides = list(pairwise(corners))
    pieces = sides if mark.sure else [dash for side in sides for dash in _dashes(*side, 5 * mark.line)]
    # Dark around the colour, so that it shows on bright photos too.
    for grow, colour in ((1, INK), (0, mark.colour)):
        for piece in pieces:
            x0, y0, x1, y1 = _thick(piece, mark)
            draw.rectangle((x0 - grow, y0 - grow, x1 + grow, y1 + grow), fill=colour)


def _dashes(
    start: tuple[int, int], end: tuple[int, int], length: int
) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """Every other piece of a line, a dash at each of its ends."""
    distance = abs(end[0] - start[0]) + abs(end[1] - start[1])
    count = max(1, distance // length) | 1
    points = np.linspace(start, end, count + 1).round().astype(int).tolist()
    return [((a[0], a[1]), (b[0], b[1])) for a, b in list(pairwise(points))[::2]]


def _thick(piece: tuple[tuple[int, int], tuple[int, int]], mark: Mark) -> tuple[int, int, int, int]:
    """A stroke as a rectangle that grows into the face's box."""
    (ax, ay), (bx, by) = piece
    left, right, top, bottom = min(ax, bx), max(ax, bx), min(ay, by), max(ay, by)
    grow = mark.line - 1
    if top == bottom:
        return (left, top, right, top + grow) if top == mark.box.top else (left, top - grow, right, top)
    return (left, top, left + grow, bottom) if left == mark.box.left else (left - grow, top, left, bottom)


def _card(draw: ImageDraw.ImageDraw, mark: Mark, page: Box, others: Sequence[Box]) -> list[Box]:
    """A card near the face: its emotion, and each emotion's name with a bar. Nothing where there is no room."""
    for size in sorted({mark.size, (mark.size + mark.least) // 2, mark.least}, reverse=True):
        for place in _around(mark.box, _card_room(mark, size), mark.line + 2):
            if _inside(place, page) and not place.shared(others):
                _fill_card(draw, mark, place, size)
                return [place]
    return []


def _card_room(mark: Mark, size: int) -> Box:
    head = _plate(mark.texts[0], size)
    return Box(
        0, 0, max(round(_longest_name(size) + 5.5 * size), head.right), head.bottom + round(1.25 * size) * 7 + size // 2
    )


@cache
def _longest_name(size: int) -> float:
    return float(max(font(size).getlength(name) for name in EMOTIONS))


def _around(box: Box, card: Box, gap: int) -> list[Box]:
    """Where a card may lie: right of a box, left of it, below it or above it, flush with one of its edges."""
    x0, y0, x1, y1 = box
    beside = [card.at(x, y) for x in (x1 + gap, x0 - gap - card.right) for y in (y0, y1 - card.bottom)]
    return beside + [card.at(x, y) for y in (y1 + gap, y0 - gap - card.bottom) for x in (x0, x1 - card.right)]


def _fill_card(draw: ImageDraw.ImageDraw, mark: Mark, place: Box, size: int) -> None:
    row, pad, bars = round(1.25 * size), size // 2, 4 * size
    head = _plate("", size).bottom
    draw.rectangle((place.left, place.top, place.right - 1, place.bottom - 1), fill=(*INK, 205))
    _text(draw, Box(place.left, place.top, place.right, place.top + head), mark.texts[0], size, mark.colour)
    for index, (name, probability) in enumerate(zip(EMOTIONS, mark.probabilities, strict=True)):
        y, x = place.top + head + pad // 2 + row * index, place.right - pad - bars
        colour = PAPER if name == mark.emotion else DIM
        draw.text((place.left + pad, y + row / 2), name, colour, font(size), anchor="lm")
        draw.rectangle((x, y + row // 4, x + bars - 1, y + row - row // 4), fill=(*PAPER, 40))
        if length := round(bars * min(1.0, probability)):
            draw.rectangle((x, y + row // 4, x + length - 1, y + row - row // 4), fill=COLOURS[name])


def _badge(draw: ImageDraw.ImageDraw, mark: Mark, page: Box, taken: Sequence[Box]) -> list[Box]:
    """A label at the frame where it covers the least of other labels, and seven bars along the frame's lower edge."""
    _bars(draw, mark)
    room = page.right - page.left
    text = next((text for text in mark.texts if _plate(text, mark.size).right <= room), "")
    plate = _plate(text, mark.size)
    if not text or plate.bottom > page.bottom:
        return []
    left, top, right, bottom = mark.box
    places = [plate.at(x, y) for y in (top - plate.bottom, bottom, top) for x in (left, right - plate.right)]
    places = [_within(place, page) for place in places]
    place = min(places, key=lambda place: place.shared(taken))
    _text(draw, place, text, mark.size, mark.colour)
    return [place]


def _bars(draw: ImageDraw.ImageDraw, mark: Mark) -> None:
    """Seven upright bars inside the frame, in the order of EMOTIONS."""
    left, right = mark.box.left + mark.line + 1, mark.box.right - mark.line - 1
    bottom = mark.box.bottom - mark.line - 1
    height = round((mark.box.bottom - mark.box.top) / 4)
    if right - left < len(EMOTIONS) or height < 3:  # noqa: PLR2004 (a pixel a bar, and three steps)
        return
    draw.rectangle((left, bottom - height, right - 1, bottom - 1), fill=(*INK, 150))
    edges = np.linspace(left, right, len(EMOTIONS) + 1).round().astype(int).tolist()
    for (start, end), name, probability in zip(pairwise(edges), EMOTIONS, mark.probabilities, strict=True):
        if tall := round(height * min(1.0, probability)):
            draw.rectangle((start, bottom - tall, max(start, end - 2), bottom - 1), fill=COLOURS[name])


def _plate(text: str, size: int) -> Box:
    """The room that a line of text takes, at the picture's corner."""
    return Box(0, 0, round(font(size).getlength(text) + size), round(size * 1.5))


def _text(
    draw: ImageDraw.ImageDraw, place: Box, text: str, size: int, ground: Colour, colour: Colour | None = None
) -> None:
    draw.rectangle((place.left, place.top, place.right - 1, place.bottom - 1), fill=ground)
    middle = (place.top + place.bottom) / 2
    draw.text((place.left + size / 2, middle), text, colour or on(ground), font(size), anchor="lm")


def _inside(box: Box, page: Box) -> bool:
    return box.left >= 0 and box.top >= 0 and box.right <= page.right and box.bottom <= page.bottom


def _within(box: Box, page: Box) -> Box:
    """The box moved as little as possible to lie in the page."""
    width, height = box.right - box.left, box.bottom - box.top
    return box.at(max(0, min(box.left, page.right - width)), max(0, min(box.top, page.bottom - height)))
