"""Measure the tables that expectations are checked on: one row per image, and one row per group of images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.quality import fingerprints, probe
from mien.data.quality.profile import STATISTICS, Band, Profile, Roll, band
from mien.emotions import EMOTIONS, SPLITS

HELD_OUT = SPLITS[1:]
ADDED = "added"
"""The group of later rows whose batch is not known; the first batch's rows are grouped by split."""

LEAK, NEAR, MIRROR = 1, 2, 4
"""Bits of `Roll.known`."""

ADDED_SLACK = 0.15
"""How much less accurate than on the first batch the probe may be on added faces, which come from elsewhere."""

FEWEST = 100
"""Fewest rows for which the probe's accuracy is judged."""


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
    statistics: pd.DataFrame, splits: Mapping[str, Split], profile: Profile, with_probe: bool = True
) -> Evidence:
    """Measure everything that the expectations check; a minute's work at most for 100,000 faces."""
    images = statistics.copy()
    images["group"] = _groups(images, profile)
    images["later"] = ~images["group"].isin(SPLITS)
    codes = {name: fingerprints.codes(split.images[..., 0]) for name, split in splits.items()}
    images = images.assign(
        leak="no", near="no", mirror="no", within="no", repeated="no", twin="", membership="official", relabelled=False
    )
    mirrored = fingerprints.codes(np.ascontiguousarray(splits["train"].images[:, :, ::-1, 0]))
    for name in HELD_OUT:
        known = _known(images, splits[name], codes[name], (profile.official_tests or {}).get(name))
        _mark_copies(images, splits[name], splits["train"], known, codes[name], codes["train"], mirrored)
    mark_repeats(images, splits, codes)
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


def _known(images: pd.DataFrame, split: Split, codes: fingerprints.Codes, roll: Roll | None) -> NDArray[np.int64]:
    """Known defects (bits) of each test row; marks rows that the official list lacks or has under another label."""
    known = np.zeros(len(split), np.int64)
    if roll is None:
        return known
    listed, agrees = np.zeros(len(split), bool), np.zeros(len(split), bool)
    for i, members in enumerate(fingerprints.within(codes, roll.codes)):
        listed[i], agrees[i] = len(members) > 0, split.labels[i] in roll.labels[members]
        known[i] = np.bitwise_or.reduce(roll.known[members])
    official = ~images["later"].to_numpy()[split.rows]
    images.loc[split.rows[official & ~listed], "membership"] = "foreign"
    images.loc[split.rows[official & listed & ~agrees], "relabelled"] = True
    return known


def _mark_copies(
    images: pd.DataFrame,
    split: Split,
    train: Split,
    known: NDArray[np.int64],
    codes: fingerprints.Codes,
    train_codes: fingerprints.Codes,
    mirrored: fingerprints.Codes,
) -> None:
    """Mark the rows of a test split whose exact, near or mirrored copy stands in `train`."""
    origin, pixels = images["origin"].to_numpy(), images["pixels"].to_numpy()
    holders = dict(zip(pixels[train.rows], origin[train.rows], strict=True))
    exact = np.array([pixels[row] in holders for row in split.rows], bool)
    near, near_bits = fingerprints.nearest(codes, train_codes)
    mirror, mirror_bits = fingerprints.nearest(codes, mirrored)
    close, turned = ~exact & (near_bits <= fingerprints.RADIUS), mirror_bits <= fingerprints.RADIUS
    for column, found, bit in (("leak", exact, LEAK), ("near", close, NEAR), ("mirror", turned, MIRROR)):
        images.loc[split.rows[found], column] = np.where(known[found] & bit, "known", "new")
    images.loc[split.rows[turned], "twin"] = origin[train.rows[mirror[turned]]]
    images.loc[split.rows[close], "twin"] = origin[train.rows[near[close]]]
    images.loc[split.rows[exact], "twin"] = [holders[pixels[row]] for row in split.rows[exact]]


def mark_repeats(images: pd.DataFrame, splits: Mapping[str, Split], codes: Mapping[str, fingerprints.Codes]) -> None:
    """Mark near copies within a split of one batch, and rows whose image or a near copy stands in an earlier batch."""
    batch = images["batch"] if "batch" in images else images["group"].where(images["later"], "")
    order, origin, pixels, split = (
        pd.factorize(batch)[0],
        *(images[c].to_numpy() for c in ("origin", "pixels", "split")),
    )
    first = images.groupby("pixels", sort=False)["row"].transform("first").to_numpy()
    exact = order[first] < order
    rows = np.concatenate([split.rows for split in splits.values()])
    # Images of one colour, and those of missing photos, are near copies of each other; they have checks of their own.
    sound = ~(images["flat"] | images["placeholder"]).to_numpy()[rows]
    stacked = np.concatenate([codes[name] for name in splits])[sound]
    pairs = np.sort(rows[sound][fingerprints.near_pairs(stacked)], axis=1)
    old, new = pairs[:, 0], pairs[:, 1]
    again, beside = order[old] < order[new], (order[old] == order[new]) & (split[old] == split[new])
    close = beside & (pixels[old] != pixels[new])
    images.loc[pairs[close].ravel(), "within"] = "new"
    images.loc[new[again], ["repeated", "twin"]] = np.stack([np.full(again.sum(), "new"), origin[old[again]]], axis=1)
    images.loc[exact, "repeated"] = "new"
    images.loc[exact, "twin"] = origin[first[exact]]


def _measure_groups(
    images: pd.DataFrame, splits: Mapping[str, Split], profile: Profile, with_probe: bool
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
        faces = np.concatenate([split.images[..., 0] for split in splits.values()])
        judged = _judge(probe.features(faces), labels, member, profile)
        measured["accuracy"], measured["floor"] = zip(*(judged[name] for name in member), strict=True)
    return measured


def _judge(
    features: probe.Features, labels: NDArray[np.int64], member: Mapping[str, NDArray[np.bool_]], profile: Profile
) -> dict[str, tuple[float, float]]:
    """Accuracy and floor of each group, by a probe fitted to the first batch's training rows."""
    train = member["train"]
    fitted = probe.fit(features[train], labels[train])
    own = probe.recalls(labels[train], fitted.held_out)
    judged = {}
    for name, mask in member.items():
        truth, guesses = labels[mask], fitted.held_out if name == "train" else fitted.guess(features[mask])
        if name not in SPLITS:
            floor = probe.floor(truth, own, ADDED_SLACK)
        elif profile.recall:
            floor = probe.floor(truth, profile.recall, profile.slack)
        else:
            floor = probe.chance(truth, guesses)
        accuracy = float((truth == guesses).mean()) if len(truth) else np.nan
        judged[name] = (round(accuracy, 3), round(floor, 3)) if len(truth) >= FEWEST else (np.nan, np.nan)
    return judged


def _drift(train: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Measure the largest change of a class's share between train and another group, less three standard errors."""
    shares, others = train / train.sum(), other / other.sum()
    error = np.sqrt(shares * (1 - shares) * (1 / train.sum() + 1 / other.sum()))
    return round(float(max(0.0, (abs(others - shares) - 3 * error).max())), 4)
