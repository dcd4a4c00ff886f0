"""Decide which raw rows are excluded from training or flagged, each with one reason."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.config.params import Prepare
from mien.emotions import EMOTIONS

Columns = dict[str, NDArray[Any]]
"""One array per statistic, all over the raw rows in order."""


def decide(columns: Mapping[str, NDArray[Any]], policy: Prepare) -> Columns:
    """`status` (kept, excluded, flagged) and `reason` of every row; the first reason that applies is given.

    Only train rows are ever excluded: the official test splits stay whole, so that scores on them compare.
    """
    train = columns["split"] == "train"
    leaks_flagged = policy.leaks == "flag"
    status = np.full(len(train), "kept", "<U8")
    reason = np.full(len(train), "", "<U11")

    def mark(rows: NDArray[np.bool_], name: str, why: str) -> None:
        fresh = rows & (status == "kept")
        status[fresh], reason[fresh] = name, why

    mark(columns["leaked"] & leaks_flagged, "flagged", "leaked")
    defects = {
        "flat": (columns["flat"], policy.flat),
        "placeholder": (columns["placeholder"], policy.placeholders),
        # Labels of test rows must not choose what is trained on: only a conflict within train excludes.
        "conflict": (np.where(train, columns["train_conflict"], columns["conflict"]), policy.conflicts),
        "copy": (columns["surplus"], policy.copies),
        "leak": (columns["spans"] & (not leaks_flagged), "drop"),
    }
    for why, (found, action) in defects.items():
        mark(found & train & (action == "drop"), "excluded", why)
    for why, (found, _) in defects.items():
        mark(found, "flagged", why)
    return {"status": status, "reason": reason}


def reasons(columns: Mapping[str, NDArray[Any]], status: str) -> dict[str, int]:
    """How many rows have `status`, by reason."""
    names, numbers = np.unique(columns["reason"][columns["status"] == status], return_counts=True)
    return {str(name): int(n) for name, n in zip(names, numbers, strict=True)}


def write_list(path: Path, columns: Mapping[str, Any]) -> None:
    """Write every excluded or flagged row as CSV for people."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["row", "origin", "split", "emotion", "status", "reason"])
        for row in np.flatnonzero(columns["status"] != "kept"):
            origin, split, label = (columns[name][row] for name in ("origin", "split", "emotion"))
            writer.writerow([row, origin, split, EMOTIONS[label], columns["status"][row], columns["reason"][row]])
