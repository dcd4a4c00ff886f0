"""What changed between two states of the raw rows: by the hashes of the images, not the positions of the rows."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mien.emotions import EMOTIONS, SPLITS

SHOWN = 20
"""Relabelled rows that are named one by one."""


class Row(NamedTuple):
    """One raw row: the SHA-256 of its image as it came, its label, its split, and where it came from."""

    sha256: str
    emotion: int
    split: str
    origin: str


Pair = tuple[Row, Row]
"""The same image before and after."""


@dataclass(frozen=True)
class Changes:
    """Every row of both states, once: `moved` images changed their split only, `relabelled` ones their emotion."""

    same: int = 0
    added: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()
    relabelled: tuple[Pair, ...] = ()
    moved: tuple[Pair, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.removed or self.relabelled or self.moved)

    def asdict(self) -> dict[str, Any]:
        """Counts as plain JSON, with the first relabelled rows by name."""
        renamed = Counter((old.split, old.emotion, new.emotion) for old, new in self.relabelled)
        moved = Counter((old.split, new.split, new.emotion) for old, new in self.moved)
        return {
            "same": self.same,
            "added": counts(self.added),
            "removed": counts(self.removed),
            "relabelled": [
                {"split": split, "from": EMOTIONS[old], "to": EMOTIONS[new], "rows": n}
                for (split, old, new), n in renamed.most_common()
            ],
            "moved": [
                {"from": old, "to": new, "emotion": EMOTIONS[emotion], "rows": n}
                for (old, new, emotion), n in moved.most_common()
            ],
            "relabelled_rows": [
                {"origin": new.origin, "from": EMOTIONS[old.emotion], "to": EMOTIONS[new.emotion]}
                for old, new in self.relabelled[:SHOWN]
            ],
        }


def compare(before: Iterable[Row], after: Iterable[Row]) -> Changes:
    """Pair the rows of the same image; what finds no partner was added or removed, one more copy of an image too."""
    old, new = _by_image(before), _by_image(after)
    same, added, removed = 0, list[Row](), list[Row]()
    relabelled, moved = list[Pair](), list[Pair]()
    for image in dict.fromkeys([*old, *new]):
        left, right = list(old.get(image, ())), list(new.get(image, ()))
        # The closest first: a row that did not change must not be taken for the partner of one that did.
        for far in range(4):
            for pair in _pairs(left, right, far):
                if far == 0:
                    same += 1
                elif pair[0].emotion == pair[1].emotion:
                    moved.append(pair)
                else:
                    relabelled.append(pair)
        removed += left
        added += right
    return Changes(same, tuple(added), tuple(removed), tuple(relabelled), tuple(moved))


def counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Rows of each emotion in each split; what has none is left out."""
    found = Counter((row.split, row.emotion) for row in rows)
    splits = {split: {e: found[split, i] for i, e in enumerate(EMOTIONS) if found[split, i]} for split in SPLITS}
    return {split: numbers for split, numbers in splits.items() if numbers}


def _by_image(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[row.sha256].append(row)
    return found


def _pairs(left: list[Row], right: list[Row], far: int) -> Iterable[Pair]:
    """Take those pairs out of both lists that differ by `far`: 1 for another label, 2 for another split."""
    for old in list(left):
        for new in right:
            if (old.emotion != new.emotion) + 2 * (old.split != new.split) == far:
                left.remove(old)
                right.remove(new)
                yield old, new
                break
