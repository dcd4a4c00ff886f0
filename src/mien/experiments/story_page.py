"""The story's index: every act with its outcome, the gate's rules, both scores, and the faces that came."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien.files import read_json
from mien.registry.promotion_report import refusing
from mien.retraining import html_report
from mien.retraining.outcome import TITLES
from mien.retraining.report import JSON, cell

GOOD = {"promoted", "accepted", "unchanged"}
"""Outcomes that are shown as success; all others as a stop."""

Act = tuple[str, str, Path | None]
"""Its title, what was said, and the path of its report below the story's folder."""


def page(acts: Sequence[Act], folder: Path) -> str:
    """The index as Markdown with a little HTML."""
    reports = [read_json(folder / path.parent / JSON, "mien story") if path else {} for _, _, path in acts]
    lines = [
        "# The loop, replayed on drawn faces",
        "",
        "The numbers, macro-F1 on validation, say nothing of real faces.",
    ]
    lines += ["`log.txt` has it all.", "", "| act | outcome | champion | challenger |", "| --- | --- | ---: | ---: |"]
    for number, ((title, _, _), content) in enumerate(zip(acts, reports, strict=True), start=1):
        scores = [_macro_f1(content, who) for who in ("champion", "challenger")]
        lines.append(f"| [{number}. {cell(title)}](#act-{number}) | {_badge(content)} | {' | '.join(scores)} |")
    for number, (act, content) in enumerate(zip(acts, reports, strict=True), start=1):
        lines += ["", f'<h2 id="act-{number}">{number}. {html.escape(act[0])}</h2>', "", *_act(act, content)]
    return "\n".join(lines)


def _act(act: Act, content: Mapping[str, Any]) -> list[str]:
    _, said, path = act
    if path is None:
        return ["```", said, "```"]
    lines = [f"{_badge(content)} {cell(said)}", "", *_bars(content), *_gate(content)]
    for name, title in content.get("pictures", {}).items():
        if name in {"added.png", "relabelled.png", "confusion_matrix.png"}:
            lines += ["", f"![{title}]({(path.parent / name).as_posix()})"]
    return [*lines, "", f"[The whole report]({path.as_posix()})"]


def _gate(content: Mapping[str, Any]) -> list[str]:
    rules = content.get("gate") or ()
    rows = [
        f"| {one['rule']} | {'passed' if one['passed'] else '**refused**'} | {cell(one['message'])} |" for one in rules
    ]
    refused = refusing(rules)
    verdict = f"refused by {', '.join(refused)}" if refused else f"all {len(rules)} rules passed"
    head = [f"<details{' open' if refused else ''}><summary>The gate: {verdict}</summary>", ""]
    return [*head, "| rule | verdict | measured |", "| --- | --- | --- |", *rows, "", "</details>", ""] if rows else []


def _bars(content: Mapping[str, Any]) -> list[str]:
    """Macro-F1 of both as bars, on one line: a blank one would end the block of HTML."""
    scores = {who: content["scores"][who]["macro_f1"] for who in ("champion", "challenger") if who in content["scores"]}
    return [html_report.bars("macro-F1", scores), ""] if scores else []


def _badge(content: Mapping[str, Any]) -> str:
    if not content:
        return ""
    kind = "good" if content["outcome"] in GOOD else "stop"
    return f'<span class="badge {kind}">{TITLES[content["outcome"]]}</span>'


def _macro_f1(content: Mapping[str, Any], who: str) -> str:
    score = content.get("scores", {}).get(who)
    return f"{score['macro_f1']:.3f}" if score else ""
