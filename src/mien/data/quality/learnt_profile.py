"""Learn a profile from data that are known to be genuine."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mien.data.dataset import Split
from mien.data.quality import fingerprints, probe
from mien.data.quality.evidence import HELD_OUT, LEAK, MIRROR, NEAR, mark_repeats
from mien.data.quality.profile import STATISTICS, Profile, Roll, band
from mien.emotions import EMOTIONS, SPLITS

if TYPE_CHECKING:
    import pandas as pd

SLACK = {"brightness": 0.02, "contrast": 0.03, "sharpness": 0.1}
"""Accepted drift of each quantile: JPEG at quality 75 moves FER-2013's sharpness by up to 8 %, the others hardly."""

WITHIN = 1.25
"""How many more near copies within a split re-encoding may bring to light than were learnt."""

MARGIN = 4
"""Bits beyond the radius in which copies are learnt as known, so that re-encoding brings no new ones to light."""


def learn_profile(statistics: "pd.DataFrame", splits: Mapping[str, Split], dataset: str, about: str) -> Profile:
    """Learn the profile of a complete, genuine data set, best prepared with every policy on `keep`."""
    train, sizes = splits["train"], {*statistics["width"], *statistics["height"]}
    counts = {
        split: np.bincount(statistics["emotion"][statistics["split"] == split], minlength=len(EMOTIONS)).tolist()
        for split in SPLITS
    }
    defects = {name: statistics[name].mean() for name in ("flat", "placeholder", "conflict")}
    shares = defects | {"copies": (statistics["copies"] > 1).mean(), "near": 0.0, "mirror": 0.0}
    codes = {name: fingerprints.codes(split.images[..., 0]) for name, split in splits.items()}
    marked = statistics.assign(group=statistics["split"], later=False, within="no", repeated="no", twin="")
    mark_repeats(marked, splits, codes)
    shares["within"] = WITHIN * (marked["within"] == "new").groupby(marked["split"]).mean().max()
    # Copies would help the probe and conflicts hinder it, and by default both are dropped from train.
    distinct = train.take(~(statistics["conflict"] | statistics["pixels"].duplicated()).to_numpy()[train.rows])
    guesses = probe.fit(probe.features(distinct.images[..., 0]), distinct.labels).held_out
    return Profile(
        dataset=dataset,
        about=about,
        size=int(sizes.pop()) if len(sizes) == 1 else None,
        counts={split: dict(zip(EMOTIONS, numbers, strict=True)) for split, numbers in counts.items()},
        shares={name: round(float(share), 5) for name, share in shares.items()},
        bands={name: band(statistics[column], SLACK[name]) for name, column in STATISTICS.items()},
        recall=probe.recalls(distinct.labels, guesses),
        official_tests={name: _roll(splits[name], train, statistics) for name in HELD_OUT},
    )


def _roll(split: Split, train: Split, statistics: "pd.DataFrame") -> Roll:
    codes, held = fingerprints.codes(split.images[..., 0]), fingerprints.codes(train.images[..., 0])
    mirrored = fingerprints.codes(np.ascontiguousarray(train.images[:, :, ::-1, 0]))
    reach = fingerprints.RADIUS + MARGIN
    known = LEAK * statistics["leaked"].to_numpy()[split.rows]
    known = known + NEAR * (fingerprints.nearest(codes, held)[1] <= reach)
    known = known + MIRROR * (fingerprints.nearest(codes, mirrored)[1] <= reach)
    return Roll(codes, split.labels, known.astype(np.int64))
