"""Seeded splits that keep class shares and never part a group."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mien.emotions import SPLITS

SHARE = 0.1
"""Share of the images that goes to a drawn validation or test split."""

PERSON = re.compile(r"(s\d{1,3})_", re.IGNORECASE)
"""CK+ (`S010_004_…`) and eNTERFACE (`s12_an_3…`) start a file name with the person."""

FEWEST_PEOPLE = 10
"""With fewer people, whole people cannot fill three splits."""


def complete(
    given: Sequence[str | None], labels: Sequence[int], copies: Sequence[str], stems: Sequence[str], seed: int
) -> tuple[list[str], list[str]]:
    """Draw the splits that `given` lacks, from train or from all where none is given; returns splits and a note.

    `copies` names each file's group of exact copies. Where every file's stem begins with a person, people are kept
    apart instead, as frames of one person are nearly copies.
    """
    splits = [split or "train" for split in given]
    lack = [split for split in SPLITS if split not in given and split != "train"]
    if not lack:
        return splits, []
    free = [row for row, split in enumerate(splits) if split == "train"]
    people = [match[1].lower() for row in free if (match := PERSON.match(stems[row]))]
    apart = len(people) == len(free) and len(set(people)) >= FEWEST_PEOPLE
    groups = people if apart else [copies[row] for row in free]
    shares = {"train": 1 - SHARE * len(lack), **dict.fromkeys(lack, SHARE)}
    for row, split in zip(free, stratify([labels[row] for row in free], groups, shares, seed), strict=True):
        splits[row] = split
    note = f"Drew {SHARE:.0%} of {'train' if 'train' in given else 'all images'} by class for {' and for '.join(lack)}"
    return splits, [f"{note} (seed {seed}{f', keeping {len(set(people))} people apart' if apart else ''})."]


def stratify(labels: Sequence[int], groups: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """Give every row a split: each class is divided by `shares` (which sum to 1), rows of one group together."""
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    names, rows = list(shares), list(members.values())
    classes = np.zeros((len(rows), max(labels) + 1), np.int64)
    of_group = np.repeat(np.arange(len(rows)), [len(group) for group in rows])
    of_label = np.array([labels[row] for group in rows for row in group])
    np.add.at(classes, (of_group, of_label), 1)
    missing = np.outer(list(shares.values()), classes.sum(axis=0))
    splits = [""] * len(labels)
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    # Large groups first: small ones then even out what they left uneven.
    for group in shuffled[np.argsort([-len(rows[group]) for group in shuffled], kind="stable")]:
        chosen = int(np.argmax(missing @ classes[group]))
        missing[chosen] -= classes[group]
        for row in rows[group]:
            splits[row] = names[chosen]
    return splits
