"""Test-time augmentation (TTA): probabilities averaged over the mirror image, crops or other sizes of a face."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import FACE_SIZE
from mien.errors import MienError
from mien.inference.runtime import CHUNK

Floats = NDArray[np.float32]
Predict = Callable[[Floats], NDArray[np.floating]]
TtaName = Literal["none", "flip", "ten_crop", "multi_scale"]

SIDES: Mapping[str, tuple[int, int]] = {"ten_crop": (1, FACE_SIZE), "multi_scale": (1, 2 * FACE_SIZE)}
"""Smallest and largest side of the crops of each TTA that has any; the others take the whole face."""


@dataclass(frozen=True)
class Tta:
    """One kind of TTA: none, the mirror image too, or squares of each side in `crops`, scaled back to 48 px.

    ten_crop takes the corners, the middle and their mirror images; multi_scale the middle and its mirror image, where a
    side above 48 shows the face smaller, its edges drawn on.
    """

    tta: TtaName = "none"
    crops: tuple[int, ...] = (FACE_SIZE,)

    def __post_init__(self) -> None:
        """Refuse unknown names and crops out of range. Raises MienError."""
        if self.tta not in get_args(TtaName):
            raise MienError(
                f"The test-time augmentation is {self.tta!r}, expected one of {', '.join(get_args(TtaName))}."
            )
        smallest, largest = SIDES.get(self.tta, (FACE_SIZE, FACE_SIZE))
        if not self.crops or not all(smallest <= crop <= largest for crop in self.crops):
            wanted = f"one or more sides of {smallest} to {largest} pixels"
            raise MienError(f"The crops of {self.tta} are {list(self.crops)}, expected {wanted}.")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Tta":
        """The TTA in the fields `tta` and `crops` of a card or of a version's tags; NO_TTA where they are missing.

        Tags hold text: sides with commas between them. Raises MienError.
        """
        tta, crops = facts.get("tta", "none"), facts.get("crops", (FACE_SIZE,))
        try:
            sides = tuple(int(crop) for crop in (crops.split(",") if isinstance(crops, str) else crops))
        except (TypeError, ValueError):
            raise MienError(f"The crops of {tta} are {crops!r}, expected sides in pixels, such as 44,48,52.") from None
        return cls(tta, sides)

    def __str__(self) -> str:
        """The number and kind of passes, in words."""
        sides = ", ".join(map(str, self.crops))
        return {
            "none": "once",
            "flip": "twice, also in the mirror",
            "ten_crop": f"{self.passes} times, in crops of {sides} pixels and in the mirror",
            "multi_scale": f"{self.passes} times, at sizes of {sides} pixels and in the mirror",
        }[self.tta]

    def as_report(self) -> dict[str, Any]:
        """For reports: the name, the sides, the cost and the words."""
        return {"tta": self.tta, "crops": list(self.crops), "passes": self.passes, "description": str(self)}

    @property
    def passes(self) -> int:
        """Forward passes per face."""
        return len(self._places()) * (1 if self.tta == "none" else 2)

    def augmented(self, faces: Floats) -> Iterator[Floats]:
        """The faces `(n, 48, 48, 1)` once for each pass, in the same shape."""
        for top, left, side in self._places():
            seen = _crop(faces, top, left, side)
            yield seen
            if self.tta != "none":
                yield mirrored(seen)

    def _places(self) -> list[tuple[int, int, int]]:
        """Top, left and side of each crop, without those that are the same: the whole face has one place, not five."""
        places = _corners if self.tta == "ten_crop" else _middle
        return list(dict.fromkeys(place for crop in self.crops for place in places(crop)))


NO_TTA = Tta()


def average(predict: Predict, faces: Floats, tta: Tta = NO_TTA) -> Floats:
    """The mean of the probabilities `(n, 7)` that `predict` gives to the faces `(n, 48, 48, 1)`, pass by pass."""
    if tta == NO_TTA or not len(faces):
        return np.asarray(predict(faces), np.float32)
    # One face's passes cost less in one go; those of a whole split would fill the memory.
    few = max(1, CHUNK // tta.passes)
    parts = [faces[start : start + few] for start in range(0, len(faces), few)]
    return np.concatenate([_mean(predict(np.concatenate(list(tta.augmented(part)))), tta) for part in parts])


def _mean(answers: NDArray[np.floating], tta: Tta) -> Floats:
    """The mean over passes that were predicted together, pass by pass."""
    by_pass = answers.reshape(tta.passes, len(answers) // tta.passes, answers.shape[1])
    return np.asarray(by_pass.mean(axis=0, dtype=np.float64), np.float32)


def mirrored(faces: Floats) -> Floats:
    """The faces' mirror images."""
    return np.ascontiguousarray(faces[:, :, ::-1])


def _corners(crop: int) -> Iterator[tuple[int, int, int]]:
    """Top, left and side of the four corner crops and the central one (Krizhevsky et al. 2012)."""
    rest = FACE_SIZE - crop
    for top, left in ((0, 0), (0, rest), (rest, 0), (rest, rest)):
        yield top, left, crop
    yield from _middle(crop)


def _middle(crop: int) -> Iterator[tuple[int, int, int]]:
    """Top, left and side of the central square; both are negative where it reaches beyond the face."""
    rest = FACE_SIZE - crop
    yield rest // 2, rest // 2, crop


def _crop(faces: Floats, top: int, left: int, crop: int) -> Floats:
    """A square of each face, scaled to the face's size."""
    if crop == FACE_SIZE:
        return faces
    before, after = max(0, -top), max(0, top + crop - FACE_SIZE)
    if before or after:
        margin = (before, after)
        faces = np.pad(faces, ((0, 0), margin, margin, (0, 0)), mode="edge")
        top, left = top + before, left + before
    parts = faces[:, top : top + crop, left : left + crop, 0]
    scaled = [cv2.resize(part, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR) for part in parts]
    return np.stack(scaled)[..., None]
