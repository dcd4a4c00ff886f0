"""Measure the tables that expectations are checked on: one row per image, and one row per group of images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.quality import probe
from mien.data.quality.copies import Faces, Marks, known, mark_copies, mark_repeats, take_fingerprints
from mien.data.quality.profile import STATISTICS, Band, Profile, band
from mien.emotions import EMOTIONS, SPLITS

HELD_OUT = SPLITS[1:]
ADDED = "added"
"""The group of later rows whose batch is not known; the first batch's rows are grouped by split."""

ADDED_SLACK = 0.15
"""How much less accurate than on the first batch the probe may be on added faces, which come from elsewhere."""

FEWEST = 100
"""Fewest rows for which the probe's accuracy is judged."""

PROBED = 40_000
"""Most rows of a group that the probe is fitted to or judged by: they give its accuracy to a quarter of a point."""


@dataclass(frozen=True)
class Evidence:
    """Measurements of prepared data.

    `images` is the statistics table (rows of any status) with the columns group, later (is it in a later batch), leak,
    near, mirror (no, known or new), within (has it a near copy in its own split and batch), repeated (stands it, or a
    near copy, in an earlier batch), twin (origin of the copy), membership (official: in the profile's list of the
    official test split; foreign: not) and relabelled.
    `groups` has a row per split of the first batch and per later batch: rows, class_drift, accuracy and floor of the
    probe (NaN if not judged).
    `own_bands` are those of the first batch's training split.
    """

    images: pd.DataFrame
    groups: pd.DataFrame
    own_bands: Mapping[str, Band]


def collect(
    statistics: pd.DataFrame, splits: Mapping[str, Faces], profile: Profile, with_probe: bool = True
) -> Evidence:
    """Measure everything that the expectations check; a minute's work at most for 300,000 faces."""
    images = statistics.copy(deep=False)
    images["group"] = _groups(images, profile)
    images["later"] = ~images["group"].isin(SPLITS)
    codes, marks = take_fingerprints(splits), Marks(images)
    listed, relabelled, official = np.ones(len(images), bool), np.zeros(len(images), bool), ~images["later"].to_numpy()
    for name in HELD_OUT:
        found, rows = known(splits[name], codes[name], (profile.official_tests or {}).get(name)), splits[name].rows
        listed[rows] = found.listed | ~official[rows]
        relabelled[rows] = found.listed & ~found.agrees & official[rows]
        mark_copies(marks, name, splits, codes, found.defects)
    batch = images["batch"] if "batch" in images else images["group"].where(images["later"], "")
    mark_repeats(marks, images, splits, codes, pd.factorize(batch)[0])
    membership = pd.Categorical.from_codes(listed.astype(np.int8), pd.Index(["foreign", "official"]))
    images = images.assign(**marks.as_columns(), membership=membership, relabelled=relabelled)
    learnt = images[(images["group"] == "train") & (images["status"] != "excluded")]
    own_bands = {name: band(learnt[column], 0.3) for name, column in STATISTICS.items()} if len(learnt) else {}
    return Evidence(images, _measure_groups(images, splits, profile, with_probe), own_bands)


def _groups(images: pd.DataFrame, profile: Profile) -> "pd.Series[str]":
    """Name each row's split, or its batch if that is a later one; without batches, what exceeds the profile."""
    split = images["split"]
    official = {name: sum(counts.values()) for name, counts in (profile.counts or {}).items()}
    if "batch" in images:
        first, later = images["batch"] == images["batch"].iloc[0], images["batch"]
    else:
        first, later = images["row"] < sum(official.values()), pd.Series(ADDED, images.index)
        # Excess rows may also be copies among the official ones: then later rows cannot be identified.
        if not official or split[first].value_counts().to_dict() != official:
            return split
    return split.where(first, later) if (split[first] == "train").any() else split


def _measure_groups(
    images: pd.DataFrame, splits: Mapping[str, Faces], profile: Profile, with_probe: bool
) -> pd.DataFrame:
    group = images["group"].to_numpy()
    rows = np.concatenate([split.rows for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    later = np.unique(group[images["later"]]).tolist()
    measured = pd.DataFrame({"group": [name for name in SPLITS if (group == name).any()] + later})
    member = {name: group[rows] == name for name in measured["group"]}
    measured["rows"] = [int((group == name).sum()) for name in measured["group"]]
    shown = images["emotion"].to_numpy()[:, None] == np.arange(len(EMOTIONS))
    shares = {name: shown[group == name].sum(axis=0) for name in member}
    measured["class_drift"] = [_drift(shares["train"], shares[name]) for name in member]
    measured["accuracy"] = measured["floor"] = np.nan
    if with_probe and member["train"].sum() >= FEWEST:
        judged = _judge(splits, labels, {name: some(mask) for name, mask in member.items()}, profile)
        measured["accuracy"], measured["floor"] = zip(*(judged[name] for name in member), strict=True)
    return measured


def some(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At most `PROBED` of the rows in a mask, evenly spaced."""
    rows = np.flatnonzero(mask)
    if len(rows) > PROBED:
        mask = np.zeros_like(mask)
        mask[rows[np.linspace(0, len(rows) - 1, PROBED).astype(int)]] = True
    return mask


def _judge(
    splits: Mapping[str, Faces],
    labels: NDArray[np.int64],
    member: Mapping[str, NDArray[np.bool_]],
    profile: Profile,
) -> dict[str, tuple[float, float]]:
    """Accuracy and floor of each group, by a probe fitted to the first batch's training rows."""
    train = member["train"]
    fitted = probe.fit(np.concatenate([found for _, found in features_of(splits, train)]), labels[train])
    own = probe.recalls(labels[train], fitted.held_out)
    guessed = np.full(len(labels), -1)
    guessed[train] = fitted.held_out
    for rows, found in features_of(splits, np.any(list(member.values()), axis=0) & ~train):
        guessed[rows] = fitted.guess(found)
    judged = {}
    for name, mask in member.items():
        truth, guesses = labels[mask], guessed[mask]
        if name not in SPLITS:
            floor = probe.floor(truth, own, ADDED_SLACK)
        elif profile.recall:
            floor = probe.floor(truth, profile.recall, profile.slack)
        else:
            floor = probe.chance(truth, guesses)
        accuracy = float((truth == guesses).mean()) if len(truth) else np.nan
        judged[name] = (round(accuracy, 3), round(floor, 3)) if len(truth) >= FEWEST else (np.nan, np.nan)
    return judged


def features_of(
    splits: Mapping[str, Faces], chosen: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], probe.Features]]:
    """The places of the chosen rows, counted over all splits, and the probe's features of their faces, in parts."""
    start = 0
    for faces in (part for split in splits.values() for part in split.parts()):
        picked = np.flatnonzero(chosen[start : start + len(faces)])
        yield start + picked, probe.features(faces[picked, ..., 0])
        start += len(faces)


def _drift(train: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Measure the largest change of a class's share between train and another group, less three standard errors."""
    shares, others = train / train.sum(), other / other.sum()
    error = np.sqrt(shares * (1 - shares) * (1 / train.sum() + 1 / other.sum()))
    return round(float(max(0.0, (abs(others - shares) - 3 * error).max())), 4)
