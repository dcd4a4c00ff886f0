"""What blur, smallness and a low detector's score cost in accuracy: where the limits of a champion's card come from."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from crop_calibration import crops, find
from numpy.typing import NDArray
from scenes import resized

from mien.data.dataset import read_split
from mien.errors import MienError
from mien.inference import champion
from mien.inference.detector_file import yunet_file
from mien.inference.detectors import YuNetOnOpenVINO
from mien.inference.runtime import Runtime
from mien.inference.status import sharpness

BLURS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
SIDES = (48, 40, 32, 28, 24, 20, 16, 12)
SHARPNESS = (0.0, 0.015, 0.03, 0.05, 0.07, 0.1, 0.2, np.inf)
SCORES = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)

Gray = NDArray[np.uint8]


def main() -> None:
    """Print the tables for validation faces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--faces", type=int, default=1200, help="How many, stratified; 0 takes all.")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        split = read_split(options.prepared, "validation").without_leaks().stratified(options.faces, seed=7)
        runtime = Runtime(champion.folder() / champion.MODEL_FILE, threads=1)
    except MienError as error:
        raise SystemExit(f"Not measured: {error}") from None

    def right(faces: NDArray[np.float32], labels: NDArray[np.int64] = split.labels) -> NDArray[np.bool_]:
        return np.asarray(runtime.predict(faces).argmax(axis=1) == labels)

    print(f"{len(split):,} validation faces")
    blurred = [changed(split.images, lambda face, sigma=sigma: blur(face, sigma)) for sigma in BLURS]  # type: ignore[misc]
    small = [changed(split.images, lambda face, side=side: shrunk(face, side)) for side in SIDES]  # type: ignore[misc]
    hits = [right(faces) for faces in blurred]
    print("\nGaussian blur of n pixels in the crop: " + shares(BLURS, hits))
    print("Frame of n pixels in the photo:        " + shares(SIDES, [right(faces) for faces in small]))
    values = np.array([sharpness(face) for faces in blurred for face in faces])
    print("Sharpness of the crop, blurred or not: " + bins(SHARPNESS, values, np.concatenate(hits)))
    print(f"1 % of the crops as they are lie below {np.percentile(values[: len(split)], 1):.3f}")
    if model := yunet_file():
        finder = YuNetOnOpenVINO(model, threads=1)
        found = find(finder, split.images)
        scores = np.array([face.score for face in found.faces])
        hit = right(crops(found, finder.framing, levelled=True), split.labels[found.numbers])
        print("YuNet's score:                         " + bins(SCORES, scores, hit))


def changed(images: Gray, change: Callable[[Gray], Gray]) -> NDArray[np.float32]:
    """Every face changed, ready for the model."""
    return np.stack([change(image) for image in images[..., 0]]).astype(np.float32)[..., None]


def blur(face: Gray, sigma: float) -> Gray:
    """A blurred face."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) if sigma else face


def shrunk(face: Gray, side: int) -> Gray:
    """A face as it comes out of a photo where it is `side` pixels wide."""
    return resized(resized(face, side), face.shape[0])


def shares(steps: tuple[float, ...], hits: list[NDArray[np.bool_]]) -> str:
    """Accuracy at each step."""
    return "  ".join(f"{step:g}: {hit.mean():.1%}" for step, hit in zip(steps, hits, strict=True))


def bins(edges: tuple[float, ...], values: NDArray[np.float64], hits: NDArray[np.bool_]) -> str:
    """Accuracy, and the number of faces, from each edge to the next."""
    masks = [(low, (values >= low) & (values < high)) for low, high in itertools.pairwise(edges)]
    return "  ".join(f"{low:g}…: {hits[mask].mean():.1%} ({mask.sum():,})" for low, mask in masks if mask.any())


if __name__ == "__main__":
    main()
