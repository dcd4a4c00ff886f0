"""The report: what it says for each way in which a retraining can end, and what it must not show."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.data import raw
from mien.errors import MienError
from mien.files import write_json
from mien.retraining import html_report, outcome, report, revisions
from mien.retraining.changes import Changes, Row
from mien.retraining.outcome import Outcome
from mien.retraining.report import Facts

SCORES = {
    "n": 100,
    "version": "",
    "macro_f1": 0.7,
    "accuracy": 0.71,
    "ece": 0.02,
    "recall": {"angry": 0.5, "sad": 0.6},
}


def judgement(*, promoted: bool, champion: str | None = "1", **more: Any) -> dict[str, Any]:
    candidate = {"version": "2", "macro_f1": 0.7}
    result = {
        "promoted": promoted,
        "reason": "Because of | this <b>and</b> @somebody.",
        "candidate": candidate,
        "champion": candidate if promoted else {"version": champion} if champion else None,
        "scores": {"challenger": SCORES, **({"champion": {**SCORES, "version": champion}} if champion else {})},
        "rules": [
            {"rule": "floor", "passed": True, "message": "fine"},
            {"rule": "better", "passed": promoted, "message": "so"},
        ],
    }
    return result | more


def rendered(ended: Outcome, **more: Any) -> str:
    facts = Facts(ended, base="a" * 40, name="faces", changes=Changes(same=7))
    return report.render(replace(facts, **more))


def test_a_challenger_that_would_win_is_said_to_wait_for_the_merge() -> None:
    ended = outcome.judged(judgement(promoted=True, judged_only=True))
    text = rendered(ended)
    assert (ended.name, ended.code) == ("accepted", 0)
    assert "Version 1 keeps serving. Once this is merged, main judges" in text
    assert "| better | passed | so |" in text
    assert "| recall of sad | 0.6000 | 0.6000 | +0.0000 |" in text


def test_a_first_champion_is_compared_with_nobody() -> None:
    text = rendered(outcome.judged(judgement(promoted=True, champion=None)))
    assert "Version 2 is champion and packaged" in text
    assert "The challenger on the same 100 validation faces" in text
    assert "mien rollback" not in text
    assert "`mien rollback` brings back" in rendered(outcome.judged(judgement(promoted=True)))


def test_a_refusal_names_the_rule_and_says_who_keeps_serving() -> None:
    ended = outcome.judged(judgement(promoted=False))
    assert ended.code == 11
    assert "| better | **refused** | so |" in rendered(ended)
    assert "Version 1 keeps serving" in rendered(ended)


def test_the_shipped_model_is_named_as_such() -> None:
    text = rendered(outcome.judged(judgement(promoted=False, champion="shipped")))
    assert "The shipped model keeps serving" in text
    assert "| | champion (shipped) | challenger | change |" in text


def test_a_refusal_without_any_champion_promises_none() -> None:
    text = rendered(outcome.judged(judgement(promoted=False, champion=None)))
    assert "There is no champion yet" in text
    assert "keeps serving" not in text


def test_stopped_data_have_no_challenger_and_name_the_broken_expectations() -> None:
    broken = {
        "name": "probe.train",
        "severity": "critical",
        "success": False,
        "observed": "0.1",
        "expected": "0.4",
        "rows": ["a|b.png"],
    }
    validation = {"success": False, "critical": 1, "warnings": 0, "profile": "fer2013", "expectations": [broken]}
    text = rendered(Outcome("stopped", "Broken."), validation=validation)
    assert "There is no challenger" in text
    assert r"| critical | probe.train | 0.1; first rows a\|b.png | 0.4 |" in text
    assert "### The gate" not in text
    assert "### Scores" not in text


def test_foreign_text_cannot_break_tables_add_html_or_call_people() -> None:
    text = rendered(outcome.judged(judgement(promoted=False)))
    assert r"Because of \| this &lt;b&gt;and&lt;/b&gt; @" in text
    assert "@somebody" not in text


def test_the_data_are_told_by_emotion_and_split() -> None:
    came, left = Row("a", 3, "train", "a"), Row("b", 4, "test", "b")
    turned = (Row("c", 4, "train", "c"), Row("c", 2, "train", "c"))
    table = dict(report.class_table(Changes(5, (came,), (left,), (turned,))))
    assert table["happy"] == ["+1", "", ""]
    assert table["sad"] == ["from 1", "", "−1"]
    assert table["fear"] == ["to 1", "", ""]


def test_it_stays_short_enough_for_a_comment() -> None:
    numbers = {f"metric.{i}": {"old": 0.1, "new": 0.2} for i in range(5000)}
    text = rendered(
        outcome.judged(judgement(promoted=True)), metrics=numbers | {"test.accuracy": {"old": 0.1, "new": 0.2}}
    )
    assert len(text) < 65_536
    assert text.startswith(report.MARKER)
    assert "the rest is in report.json" in text


def test_the_page_has_tables_and_escapes_its_title() -> None:
    text = html_report.render("| a | b |\n| - | - |\n| 1 | 2 |", "<x>")
    assert "<td>1</td>" in text
    assert "<title>&lt;x&gt;</title>" in text


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git and DVC project with one commit and no data, to stand in."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch", "main")
    dvc("init", "--quiet")
    (tmp_path / "params.yaml").write_text("seed: 7\n")
    (tmp_path / ".gitignore").write_text("/out/\n")
    commit("Begin")
    return tmp_path


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def commit(message: str) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def fetch(name: str, *, rows: int = 4, append: bool = False, first: int = 0) -> None:
    """Bring a few noisy faces as `mien fetch` does."""
    images = [raw.pgm(np.random.default_rng(first + i).integers(0, 256, (48, 48), np.uint8)) for i in range(rows)]
    labels = [i % 7 for i in range(rows)]
    batch = raw.batch(name, images, labels, ["train"] * rows, [f"{first + i}.png" for i in range(rows)])
    raw.write(batch, Path("data/raw"), append=append)
    dvc("add", "data/raw", "--quiet")


def content(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / report.JSON).read_text())
    return result


def test_rows_are_compared_with_the_revision_before_by_their_hashes(project: Path) -> None:
    fetch("faces")
    base = commit("Four faces")
    fetch("faces", rows=3, append=True, first=100)
    commit("Three more")
    report.write(project / "out", Outcome("pending"), revisions.base())
    result = content(project / "out")
    assert result["base"] == base
    assert result["data"]["same"] == 4
    assert result["data"]["added"] == {"train": {"angry": 1, "disgust": 1, "fear": 1}}


def test_a_relabelling_of_tracked_rows_is_told_and_shown(project: Path) -> None:
    fetch("synthetic sample", rows=7)
    commit("Seven faces")
    path = next(Path("data/raw").glob("000_*"))
    table = pq.read_table(path)
    labels = pa.array([2 if label == 4 else label for label in table["emotion"].to_pylist()], pa.int8())
    path.unlink()  # a link into DVC's cache
    pq.write_table(table.set_column(1, table.schema.field("emotion"), labels), path)
    dvc("add", "data/raw")
    report.write(project / "out", Outcome("pending"), revisions.base())
    result = content(project / "out")["data"]
    assert result["relabelled"] == [{"split": "train", "from": "sad", "to": "fear", "rows": 1}]
    assert result["relabelled_rows"] == [{"origin": "4.png", "from": "sad", "to": "fear"}]
    assert (result["same"], result["added"], result["removed"]) == (6, {}, {})
    text = (project / "out/report.md").read_text()
    assert "| sad | fear | train | 1 |" in text
    assert "](relabelled.png)" in text


def test_without_an_earlier_revision_all_rows_are_new(project: Path) -> None:
    fetch("faces")
    report.write(project / "out", Outcome("pending"), None)
    assert content(project / "out")["data"]["first"]
    assert "there are no earlier data" in (project / "out/report.md").read_text()


def test_data_that_are_nowhere_to_be_had_are_said_to_be(project: Path) -> None:
    fetch("faces")
    base = commit("Four faces")
    fetch("faces", rows=3, append=True, first=100)
    shutil.rmtree(project / ".dvc/cache")
    report.write(project / "out", Outcome("pending"), base)
    assert "neither in DVC's cache nor in its remote" in (project / "out/report.md").read_text()


def test_faces_of_real_people_are_shown_only_where_somebody_asked_for_it(project: Path) -> None:
    fetch("fer2013")
    report.write(project / "out", Outcome("pending"), None)
    assert not list((project / "out").rglob("*.png"))
    report.write(project / "out", Outcome("pending"), None, faces=True)
    assert (project / "out/added.png").exists()
    report.write(project / "out", Outcome("pending"), None)
    assert not (project / "out/added.png").exists(), "an earlier report's faces are taken away"


def test_rows_that_only_went_leave_no_face_to_show(project: Path) -> None:
    fetch("synthetic sample", rows=4)
    fetch("synthetic sample", rows=3, append=True, first=100)
    base = commit("Seven faces")
    next(Path("data/raw").glob("001_*")).unlink()
    report.write(project / "out", Outcome("pending"), base)
    assert content(project / "out")["data"]["removed"] == {"train": {"angry": 1, "disgust": 1, "fear": 1}}
    assert not list((project / "out").glob("*.png"))


def test_drawn_faces_are_shown(project: Path) -> None:
    fetch("synthetic sample")
    report.write(project / "out", Outcome("pending"), None)
    assert "](added.png)" in (project / "out/report.md").read_text()


def test_drawn_faces_among_real_ones_do_not_bring_these_to_light(project: Path) -> None:
    fetch("synthetic sample")
    foreign = raw.batch("fer2013", [raw.pgm(np.full((48, 48), 90, np.uint8))], [0], ["train"], ["x.png"])
    raw.write(foreign, Path("elsewhere"))
    next(Path("elsewhere").glob("*.parquet")).rename("data/raw/001_fer2013.parquet")
    report.write(project / "out", Outcome("pending"), None)
    assert content(project / "out")["data"]["name"] == "synthetic sample + fer2013"
    assert not list((project / "out").glob("*.png"))


def test_changed_parameters_are_told(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages:\n  a:\n    cmd: touch out\n    params: [seed]\n    outs: [out]\n")
    base = commit("A stage")
    (project / "params.yaml").write_text("seed: 8\n")
    assert revisions.params(base) == {"seed": {"old": 7, "new": 8, "diff": 1}}


def test_a_base_that_is_no_commit_is_one_message(project: Path) -> None:
    with pytest.raises(MienError, match="'nowhere' is no commit here"):
        revisions.base("nowhere")
    assert revisions.base("0" * 40) is None


def test_the_base_is_where_the_branch_left_main(project: Path) -> None:
    fork = git("rev-parse", "HEAD")
    git("update-ref", "refs/remotes/origin/main", fork)
    git("switch", "--quiet", "--create", "more")
    for number in "12":
        (project / "params.yaml").write_text(f"seed: {number}\n")
        commit(f"Seed {number}")
    assert revisions.base() == fork


def test_uncommitted_changes_are_compared_with_the_last_commit(project: Path) -> None:
    assert revisions.base() is None
    (project / "params.yaml").write_text("seed: 9\n")
    assert revisions.base() == git("rev-parse", "HEAD")


def test_what_was_validated_now_is_told_from_an_older_verdict(project: Path) -> None:
    expectation = {"name": "flat", "severity": "critical", "success": False}
    result = {"success": False, "profile": "x", "data": {"digest": "new"}, "expectations": [expectation]}
    write_json(outcome.VALIDATION, result)
    write_json(outcome.PREPARED, {"digest": "newer"})
    assert outcome.observed().name == "pending"
    write_json(outcome.PREPARED, {"digest": "new"})
    assert outcome.observed().name == "stopped"
    assert "break 1 critical expectation of profile 'x': flat." in outcome.observed().message


def test_the_page_draws_both_scores_and_its_tables_scroll_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report.write(tmp_path / "out", outcome.judged(judgement(promoted=False)), None)
    page = (tmp_path / "out" / report.HTML).read_text()
    assert page.count('<i class="champion" style="width:70.0%">') == page.count('<i class="challenger"') == 1
    assert '<div class="wide"><table>' in page
    assert '<td class="refused">refused</td>' in page
    assert 'class="bars"' not in (tmp_path / "out" / report.MARKDOWN).read_text()
