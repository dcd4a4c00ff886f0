"""PyPI's `fer`, in an environment of its own: a line with a photo's path in, a line of JSON out."""

import json
import logging
import sys
import time

import cv2
from fer.fer import FER  # type: ignore[import-not-found]


def main() -> None:
    """Answer until there is nothing more to read."""
    logging.disable()
    detector = FER(mtcnn="mtcnn" in sys.argv)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        faces = detector.detect_emotions(cv2.imread(line.strip()))
        taken = {"wall": 1000 * (time.perf_counter() - wall), "cpu": 1000 * (time.process_time() - cpu)}
        print(json.dumps(taken | {"boxes": [[int(side) for side in face["box"]] for face in faces]}), flush=True)


if __name__ == "__main__":
    main()
