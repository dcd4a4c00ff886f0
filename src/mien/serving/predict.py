"""Photo in, emotions out, in this process: what the service and the command line both call."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.metrics import apply_temperature
from mien.serving import champion, faces, photos
from mien.serving.runtime import Runtime

DIGITS = 6


class Mien:
    """The champion, ready to answer; one instance may be shared by threads."""

    def __init__(self, champion_folder: Path | None = None, *, threads: int | None = None) -> None:
        """Load a champion: from `champion_folder`, else where `champion.folder` finds one; `threads` as in Runtime.

        Raises MienError where there is none, or a broken one.
        """
        place = champion.folder(champion_folder)
        self.card = champion.read_card(place)
        self.runtime = Runtime(place / champion.MODEL_FILE, threads=threads)
        # A detector named in the environment beats the one packed.
        name = "auto" if faces.yunet_is_named() else self.card.detector
        self.detector = faces.detector(name, place)

    def predict(self, image: bytes | str | Path | NDArray[np.uint8]) -> dict[str, Any]:
        """Every face in a photo (its bytes, its path, or gray, RGB or RGBA pixels), the largest first.

        Boxes are x, y, width, height in pixels of the upright photo; probabilities are calibrated; a photo
        without a face has an empty list. Raises MienError for what is no photo.
        """
        found = faces.find(_pixels(image), self.detector)
        stacked = np.stack([face.pixels for face in found]) if found else np.zeros((0, *faces.SHAPE), np.float32)
        probabilities = apply_temperature(self.runtime.predict(stacked), self.card.temperature)
        answers = [self._answer(face, row) for face, row in zip(found, probabilities, strict=True)]
        return {"faces": answers, "model": self.model()}

    def model(self) -> dict[str, Any]:
        """Tell what answers: version, family and lineage of the champion."""
        card = self.card
        return {
            "version": card.version,
            "family": card.family,
            "data_name": card.data_name,
            "data_digest": card.data_digest,
            "git_commit": card.git_commit,
            "synthetic": card.synthetic,
        }

    def _answer(self, face: faces.Face, probabilities: NDArray[np.float64]) -> dict[str, Any]:
        best = int(probabilities.argmax())
        sure = float(probabilities[best]) >= self.card.uncertain_below
        return {
            "box": list(face.box),
            "emotion": EMOTIONS[best],
            "probabilities": {name: round(float(p), DIGITS) for name, p in zip(EMOTIONS, probabilities, strict=True)},
            "status": "ok" if sure else "uncertain",
            "found_by": face.found_by,
        }


def _pixels(image: bytes | str | Path | NDArray[np.uint8]) -> photos.Pixels:
    if isinstance(image, np.ndarray):
        return photos.from_array(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return photos.decode(bytes(image))
    try:
        data = Path(image).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MienError(f"Cannot read the photo {image}: {reason}. Pass a file, its bytes, or an array.") from error
    try:
        return photos.decode(data)
    except MienError as error:
        raise type(error)(f"{image}: {error}") from error
