"""What finding faces costs on one thread, and which are found, by detector and by size looked at."""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import samples
from scenes import draw, false_boxes, found_share, tilted
from timing import milliseconds, table

from mien.data.dataset import read_split
from mien.errors import MienError
from mien.inference import faces, photos
from mien.inference.detector_file import yunet_file
from mien.inference.detectors import Detection, Detector, Haar, YuNet, YuNetOnOpenVINO
from mien.inference.photos import Pixels
from mien.inference.predictor import DETECTION_SIDES

SIZES = ((32, 48), (49, 64), (65, 82), (100, 200))
TILT, TILTED = 30.0, (65, 120)
"""Degrees by which faces of these sizes are turned, half of them either way."""
BASE, FAST = "YuNet, OpenCV", "YuNet, OpenVINO"


class At:
    """A detector that looks at photos scaled down to `side`."""

    def __init__(self, finder: Detector, side: int) -> None:
        self.name, self.framing = finder.name, finder.framing
        self._finder, self._side = finder, side

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces in the pixels given."""
        shrunk, scale = faces.for_detection(pixels, self._side)
        return [faces.enlarged(face, scale) for face in self._finder.detect(shrunk)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--faces", type=int, default=400, help="How many validation faces, stratified.")
    options = parser.parse_args()
    print(section(options.prepared, options.faces))


def section(prepared: Path = Path("data/prepared"), faces: int = 400) -> str:
    """What each detector costs, and, where FER-2013 is at hand, what it finds; as Markdown."""
    cv2.setNumThreads(1)
    # One for each side: OpenCV's would else make room anew whenever the side changes.
    finders = {(title, side): At(finder, side) for side in DETECTION_SIDES for title, finder in detectors().items()}
    taken, shares = costs(finders), recall(finders, prepared, faces)
    rows = []
    for title, side in sorted(finders, key=lambda key: (-key[1], key[0])):
        base, mine = taken.get((BASE, side)), taken[title, side]
        ratio = f"{base / mine:.2f}×" if base else ""
        result = [f"**{ratio}**" if title == FAST else ratio]
        rows.append([title, f"{side} px", f"{mine:.1f}", *result, *shares.get((title, side), [])])
    sizes = [f"{low}-{high} px found" for low, high in SIZES] if shares else []
    sizes += [f"{TILTED[0]}-{TILTED[1]} px, ± {TILT:g}°", "false boxes"] if shares else []
    text = table(["detector", "looked at", "CPU ms", f"against {BASE}", *sizes], rows)
    if not any(title == FAST for title, _ in finders):
        text += "\n\nYuNet's file is not at hand: `mien fetch detector`, or name it in MIEN_YUNET."
    if not shares:
        text += "\n\nNo prepared FER-2013 is at hand to tell how many small faces are found."
    return text


def costs(finders: Mapping[tuple[str, int], Detector]) -> dict[tuple[str, int], float]:
    """CPU milliseconds a photo, over the sample photos."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = [photos.decode(sample.path.read_bytes()) for sample in samples.write(Path(folder), count=24)]

    def ready(finder: Detector) -> Callable[[], object]:
        turn = itertools.cycle(pixels)
        return lambda: finder.detect(next(turn))

    return milliseconds({key: ready(finder) for key, finder in finders.items()}, rounds=len(pixels))


def recall(finders: Mapping[tuple[str, int], Detector], prepared: Path, faces: int) -> dict[tuple[str, int], list[str]]:
    """The share found of validation faces of each of SIZES, and of turned ones, in scenes of 640 × 480; false boxes.

    Nothing where there are no validation faces.
    """
    try:
        split = read_split(prepared, "validation").without_leaks().stratified(faces, seed=7)
    except MienError:
        return {}
    scenes = [list(draw(split.images, *sizes)) for sizes in SIZES]
    scenes.append(list(draw(tilted(split.images, TILT), *TILTED)))
    rows = {}
    for key, finder in finders.items():
        shares = [f"{found_share(finder, drawn):.0%}" for drawn in scenes]
        rows[key] = [*shares, str(false_boxes(finder, [scene for drawn in scenes for scene in drawn]))]
    return rows


def detectors() -> dict[str, Detector]:
    """Every detector whose file is at hand."""
    model = yunet_file()
    found: dict[str, Detector] = {"Haar, OpenCV": Haar()}
    if model:
        found |= {BASE: YuNet(model), FAST: YuNetOnOpenVINO(model, threads=1)}
    return found


if __name__ == "__main__":
    main()
