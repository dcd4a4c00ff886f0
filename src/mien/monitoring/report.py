"""The drift report of `mien drift`: windows compared with a reference, as JSON, as a page, and in the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mien.config.params import Drift
from mien.files import rounded, write_json, write_text
from mien.inference import champion
from mien.monitoring import drift, drift_windows
from mien.monitoring.drift import Finding, Level
from mien.monitoring.drift_windows import Window
from mien.monitoring.histograms import EDGES, KINDS, OF_MODEL, Counts

TITLES = {
    "brightness": "Brightness",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "face_size": "Size of faces",
    "confidence": "Confidence",
    "emotion": "Emotions",
    "photos": "Photos",
}
UNITS = {"brightness": "mean gray", "contrast": "deviation of gray", "face_size": "pixels"}
UNITS |= {"sharpness": "Laplacian's variance", "confidence": "probability"}

WORDS: Mapping[Level, str] = {
    "none": "no drift",
    "watch": "worth a look",
    "drift": "drift",
    "too_few": "too few",
    "unknown": "nothing to compare with",
}
PERIODS = 60
"""Stretches of time that the page shows apart, about."""

HOUR = 3600
DISPATCH = "gh api repos/{owner}/{repo}/dispatches -f event_type=drift"
"""Starts the workflow that retrains; `gh` fills in the repository of the current folder."""


@dataclass(frozen=True)
class Period:
    """One stretch of time of the report."""

    start: int
    end: int
    level: Level
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Report:
    """The whole comparison."""

    level: Level
    findings: Sequence[Finding]
    periods: Sequence[Period]
    reference: Counts
    now: Counts
    against: str
    notes: Sequence[str]


def tell(
    folders: Sequence[Path], baseline: Sequence[Path], place: Path | None, limits: Drift, last: int | None = None
) -> Report:
    """Compare the windows in `folders` (of the `last` hours of them) with `baseline`, else the champion's profile.

    Raises MienError where there is nothing to compare.
    """
    found, broken = drift_windows.read(folders)
    if last:
        end = max(window.start + 60 * window.minutes for window in found)
        found = [window for window in found if window.start >= end - last * HOUR]
    version, reference, against = _reference(baseline, place, found)
    now = _merged(found, version)
    findings = drift.compare(reference, now, limits)
    periods = [_period(some, reference, version, limits) for some in _stretches(found, limits.faces)]
    return Report(drift.worst(findings), findings, periods, reference, now, against, _notes(found, version, broken))


def write(folder: Path, result: Report, limits: Drift) -> None:
    """Write drift.json and drift.html."""
    write_json(folder / "drift.json", _content(result, limits))
    write_text(folder / "drift.html", _page(result, limits))


def lines(result: Report, page: Path) -> list[str]:
    """The lines for the terminal: one for each property, the notes, the verdict, and what to do about drift."""
    first, end = result.periods[0].start, result.periods[-1].end
    rows = [f"{_day(first)} to {_day(end)} UTC, compared with {result.against}", ""]
    rows += [f"{'property':<12}{'seen':>10}{'PSI':>8}{'p':>10}  {'verdict':<24}what moved"]
    for finding in result.findings:
        moved = f"{finding.psi:.3f}" if finding.psi is not None else ""
        luck = f"{finding.p_value:.2g}" if finding.p_value is not None else ""
        said = sentence(finding, result.reference, result.now)
        row = f"{finding.property:<12}{finding.n:>10,}{moved:>8}{luck:>10}  {WORDS[finding.level]:<24}{said}"
        rows.append(row.rstrip())
    rows += ["", *result.notes, f"{verdict(result)} The page: {page}"]
    if result.level == "drift":
        rows += ["To start the retraining where the repository has its workflow:", f"  {DISPATCH}"]
    return rows


def verdict(result: Report) -> str:
    """The outcome in one sentence."""
    if result.level in ("too_few", "unknown"):
        return "There is too little to compare."
    names = [finding.property.replace("_", " ") for finding in result.findings if finding.level == result.level]
    words = {"drift": "Drift: {} moved.", "watch": "No drift, but a look is due: {} moved a little."}
    return words.get(result.level, "No drift.").format(_listed(names))


def sentence(finding: Finding, reference: Counts, now: Counts) -> str:
    """What moved, in words."""
    name = finding.property
    after = drift.shares(now[name])
    if not finding.n:
        return ""
    if name in KINDS:
        before = drift.shares(reference[name])
        known = bool(before.sum())
        kind = int(np.argmax(np.abs(after - before))) if known and name != "photos" else len(after) - 1
        kind = int(np.argmax(after)) if not known and name != "photos" else kind
        return f"{KINDS[name][kind]} {after[kind]:.1%}" + (f", was {before[kind]:.1%}" if known else "")
    was = "" if finding.reference_middle is None else f", was {_number(finding.reference_middle)}"
    return f"median {_number(finding.middle or 0)}{was}"


def _reference(baseline: Sequence[Path], place: Path | None, found: Sequence[Window]) -> tuple[str, Counts, str]:
    """The version whose predictions are compared, the counts to compare with, and what they are."""
    if baseline:
        healthy, _ = drift_windows.read(baseline)
        version = max(found, key=lambda window: window.start).model
        names = _listed([str(folder) for folder in baseline])
        return version, _merged(healthy, version), f"the windows in {names}"
    profile = drift_windows.read_profile(champion.folder(place))
    about = f"the training profile of version {profile['version']} ({profile['data']['name']})"
    return str(profile["version"]), profile["counts"], about


def _merged(found: Sequence[Window], version: str) -> Counts:
    """All windows added up; of what depends on the model only those of `version`."""
    own = drift_windows.total(window for window in found if window.model == version)
    return drift_windows.total(found) | {name: own[name] for name in OF_MODEL}


def _notes(found: Sequence[Window], version: str, broken: int) -> list[str]:
    others = sorted({window.model for window in found if window.model != version})
    notes = [f"Confidence and emotions are those of version {version}; version {_listed(others)} answered too."]
    unusable = f"{broken} lines could not be read (a crash cut them off, or another version of mien wrote them)."
    return [*(notes if others else []), *([unusable] if broken else [])]


def _stretches(found: Sequence[Window], faces: int) -> list[list[Window]]:
    """Neighbouring windows put together until they hold enough faces to say something; the last may hold fewer."""
    seen = {id(window): sum(window.counts["emotion"]) for window in found}
    enough = max(faces, sum(seen.values()) / PERIODS)
    stretches: list[list[Window]] = [[]]
    for _, some in groupby(found, lambda window: window.start):
        if sum(seen[id(window)] for window in stretches[-1]) >= enough:
            stretches.append([])
        stretches[-1] += some
    return stretches


def _period(some: Sequence[Window], reference: Counts, version: str, limits: Drift) -> Period:
    findings = drift.compare(reference, _merged(some, version), limits)
    end = max(window.start + 60 * window.minutes for window in some)
    return Period(some[0].start, end, drift.worst(findings), findings)


def _content(result: Report, limits: Drift) -> dict[str, Any]:
    """drift.json."""
    return {
        "drift": result.level == "drift",
        "level": result.level,
        "verdict": verdict(result),
        "against": result.against,
        "from": _iso(result.periods[0].start),
        "to": _iso(result.periods[-1].end),
        "limits": asdict(limits),
        "notes": list(result.notes),
        "properties": [rounded(asdict(finding)) for finding in result.findings],
        "periods": [
            {
                "from": _iso(period.start),
                "to": _iso(period.end),
                "level": period.level,
                "psi": {f.property: None if f.psi is None else round(f.psi, 4) for f in period.findings},
            }
            for period in result.periods
        ],
        "counts": {"reference": result.reference, "now": result.now},
    }


def _page(result: Report, limits: Drift) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day": _day}
    return environment.get_template("drift.html.j2").render(
        report=result,
        limits=limits,
        verdict=verdict(result),
        words=WORDS,
        titles=TITLES,
        panels=[_panel(finding, result) for finding in result.findings],
        dispatch=DISPATCH,
    )


def _panel(finding: Finding, result: Report) -> dict[str, Any]:
    """What the page draws of one property: for each bin its label and both shares as parts of the highest."""
    name = finding.property
    before, after = drift.shares(result.reference[name]), drift.shares(result.now[name])
    seen = np.flatnonzero(before + after > (0 if name in KINDS else 0.001))
    low, high = (0, len(after)) if name in KINDS or not len(seen) else (int(seen[0]), int(seen[-1]) + 1)
    top = max(float(before[low:high].max()), float(after[low:high].max()), 1e-9)
    bars = [
        {"label": _bin(name, i), "before": before[i] / top, "after": after[i] / top, "shares": (before[i], after[i])}
        for i in range(low, high)
    ]
    ends = (_end(name, low), UNITS.get(name, ""), _end(name, high))
    said = sentence(finding, result.reference, result.now)
    kinds = name in KINDS
    return {"finding": finding, "title": TITLES[name], "bars": bars, "ends": ends, "said": said, "kinds": kinds}


def _bin(name: str, number: int) -> str:
    if name in KINDS:
        return KINDS[name][number]
    edges = EDGES[name]
    if number == 0:
        return f"below {_number(edges[0])}"
    if number == len(edges):
        return f"{_number(edges[-1])} or more"
    return f"{_number(edges[number - 1])} to {_number(edges[number])}"


def _end(name: str, number: int) -> str:
    """The lower end of a bin, where it has one."""
    return _number(EDGES[name][number - 1]) if name in EDGES and 0 < number <= len(EDGES[name]) else ""


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:,.0f}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
