"""What promotion.json and the promotion log hold of one judgement."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from mien.config.params import Params
from mien.evaluation.served import ServedScores
from mien.files import rounded
from mien.registry import promotion_gate, promotion_log
from mien.registry.challenger import Challenger
from mien.registry.promotion_gate import Case, Verdict
from mien.registry.promotion_log import Entry, Log


def report(
    challenger: Challenger, case: Case, verdict: Verdict, name: str, champion: Mapping[str, str]
) -> dict[str, Any]:
    """promotion.json; `champion` holds the incumbent's tags, with its score when it was promoted."""
    digest = challenger.tags["data.digest"]
    candidate = _contender(case.challenger, digest)
    incumbent = _contender(case.champion, champion.get("data.digest", "")) if case.champion else None
    result: dict[str, Any] = {
        "promoted": verdict.promoted,
        "reason": verdict.reason,
        "model": name,
        "version": challenger.version,
        "champion": candidate if verdict.promoted else incumbent,
        "candidate": candidate,
        "run_id": challenger.run_id,
        "scores": {"challenger": _scores(case.challenger)},
        "comparison": asdict(case.comparison) if case.comparison else None,
        "rules": [asdict(finding) for finding in verdict.findings],
    }
    if case.champion:
        result["scores"]["champion"] = _scores(case.champion)
        result["scores"]["champion_when_promoted"] = {
            "macro_f1": float(champion.get("validation_macro_f1", 0)),
            "same_data": champion.get("data.digest") == digest,
        }
    return result


def standing(challenger: Challenger, case: Case, log: Log, params: Params, finished: bool) -> dict[str, Any]:
    """The report of a winner that is champion already: nothing is judged, its log entry is repeated."""
    made = [entry for entry in log.entries if entry.moves and entry.version == log.champion]
    facts = {key: made[-1].facts[key] for key in ("scores", "comparison", "rules") if made and key in made[-1].facts}
    known = f", by entry {made[-1].number} of the promotion log" if made else ""
    score = f"macro-F1 {case.challenger.macro_f1:.4f}"
    reason = f"{challenger.family} (version {log.champion}, {score}) is champion already{known}."
    if finished:
        reason = f"{reason} This run set the aliases that an earlier one had left behind."
    verdict = replace(promotion_gate.judge(case, params.promote), promoted=finished, reason=reason)
    result = report(challenger, case, verdict, params.promote.model, {})
    champion = {**result["candidate"], "version": log.champion}
    return result | {"champion": champion, "log_entry": made[-1].number if made else None} | facts


def refusing(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the rules that a judgement broke."""
    return [rule["rule"] for rule in rules if not rule["passed"]]


def decision(result: Mapping[str, Any]) -> str:
    """What promotion.json decided, by which rules and why, in one line."""
    refused = ", ".join(refusing(result["rules"]))
    champion = (result["champion"] or {}).get("version")
    if result["promoted"]:
        what = "Would be promoted" if result.get("judged_only") else "Promoted"
    elif champion == result["candidate"]["version"] or not refused:
        what = "Unchanged"
    else:
        what = f"Refused by {refused}"
    return f"{what}: {result['reason']}"


def record(name: str, case: Case, verdict: Verdict, result: Mapping[str, Any], log: Log) -> Entry:
    """Write the judgement into the log; a refusal that stands there last is not written twice."""
    champion = case.champion.version if case.champion else None
    facts = rounded({key: result[key] for key in ("scores", "comparison", "rules", "run_id")})
    kind: Literal["promotion", "refusal"] = "promotion" if verdict.promoted else "refusal"
    entry = Entry(kind, case.challenger.version, champion, log.head, verdict.reason, facts=facts)
    last = log.entries[-1] if log.entries else None
    if last and kind == last.kind == "refusal" and (last.version, last.why) == (entry.version, entry.why):
        return last
    return promotion_log.append(name, entry)


def _contender(scored: ServedScores, digest: str) -> dict[str, Any]:
    return {
        "version": scored.version,
        "family": scored.family,
        "macro_f1": scored.macro_f1,
        "digest": digest,
    }


def _scores(scored: ServedScores) -> dict[str, Any]:
    keys = ["version", "family", "macro_f1", "accuracy", "recall", "ece", "bytes", "milliseconds"]
    keys += [] if scored.with_damaged is None else ["with_damaged"]
    return {"n": len(scored.predicted), **{key: getattr(scored, key) for key in keys}}
