"""Build the expectations of prepared data as plain descriptions, which Great Expectations validates."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mien.data.quality.evidence import HELD_OUT, Evidence
from mien.data.quality.profile import QUANTILES, STATISTICS, Profile
from mien.emotions import EMOTIONS, SPLITS

Severity = Literal["critical", "warning"]

CRITICAL: Severity = "critical"
WARNING: Severity = "warning"

ALTERED = "The pictures were altered (equalised, blurred, resized or augmented): fetch the original data."
INCOMPLETE = "Fetch the complete data set, or set validate.profile to fer2013_part (params.yaml) to work with a part."
RESPLIT = "The official splits were mixed, or faces changed beyond recognition: fetch the original data."
OWN_SPLITS = "Split by photo before augmenting, or set prepare.leaks: drop_from_train (params.yaml) for exact copies."
REPEATED = "Images stand there more than once, slightly altered: fetch the original data, or remove the copies."
LABELS = "Labels and faces were mixed up: fetch or export the data anew."

SOME, MOST = 0.02, 0.25
"""Shares of a later batch that may stand in earlier ones, before it is warned of and before it is refused.

Of FER-2013's second half, 7 % have an exact or near copy in the first, and 12 % of its test images one in Training.
"""


@dataclass(frozen=True)
class Expectation:
    """One expectation: `kind` and `options` are Great Expectations' own, `where` picks rows by column values."""

    name: str
    severity: Severity
    expected: str
    kind: str
    options: Mapping[str, Any]
    where: Mapping[str, Any] = field(default_factory=dict)
    table: Literal["images", "groups"] = "images"
    mend: str = ""


def expectations(profile: Profile, evidence: Evidence, class_drift: float) -> list[Expectation]:
    """Everything that `profile` expects of data, in the order of the report."""
    rows = {str(name): int(n) for name, n in evidence.groups[["group", "rows"]].to_numpy()}
    first = sum(rows.get(split, 0) for split in SPLITS)
    found = [*_schema(), *_rows(profile), *_bands(profile, rows), *_groups(evidence, profile, class_drift)]
    found += [*_membership(profile), *_copies(profile, rows), *_images(profile, first)]
    return found + [e for group, n in rows.items() if group not in SPLITS for e in _later(evidence, group, n)]


def _schema() -> Iterator[Expectation]:
    columns = ["row", "origin", "split", "emotion", "pixels", "width", "height", *STATISTICS.values()]
    kind, options = "ExpectTableColumnsToMatchSet", {"column_set": columns, "exact_match": False}
    yield Expectation("columns", CRITICAL, f"columns {', '.join(columns)}", kind, options)
    for column in columns:
        yield Expectation(f"nulls.{column}", CRITICAL, "no nulls", "ExpectColumnValuesToNotBeNull", {"column": column})
    yield Expectation(
        "origin.unique", CRITICAL, "no origin twice", "ExpectColumnValuesToBeUnique", {"column": "origin"}
    )
    yield _among("emotion.known", CRITICAL, "a label from 0 to 6", "emotion", list(range(len(EMOTIONS))))
    yield _among("split.known", CRITICAL, f"one of {', '.join(SPLITS)}", "split", list(SPLITS))


def _rows(profile: Profile) -> Iterator[Expectation]:
    for split, counts in (profile.counts or {}).items():
        for emotion, count in counts.items():
            where: dict[str, Any] = {"group": split, "emotion": EMOTIONS.index(emotion)}
            options = {"value": count}
            name, kind = f"rows.{split}.{emotion}", "ExpectTableRowCountToEqual"
            yield Expectation(name, CRITICAL, f"{count:,} rows", kind, options, where, mend=INCOMPLETE)
    if not profile.counts:
        for split in SPLITS:
            kind, some = "ExpectTableRowCountToBeBetween", {"min_value": 1}
            yield Expectation(f"rows.{split}", CRITICAL, "some rows", kind, some, {"split": split})
        every, kind = {"column": "emotion", "value_set": list(range(7))}, "ExpectColumnDistinctValuesToContainSet"
        yield Expectation("emotion.all", WARNING, "every emotion in train", kind, every, {"split": "train"})


def _images(profile: Profile, total: int) -> Iterator[Expectation]:
    for side in ("width", "height"):
        if profile.size:
            expected = f"{profile.size} pixels"
            yield _among(f"size.{side}", CRITICAL, expected, side, [profile.size], where={"later": False}, mend=ALTERED)
        else:
            options, kind = {"column": side, "min_value": 24}, "ExpectColumnValuesToBeBetween"
            yield Expectation(f"size.{side}", WARNING, "24 pixels or more before resizing", kind, options)
    usual = WARNING if profile.generic else CRITICAL
    defects: dict[str, tuple[Severity, Any, str, str]] = {
        "flat": (CRITICAL, False, "no image of one colour", ALTERED),
        "placeholder": (usual, False, "no placeholder", ALTERED),
        "copies": (usual, 1, "no exact copies", ALTERED),
        "conflict": (usual, False, "no copies under different labels", LABELS),
    }
    for name, (severity, sound, expected, mend) in defects.items():
        tolerated = profile.ceiling(name, total)
        yield _among(name, severity, expected, name, [sound], tolerated, {"later": False}, mend)


def _copies(profile: Profile, rows: Mapping[str, int]) -> Iterator[Expectation]:
    usual = WARNING if profile.generic else CRITICAL
    fine = ["no", "known"]
    for split in filter(rows.get, SPLITS if "within" in profile.shares else ()):
        tolerated, where = profile.ceiling("within", rows[split]), {"split": split, "later": False}
        expected = "no near copy within the split"
        yield _among(f"repeats.{split}", usual, expected, "within", ["no"], tolerated, where, REPEATED)
    for split in HELD_OUT:
        where, tested = {"split": split}, rows.get(split, 0)
        near, mirror = profile.ceiling("near", tested), profile.ceiling("mirror", tested)
        yield _among(f"leaks.{split}", WARNING, "no image of train", "leak", ["no"], 0, where)
        expected = "no image of train but those known"
        yield _among(f"leaks.{split}.new", CRITICAL, expected, "leak", fine, 0, where, OWN_SPLITS)
        expected = "no near copy of a train image but those known"
        yield _among(f"near_copies.{split}", usual, expected, "near", fine, near, where, OWN_SPLITS)
        expected = "no mirrored train image but those known"
        yield _among(f"mirrored_copies.{split}", CRITICAL, expected, "mirror", fine, mirror, where, OWN_SPLITS)


def _membership(profile: Profile) -> Iterator[Expectation]:
    for split in HELD_OUT if profile.official_tests else ():
        where, members, labels = {"group": split}, "images of the official split", "the official labels"
        yield _among(f"official.{split}", CRITICAL, members, "membership", ["official"], 0.01, where, RESPLIT)
        yield _among(f"labels.{split}", WARNING, labels, "relabelled", [False], 0, where)
        yield _among(f"labels.{split}.most", CRITICAL, labels, "relabelled", [False], 0.02, where, LABELS)


def _bands(profile: Profile, rows: Mapping[str, int]) -> Iterator[Expectation]:
    for name, band in profile.bands.items():
        for split in filter(rows.get, SPLITS):
            yield _quantiles(f"{name}.{split}", CRITICAL, name, band.ranges(rows[split]), split)


def _groups(evidence: Evidence, profile: Profile, class_drift: float) -> Iterator[Expectation]:
    for group, floor in evidence.groups[["group", "floor"]].itertuples(index=False):
        where = {"group": group}
        if group != "train":
            options, kind = {"column": "class_drift", "max_value": class_drift}, "ExpectColumnMaxToBeBetween"
            expected = f"shares of the emotions as in train to within {class_drift:g}"
            yield Expectation(f"class_drift.{group}", WARNING, expected, kind, options, where, "groups")
        if not math.isnan(floor):
            severity = WARNING if profile.generic and group in SPLITS else CRITICAL
            options, kind = {"column": "accuracy", "min_value": floor}, "ExpectColumnMinToBeBetween"
            expected = f"accuracy of a cheap probe at least {floor:.3f}"
            yield Expectation(f"probe.{group}", severity, expected, kind, options, where, "groups", LABELS)


def _later(evidence: Evidence, group: str, rows: int) -> Iterator[Expectation]:
    """Later batches come from other sources: only defects that no genuine batch shows are critical."""
    for name, band in evidence.own_bands.items():
        ranges = band.ranges(rows, lower=0.5, upper=2) if name == "sharpness" else band.ranges(rows)
        yield _quantiles(f"{name}.{group}", WARNING if name == "brightness" else CRITICAL, name, ranges, group)
    where, expected = {"group": group}, "no image of an earlier batch"
    yield _among(f"repeats.{group}", WARNING, expected, "repeated", ["no"], SOME, where)
    mend = f"Remove data/raw/{group}.parquet, whose images are there already, then run dvc add data/raw."
    yield _among(f"repeats.{group}.most", CRITICAL, expected, "repeated", ["no"], MOST, where, mend)
    expected = "train rows only, so that scores compare with older ones"
    yield _among(f"split.{group}", WARNING, expected, "split", ["train"], 0, {"group": group})


def _among(  # noqa: PLR0913, PLR0917  (a row of a table, written as a call)
    name: str,
    severity: Severity,
    expected: str,
    column: str,
    values: list[Any],
    tolerated: float = 0,
    where: Mapping[str, Any] | None = None,
    mend: str = "",
) -> Expectation:
    options = {"column": column, "value_set": values} | ({"mostly": 1 - tolerated} if tolerated else {})
    expected += f", in all but {tolerated:.2%} of the rows" if tolerated else ""
    return Expectation(name, severity, expected, "ExpectColumnValuesToBeInSet", options, where or {}, mend=mend)


def _quantiles(name: str, severity: Severity, property_: str, ranges: list[list[float]], group: str) -> Expectation:
    expected = "; ".join(f"{q:.0%}: {low:g} to {high:g}" for q, (low, high) in zip(QUANTILES, ranges, strict=True))
    kind, where = "ExpectColumnQuantileValuesToBeBetween", {"group": group}
    options = {
        "column": STATISTICS[property_],
        "quantile_ranges": {"quantiles": list(QUANTILES), "value_ranges": ranges},
    }
    return Expectation(name, severity, f"quantiles {expected}", kind, options, where, mend=ALTERED)
