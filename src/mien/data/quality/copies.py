"""Find exact, near and mirrored copies of images within splits, between splits and between batches."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.quality import fingerprints
from mien.data.quality.profile import Roll

LEAK, NEAR, MIRROR = 1, 2, 4
"""Bits of `Roll.known`."""

NO, KNOWN, NEW = range(3)
MARKS = pd.Index(["no", "known", "new"])


class Faces(Protocol):
    """A split in memory or on disk: labels `(n,)`, raw row numbers `(n,)`, and the faces `(m, 48, 48, 1)` in parts."""

    @property
    def labels(self) -> NDArray[np.int64]: ...  # noqa: D102

    @property
    def rows(self) -> NDArray[np.int64]: ...  # noqa: D102

    def parts(self) -> Iterator[NDArray[np.uint8]]: ...  # noqa: D102


Codes = Mapping[str, fingerprints.Codes]
"""Fingerprints of each split, and as `mirrored` those of the mirrored training faces."""


class Marks:
    """What was found of every raw row: its number in `columns`, and the row that it is a copy of in `twin`."""

    def __init__(self, images: pd.DataFrame) -> None:
        self.origin, self.columns = images["origin"], dict[str, NDArray[np.int8]]()
        for name in ("leak", "near", "mirror", "within", "repeated"):
            self.columns[name] = np.full(len(images), NO, np.int8)
        self.twin = np.full(len(images), -1)
        self.photo = pd.factorize(images["pixels"])[0]
        """A number for each different image."""

    def as_columns(self) -> dict[str, Any]:
        """Columns of a table, by name; `twin` is the origin of the copy."""
        twin = np.full(len(self.twin), "", object)
        twin[self.twin >= 0] = self.origin.to_numpy()[self.twin[self.twin >= 0]]
        marks = {name: pd.Categorical.from_codes(values, MARKS) for name, values in self.columns.items()}
        return {**marks, "twin": pd.Series(twin, dtype=self.origin.dtype)}


def take_fingerprints(splits: Mapping[str, Faces]) -> Codes:
    """Take the fingerprints of all faces."""
    codes = {name: [np.empty((0, 16), np.uint8)] for name in (*splits, "mirrored")}
    for name, split in splits.items():
        for faces in split.parts():
            codes[name].append(fingerprints.codes(faces[..., 0]))
            if name == "train":
                codes["mirrored"].append(fingerprints.codes(np.ascontiguousarray(faces[:, :, ::-1, 0])))
    return {name: np.concatenate(parts) for name, parts in codes.items()}


class Known(NamedTuple):
    """Of each test row: is it on the official list, under the same label, and its known defects (bits)."""

    listed: NDArray[np.bool_]
    agrees: NDArray[np.bool_]
    defects: NDArray[np.int64]


def known(split: Faces, codes: fingerprints.Codes, roll: Roll | None) -> Known:
    """What the official list says of the rows of a test split; without a list all of them are listed."""
    size = len(split.rows)
    found = Known(np.full(size, roll is None), np.full(size, roll is None), np.zeros(size, np.int64))
    if roll is None:
        return found
    for row, member, _ in fingerprints.near(codes, roll.codes):
        found.listed[row] = True
        found.agrees[row[split.labels[row] == roll.labels[member]]] = True
        np.bitwise_or.at(found.defects, row, roll.known[member])
    return found


def mark_copies(marks: Marks, name: str, splits: Mapping[str, Faces], codes: Codes, defects: NDArray[np.int64]) -> None:
    """Mark the rows of the test split `name` whose exact, near or mirrored copy stands in train."""
    rows, train, photo = splits[name].rows, splits["train"].rows, marks.photo
    holder = np.full(photo.max(initial=-1) + 1, -1)
    holder[photo[train]] = train
    exact = holder[photo[rows]] >= 0
    near, near_bits = fingerprints.nearest(codes[name], codes["train"])
    mirror, mirror_bits = fingerprints.nearest(codes[name], codes["mirrored"])
    close, turned = ~exact & (near_bits <= fingerprints.RADIUS), mirror_bits <= fingerprints.RADIUS
    for column, found, bit in (("leak", exact, LEAK), ("near", close, NEAR), ("mirror", turned, MIRROR)):
        marks.columns[column][rows[found]] = np.where(defects[found] & bit, KNOWN, NEW)
    marks.twin[rows[turned]] = train[mirror[turned]]
    marks.twin[rows[close]] = train[near[close]]
    marks.twin[rows[exact]] = holder[photo[rows[exact]]]


def mark_repeats(
    marks: Marks, images: pd.DataFrame, splits: Mapping[str, Faces], codes: Codes, batch: NDArray[np.int64]
) -> None:
    """Mark near copies within a split of one batch, and rows whose image or a near copy stands in an earlier batch.

    `batch` has the batch's number of every row.
    """
    photo, split = marks.photo, pd.factorize(images["split"])[0]
    rows = np.concatenate([faces.rows for faces in splits.values()])
    # Images of one colour, and those of missing photos, are near copies of each other; they have checks of their own.
    sound = ~(images["flat"] | images["placeholder"]).to_numpy()[rows]
    rows, latest = rows[sound], np.full(len(images), -1)
    for left, right, _ in fingerprints.near_pairs(np.concatenate([codes[name] for name in splits])[sound]):
        old, young = np.sort([rows[left], rows[right]], axis=0)
        again = batch[old] < batch[young]
        np.maximum.at(latest, young[again], old[again])
        beside = (batch[old] == batch[young]) & (split[old] == split[young]) & (photo[old] != photo[young])
        marks.columns["within"][old[beside]] = marks.columns["within"][young[beside]] = NEW
    first = np.unique(photo, return_index=True)[1][photo]
    exact = batch[first] < batch
    marks.twin[latest >= 0] = latest[latest >= 0]
    marks.twin[exact] = first[exact]
    marks.columns["repeated"][(latest >= 0) | exact] = NEW
