"""A Git revision and the workspace: their raw rows, and the differences of their metrics and parameters."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from mien.data import raw
from mien.errors import MienError
from mien.retraining.changes import Row

RAW = Path("data/raw")
MAIN = "origin/main"
AND = " + "
"""Between the names of data sets that stand in one folder."""

COLUMNS = ("sha256", "emotion", "split", "origin")

METRICS, FAMILIES = Path("reports/metrics.json"), Path("reports/families")
CURVES = ("Confusion on test", "Reliability on test", "reports/plots/curves")
"""Plots of dvc.yaml that show no face."""

Numbers = Mapping[str, Mapping[str, Any]]
"""What changed, by dotted name: `old`, `new` and, for numbers, `diff`."""


@dataclass(frozen=True)
class Rows:
    """The raw rows of one state under their data set's name; `problem` says why they could not be read."""

    rows: tuple[Row, ...] = ()
    name: str = ""
    problem: str = ""


def base(wanted: str | None = None) -> str | None:
    """The commit to compare the workspace with; None where there is no earlier one.

    `wanted`, else where this branch left `origin/main`, else the last commit if something was changed since, else the
    one before it.
    """
    if wanted:
        if not wanted.strip("0"):  # what GitHub calls the commit before a branch's first
            return None
        found = git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
        if not found:
            raise MienError(f"{wanted!r} is no commit here. Name one with --base, or fetch it: git fetch --unshallow.")
        return found
    head, fork = git("rev-parse", "--verify", "--quiet", "HEAD"), git("merge-base", MAIN, "HEAD")
    if fork and fork != head:
        return fork
    if git("status", "--porcelain", "--untracked-files=no"):
        return head or None
    return git("rev-parse", "--verify", "--quiet", "HEAD~1") or None


def git(*arguments: str) -> str:
    """The output of a Git command; empty where it fails or Git is missing."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def rows_here() -> Rows:
    """The raw rows of the workspace."""
    if not raw.listed(RAW):
        return Rows(problem=f"{RAW} holds no raw data here: bring them with `dvc pull {RAW}`.")
    return _read(RAW)


def rows_at(revision: str | None) -> Rows:
    """The raw rows of a revision, out of DVC's cache or remote; none where it tracked no data."""
    if revision is None or not _tracked(revision):
        return Rows()
    from dvc.api import DVCFileSystem

    with TemporaryDirectory() as folder:
        try:
            files = DVCFileSystem(".", rev=revision, subrepos=False)
            files.get(str(RAW), folder, recursive=True)
        except Exception as error:  # DVC's, its data index's, and those of every kind of remote
            return Rows(problem=f"The data of {revision[:8]} are neither in DVC's cache nor in its remote ({error}).")
        found = next(Path(folder).rglob("*.parquet"), None)
        return _read(found.parent) if found else Rows(problem=f"The data of {revision[:8]} could not be brought.")


def images(wanted: set[str]) -> dict[str, bytes]:
    """The images of the workspace that have these hashes, as they came."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    hashes = pa.array(sorted(wanted), pa.string())
    for path in raw.listed(RAW) if wanted else ():
        for some in pq.ParquetFile(path).iter_batches(1024, columns=["sha256", "image"]):
            chosen = some.filter(pc.is_in(some["sha256"], hashes))
            found |= dict(zip(chosen["sha256"].to_pylist(), chosen["image"].to_pylist(), strict=True))
    return found


def metrics(revision: str) -> Numbers:
    """The result of `dvc metrics diff` of the workspace against a revision, unchanged numbers too."""
    return _diff("metrics", revision, "--all")


def params(revision: str) -> Numbers:
    """The result of `dvc params diff` of the workspace against a revision."""
    return _diff("params", revision)


def plots(revision: str, folder: Path) -> Path | None:
    """The page of `dvc plots diff` in `folder`, of plots without faces; None where DVC has nothing to draw."""
    _dvc("plots", "diff", revision, "--out", str(folder), "--targets", *CURVES)
    page = folder / "index.html"
    return page if page.exists() else None


def _diff(what: str, revision: str, *more: str) -> Numbers:
    try:
        content = json.loads(_dvc(what, "diff", "--json", *more, revision) or "{}")
    except json.JSONDecodeError:
        return {}
    named = (
        (_named(Path(file), key, several=len(content) > 1), result)
        for file, keys in content.items()
        for key, result in keys.items()
    )
    return {key: result for key, result in named if isinstance(result, dict)}


def _named(file: Path, key: str, *, several: bool) -> str:
    """A number's name in a report: the evaluation's are named by their key, a family's by the family's name too."""
    if file.parent == FAMILIES:
        return f"families.{file.stem}.{key}"
    return f"{file.as_posix()}: {key}" if several and file != METRICS else key


def _dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _tracked(revision: str) -> bool:
    return bool(git("ls-tree", "--name-only", revision, "--", f"{RAW}.dvc"))


def _read(folder: Path) -> Rows:
    paths = raw.listed(folder)
    names = dict.fromkeys(raw.head(path)[0] for path in paths)
    return Rows(tuple(row for path in paths for row in _rows(path)), AND.join(names))


def _rows(path: Path) -> Iterator[Row]:
    table = raw.read(path, COLUMNS)
    yield from map(Row._make, zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
