"""What finding faces costs on one thread, and how many small faces are found, by detector and by size looked at."""

import argparse
import time
from pathlib import Path
from statistics import median

import cv2
from scenes import Scene, draw, found_share

from mien.data.dataset import read_split
from mien.errors import MienError
from mien.serving import faces
from mien.serving.detector_file import yunet_file
from mien.serving.detectors import Detection, Detector, Haar, YuNet, YuNetOnOpenVINO
from mien.serving.photos import Pixels
from mien.serving.predict import DETECTION_SIDES

LOW, HIGH, SIZES = 32, 82, ((32, 48), (49, 64), (65, 82))


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
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--faces", type=int, default=400, help="How many validation faces, stratified.")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        split = read_split(options.prepared, "validation").without_leaks().stratified(options.faces, seed=7)
    except MienError as error:
        raise SystemExit(f"Not measured: {error}") from None
    scenes = {sizes: list(draw(split.images, *sizes)) for sizes in SIZES}
    print(f"{len(split)} validation faces of each size in scenes of 640 × 480 px; CPU milliseconds a scene, one thread")
    print(f"{'':<18}{'looked at':>10}{'ms':>8}" + "".join(f"{f'{low}-{high} px':>12}" for low, high in SIZES))
    for title, finder in detectors().items():
        for side in reversed(DETECTION_SIDES):
            looking = At(finder, side)
            found = "".join(f"{found_share(looking, drawn):>12.0%}" for drawn in scenes.values())
            print(f"{title:<18}{side:>7} px{milliseconds(looking, scenes[SIZES[1]]):>8.1f}{found}")


def detectors() -> dict[str, Detector]:
    """Every detector whose file is at hand."""
    model = yunet_file()
    found: dict[str, Detector] = {"Haar": Haar()}
    if model:
        found |= {"YuNet, OpenCV": YuNet(model), "YuNet, OpenVINO": YuNetOnOpenVINO(model, threads=1)}
    return found


def milliseconds(finder: Detector, scenes: list[Scene]) -> float:
    """Median of the processor's time, which other work on the machine changes less than the clock's."""
    times = []
    for scene in scenes[:20]:
        started = time.process_time()
        finder.detect(scene.pixels)
        times.append(time.process_time() - started)
    return 1000 * median(times)


if __name__ == "__main__":
    main()
