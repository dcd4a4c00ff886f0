"""YuNet on OpenVINO: fixed canvases, and its twelve outputs turned into faces as OpenCV turns them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.inference import openvino_runtime
from mien.inference.photos import Pixels

Floats = NDArray[np.float64]
Outputs = list[NDArray[np.float32]]

SCORE, OVERLAP = 0.6, 0.3
"""Faces below this score are none; of two boxes that share more than this part of their union, the better one stays."""

STRIDES = (8, 16, 32)
OUTPUTS = 4 * len(STRIDES)
"""Classes, objects, boxes and landmarks, each for every stride."""

SIDES = {160: (160,), 320: (160, 256, 320), 480: (320, 384, 480), 640: (320, 384, 448, 480, 640)}
"""Sides of a canvas in pixels, the longer and those that the shorter may have: 4:3, 3:2, 16:9 and 1:1 waste little.

Few, since each pair in use is compiled once, which takes as long as ten photos, and is kept.
"""


class Canvases:
    """The network compiled for each size of canvas when a photo first needs it."""

    def __init__(self, model: Path, threads: int | None) -> None:
        """Read the model. Raises what OpenVINO raises for a broken file, and ValueError for another network."""
        self._model, self._threads = openvino_runtime.read(model), threads
        if len(self._model.outputs) != OUTPUTS:
            raise ValueError(f"{len(self._model.outputs)} outputs")
        self._network = lru_cache(maxsize=32)(self._compile)

    def find(self, pixels: Pixels) -> Floats:
        """Rows (n, 15) of box, five landmarks and score, as `cv2.FaceDetectorYN` gives them, for RGB pixels."""
        height, width = size(pixels)
        outputs = self._network(height, width).filled(lambda buffer: put(pixels, buffer[0]))
        return decode(outputs, width // STRIDES[0])

    def _compile(self, height: int, width: int) -> openvino_runtime.Network:
        openvino = openvino_runtime.library()
        model = self._model.clone()
        model.reshape([1, 3, height, width])
        steps = openvino.preprocess.PrePostProcessor(model)
        # Floats, though pixels are bytes: OpenVINO takes a tenth of the whole time to turn bytes into them.
        tensor = steps.input().tensor().set_element_type(openvino.Type.f32).set_layout(openvino.Layout("NHWC"))
        tensor.set_color_format(openvino.preprocess.ColorFormat.RGB)
        steps.input().preprocess().convert_color(openvino.preprocess.ColorFormat.BGR)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        return openvino_runtime.Network(steps.build(), self._threads)


def canvas(pixels: Pixels) -> Pixels:
    """The pixels in the top left corner of a canvas that holds them, black elsewhere."""
    blank = np.empty((*size(pixels), 3), np.uint8)
    put(pixels, blank)
    return blank


def size(pixels: Pixels) -> tuple[int, int]:
    """Height and width of the canvas for a photo's pixels."""
    height, width = pixels.shape[:2]
    longer = _side(max(height, width), tuple(SIDES))
    shorter = _side(min(height, width), SIDES.get(longer, ()))
    return (longer, shorter) if height > width else (shorter, longer)


def put(pixels: Pixels, blank: NDArray[Any]) -> None:
    """Lay the pixels in the top left corner of a canvas and make the rest black."""
    height, width = pixels.shape[:2]
    blank[:height, :width] = pixels
    blank[height:] = 0
    blank[:height, width:] = 0


def decode(outputs: Outputs, columns: int) -> Floats:
    """Rows (n, 15) from class, object, box and landmark outputs for strides 8, 16, 32, `columns` cells wide at 8."""
    levels = [_level(outputs[index::3], stride, columns * STRIDES[0] // stride) for index, stride in enumerate(STRIDES)]
    return suppress(np.concatenate(levels))


def suppress(rows: Floats) -> Floats:
    """Keep the best of the rows (n, 15) that overlap, the best first."""
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    left, top = rows[:, 0], rows[:, 1]
    right, bottom = left + rows[:, 2], top + rows[:, 3]
    areas, kept, open_ = rows[:, 2] * rows[:, 3], [], np.arange(len(rows))
    while open_.size:
        best, open_ = open_[0], open_[1:]
        kept.append(best)
        across = np.minimum(right[best], right[open_]) - np.maximum(left[best], left[open_])
        down = np.minimum(bottom[best], bottom[open_]) - np.maximum(top[best], top[open_])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        open_ = open_[shared <= OVERLAP * (areas[best] + areas[open_] - shared)]
    return rows[kept]


def _level(outputs: Outputs, stride: int, columns: int) -> Floats:
    """Rows of the cells of one stride that score enough."""
    classes, objects, boxes, points = outputs
    squared = classes.ravel() * objects.ravel()
    hits = np.flatnonzero(squared >= SCORE**2)
    scores = np.sqrt(np.minimum(squared[hits], 1))
    cells = np.stack([hits % columns, hits // columns], axis=1).astype(np.float64)
    centres = (cells + boxes[0, hits, :2]) * stride
    sizes = np.exp(boxes[0, hits, 2:].astype(np.float64)) * stride
    landmarks = (cells[:, None] + points[0, hits].reshape(-1, 5, 2)) * stride
    return np.hstack([centres - sizes / 2, sizes, landmarks.reshape(-1, 10), scores[:, None]])


def _side(length: int, sides: tuple[int, ...]) -> int:
    """The side of the canvas for a photo's, whole strides wide where the photo is larger than any."""
    return next((side for side in sides if side >= length), -(-length // STRIDES[-1]) * STRIDES[-1])
