"""Learn a profile from data that are known to be genuine."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.quality import fingerprints, probe
from mien.data.quality.copies import LEAK, MIRROR, NEAR, NEW, Codes, Faces, Marks, mark_repeats, take_fingerprints
from mien.data.quality.evidence import HELD_OUT, features_of, some
from mien.data.quality.profile import STATISTICS, Profile, Roll, band
from mien.emotions import EMOTIONS, SPLITS

SLACK = {"brightness": 0.02, "contrast": 0.03, "sharpness": 0.1}
"""Accepted drift of each quantile: JPEG at quality 75 moves FER-2013's sharpness by up to 8 %, the others hardly."""

WITHIN = 1.25
"""How many more near copies within a split re-encoding may bring to light than were learnt."""

MARGIN = 4
"""Bits beyond the radius in which copies are learnt as known, so that re-encoding brings no new ones to light."""


def learn_profile(statistics: pd.DataFrame, splits: Mapping[str, Faces], dataset: str, about: str) -> Profile:
    """Learn the profile of a complete, genuine data set, best prepared with every policy on `keep`."""
    sizes = {*statistics["width"], *statistics["height"]}
    counts = {
        split: np.bincount(statistics["emotion"][statistics["split"] == split], minlength=len(EMOTIONS)).tolist()
        for split in SPLITS
    }
    defects = {name: statistics[name].mean() for name in ("flat", "placeholder", "conflict")}
    shares = defects | {"copies": (statistics["copies"] > 1).mean(), "near": 0.0, "mirror": 0.0}
    codes, marks = take_fingerprints(splits), Marks(statistics)
    mark_repeats(marks, statistics, splits, codes, np.zeros(len(statistics), np.int64))
    within = pd.Series(marks.columns["within"] == NEW).groupby(statistics["split"].to_numpy())
    shares["within"] = WITHIN * within.mean().max()
    labels, guesses = _guess(statistics, splits)
    return Profile(
        dataset=dataset,
        about=about,
        size=int(sizes.pop()) if len(sizes) == 1 else None,
        counts={split: dict(zip(EMOTIONS, numbers, strict=True)) for split, numbers in counts.items()},
        shares={name: round(float(share), 5) for name, share in shares.items()},
        bands={name: band(statistics[column], SLACK[name]) for name, column in STATISTICS.items()},
        recall=probe.recalls(labels, guesses),
        official_tests={name: _roll(splits[name], codes[name], codes, statistics) for name in HELD_OUT},
    )


def _guess(statistics: pd.DataFrame, splits: Mapping[str, Faces]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels of training faces and what the probe says of each when fitted to the others."""
    train = splits["train"]
    # Copies would help the probe and conflicts hinder it, and by default both are dropped from train.
    distinct = some(~(statistics["conflict"] | statistics["pixels"].duplicated()).to_numpy()[train.rows])
    features = np.concatenate([found for _, found in features_of({"train": train}, distinct)])
    return train.labels[distinct], probe.fit(features, train.labels[distinct]).held_out


def _roll(split: Faces, own: fingerprints.Codes, codes: Codes, statistics: pd.DataFrame) -> Roll:
    reach = fingerprints.RADIUS + MARGIN
    known = LEAK * statistics["leaked"].to_numpy()[split.rows]
    known = known + NEAR * (fingerprints.nearest(own, codes["train"], reach)[1] <= reach)
    known = known + MIRROR * (fingerprints.nearest(own, codes["mirrored"], reach)[1] <= reach)
    return Roll(own, split.labels, known.astype(np.int64))
