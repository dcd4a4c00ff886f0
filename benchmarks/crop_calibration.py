"""How detectors frame the faces of FER-2013, and what finding and cropping a face anew costs in accuracy.

`python benchmarks/crop_calibration.py` fits on validation faces the constants that stand in `mien.inference.detectors`;
`python benchmarks/crop_calibration.py test` scores test faces with the constants that stand there, and fits nothing.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import draw, matched

from mien.data.dataset import Split, read_split
from mien.errors import MienError
from mien.evaluation.metrics import mcnemar, wilson_interval
from mien.inference import champion
from mien.inference.detector_file import yunet_file
from mien.inference.detectors import Detection, Detector, Framing, Haar, YuNetOnOpenVINO
from mien.inference.faces import crop, slope
from mien.inference.runtime import Runtime

LOW, HIGH = 64, 120


@dataclass(frozen=True)
class Found:
    """What a detector found of the faces: their numbers, frames (n, 3), detections, and the scenes' gray pixels."""

    numbers: NDArray[np.int64]
    frames: NDArray[np.float64]
    faces: list[Detection]
    grays: list[NDArray[np.uint8]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", nargs="?", choices=["validation", "test"], default="validation")
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--turned", type=float, default=0.0, help="Turn every face by so many degrees first.")
    parser.add_argument("--faces", type=int, default=0, help="How many, stratified; 0 takes all.")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        split = read_split(options.prepared, options.split).without_leaks().stratified(options.faces, seed=7)
        runtime = Runtime(champion.folder() / champion.MODEL_FILE, threads=1)
        finders = detectors()
    except MienError as error:
        raise SystemExit(f"Not measured: {error}") from None
    print(
        f"{len(split):,} {options.split} faces of {LOW}-{HIGH} px in scenes of 640 px; champion in {champion.folder()}"
    )
    for title, finder in finders.items():
        fitting = options.split == "validation" and not options.turned
        report(title, finder, split, runtime, fitting=fitting, degrees=options.turned)


def detectors() -> dict[str, Detector]:
    """Every detector whose file is at hand; YuNet's boxes are the same on OpenCV and OpenVINO."""
    model = yunet_file()
    return {"YuNet": YuNetOnOpenVINO(model, threads=1), "Haar": Haar()} if model else {"Haar": Haar()}


def report(
    title: str, finder: Detector, split: Split, runtime: Runtime, *, fitting: bool, degrees: float = 0.0
) -> None:
    """Print one detector's framing and what it costs."""
    found = find(finder, turned(split.images, degrees))
    native = split.images.astype(np.float32)
    names = runtime.predict(native).argmax(axis=1)
    print(f"\n{title}: finds {len(found.numbers) / len(split):.1%}")
    framings = {"in use": finder.framing}
    if fitting:
        framings = {"fitted": fit(found), "no calibration": Framing(1.0, 0.0, 0.0), **framings}
    labels, names = split.labels[found.numbers], names[found.numbers]
    low, high = wilson_interval(int((names == labels).sum()), len(labels))
    print(f"  {'crops of the faces found':<32}{'size':>7}{'right':>8}{'down':>8}{'accuracy':>10}{'drop':>8}")
    print(f"  {'native':<32}{'':>23}{np.mean(names == labels):>10.2%}          95 %: {low:.1%} to {high:.1%}")
    for name, framing in framings.items():
        for levelled in (False, True) if found.faces[0].landmarks is not None else (False,):
            got = runtime.predict(crops(found, framing, levelled=levelled)).argmax(axis=1)
            drop = 100 * (np.mean(names == labels) - np.mean(got == labels))
            line = f"{framing.size:>7.3f}{framing.right:>8.3f}{framing.down:>8.3f}{np.mean(got == labels):>10.2%}"
            p = mcnemar(labels, names, got)
            print(f"  {name + (', eyes levelled' if levelled else ''):<32}{line}{drop:>+8.2f}   p = {p:.2f}")


def turned(images: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Faces (n, 48, 48, 1) turned clockwise about their centres; edges are repeated."""
    turn = cv2.getRotationMatrix2D((23.5, 23.5), -degrees, 1.0)

    def one(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        face = cv2.warpAffine(image, turn, (48, 48), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(face, np.uint8)[:, :, None]

    return np.stack([one(image) for image in images[..., 0]]) if degrees else images


def find(finder: Detector, images: NDArray[np.uint8]) -> Found:
    """Look for every face of `images` (n, 48, 48, 1)."""
    numbers, frames, faces, grays = [], [], [], []
    for scene in draw(images, LOW, HIGH):
        gray = np.asarray(cv2.cvtColor(scene.pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        hits = matched(scene, finder.detect(scene.pixels))
        for number, frame, hit in zip(scene.numbers, scene.frames, hits, strict=True):
            if hit is not None:
                numbers.append(number)
                frames.append(frame)
                faces.append(hit)
                grays.append(gray)
    return Found(np.array(numbers), np.array(frames), faces, grays)


def fit(found: Found) -> Framing:
    """The medians over the faces: the box's size and its centre's offset, as shares of the frame's side."""
    boxes, sides = np.array([face.box for face in found.faces]), found.frames[:, 2]
    sizes = boxes[:, 2:].mean(axis=1) / sides
    offsets = (boxes[:, :2] + boxes[:, 2:] / 2 - (found.frames[:, :2] + sides[:, None] / 2)) / sides[:, None]
    right, down = np.median(offsets, axis=0)
    return Framing(round(float(np.median(sizes)), 3), round(float(right), 3), round(float(down), 3))


def crops(found: Found, framing: Framing, *, levelled: bool) -> NDArray[np.float32]:
    """The faces as they are cut out of their scenes."""
    pairs = zip(found.grays, found.faces, strict=True)
    return np.stack([crop(g, f.box, framing, slope(f.landmarks) if levelled else 0.0) for g, f in pairs])


if __name__ == "__main__":
    main()
