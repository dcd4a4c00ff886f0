"""What stages say at their end, from the reports of the reference run and from small ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mien.cli import stage_results
from mien.cli.main import main
from mien.files import write_json

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPORTS / name).read_text())
    return content


def test_every_result_has_at_most_five_lines_and_says_what_to_type_next(tmp_path: Path) -> None:
    model = tmp_path / "model"
    said = [
        stage_results.validated(REPORTS / "validation.json", REPORTS / "data_docs"),
        stage_results.tuned(REPORTS / "tune/cnn.json"),
        stage_results.tuned(REPORTS / "tune/vgg16.json"),
        stage_results.trained(REPORTS / "train/cnn.json", model),
        stage_results.evaluated(REPORTS / "evaluation.json"),
        stage_results.promoted(REPORTS / "promotion.json", REPORTS / "cards"),
        stage_results.packaged(REPORTS / "bento.json", model),
    ]
    for text in said:
        assert len(text.splitlines()) <= 5
        assert "Next: " in text.splitlines()[-1]


def test_prepare_tells_rows_kept_excluded_and_flagged_and_emotions_without_a_face(tmp_path: Path) -> None:
    counts = {"angry": 3, "disgust": 0, "fear": 1, "happy": 2, "sad": 0, "surprise": 0, "neutral": 0}
    info = {"name": "mine", "counts": dict.fromkeys(("train", "validation", "test"), counts)}
    write_json(tmp_path / "dataset.json", info | {"excluded": {"copy": 2, "flat": 1}, "flagged": {}})
    text = stage_results.prepared(tmp_path)
    assert "mine: kept 18 of 21 rows (6 for train, 6 for validation, 6 for test)" in text
    assert "excluded 3 (copy 2, flat 1); flagged 0 (" in text
    assert "no face for training is disgust, sad, surprise, neutral" in text


def test_validation_prints_its_warnings(tmp_path: Path) -> None:
    warned = [
        {"name": name, "severity": "warning", "success": False, "observed": "angry, happy", "expected": "seven"}
        for name in ("emotion.all", "leaks.test", "class_drift.test")
    ]
    report = {"success": True, "profile": "generic", "expectations": [*warned, {"success": True}]}
    write_json(tmp_path / "validation.json", report)
    text = stage_results.validated(tmp_path / "validation.json", tmp_path)
    assert "4 expectations of profile 'generic': none critical broken, 3 warnings" in text
    assert "  emotion.all: angry, happy; expected seven" in text
    assert "  and class_drift.test" in text


def test_tune_tells_the_best_trial_and_where_it_began() -> None:
    text = stage_results.tuned(REPORTS / "tune/cnn.json")
    assert "best macro-F1 0.159 in trial 1 with train.learning_rate=0.05345, model.dropout=0.356" in text
    assert "trial 0, the values of params.yaml: 0.154" in text
    assert "vgg16: nothing to search" in stage_results.tuned(REPORTS / "tune/vgg16.json")


def test_a_family_without_epochs_has_no_best_one(tmp_path: Path) -> None:
    write_json(tmp_path / "kept.json", read("train/cnn.json") | {"epochs": 0, "best_epoch": 0})
    text = stage_results.trained(tmp_path / "kept.json", Path("models/cnn"))
    assert text.startswith("cnn: no epoch, the weights that it began with, validation accuracy")


def test_train_and_evaluate_tell_best_epoch_winner_and_scores() -> None:
    report = read("train/cnn.json")
    assert f"best epoch {report['best_epoch']} of 30, validation accuracy 63.9%, macro-F1 0.591" in (
        stage_results.trained(REPORTS / "train/cnn.json", Path("models/cnn"))
    )
    text = stage_results.evaluated(REPORTS / "evaluation.json")
    winner = read("evaluation.json")["winner"]
    assert f"winner on validation: {winner}, macro-F1 " in text
    assert "; second " in text


def test_promote_tells_whether_by_which_rule_and_who_is_champion(tmp_path: Path) -> None:
    report = read("promotion.json")
    assert stage_results.promoted(REPORTS / "promotion.json", REPORTS).startswith("Promoted: student_8 (version 1, ")
    report |= {"promoted": False, "reason": "It is worse.", "champion": report["champion"] | {"version": "shipped"}}
    report["rules"][1] |= {"passed": False}
    write_json(tmp_path / "promotion.json", report)
    text = stage_results.promoted(tmp_path / "promotion.json", REPORTS)
    assert text.startswith("Refused by better: It is worse.")
    assert "champion: student_8, the shipped model" in text


def test_a_stage_prints_its_result_after_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(main, ["fetch", "sample", "--rows", "210"]).exit_code == 0
    done = runner.invoke(main, ["prepare", "--raw", "data/raw", "--prepared", "data/prepared", "--plots", "plots"])
    assert done.exit_code == 0, done.output
    assert "synthetic sample: kept 210 of 210 rows" in done.stdout
    paths = ["--prepared", "data/prepared", "--report", "v.json", "--data-docs", "docs", "--raw", "data/raw"]
    done = runner.invoke(main, ["validate", *paths])
    assert "expectations of profile 'synthetic sample': none critical broken" in done.stdout
