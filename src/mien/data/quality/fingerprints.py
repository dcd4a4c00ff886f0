"""128-bit perceptual hashes of faces, robust to re-encoding, resizing and lighting, for finding near copies."""

from collections.abc import Iterator
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Two indices and the bits between their fingerprints."""

WINDOW = 64
"""Fingerprints with two parts in common that each one is compared with; in FER-2013 at most 18 have."""

INDEX_BITS = 32

SIDE = 8
RADIUS = 8
"""Most bits in which two pictures of one photo differ.

Measured on FER-2013: JPEG at quality 75 changes at most 8 bits of 128 in 99.7 % of the faces, a 5x5 blur in 98 %,
histogram equalisation in 95 %; pairs of unrelated faces begin at 13 to 16.
"""


def codes(images: NDArray[np.uint8]) -> Codes:
    """Take fingerprints `(n, 16)` of faces `(n, 48, 48)`: which cells of a coarse grid are brighter than the next."""
    across = _shrink(images, SIDE + 1, SIDE)
    down = _shrink(images, SIDE, SIDE + 1)
    bits = [across[:, :, 1:] > across[:, :, :-1], down[:, 1:] > down[:, :-1]]
    return np.packbits(np.concatenate([b.reshape(len(images), SIDE * SIDE) for b in bits], axis=1), axis=1)


def nearest(faces: Codes, others: Codes, radius: int = RADIUS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of every fingerprint's nearest in `others`, and the bits between them; -1 and 128 beyond `radius`."""
    best = np.full(len(faces), (128 << INDEX_BITS) + (1 << INDEX_BITS) - 1, np.int64)
    for left, right, bits in near(faces, others, radius):
        # Of equally near ones the first.
        np.minimum.at(best, left, (bits << INDEX_BITS) + right)
    index, bits = best & ((1 << INDEX_BITS) - 1), best >> INDEX_BITS
    return np.where(bits > radius, -1, index), bits


def near(faces: Codes, others: Codes, radius: int = RADIUS) -> Iterator[Pairs]:
    """Every pair of a fingerprint and one in `others` at most `radius` bits apart, in parts that bound memory."""
    for left, right, bits in near_pairs(np.concatenate([faces, others]), radius, len(faces)):
        yield left, right - len(faces), bits


def near_pairs(faces: Codes, radius: int = RADIUS, first: int = 0) -> Iterator[Pairs]:
    """Every pair of fingerprints at most `radius` bits apart, the earlier one left, in parts that bound memory.

    With `first`, only pairs of one of the first `first` with one of the others.

    Of radius + 2 parts of the bits, two such fingerprints have two parts wholly in common. So only fingerprints that
    share two parts are compared: of unrelated faces 3 pairs in a million, which at 3 million faces are still few. Among
    more than `WINDOW` that share them, each is compared with the next `WINDOW` only: time stays linear where thousands
    of images are nearly the same.
    """
    words, parts = np.ascontiguousarray(faces).view(np.uint64), _parts(faces, radius + 2)
    for one, two in combinations(range(radius + 2), 2):
        key = (parts[one].astype(np.uint64) << np.uint64(16)) | parts[two]
        keyed = np.sort((key << np.uint64(INDEX_BITS)) | np.arange(len(faces), dtype=np.uint64))
        key, row = keyed >> np.uint64(INDEX_BITS), (keyed & np.uint64((1 << INDEX_BITS) - 1)).astype(np.int64)
        place = np.flatnonzero(key[1:] == key[:-1])
        for step in range(1, WINDOW + 1):
            left, right = row[place], row[place + step]
            if first:
                across = (left < first) & (right >= first)
                left, right = left[across], right[across]
            bits = np.bitwise_count(words[left] ^ words[right]).sum(axis=1, dtype=np.int64)
            close = bits <= radius
            # Pairs that share more than two parts are met again: only the first two count.
            close[close] = np.sum([parts[n][left[close]] == parts[n][right[close]] for n in range(two)], axis=0) == 1
            yield left[close], right[close], bits[close]
            place = place[place + step + 1 < len(key)]
            place = place[key[place] == key[place + step + 1]]
            if not len(place):
                break


def _parts(faces: Codes, number: int) -> list[NDArray[np.uint16]]:
    """Every fingerprint's bits in `number` parts, each of bits from all over the face: neighbours are alike."""
    bits = np.unpackbits(faces, axis=1)
    packed = [np.packbits(bits[:, start::number], axis=1) for start in range(number)]
    return [np.ascontiguousarray(part).view(np.uint16).ravel() for part in packed]


def _shrink(images: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    small = np.empty((len(images), height, width), np.float32)
    for i, image in enumerate(images):
        small[i] = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return small
