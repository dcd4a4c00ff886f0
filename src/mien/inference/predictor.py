"""Photo in, emotions out, in this process: what the service and the command line both call."""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference import champion, detectors, faces, inputs, parallel, remote_photos
from mien.inference.calibration import apply_temperature
from mien.inference.inputs import PhotoLike
from mien.inference.predictions import Box, FacePrediction, ModelInfo, Prediction, warned
from mien.inference.runtime import Runtime
from mien.inference.status import status
from mien.inference.tta import average

Observe = Callable[[Sequence[Sequence[faces.Face]], NDArray[np.float64]], None]

DIGITS = 6
FINE = 48.0
"""A face with a smaller side, in the pixels of a JPEG read at less than its size, is cropped from the whole photo."""

DETECTION_SIDES = (160, 320, 640)
"""Longest sides of the image given to the detector; `python benchmarks/detection.py` prints recall and cost of each."""

TOGETHER = 8
"""Photos whose faces are classified in one go by `stream`: more is no faster, and keeps the first answer waiting."""


DRAWN = (
    "The champion in %s was trained on drawn faces (%s): its answers say nothing about real ones. Without that folder "
    "the model answers that comes with the package."
)


class Mien:
    """The champion, loaded; one instance may be shared by threads."""

    def __init__(
        self,
        champion_folder: str | Path | None = None,
        *,
        threads: int | None = None,
        detection_side: int = faces.DETECTION_SIDE,
        turned: bool = True,
    ) -> None:
        """Load a champion: from `champion_folder`, else where `champion.folder` finds one.

        It takes all cores, or `threads`: several processes on one machine wait less for each other with one each.
        `turned` also finds faces turned by 90 and 180 degrees, which costs photos without a sure face three more
        detections; videos, whose frames are upright, do without.
        Raises MienError where there is none, or a broken one, and for a `detection_side` that is not offered.
        """
        if detection_side not in DETECTION_SIDES:
            raise MienError(f"detection_side is {detection_side}, expected one of {DETECTION_SIDES}.")
        place = self._place = champion.folder(Path(champion_folder) if champion_folder else None)
        self.card = champion.read_card(place)
        if self.card.synthetic:
            logging.getLogger(__name__).warning(DRAWN, place, self.card.data_name)
        self.runtime = Runtime(place / champion.MODEL_FILE, threads=threads)
        # A detector named in the environment beats the one packed.
        name = "auto" if detectors.yunet_is_named() else self.card.detector
        self.detector = detectors.detector(name, place, threads=threads)
        self.detection_side, self.threads, self.turned = detection_side, threads, turned
        self._model = ModelInfo(**{f.name: getattr(self.card, f.name) for f in fields(ModelInfo)})
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

    @overload
    def predict(self, image: PhotoLike, /) -> Prediction: ...

    @overload
    def predict(self, image: list[Any] | tuple[Any, ...], /) -> list[Prediction]: ...

    def predict(self, image: Any, /) -> Prediction | list[Prediction]:
        """Every face in a photo, the largest first; for a list of photos, a list of these.

        A photo is a path, its bytes, an open file, a Pillow image, or an array (h, w), (h, w, 3) RGB or (h, w, 4) RGBA
        of uint8, or of floats in [0, 1] where none is above 1, else in [0, 255].

        Boxes and landmarks are in pixels of the upright photo; probabilities are calibrated; a photo without a face
        has the status `no_face`. Raises MienError for what is no photo; of several photos, one that cannot be read has
        the status `error` in its place.
        """
        if isinstance(image, list | tuple):
            return self._together(image)
        (answer,) = self._predictions([(inputs.name_of(image), self._seen(image))])
        return answer

    def predict_url(self, address: str, /) -> Prediction:
        """The same for a photo at an http or https address. Raises MienError where it cannot be had."""
        (answer,) = self._predictions([(address, self._find(remote_photos.download(address), address))])
        return answer

    def stream(
        self, images: Iterable[PhotoLike], /, *, workers: int | None = None
    ) -> Generator[Prediction, None, None]:
        """The same for any number of photos, in order, with all cores; one that cannot be read has the status `error`.

        Lazy: few photos are read before their answers are wanted, few are held, and the faces of TOGETHER are
        classified in one go. Each of the `workers`, as many as cores if None, has a copy of the model.
        """
        inputs.check_several(images)
        count = parallel.cores() if workers is None else workers
        if count < 1:
            raise MienError(f"workers is {count}, expected at least 1, or None for as many as cores.")
        groups = parallel.chunks(images, TOGETHER)
        first = next(groups, [])
        groups = chain([first] if first else [], groups)
        # For so few, a copy of the model would take longer to load than it saves.
        alone = count == 1 or len(first) < TOGETHER
        found = (
            map(self._together, groups) if alone else parallel.in_order(self._copies(), Mien._together, groups, count)
        )
        for answers in found:
            yield from answers

    def predict_batch(self, images: Iterable[PhotoLike]) -> list[dict[str, Any]]:
        """Dicts for many photos in their order; `{"error": message}` for one that cannot be read.

        Photos are held one at a time, and the faces of all are classified in one go.
        """
        return [answer.to_dict() for answer in self._together(images)]

    def classify(self, crops: Sequence[PhotoLike]) -> list[dict[str, Any]]:
        """One face's prediction for each picture that is a face from edge to edge; `{"error": message}` as above.

        A picture in which the detector finds no face that fills it has the status `low_confidence`.
        """
        found = [_attempt(self._whole, crop) for crop in crops]
        named = iter(self._named([seen.faces for seen in found if not isinstance(seen, MienError)]))
        return [
            {"error": str(seen)} if isinstance(seen, MienError) else next(named)[0].to_dict() | warned(seen.warning)
            for seen in found
        ]

    def _whole(self, crop: PhotoLike) -> "Seen":
        photo = inputs.decode(inputs.load(crop), inputs.name_of(crop))
        return Seen([faces.whole(photo.pixels, self.detector)], photo.warning)

    def find(self, image: PhotoLike) -> list[faces.Face]:
        """The faces in a photo, cropped to the model's input. Raises MienError for what is no photo."""
        return self._seen(image).faces

    def _seen(self, image: PhotoLike) -> "Seen":
        return self._find(inputs.load(image), inputs.name_of(image))

    def _find(self, loaded: inputs.Loaded, name: str) -> "Seen":
        photo = inputs.decode(loaded, name, 2 * self.detection_side)
        found = faces.find(photo.pixels, self.detector, self.detection_side, photo.size, turned=self.turned)
        if photo.scale < 1 and any(face.side * photo.scale < FINE for face in found):
            pixels = inputs.decode(loaded, name).pixels
            found = faces.find(pixels, self.detector, self.detection_side, turned=self.turned)
        return Seen(found, photo.warning)

    def model(self) -> dict[str, Any]:
        """Version, family and lineage of the champion."""
        return self._model.to_dict()

    def _copies(self) -> Callable[[], "Mien"]:
        """What gives each worker a predictor of the same champion with one thread: this one if it has, then copies."""
        spare = [self] if self.threads == 1 else []

        def copy() -> Mien:
            with suppress(IndexError):
                return spare.pop()
            twin = Mien(self._place, threads=1, detection_side=self.detection_side, turned=self.turned)
            twin.observe = self.observe
            return twin

        return copy

    def _together(self, images: Iterable[PhotoLike]) -> list[Prediction]:
        """The predictions for several photos, whose faces are classified in one go."""
        return self._predictions([(inputs.name_of(image), _attempt(self._seen, image)) for image in images])

    def _predictions(self, photos_: Sequence[tuple[str, "Seen | MienError"]]) -> list[Prediction]:
        """The predictions for photos by name, in which faces were found or which could not be read."""
        named = iter(self._named([seen.faces for _, seen in photos_ if not isinstance(seen, MienError)]))
        return [
            Prediction("error", (), self._model, name, str(seen))
            if isinstance(seen, MienError)
            else self._prediction(name, next(named), seen.warning)
            for name, seen in photos_
        ]

    def _prediction(self, name: str, found: tuple[FacePrediction, ...], warning: str) -> Prediction:
        return Prediction("ok" if found else "no_face", found, self._model, name, warning=warning)

    def _named(self, found: Sequence[Sequence[faces.Face]]) -> list[tuple[FacePrediction, ...]]:
        """The predictions for the faces of each photo."""
        pixels = [face.pixels for photo in found for face in photo]
        stacked = np.stack(pixels) if pixels else np.zeros((0, *faces.SHAPE), np.float32)
        seen = average(self.runtime.predict, stacked, self.card.test_time_augmentation)
        probabilities = apply_temperature(seen, self.card.temperature)
        if self.observe:
            self.observe(found, probabilities)
        rows = iter(probabilities)
        return [tuple(self._face(face, next(rows)) for face in photo) for photo in found]

    def _face(self, face: faces.Face, probabilities: NDArray[np.float64]) -> FacePrediction:
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        points = face.landmarks
        return FacePrediction(
            box=Box(*face.box),
            emotion=EMOTIONS[best],
            probabilities={name: round(float(p), DIGITS) for name, p in zip(EMOTIONS, probabilities, strict=True)},
            confidence=round(confidence, DIGITS),
            status=status(face, confidence, self.card),
            found_by=face.found_by,
            detection=None if face.score is None else round(face.score, DIGITS),
            landmarks=None if points is None else tuple((round(x, 1), round(y, 1)) for x, y in points),
        )


class Seen(NamedTuple):
    """The faces found in a photo, and what is missing of one that is cut off."""

    faces: list[faces.Face]
    warning: str


def _attempt(find: Callable[[PhotoLike], Seen], image: PhotoLike) -> Seen | MienError:
    try:
        return find(image)
    except MienError as error:
        return error
