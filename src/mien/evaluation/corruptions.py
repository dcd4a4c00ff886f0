"""Image corruptions of faces at three severities each, to measure a model's robustness."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE
from mien.errors import MienError

Face = NDArray[np.uint8]
Faces = NDArray[np.uint8]

CAMERAS = ("blur", "noise", "jpeg", "darkness")
"""What a lens, a sensor, a file and a dark room do."""

SEVERITIES = ("mild", "medium", "strong")


@dataclass(frozen=True)
class Corruption:
    """One corruption: its function of a face `(48, 48)` and a level, its three levels, and the text of a level."""

    apply: Callable[[Face, float, np.random.Generator], NDArray[np.generic]]
    levels: tuple[float, float, float]
    unit: str

    def level_text(self, severity: int) -> str:
        """The level of a severity (0 to 2), in words."""
        return self.unit.format(self.levels[severity])


def corrupt(faces: Faces, name: str, severity: int, seed: int) -> Faces:
    """Faces `(n, 48, 48, 1)` uint8, each corrupted with its own random draw; `severity` is 0 to 2.

    The same faces, name, severity and seed give the same result. Raises MienError for an unknown name or severity.
    """
    if name not in CORRUPTIONS or severity not in range(len(SEVERITIES)):
        raise MienError(
            f"There is no corruption {name!r} of severity {severity}: expected one of {', '.join(CORRUPTIONS)}, 0 to 2."
        )
    kind = CORRUPTIONS[name]
    random = np.random.default_rng((seed, list(CORRUPTIONS).index(name), severity))
    damaged = np.empty_like(faces)
    for face, result in zip(faces[..., 0], damaged[..., 0], strict=True):
        # Rounded, because a photo holds whole grays: a dark one has fewer of them left.
        result[:] = np.clip(np.rint(kind.apply(face, kind.levels[severity], random)), 0, 255)
    return damaged


def by_cameras(faces: Faces, seed: int) -> Faces:
    """Each face once, damaged as poor cameras do: CAMERAS, mild and medium, in turn over the faces."""
    damaged = faces.copy()
    kinds = [(name, severity) for severity in range(2) for name in CAMERAS]
    for turn, (name, severity) in enumerate(kinds):
        damaged[turn :: len(kinds)] = corrupt(faces[turn :: len(kinds)], name, severity, seed)
    return damaged


def _blur(face: Face, sigma: float, _: np.random.Generator) -> NDArray[np.generic]:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma))


def _noise(face: Face, spread: float, random: np.random.Generator) -> NDArray[np.generic]:
    return face + random.normal(0, spread, face.shape)


def _jpeg(face: Face, quality: float, _: np.random.Generator) -> NDArray[np.generic]:
    data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def _darkness(face: Face, share: float, _: np.random.Generator) -> NDArray[np.generic]:
    return face * share


def _occlusion(face: Face, side: float, random: np.random.Generator) -> NDArray[np.generic]:
    """A square of the face's mean gray, wholly inside the face."""
    top, left = random.integers(0, FACE_SIZE - int(side) + 1, 2)
    hidden = face.astype(np.float64)
    hidden[top : top + int(side), left : left + int(side)] = face.mean()
    return hidden


def _rotation(face: Face, degrees: float, random: np.random.Generator) -> NDArray[np.generic]:
    return _warped(face, degrees * _sign(random), 1.0)


def _scale(face: Face, factor: float, random: np.random.Generator) -> NDArray[np.generic]:
    return _warped(face, 0.0, factor ** _sign(random))


def _warped(face: Face, degrees: float, factor: float) -> NDArray[np.generic]:
    """Turned and scaled about the centre; what comes in from outside repeats the edge."""
    centre = (FACE_SIZE - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), degrees, factor)
    return np.asarray(cv2.warpAffine(face, matrix, (FACE_SIZE, FACE_SIZE), borderMode=cv2.BORDER_REPLICATE))


def _sign(random: np.random.Generator) -> int:
    return 1 if random.random() < 1 / 2 else -1


CORRUPTIONS: Mapping[str, Corruption] = {
    "blur": Corruption(_blur, (0.75, 1.25, 2.0), "σ {:g} px"),
    "noise": Corruption(_noise, (8, 16, 32), "σ {:g} grays"),
    "jpeg": Corruption(_jpeg, (40, 20, 8), "quality {:g}"),
    "darkness": Corruption(_darkness, (0.6, 0.35, 0.15), "{:.0%} light"),
    "occlusion": Corruption(_occlusion, (12, 18, 24), "{0:g} × {0:g} px"),
    "rotation": Corruption(_rotation, (10, 20, 40), "± {:g}°"),
    "scale": Corruption(_scale, (1.1, 1.25, 1.5), "× or ÷ {:g}"),
}
"""Levels are of a face of 48 pixels; a turn or a scale goes either way by chance."""
