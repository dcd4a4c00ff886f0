"""Stand-ins for what the core is about to offer itself; each goes when the core has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.serving.photos import Pixels
from mien.serving.predict import Mien


def predict(mien: Mien, image: bytes | Pixels) -> dict[str, Any]:
    """`Mien.predict` with the photo's status."""
    answer = mien.predict(image)
    return {"status": "ok" if answer["faces"] else "no_face"} | answer


def predict_batch(mien: Mien, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """`Mien.predict_batch`."""
    if hasattr(mien, "predict_batch"):
        return list(mien.predict_batch(images))
    answers: list[dict[str, Any]] = []
    for image in images:
        try:
            answers.append(predict(mien, image))
        except MienError as error:
            answers.append({"error": str(error)})
    return answers


def classify(mien: Mien, crops: Sequence[Pixels]) -> list[dict[str, Any]]:
    """`Mien.classify`."""
    if hasattr(mien, "classify"):
        return list(mien.classify(crops))
    import cv2

    from mien.metrics import apply_temperature

    grays = [
        cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (48, 48), interpolation=cv2.INTER_AREA) for crop in crops
    ]
    faces = np.asarray(grays, dtype=np.float32).reshape(-1, 48, 48, 1)
    rows = apply_temperature(mien.runtime.predict(faces), mien.card.temperature)
    return [
        {
            "emotion": EMOTIONS[int(row.argmax())],
            "probabilities": {name: round(float(p), 6) for name, p in zip(EMOTIONS, row, strict=True)},
            "confidence": round(float(row.max()), 6),
            "status": "ok" if row.max() >= mien.card.uncertain_below else "uncertain",
        }
        for row in rows
    ]


def annotate(pixels: Pixels, faces: Sequence[dict[str, Any]]) -> Pixels:
    """`drawing.annotate`."""
    try:
        from mien.serving import drawing  # type: ignore[attr-defined]

        return drawing.annotate(pixels, faces)
    except ImportError:
        import cv2

        drawn = pixels.copy()
        for face in faces:
            x, y, width, height = face["box"]
            cv2.rectangle(drawn, (x, y), (x + width, y + height), (255, 255, 255), 2)
        return drawn
