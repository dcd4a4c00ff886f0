"""Photo in, emotions out, in this process: what the service and the command line both call."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference import champion, detectors, faces, photos
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.status import status
from mien.inference.tta import average

Image = bytes | str | Path | NDArray[np.uint8]
Observe = Callable[[Sequence[Sequence[faces.Face]], NDArray[np.float64]], None]

DIGITS = 6
FINE = 48.0
"""A face with a smaller side, in the pixels of a JPEG read at less than its size, is cropped from the whole photo."""

DETECTION_SIDES = (160, 320, 640)
"""Longest sides of the image given to the detector; `python benchmarks/detection.py` prints recall and cost of each."""


class Mien:
    """The champion, loaded; one instance may be shared by threads."""

    def __init__(
        self,
        champion_folder: Path | None = None,
        *,
        threads: int | None = None,
        detection_side: int = faces.DETECTION_SIDE,
    ) -> None:
        """Load a champion: from `champion_folder`, else where `champion.folder` finds one.

        It takes all cores, or `threads`: several processes on one machine wait less for each other with one each.
        Raises MienError where there is none, or a broken one, and for a `detection_side` that is not offered.
        """
        if detection_side not in DETECTION_SIDES:
            raise MienError(f"detection_side is {detection_side}, expected one of {DETECTION_SIDES}.")
        place = champion.folder(champion_folder)
        self.card = champion.read_card(place)
        self.runtime = Runtime(place / champion.MODEL_FILE, threads=threads)
        # A detector named in the environment beats the one packed.
        name = "auto" if detectors.yunet_is_named() else self.card.detector
        self.detector = detectors.detector(name, place, threads=threads)
        self.detection_side = detection_side
        self.observe: Observe | None = None
        """Callback with the faces of each photo and all their probabilities (n, 7), after each classification."""

    def warm_up(self) -> None:
        """Detect on a blank photo of each usual shape, so that nothing is compiled during the first real request."""
        long = self.detection_side
        for short in (long * 3 // 4, long * 2 // 3):
            for shape in ((short, long), (long, short)):
                self.detector.detect(np.zeros((*shape, 3), np.uint8))
        faces.find(np.zeros((*faces.SHAPE[:2], 3), np.uint8), self.detector)  # a picture that may be a face
        self.runtime.predict(np.zeros((2, *faces.SHAPE), np.float32))

    def predict(self, image: Image) -> dict[str, Any]:
        """Every face in a photo (its bytes, its path, or gray, RGB or RGBA pixels), the largest first.

        Boxes and landmarks are in pixels of the upright photo; probabilities are calibrated; a photo without a face
        has the status `no_face`. Raises MienError for what is no photo.
        """
        (answers,) = self._named([self.find(image)])
        return self._answer(answers)

    def predict_batch(self, images: Iterable[Image]) -> list[dict[str, Any]]:
        """Predictions for many photos in their order; `{"error": message}` for one that cannot be read.

        Photos are held one at a time, and the faces of all are classified in one go.
        """
        found = [_attempt(self.find, image) for image in images]
        named = iter(self._named([faces_ for faces_ in found if not isinstance(faces_, MienError)]))
        return [_error(item) if isinstance(item, MienError) else self._answer(next(named)) for item in found]

    def classify(self, crops: Sequence[Image]) -> list[dict[str, Any]]:
        """One face's prediction for each picture that is a face from edge to edge; `{"error": message}` as above."""
        found = [_attempt(lambda crop: [faces.whole(_photo(crop).pixels)], crop) for crop in crops]
        named = iter(self._named([faces_ for faces_ in found if not isinstance(faces_, MienError)]))
        return [_error(item) if isinstance(item, MienError) else next(named)[0] for item in found]

    def find(self, image: Image) -> list[faces.Face]:
        """The faces in a photo, cropped to the model's input. Raises MienError for what is no photo."""
        photo = _photo(image, 2 * self.detection_side)
        found = faces.find(photo.pixels, self.detector, self.detection_side, photo.size)
        if photo.scale < 1 and any(face.side * photo.scale < FINE for face in found):
            return faces.find(_photo(image).pixels, self.detector, self.detection_side)
        return found

    def model(self) -> dict[str, Any]:
        """Version, family and lineage of the champion."""
        card = self.card
        return {
            "version": card.version,
            "family": card.family,
            "data_name": card.data_name,
            "data_digest": card.data_digest,
            "git_commit": card.git_commit,
            "synthetic": card.synthetic,
        }

    def _answer(self, named: list[dict[str, Any]]) -> dict[str, Any]:
        return {"status": "ok" if named else "no_face", "faces": named, "model": self.model()}

    def _named(self, found: Sequence[Sequence[faces.Face]]) -> list[list[dict[str, Any]]]:
        """The predictions for the faces of each photo."""
        pixels = [face.pixels for photo in found for face in photo]
        stacked = np.stack(pixels) if pixels else np.zeros((0, *faces.SHAPE), np.float32)
        seen = average(self.runtime.predict, stacked, self.card.test_time_augmentation)
        probabilities = apply_temperature(seen, self.card.temperature)
        if self.observe:
            self.observe(found, probabilities)
        rows = iter(probabilities)
        return [[self._face(face, next(rows)) for face in photo] for photo in found]

    def _face(self, face: faces.Face, probabilities: NDArray[np.float64]) -> dict[str, Any]:
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        points = face.landmarks
        return {
            "box": list(face.box),
            "emotion": EMOTIONS[best],
            "probabilities": {name: round(float(p), DIGITS) for name, p in zip(EMOTIONS, probabilities, strict=True)},
            "confidence": round(confidence, DIGITS),
            "status": status(face, confidence, self.card),
            "found_by": face.found_by,
            "detection": None if face.score is None else round(face.score, DIGITS),
            "landmarks": None if points is None else [[round(x, 1), round(y, 1)] for x, y in points],
        }


def _attempt(find: Callable[[Image], list[faces.Face]], image: Image) -> list[faces.Face] | MienError:
    try:
        return find(image)
    except MienError as error:
        return error


def _error(error: MienError) -> dict[str, Any]:
    return {"error": str(error)}


def _photo(image: Image, enough: int | None = None) -> photos.Photo:
    """The pixels of a photo; those of a large JPEG at less than its size where `enough` are requested."""
    if isinstance(image, np.ndarray):
        pixels = photos.from_array(image)
        return photos.Photo(pixels, (pixels.shape[1], pixels.shape[0]))
    if isinstance(image, bytes | bytearray | memoryview):
        return photos.read(bytes(image), enough)
    try:
        data = Path(image).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MienError(f"Cannot read the photo {image}: {reason}. Pass a file, its bytes, or an array.") from error
    try:
        return photos.read(data, enough)
    except MienError as error:
        raise type(error)(f"{image}: {error}") from error
