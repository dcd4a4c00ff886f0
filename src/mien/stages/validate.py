"""validate: hold prepared data against what its profile expects, and stop the pipeline where they break it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.config.params import Params
from mien.data.dataset import StoredSplit, read_info
from mien.data.quality import checkpoint, learnt_profile
from mien.data.quality import profile as profiles
from mien.data.quality.checkpoint import Outcome, Result
from mien.data.quality.data_docs import write as write_data_docs
from mien.data.quality.evidence import collect
from mien.data.quality.expectations import expectations
from mien.data.raw import head, listed
from mien.emotions import SPLITS
from mien.errors import MienError
from mien.files import write_json

COLUMNS = (
    *("row", "origin", "split", "emotion", "pixels", "width", "height", "mean", "std", "sharpness"),
    *("flat", "placeholder", "copies", "conflict", "leaked", "status"),
)
"""What the expectations need of the statistics table."""

SHOWN = 6
"""Failures that the error message spells out; the report holds all."""


def run(
    prepared: Path, report: Path, data_docs: Path, params: Params, passed: Path | None = None, raw: Path | None = None
) -> None:
    """Write `report` (JSON) and the Data Docs, then raise MienError if a critical expectation failed.

    `passed` is written only for data that may be trained on. It names them and nothing else, so that a change of the
    checks does not train anew. `raw` gives the batch of each row.
    """
    info, statistics, splits = read(prepared)
    if raw:
        statistics["batch"] = batches(raw, len(statistics))
    profile = profiles.load(params.validate.profile, info["name"])
    evidence = collect(statistics, splits, profile, params.validate.probe)
    result = checkpoint.run(expectations(profile, evidence, params.validate.class_drift), evidence)
    summary = summarise(result, profile, info)
    write_json(report, summary)
    write_data_docs(data_docs, summary, result.native)
    if not summary["success"]:
        raise MienError(complaint(result, profile, data_docs / "index.html"))
    if passed:
        write_json(passed, {"name": info["name"], "digest": info["digest"]})


def learn(prepared: Path, target: Path, about: str) -> None:
    """Write what can be learnt from prepared data known to be genuine: a profile for data of the same name."""
    info, statistics, splits = read(prepared)
    write_json(target, profiles.dump(learnt_profile.learn_profile(statistics, splits, info["name"], about)))


def read(prepared: Path) -> tuple[dict[str, Any], pd.DataFrame, dict[str, StoredSplit]]:
    """dataset.json, the statistics table and the splits of prepared data."""
    path = prepared / "statistics.parquet"
    info = read_info(prepared)
    try:
        there = pq.read_schema(path).names
        missing = [name for name in COLUMNS if name not in there]
        if missing:
            raise MienError(f"{path} lacks {', '.join(missing)}. Make it anew with `dvc repro -f prepare`.")
        statistics = pd.read_parquet(path, columns=list(COLUMNS))
    except (OSError, ValueError) as error:
        raise MienError(f"{path} cannot be read ({error}). Make it anew with `dvc repro -f prepare`.") from None
    return info, statistics, {name: StoredSplit(prepared, name) for name in SPLITS}


def batches(raw: Path, rows: int) -> NDArray[np.str_]:
    """The raw file of each of the `rows` prepared rows, which stand in the files' order."""
    files = listed(raw)
    found = np.repeat([file.stem for file in files], [head(file)[1] for file in files]) if files else np.array([], str)
    if len(found) != rows:
        raise MienError(
            f"{raw} holds {len(found):,} rows, but {rows:,} were prepared. Prepare them anew: dvc repro prepare."
        )
    return found


def summarise(result: Result, profile: profiles.Profile, info: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the content of the report: verdict, counts of failures, and every expectation."""
    critical, warnings = result.failed("critical"), result.failed("warning")
    return {
        "success": not critical,
        "critical": len(critical),
        "warnings": len(warnings),
        "profile": profile.dataset,
        "about": profile.about,
        "data": {"name": info["name"], "digest": info["digest"]},
        "expectations": [_entry(outcome) for outcome in result.outcomes],
    }


def complaint(result: Result, profile: profiles.Profile, docs: Path) -> str:
    """Why the data were refused: failed expectations with observed and expected values, first rows, and the mends."""
    failed = result.failed("critical")
    # One failure of each kind is more informative than all of one kind.
    kinds = {outcome.expectation.name.split(".")[0]: outcome for outcome in reversed(failed)}
    shown = sorted(kinds.values(), key=failed.index)[:SHOWN]
    rest = [outcome.expectation.name for outcome in failed if outcome not in shown]
    lines = [f"The data break {len(failed)} critical expectations of profile {profile.dataset!r}:"]
    for outcome in shown:
        lines += [f"  {outcome.expectation.name}: {outcome.observed}; expected {outcome.expectation.expected}"]
        lines += [f"    first rows: {', '.join(outcome.rows[:3])}"] if outcome.rows else []
    lines += [f"  and {', '.join(rest)}"] if rest else []
    warned = [outcome.expectation.name for outcome in result.failed("warning")]
    lines += [f"Warnings: {', '.join(warned)}"] if warned else []
    mends = dict.fromkeys(outcome.expectation.mend for outcome in failed if outcome.expectation.mend)
    return "\n".join([*lines, *mends, f"All expectations are in {docs}."])


def _entry(outcome: Outcome) -> dict[str, Any]:
    expectation = outcome.expectation
    return {
        "name": expectation.name,
        "severity": expectation.severity,
        "success": outcome.success,
        "observed": outcome.observed,
        "expected": expectation.expected,
        "rows": list(outcome.rows),
    }
