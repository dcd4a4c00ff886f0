"""Data profiles: statistics learnt from genuine data and stored in `profiles/<name>.json`."""

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data.quality import fingerprints
from mien.errors import MienError
from mien.files import read_json

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).with_name("profiles")

STATISTICS = {"brightness": "mean", "contrast": "std", "sharpness": "sharpness"}
"""Image properties by name, with their columns in the statistics table."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Band:
    """Quantiles of one property: `values`, their standard deviation in a sample of one (`spread`), accepted drift."""

    values: tuple[float, ...]
    spread: tuple[float, ...]
    slack: float

    def ranges(self, rows: int, lower: float | None = None, upper: float | None = None) -> list[list[float]]:
        """Lowest and highest value of each quantile among `rows` images: the drift plus four standard errors."""
        margins = [4 * spread / max(rows, 1) ** 0.5 for spread in self.spread]
        low, high = 1 - (lower or self.slack), 1 + (upper or self.slack)
        pairs = zip(self.values, margins, strict=True)
        return [[round(low * value - margin, 2), round(high * value + margin, 2)] for value, margin in pairs]


@dataclass(frozen=True)
class Roll:
    """The official members of one test split: fingerprints, labels, and known defects (bits)."""

    codes: fingerprints.Codes
    labels: NDArray[np.int64]
    known: NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """The expectations of one data set; what is None or empty is not expected of it.

    `size` is the side of the images as they came, `shares` the accepted shares of doubtful images, `recall` the
    probe's on genuine labels and `slack` how much of the accuracy may be missing.
    """

    dataset: str
    about: str
    size: int | None = None
    counts: Mapping[str, Mapping[str, int]] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)
    recall: tuple[float, ...] | None = None
    slack: float = 0.02
    official_tests: Mapping[str, Roll] | None = None

    @property
    def generic(self) -> bool:
        """Whether this is the fallback for data sets without a learnt profile."""
        return self.dataset == GENERIC.dataset

    def ceiling(self, defect: str, rows: int) -> float:
        """Return the largest accepted share of a defect among `rows` images: its own, 4 standard errors and 0.2 %."""
        share = self.shares[defect]
        error = float(np.sqrt(share * (1 - share) / max(rows, 1)))
        return min(1.0, share + 4 * error + 0.002)


GENERIC = Profile(
    dataset="generic",
    about="No profile is known for this data set: only checks that hold for every set of faces were made.",
    shares={
        "flat": 0.01,
        "placeholder": 0.05,
        "copies": 0.02,
        "conflict": 0.005,
        "near": 0.02,
        "mirror": 0.005,
        "within": 0.02,
    },
)


def load(name: str, dataset: str) -> Profile:
    """Load the profile called `name` (or the file, if it ends in .json); `auto` takes the one made for `dataset`.

    A data set without a profile gets `GENERIC`; an unknown name is an error that lists the known ones.
    """
    if name == GENERIC.dataset:
        return GENERIC
    if name.endswith(".json"):
        return parse(read_json(Path(name), made_by="mien validate --learn FILE"))
    known = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    if name == "auto":
        found = {read_json(path, "mien validate --learn FILE")["dataset"]: path for path in known.values()}
        return parse(read_json(found[dataset], "mien validate --learn FILE")) if dataset in found else GENERIC
    if name not in known:
        raise MienError(
            f"validate.profile is {name!r}, expected auto, generic, {', '.join(known)}, or the path of a .json file "
            "made with `mien validate --learn FILE`."
        )
    return parse(read_json(known[name], "mien validate --learn FILE"))


def parse(content: Mapping[str, Any]) -> Profile:
    """Make a profile from what `dump` wrote; `based_on` and `without` make one from another's parts."""
    try:
        if "based_on" in content:
            base = dump(load(content["based_on"], ""))
            kept = {key: value for key, value in base.items() if key not in content["without"]}
            return parse(kept | {"dataset": content["dataset"], "about": content["about"]})
        bands = {
            name: Band(tuple(band["values"]), tuple(band["spread"]), band["slack"])
            for name, band in content.get("bands", {}).items()
        }
        official = {name: _roll(roll) for name, roll in content.get("official_tests", {}).items()} or None
        recall = content.get("recall")
        known = {
            key: content[key] for key in ("dataset", "about", "size", "counts", "shares", "slack") if key in content
        }
        return Profile(**known, bands=bands, official_tests=official, recall=tuple(recall) if recall else None)
    except (KeyError, TypeError, ValueError) as error:
        raise MienError(f"The profile is broken ({error!r}). Make it anew with `mien validate --learn FILE`.") from None


def dump(profile: Profile) -> dict[str, Any]:
    """Turn a profile into JSON; fingerprints in base64, labels and known defects as one digit per image."""
    content: dict[str, Any] = {name: getattr(profile, name) for name in ("dataset", "about", "size", "counts", "slack")}
    content |= {"shares": dict(profile.shares), "recall": profile.recall}
    content |= {"bands": {name: dataclasses.asdict(band) for name, band in profile.bands.items()}}
    content |= {"official_tests": {name: _unrolled(roll) for name, roll in (profile.official_tests or {}).items()}}
    return {key: value for key, value in content.items() if value is not None}


def band(values: "pd.Series[float]", slack: float) -> Band:
    """Learn a band from genuine `values`."""
    step = 0.02
    found, spread = [], []
    for q in QUANTILES:
        low, high = values.quantile(q - step), values.quantile(q + step)
        found.append(round(float(values.quantile(q)), 2))
        # A sample quantile's variance is q (1 - q) over the squared density there.
        spread.append(round(float((q * (1 - q)) ** 0.5 * (high - low) / (2 * step)), 2))
    return Band(tuple(found), tuple(spread), slack)


def _roll(content: Mapping[str, str]) -> Roll:
    codes = np.frombuffer(base64.b64decode(content["codes"]), np.uint8).reshape(-1, 16)
    labels, known = (np.array(list(map(int, content[key])), np.int64) for key in ("labels", "known"))
    return Roll(codes, labels, known)


def _unrolled(roll: Roll) -> dict[str, str]:
    digits = {"labels": roll.labels, "known": roll.known}
    codes = base64.b64encode(roll.codes.tobytes()).decode()
    return {name: "".join(map(str, values.tolist())) for name, values in digits.items()} | {"codes": codes}
