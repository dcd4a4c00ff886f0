"""Faces turned by quarter turns, and tiny pictures that may be no face: how often YuNet decides rightly.

Wants prepared FER-2013 and YuNet's file; the pictures without faces are crops of scikit-learn's two sample photos.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from samples import crowd
from scenes import Gray, Scene, draw, matched
from sklearn.datasets import load_sample_images
from timing import table

from mien.data.dataset import read_split
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference import champion
from mien.inference.crops import slope
from mien.inference.detectors import Detection, Haar, detector
from mien.inference.predictor import Mien
from mien.inference.runtime import Runtime
from mien.inference.second_look import fills, upside_down

SIZES = (96, 160)
"""Sides of the happy faces in scenes of 320 pixels."""

SMALL_AND_LARGE = ((32, 63), (64, 120))
"""Sides of the faces that a second look is given, in scenes of 640 pixels."""

LOW = 0.75
"""The detector's score below which a face is `low_confidence` in any case."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--happy", type=int, default=60, help="happy validation faces to turn")
    parser.add_argument("--second", type=int, default=800, help="validation faces to turn and look at twice")
    parser.add_argument("--tiny", type=int, default=800, help="validation faces, and crops without a face")
    options = parser.parse_args()
    if detector().name != "yunet":
        raise MienError("YuNet's file is not at hand: fetch it with `mien fetch detector`, or name it in MIEN_YUNET.")
    split = read_split(options.prepared, "validation").without_leaks()
    happy = split.take(np.flatnonzero(split.labels == EMOTIONS.index("happy"))[: options.happy])
    print(turned(happy.images))
    print()
    images = split.stratified(options.second, seed=7).images
    for sizes in SMALL_AND_LARGE:
        print(second_looks(images, sizes))
        print()
    few = split.stratified(options.tiny, seed=7)
    print(tiny(few.images, few.labels, options.tiny))


def turned(happy: Gray) -> str:
    """How many happy faces are found and called happy, one a photo, by the photo's turn."""
    mien, rows = Mien(threads=1), []
    photos = [next(draw(happy[number : number + 1], *SIZES, side=320)).pixels for number in range(len(happy))]
    for turns in range(4):
        answers = mien.predict([np.ascontiguousarray(np.rot90(photo, -turns)) for photo in photos])
        named = [answer.faces[0].emotion for answer in answers if answer.faces]
        rows.append([f"{90 * turns}°", f"{len(named)} of {len(happy)}", named.count("happy")])
    return table(["turned by", "found", "called happy"], rows)


def second_looks(images: Gray, sizes: tuple[int, int]) -> str:
    """What marks the faces that YuNet finds in turned scenes without looking for turned ones (`turned=False`)."""
    finder, rows = detector(threads=1), []
    for turns in range(4):
        found = [
            (hit, upside_down(hit, scene.pixels, finder))
            for scene in (quarter_turned(scene, turns) for scene in draw(images, *sizes))
            for hit in matched(scene, finder.detect(scene.pixels))
            if hit
        ]
        contradicted = sum(wrong for _, wrong in found)
        marked = sum(wrong or (hit.score or 0.0) < LOW for hit, wrong in found)
        disordered = sum(out_of_order(hit) for hit, _ in found)
        counts = [disordered, contradicted, marked, len(found) - marked]
        rows.append([f"{90 * turns}°", f"{len(found)} of {len(images)}", *counts])
    names = ["found", "landmarks of no upright face", "contradicted", f"or scored below {LOW}", "not marked"]
    return table([f"{sizes[0]}-{sizes[1]} px, turned by", *names], rows)


def out_of_order(hit: Detection) -> bool:
    """Whether landmarks, levelled, lie outside the box, or not in an upright face's order: eyes, nose, mouth."""
    if hit.landmarks is None:
        return False
    turn = np.radians(slope(hit.landmarks))
    level = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (hit.landmarks - hit.box[:2] - hit.box[2:] / 2) / hit.box[2:] @ level.T
    eyes, nose, mouth = points[:2], points[2], points[3:]
    across = eyes[0, 0] < eyes[1, 0] and mouth[0, 0] < mouth[1, 0]
    down = eyes[:, 1].max() < nose[1] < mouth[:, 1].min()
    return not (across and down) or bool(np.abs(points).max() > 1 / 2)


def quarter_turned(scene: Scene, turns: int) -> Scene:
    """A scene after quarter turns clockwise."""
    frames = scene.frames.copy()
    height, width = scene.pixels.shape[:2]
    for _ in range(turns):
        frames[:, 0], frames[:, 1] = height - frames[:, 1] - frames[:, 2], frames[:, 0].copy()
        height, width = width, height
    return Scene(np.ascontiguousarray(np.rot90(scene.pixels, -turns)), scene.numbers, frames)


def tiny(images: Gray, labels: NDArray[np.int64], count: int) -> str:
    """How many tiny pictures, of a face or of none, are taken for a face; and how often the model is right."""
    kinds = {
        "validation faces": [np.repeat(image, 3, axis=2) for image in images],
        "crops without a face": crops_without_a_face(count),
        "groups of 4 to 25 faces": [shrunk(crowd(number)) for number in range(4, 26)],
    }
    runtime, rows = Runtime(champion.SHIPPED / champion.MODEL_FILE, threads=1), []
    for finder in (detector(threads=1), Haar(threads=1)):
        for name, given in kinds.items():
            passed = np.array([fills(np.asarray(picture, np.uint8), finder) for picture in given])
            right = ["", ""]
            if name == "validation faces":
                hits = runtime.predict(images.astype(np.float32)).argmax(axis=1) == labels
                right = [f"{hits[mask].mean():.0%}" for mask in (passed, ~passed)]
            rows.append([finder.name, name, len(given), int(passed.sum()), *right])
    return table(["detector", "pictures of 48 px", "number", "taken for a face", "of these right", "of others"], rows)


def crops_without_a_face(count: int) -> list[Gray]:
    """Squares cut at random from two photos that show no face."""
    random, crops = np.random.default_rng(7), []
    scenery = load_sample_images().images
    for number in range(count):
        photo = scenery[number % len(scenery)]
        side = int(random.integers(48, 200))
        top, left = (int(random.integers(0, length - side)) for length in photo.shape[:2])
        crops.append(shrunk(photo[top : top + side, left : left + side]))
    return crops


def shrunk(pixels: Gray) -> Gray:
    """A picture of 48 pixels."""
    return np.asarray(cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
