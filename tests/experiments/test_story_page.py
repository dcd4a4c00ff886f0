"""The story's index shows each act's outcome, the gate's rules, both scores and the faces."""

from pathlib import Path
from typing import Any

from mien.experiments.story_page import page
from mien.files import write_json
from mien.retraining import html_report

RULES = [
    {"rule": "floor", "passed": True, "message": "macro-F1 0.3, at least 0.1"},
    {"rule": "better", "passed": False, "message": "It is <b>no</b> better."},
]


def content(outcome: str, **more: Any) -> dict[str, Any]:
    return {"outcome": outcome, "scores": {}, "gate": [], "pictures": {}} | more


def test_every_act_has_its_badge_scores_rules_faces_and_report(tmp_path: Path) -> None:
    scores = {"champion": {"macro_f1": 0.7}, "challenger": {"macro_f1": 0.3}}
    pictures = {"added.png": "Some faces", "reliability.png": "Reliability"}
    refused = content("refused", scores=scores, gate=RULES, pictures=pictures)
    write_json(tmp_path / "reports/1_refused/report.json", refused)
    write_json(tmp_path / "reports/2_stopped/report.json", content("stopped"))
    acts = [
        ("A worse model", "It stays.", Path("reports/1_refused/report.html")),
        ("A poisoned batch", "Stopped.", Path("reports/2_stopped/report.html")),
        ("Rollback", "$ mien rollback", None),
    ]
    text = html_report.render(page(acts, tmp_path), "The loop")
    assert '<span class="badge stop">Refused by the gate</span> It stays.' in text
    assert '<span class="badge stop">Stopped by validation</span>' in text
    assert "<summary>The gate: refused by better</summary>" in text
    assert '<td class="refused">refused</td>' in text
    assert "&lt;b&gt;no&lt;/b&gt;" in text
    assert '<i class="challenger" style="width:30.0%">' in text
    assert '<img src="reports/1_refused/added.png" alt="Some faces"' in text
    assert "reliability.png" not in text, "it is in the report"
    assert '<a href="reports/2_stopped/report.html">The whole report</a>' in text
    assert "<code>$ mien rollback" in text
    assert '<td><a href="#act-3">3. Rollback</a></td>' in text
    assert '<h2 id="act-3">' in text
