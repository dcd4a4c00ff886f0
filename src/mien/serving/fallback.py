"""A stand-in for what draws faces into photos; it goes when `drawing` is there."""

from collections.abc import Sequence
from typing import Any

from mien.serving.photos import Pixels


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
