"""Synthetic sample data: drawn faces with learnable expressions, to try the pipeline without a data set."""

# ruff: noqa: PLR2004 - a drawing is made of numbers

from dataclasses import astuple, dataclass

import numpy as np

from mien.data.raw import Batch, batch, pgm
from mien.data.sources.drawing import Image, Pen, curve, photograph, ring
from mien.emotions import EMOTIONS, SPLITS

NAME = "synthetic sample"


@dataclass(frozen=True)
class Expression:
    """How a face is held; every feature is 0 at rest and about 1 (or -1) at its strongest."""

    brow: float  # raised or lowered
    frown: float  # inner ends of the brows down or up
    eyes: float  # wide or narrowed
    smile: float  # corners of the mouth up or down
    gape: float  # mouth open
    width: float  # mouth wide or pursed
    wrinkle: float  # nose wrinkled, upper lip raised


EXPRESSIONS = {
    "angry": Expression(-0.7, 1.0, -0.1, -0.5, 0.15, 0.1, 0.3),
    "disgust": Expression(-0.4, 0.5, -0.6, -0.6, 0.2, -0.2, 1.0),
    "fear": Expression(0.6, -0.8, 0.8, -0.4, 0.45, 0.5, 0.0),
    "happy": Expression(0.1, 0.0, -0.3, 1.0, 0.4, 0.6, 0.1),
    "sad": Expression(-0.1, -1.0, -0.5, -0.9, 0.0, -0.2, 0.0),
    "surprise": Expression(1.0, 0.0, 1.0, 0.0, 1.0, -0.5, 0.0),
    "neutral": Expression(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}


def sample(rows: int = 4200, seed: int = 7) -> Batch:
    """Draw `rows` faces: two thirds for training, a sixth for each test split, emotions evenly mixed."""
    held = rows // 6
    images, labels, splits = list[bytes](), list[int](), list[str]()
    for part, (split, size) in enumerate(zip(SPLITS, (rows - 2 * held, held, held), strict=True)):
        for number in range(size):
            labels.append(number % len(EMOTIONS))
            splits.append(split)
            # A generator per face, so that a smaller sample holds some of the same faces.
            images.append(pgm(face(labels[-1], np.random.default_rng([seed, part, number]))))
    return batch(NAME, images, labels, splits, [f"sample:{row}" for row in range(1, rows + 1)])


def face(label: int, random: np.random.Generator) -> Image:
    """Draw a face `(48, 48)` that shows the emotion `label`; intensity, person, pose, light and noise by chance."""
    held = np.array(astuple(EXPRESSIONS[EMOTIONS[label]]))
    shown = Expression(*(held * random.uniform(0.5, 1.15) + random.normal(0, 0.15, len(held))).tolist())
    pen = Pen(random)
    skin = _draw_person(pen, random)
    _draw_eyes(pen, shown, skin, brow=random.uniform(10, 80), thick=random.uniform(0.05, 0.09))
    _draw_mouth(pen, shown, skin)
    _draw_things(pen, random)
    return photograph(pen.canvas, random)


def _draw_person(pen: Pen, random: np.random.Generator) -> float:
    """Hair, neck, ears, head and nose; returns the skin's tone."""
    skin, hair = random.uniform(95, 225), random.choice([random.uniform(5, 70), random.uniform(80, 210)])
    length, fringe = random.uniform(0.9, 1.5), random.uniform(0.2, 0.5)
    pen.oval(0, -0.3, random.uniform(1.02, 1.2), length, hair)
    pen.oval(0, 1.3, 0.5, 0.6, skin * 0.85)
    pen.oval(0, 2.1, 1.5, 0.7, random.uniform(20, 230))
    for side in (-1, 1):
        pen.oval(side * 0.95, -0.05, 0.13, 0.25, skin * 0.9)
    pen.oval(0, 0, 0.93, random.uniform(1.12, 1.25), skin)
    pen.oval(random.uniform(-0.3, 0.3), -1.05, 0.8, fringe, hair)
    pen.stroke([(-0.04, -0.1), (-0.14, 0.26), (0, 0.32), (0.14, 0.26)], skin * 0.72, 0.045)
    return float(skin)


def _draw_eyes(pen: Pen, shown: Expression, skin: float, brow: float, thick: float) -> None:
    height = max(0.03, 0.11 * (1 + 0.75 * shown.eyes))
    lift = -0.5 - 0.13 * shown.brow
    for side in (-1, 1):
        eye = side * 0.4
        pen.oval(eye, -0.2, 0.2, height, min(250, skin + 70))
        pen.oval(eye, -0.2, 0.1, min(0.1, height), 35)
        pen.stroke(curve((eye - 0.22, -0.2), (eye, -0.2 - 2 * height), (eye + 0.22, -0.2)), skin * 0.4, 0.04)
        inner, outer = lift + 0.14 * shown.frown, lift + 0.05 - 0.07 * shown.frown
        arch = curve((side * 0.17, inner), (side * 0.4, lift - 0.08), (side * 0.65, outer))
        pen.stroke(arch, min(brow, skin * 0.6), thick)
        if shown.wrinkle > 0.35:
            pen.stroke([(side * 0.1, -0.12), (side * 0.2, 0.02)], skin * 0.65, 0.03)
            pen.stroke(curve((side * 0.2, 0.2), (side * 0.42, 0.3), (side * 0.46, 0.55)), skin * 0.65, 0.04)


def _draw_mouth(pen: Pen, shown: Expression, skin: float) -> None:
    half, open_ = 0.34 * (1 + 0.35 * shown.width), 0.42 * max(shown.gape, 0)
    corner = 0.64 - 0.15 * shown.smile
    top = 0.64 + 0.16 * shown.smile - 0.12 * max(shown.wrinkle, 0) - 0.5 * open_
    bottom = top + 0.05 + 1.9 * open_
    # A quadratic curve passes halfway between its control point and its ends.
    upper = curve((-half, corner), (0, 2 * top - corner), (half, corner))
    lower = curve((half, corner), (0, 2 * bottom - corner), (-half, corner))
    if open_ > 0.02:
        pen.fill(np.vstack([upper, lower]), 30)
        if open_ < 0.25:
            pen.fill(np.vstack([upper, np.add(upper[::-1], (0, 0.07))]), 235)
    pen.stroke(upper, skin * 0.5, 0.055)
    pen.stroke(lower, skin * 0.6, 0.055)
    if shown.smile > 0.5:
        for side in (-1, 1):
            pen.stroke(curve((side * 0.25, 0.2), (side * 0.62, 0.35), (side * 0.6, 0.6)), skin * 0.75, 0.035)


def _draw_things(pen: Pen, random: np.random.Generator) -> None:
    """Glasses, a moustache, or something in front of the face: each on some faces only."""
    if random.random() < 0.15:
        tone = random.uniform(0, 60)
        for side in (-1, 1):
            pen.stroke(ring(side * 0.4, -0.2, 0.29, 0.24), tone, 0.045)
        pen.stroke([(-0.11, -0.2), (0.11, -0.2)], tone, 0.045)
    if random.random() < 0.1:
        pen.stroke(curve((-0.3, 0.5), (0, 0.36), (0.3, 0.5)), random.uniform(10, 90), 0.1)
    if random.random() < 0.15:
        angle, tone = random.uniform(0, 2 * np.pi), random.uniform(20, 230)
        width, height = random.uniform(0.25, 0.5, 2)
        pen.oval(1.1 * np.cos(angle), 1.1 * np.sin(angle), width, height, tone)
