"""The report on a retraining: report.md for a pull request, report.json for programs, and the pictures beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.emotions import EMOTIONS, SPLITS
from mien.files import read_json, write_json, write_text
from mien.retraining import html_report, pictures, revisions
from mien.retraining.changes import Changes, compare
from mien.retraining.outcome import VALIDATION, Outcome, next_step

MARKER = "<!-- mien report -->"
"""First line of the report, by which its comment on a pull request is found again."""

MARKDOWN, HTML, JSON = "report.md", "report.html", "report.json"
PLOTS = Path("reports/plots")
COMPARED = "plots"
"""Folder, below the report's, for DVC's page of both revisions' plots."""
LONGEST = 60_000
"""Characters; GitHub takes comments of 65,536."""

GATE = "### The gate\n"
"""The heading of the template under which the page draws both scores."""

SHOWN = 12
"""Failed expectations in the report."""


@dataclass(frozen=True)
class Facts:
    """All that the report tells; `problem` says why the data could not be compared."""

    outcome: Outcome
    base: str | None
    name: str
    changes: Changes
    problem: str = ""
    first: bool = False
    validation: Mapping[str, Any] = field(default_factory=dict)
    metrics: revisions.Numbers = field(default_factory=dict)
    params: revisions.Numbers = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    bento: str = ""

    def asdict(self) -> dict[str, Any]:
        """report.json."""
        changed = {key: result for key, result in self.metrics.items() if result.get("old") != result.get("new")}
        return {
            "outcome": self.outcome.name,
            "code": self.outcome.code,
            "message": self.outcome.message,
            "next": next_step(self.outcome),
            "base": self.base,
            "head": revisions.git("rev-parse", "HEAD") or None,
            "data": {"name": self.name, "changed": bool(self.changes), "problem": self.problem, "first": self.first}
            | self.changes.asdict(),
            "validation": {key: self.validation.get(key) for key in ("success", "critical", "warnings", "profile")},
            "gate": self.outcome.judgement.get("rules", []) if self.outcome.challenged else [],
            "scores": self.outcome.judgement.get("scores", {}) if self.outcome.challenged else {},
            "metrics": changed,
            "params": dict(self.params),
            "pictures": dict(self.pictures),
            "bento": self.bento,
        }


def write(folder: Path, outcome: Outcome, base: str | None, *, faces: bool = False, bento: str = "") -> Facts:
    """Write report.md, report.json and pictures to `folder`; `faces` shows faces of real people too."""
    for name in (*pictures.CHARTS, pictures.ADDED, pictures.RELABELLED):
        (folder / name).unlink(missing_ok=True)  # of an earlier report
    facts = gather(folder, outcome, base, faces=faces, bento=bento)
    write_json(folder / JSON, facts.asdict())
    text = render(facts)
    write_text(folder / MARKDOWN, text)
    html_report.write(folder / HTML, _with_bars(text, facts), f"Retraining: {outcome.title}")
    return facts


def gather(folder: Path, outcome: Outcome, base: str | None, *, faces: bool, bento: str) -> Facts:
    """Compare the workspace with `base` and draw what can be drawn."""
    before, after = revisions.rows_at(base), revisions.rows_here()
    problem = before.problem or after.problem
    changes = Changes() if problem else compare(before.rows, after.rows)
    drawn = all(pictures.SYNTHETIC in name for name in after.name.split(revisions.AND))
    shown = pictures.faces(changes, folder) if faces or drawn else {}
    if outcome.challenged:
        shown |= pictures.evaluation(PLOTS, folder)
    # What stopped before training left the numbers of an earlier model lying about.
    compared = base is not None and outcome.name in {"promoted", "accepted", "refused", "unchanged"}
    metrics = revisions.metrics(base) if base and compared else {}
    moved = any(result.get("old") != result.get("new") for result in metrics.values())
    plots = revisions.plots(base, folder / COMPARED) if base and outcome.challenged and moved else None
    return Facts(
        outcome=outcome,
        base=base,
        name=after.name or before.name,
        changes=changes,
        problem=problem,
        first=not before.rows and not problem,
        validation=_validation(outcome),
        metrics=metrics,
        params=revisions.params(base) if base else {},
        pictures=shown,
        page=f"{COMPARED}/index.html" if plots else "",
        bento=bento,
    )


def render(facts: Facts) -> str:
    """The report as Markdown, short enough for a comment."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 (Markdown; what comes from outside goes through `cell`)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "number": number}
    content = facts.asdict()
    text = environment.get_template("report.md.j2").render(
        facts=facts,
        marker=MARKER,
        content=content,
        next_step=content["next"],
        table=class_table(facts.changes),
        splits=SPLITS,
        failed=_failed(facts.validation),
        contest=contest(facts.outcome.judgement) if facts.outcome.challenged else [],
        headline=headline(facts.metrics),
        shown=SHOWN,
    )
    if len(text) > LONGEST:
        text = text[:LONGEST].rpartition("\n")[0] + f"\n\n… the rest is in {JSON}.\n"
    return text


def _with_bars(text: str, facts: Facts) -> str:
    """The report with the gate's two scores drawn, which a pull request's Markdown cannot show."""
    scores = facts.outcome.judgement.get("scores", {})
    both = {who: scores[who]["macro_f1"] for who in ("champion", "challenger") if who in scores}
    return text.replace(GATE, f"{GATE}\n{html_report.bars('macro-F1', both)}\n", 1) if both else text


def class_table(changes: Changes) -> list[tuple[str, list[str]]]:
    """For each emotion what came, went and was relabelled in each split, such as `+12 −1`; untouched ones left out."""
    result = changes.asdict()
    gained = {(pair["split"], pair["to"]): 0 for pair in result["relabelled"]}
    lost = {(pair["split"], pair["from"]): 0 for pair in result["relabelled"]}
    for pair in result["relabelled"]:
        gained[pair["split"], pair["to"]] += pair["rows"]
        lost[pair["split"], pair["from"]] += pair["rows"]
    rows = []
    for emotion in EMOTIONS:
        cells = []
        for split in SPLITS:
            parts = {
                "+": result["added"].get(split, {}).get(emotion, 0),
                "−": result["removed"].get(split, {}).get(emotion, 0),
                "to ": gained.get((split, emotion), 0),
                "from ": lost.get((split, emotion), 0),
            }
            cells.append(" ".join(f"{sign}{n:,}" for sign, n in parts.items() if n))
        rows.append((emotion, cells))
    return rows if any(any(cells) for _, cells in rows) else []


def contest(judgement: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """Scores of challenger and champion on the same faces; without a champion only one column."""
    scores = judgement.get("scores", {})
    mine, other = scores.get("challenger"), scores.get("champion")
    if not mine:
        return []
    names = {"macro_f1": "macro-F1", "accuracy": "accuracy", "ece": "ECE"}
    rows = [(title, mine[key], other[key] if other else None) for key, title in names.items()]
    recalls = [
        (f"recall of {emotion}", value, other["recall"].get(emotion) if other else None)
        for emotion, value in mine["recall"].items()
    ]
    return rows + recalls


def headline(metrics: revisions.Numbers) -> list[tuple[str, Any, Any]]:
    """The numbers of the evaluation that people ask for first."""
    wanted = [key for key in metrics if key.startswith("families.") and key.endswith(".val_macro_f1")]
    wanted += [f"test.{name}" for name in ("accuracy", "macro_f1", "uar", "ece")]
    return [(key, metrics[key].get("old"), metrics[key].get("new")) for key in wanted if key in metrics]


def cell(text: object) -> str:
    """Text that keeps a Markdown table whole, and has no HTML of others in it."""
    plain = " ".join(str(text).split())
    for mark, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("@", "@\u200b")):
        plain = plain.replace(mark, harmless)
    return plain


def number(value: object) -> str:
    """A number with four digits after the point, other things as they are; a dash for nothing."""
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else cell(value)


def _validation(outcome: Outcome) -> Mapping[str, Any]:
    if outcome.name in {"pending", "failed"} or not VALIDATION.exists():
        return {}
    return read_json(VALIDATION, made_by="dvc repro validate")


def _failed(validation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    failed = [one for one in validation.get("expectations", ()) if not one["success"]]
    return sorted(failed, key=lambda one: str(one["severity"]))
