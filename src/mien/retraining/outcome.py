"""How a retraining ended, in one word, one sentence, and one exit code; and what happens next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from mien.errors import listed
from mien.files import read_json
from mien.registry import promotion_log, provenance

Name = Literal["promoted", "accepted", "refused", "stopped", "unchanged", "failed", "pending"]

CODES: Mapping[Name, int] = {
    "promoted": 0,
    "accepted": 0,
    "failed": 1,
    "unchanged": 10,
    "refused": 11,
    "stopped": 12,
    "pending": 13,
}
"""Exit codes of `mien retrain`; those of 10 and more are outcomes, not failures."""

TITLES: Mapping[Name, str] = {
    "promoted": "A new champion",
    "accepted": "Better than the champion",
    "refused": "Refused by the gate",
    "stopped": "Stopped by validation",
    "unchanged": "Nothing changed",
    "failed": "Failed",
    "pending": "Not retrained yet",
}

VALIDATION, PROMOTION = Path("reports/validation.json"), Path("reports/promotion.json")
PREPARED, LOCK = Path("data/prepared/dataset.json"), Path("dvc.lock")


@dataclass(frozen=True)
class Outcome:
    """What became of it: `message` is the reason, `judgement` is promote's report where there was a challenger."""

    name: Name
    message: str = ""
    judgement: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit code."""
        return CODES[self.name]

    @property
    def title(self) -> str:
        """A headline."""
        return TITLES[self.name]

    @property
    def challenged(self) -> bool:
        """Whether there is a challenger that was judged."""
        return bool(self.judgement) and self.name in {"promoted", "accepted", "refused"}


def observed() -> Outcome:
    """How the last run in this folder ended, read from the files it left."""
    if stopped():
        return Outcome("stopped", validation_message())
    if not PROMOTION.exists() or _out_of_date():
        return Outcome("pending", "The pipeline has not run on these data.")
    return judged(read_json(PROMOTION, made_by="dvc repro promote"))


def judged(judgement: Mapping[str, Any]) -> Outcome:
    """The outcome that a judgement stands for."""
    candidate, champion = judgement["candidate"], judgement["champion"] or {}
    if judgement["promoted"]:
        return Outcome("accepted" if judgement.get("judged_only") else "promoted", judgement["reason"], judgement)
    if champion and candidate["version"] == champion["version"]:
        return Outcome("unchanged", judgement["reason"], judgement)
    return Outcome("refused", judgement["reason"], judgement)


def stopped() -> bool:
    """Whether `validate` refused the data that are prepared now."""
    if not (VALIDATION.exists() and PREPARED.exists()):
        return False
    report, info = read_json(VALIDATION, made_by="dvc repro validate"), read_json(PREPARED, made_by="dvc repro prepare")
    return not report["success"] and report["data"]["digest"] == info["digest"]


def validation_message() -> str:
    """What validation had to say, in one sentence."""
    report = read_json(VALIDATION, made_by="dvc repro validate")
    failed = [e["name"] for e in report["expectations"] if not e["success"] and e["severity"] == "critical"]
    noun = "expectation" if len(failed) == 1 else "expectations"
    return f"The data break {len(failed)} critical {noun} of profile {report['profile']!r}: {listed(failed, 3)}."


def next_step(outcome: Outcome) -> str:
    """What happens now, and what people may do."""
    champion = outcome.judgement.get("champion") or {}
    version = champion.get("version")
    keeps = f"{_capital(version)} keeps serving." if version else "The champion, if there is one, keeps serving."
    if outcome.name == "promoted":
        undo = " `mien rollback` brings back the one before it." if outcome.judgement["scores"].get("champion") else ""
        return f"Version {version} is champion and packaged.{undo}"
    if outcome.name == "accepted":
        incumbent = outcome.judgement["scores"].get("champion")
        serving = f"{_capital(incumbent['version'])} keeps serving. " if incumbent else ""
        return f"{serving}Once this is merged, main judges the challenger again and promotes it if it still wins."
    if outcome.name == "refused" and not champion:
        return "There is no champion yet, and nothing is served. Mend what the rules complain of, then retrain."
    texts: Mapping[str, str] = {
        "refused": f"{keeps} Nothing of the challenger reaches users. Mend what the rules complain of, or leave it.",
        "stopped": "Nothing was trained, and the champion keeps serving. Mend or remove what validation complains of.",
        "unchanged": f"Nothing needs to be done. {keeps}",
        "failed": f"{keeps} What was finished is kept: the next `mien retrain` carries on from there.",
        "pending": "Run `mien retrain`, or open a pull request.",
    }
    return texts[outcome.name]


def _capital(version: str) -> str:
    return promotion_log.named(version).capitalize()


def _out_of_date() -> bool:
    """Whether dvc.lock was written for other raw data than data/raw.dvc."""
    tracked = provenance.data_hash()
    stages = (yaml.safe_load(LOCK.read_text(encoding="utf-8")) or {}).get("stages", {}) if LOCK.exists() else {}
    used = [dep.get("md5") for dep in stages.get("prepare", {}).get("deps", ()) if dep.get("path") == "data/raw"]
    return bool(tracked) and used != [tracked]
