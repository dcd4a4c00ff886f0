"""From the bytes that a client sent to what the service says, without anything of HTTP but the status."""

import base64
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference import champion, drawing, faces, photos, saliency
from mien.inference.calibration import apply_temperature
from mien.inference.photos import Pixels
from mien.inference.predictions import warned
from mien.inference.predictor import Mien
from mien.inference.tta import average
from mien.serving import timings
from mien.serving.limits import Limits
from mien.serving.prometheus import Telemetry
from mien.serving.requests import RefusedError, refusal

TOGETHER = 8
"""Photos of a batch that are answered together: more would hold more decoded photos and speed nothing up."""

DIGITS = 4


class PhotoService:
    """What one loaded champion answers; every call raises RefusedError for what it cannot use."""

    def __init__(self, mien: Mien, limits: Limits, telemetry: Telemetry) -> None:
        self.mien = mien
        self.limits = limits
        self.telemetry = telemetry
        self._runtime = mien.runtime.predict  # the many faces of an explanation would hide what a photo's cost
        telemetry.watch(mien)

    def predict(self, image: bytes | Pixels) -> dict[str, Any]:
        """The faces of one photo."""
        try:
            answer = self.mien.predict(image).to_dict()
        except MienError as error:
            raise refusal(error) from error
        self.telemetry.record(answer["faces"])
        return answer

    def predict_batch(
        self, images: Sequence[bytes | RefusedError], clock: Callable[[], float] = time.monotonic
    ) -> dict[str, Any]:
        """The faces of each photo, or an error in its place."""
        end = clock() + self.limits.batch_seconds
        late = {"error": f"The photos before took {self.limits.batch_seconds} seconds. Send fewer at a time."}
        answers: list[dict[str, Any]] = []
        for start in range(0, len(images), TOGETHER):
            some = images[start : start + TOGETHER]
            answers += self._some(some) if clock() < end else [late] * len(some)
        return {"photos": answers, "model": self.mien.model()}

    def _some(self, images: Sequence[bytes | RefusedError]) -> list[dict[str, Any]]:
        read = iter(self.mien.predict_batch([image for image in images if isinstance(image, bytes)]))
        answers: list[dict[str, Any]] = [
            {"error": str(image)} if isinstance(image, RefusedError) else next(read) for image in images
        ]
        for answer in answers:
            answer.pop("model", None)  # the same for all, and said once
            if "error" not in answer:
                self.telemetry.record(answer["faces"])
        return answers

    def classify(self, images: Sequence[bytes | RefusedError]) -> dict[str, Any]:
        """The emotion of each picture of one whole face, or an error in its place."""
        named = iter(self.mien.classify([image for image in images if isinstance(image, bytes)]))
        answers = [{"error": str(image)} if isinstance(image, RefusedError) else next(named) for image in images]
        return {"faces": answers, "model": self.mien.model()}

    def annotate(self, image: bytes, accept: str) -> tuple[bytes, str]:
        """The photo with its faces drawn into it, and its media type: JPEG, or PNG where that alone is wanted."""
        pixels = _read(image).pixels
        drawn = Image.fromarray(drawing.annotate(pixels, self.predict(pixels)["faces"]))
        as_png = "image/png" in accept and "image/jpeg" not in accept
        kind, options = ("PNG", {"compress_level": 1}) if as_png else ("JPEG", {"quality": 90})
        return _encode(drawn, kind, **options), f"image/{kind.lower()}"

    def explain(self, image: bytes) -> dict[str, Any]:
        """The largest faces of a photo, each with what its answer depends on."""
        photo = _read(image)
        answer = self.predict(photo.pixels) | warned(photo.warning)
        most = self.limits.explained_faces
        crops = [face.pixels for face in self.mien.find(photo.pixels)[:most]]
        result = answer["faces"][:most]
        named = np.array([EMOTIONS.index(face["emotion"]) for face in result], dtype=np.int64)
        stacked = np.asarray(crops, dtype=np.float32).reshape(-1, *faces.SHAPE)
        with timings.timed("saliency"):
            maps = saliency.saliency(stacked, named, self._probabilities)
        explained = [face | _explained(crop, map_) for face, crop, map_ in zip(result, crops, maps, strict=True)]
        return answer | {
            "faces": explained,
            "unexplained": len(answer["faces"]) - len(explained),
            "note": saliency.NOTE,
        }

    def info(self) -> dict[str, Any]:
        """The card of the model, and what serves it."""
        card = self.mien.card
        return {
            "model": self.mien.model(),
            "emotions": list(EMOTIONS),
            "temperature": card.temperature,
            "tta": card.tta,
            "crops": list(card.crops),
            **{name: getattr(card, name) for name in champion.LIMITS},
            "metrics": dict(card.metrics),
            "runtime": {"backend": self.mien.runtime.backend, "precision": self.mien.runtime.precision},
            "detector": {"name": self.mien.detector.name},
            "limits": vars(self.limits) | {"photo_pixels": photos.MAX_PIXELS},
        }

    def _probabilities(self, crops: NDArray[np.float32]) -> NDArray[np.float64]:
        card = self.mien.card
        return apply_temperature(average(self._runtime, crops, card.test_time_augmentation), card.temperature)


def _explained(crop: NDArray[np.float32], found: saliency.Saliency) -> dict[str, Any]:
    png = _encode(Image.fromarray(crop[:, :, 0].astype(np.uint8)), "PNG")
    hidden = {"before": found.before, "without_salient": found.without_salient, "without_others": found.without_others}
    return {
        "saliency": [[round(float(value), 3) for value in row] for row in found.map],
        "seen": "data:image/png;base64," + base64.b64encode(png).decode(),
        "hidden": {name: round(value, DIGITS) for name, value in hidden.items()},
    }


def _read(image: bytes) -> photos.Photo:
    try:
        return photos.read(image)
    except MienError as error:
        raise refusal(error) from error


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()
