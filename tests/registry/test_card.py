"""Model card and data card, written from reports like those of a run."""

import html.parser
from pathlib import Path
from typing import Any

import pytest

from mien.emotions import EMOTIONS
from mien.registry import card, data_card, model_card
from mien.registry.card import Card, Facts, Section, Table

SCORES = {
    "n": 3301,
    "accuracy": 0.66,
    "accuracy_ci": [0.64, 0.68],
    "macro_f1": 0.6,
    "macro_f1_ci": [0.58, 0.63],
    "uar": 0.59,
    "nll": 0.9,
    "ece": 0.02,
}


def facts(*, synthetic: bool = False, **changes: Any) -> Facts:
    """What a run leaves; `changes` go into the evaluation."""
    name = "synthetic sample" if synthetic else "fer2013"
    support = dict(zip(EMOTIONS, (491, 55, 528, 879, 594, 416, 626), strict=True))
    evaluation = {
        "winner": "cnn",
        "families": {"cnn": {"validation": SCORES, "seconds": 3600.0}, "vgg16": {"seconds": 1800.0}},
        "temperature": 0.94,
        "served": {"description": "once", "temperature": 0.94},
        "test": {**SCORES, "without_leaks": SCORES, "recall": dict.fromkeys(EMOTIONS, 0.6), "support": support},
        "data": {"name": name, "digest": "d1ce", "synthetic": synthetic},
        "runtime": {"backend": "openvino", "precision": "bf16"},
    }
    champion = {"version": "1", "family": "vgg16", "n": 3309}
    promotion = {
        "model": "mien",
        "version": "2",
        "champion": {"version": "2"},
        "run_id": "4u",
        "reason": "cnn beats the champion <vgg16>.",
        "rules": [{"rule": "floor", "passed": True, "message": "macro-F1 0.6, at least 0.35"}],
        "comparison": {"gain": 0.05, "interval": [0.01, 0.09], "p_value": 0.003},
        "scores": {"challenger": {"bytes": 5_205_055, "milliseconds": 1.5}, "champion": champion},
    }
    info = {
        "name": name,
        "digest": "d1ce",
        "counts": {"train": dict.fromkeys(EMOTIONS, 1000), "test": support},
        "excluded": {"copy": 1168},
        "flagged": {"leaked": 568},
    }
    leak = {
        "name": "leaks.test",
        "severity": "warning",
        "success": False,
        "observed": "282 | 3,589",
        "expected": "none",
    }
    drift = {"name": "class_drift.test", "severity": "warning", "success": False, "observed": 0.031, "expected": "less"}
    validation = {"success": True, "data": {"name": name, "digest": "d1ce"}, "expectations": [leak, drift]}
    training = {
        "parameters": 1_303_039,
        "seconds": 3600.0,
        "epochs": 30,
        "precision": "float32",
        "hardware": {"processor": "Xeon", "cores": 2, "gpus": [], "backend": "tensorflow"},
        "data": {"rows": 27_402},
    }
    lineage = {"git.commit": "c0de", "dvc.lock": "10c", "dvc.data": "45ef.dir", "batch.000_x.parquet": "abba"}
    return Facts(evaluation | changes, promotion, info, validation, training, lineage, Path("nowhere"))


class Page(html.parser.HTMLParser):
    """Collects tags, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the tag and where it points."""
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        """Remember the text."""
        self.text += data


def test_the_model_card_says_what_it_is_for_and_what_it_scored() -> None:
    text = card.render(model_card.make(facts()), "md").replace("\u00a0", " ")
    for needed in (
        "# Model card: cnn, version 2 of mien",
        "**Champion.** cnn beats the champion",
        "Article 5(1)(f) of Regulation (EU) 2024/1689",
        "except for medical or safety reasons",
        "Annex III, point 1(c)",
        "Article 50(3)",
        "Recital 44",
        "| test, whole split | 3,301 | 66.0% (64.0% to 68.0%) | 0.600 (0.580 to 0.630) |",
        "| disgust | 55 | 60.0% (46.8% to 71.9%) |",
        "macro-F1 +0.0500 (interval +0.0100 to +0.0900), McNemar mid-p 0.003",
        "60.0 min, 30 epochs of 27,402 faces",
        "90.0 min, without the searches",
        "about 20 Wh: not metered, but 2 cores at an assumed 10 W each for 1.00 h",
        "| Git commit | c0de |",
    ):
        assert needed in text
    assert "Robustness" not in text
    assert len(model_card.summary(facts())) < 5000


def test_a_number_before_calibration_says_so_beside_one_after_it() -> None:
    before = {"nll": 1.1, "brier": 0.5, "ece": 0.069}
    told = facts(test={**facts().evaluation["test"], "before_temperature": before})
    lines = card.render(model_card.make(told), "md").splitlines()
    rows = {line.split(" | ")[0]: line for line in lines if "0.0" in line}
    named = {name for name, line in rows.items() if "0.069" in line or name.startswith("| validation")}
    assert named == {
        "| test, whole split, before calibration",
        "| validation, without leaked images, before calibration",
    }


def test_robustness_and_energy_are_told_only_where_they_were_measured() -> None:
    levels = {word: {"level": f"σ {n}", "accuracy": n / 10} for n, word in enumerate(("mild", "medium", "strong"), 3)}
    measured = {"n": 3301, "split": "test, clean", "clean": {"accuracy": 0.66}, "corruptions": {"blur": levels}}
    robust = card.render(model_card.make(facts(robustness=measured)), "md")
    assert "## Robustness" in robust
    assert "Accuracy on 3,301 faces (test, clean)" in robust
    assert "| damage | mild | medium | strong |" in robust
    assert "| blur | 30.0% (σ 3) | 40.0% (σ 4) | 50.0% (σ 5) |" in robust
    known = facts()
    known.training["hardware"]["gpus"].append("H100")
    assert "not metered, and not estimated" in card.render(model_card.make(known), "md")


def test_the_card_tells_how_it_looks_at_faces_and_what_being_unsure_is_worth() -> None:
    unsure = {
        "below": 0.4, "coverage": 0.866, "accuracy": 0.724, "accuracy_ci": [0.708, 0.739],
        "accuracy_of_uncertain": 0.358, "curve": [{"coverage": 1.0, "accuracy": 0.675, "confidence": 0.218}],
    }  # fmt: skip
    served = {"description": "twice, also in the mirror", "temperature": 0.894}
    known = facts(uncertain=unsure, served=served)
    known.evaluation["test"]["tta"] = SCORES | {
        "description": "6 times, at sizes of 44, 48, 52 pixels and in the mirror"
    }
    result = card.render(model_card.make(known), "md").replace("\u00a0", " ")
    assert "| test-time augmentation | twice, also in the mirror |" in result
    assert "| test, whole split, TTA: 6 times, at sizes of 44, 48, 52 pixels and in the mirror |" in result
    assert "| temperature | 0.894, fitted on validation |" in result
    assert "less than 40% is answered `uncertain`" in result
    assert "86.6% of the faces are above that, and 72.4% (70.8% to 73.9%) of those are named right" in result
    assert "| 100% | 67.5% | 0.22 |" in result
    plain = card.render(model_card.make(facts()), "md")
    assert "| test-time augmentation | once |" in plain
    assert "whole split, seen" not in plain
    assert "unsure" not in plain


def test_what_chance_does_to_the_recipe_is_told() -> None:
    result = {"accuracy": {"mean": 0.7012, "sd": 0.0034}}
    others = {"families": ["a", "b"], "seeds": [1, 2], "validation": {}}
    own = {"families": ["cnn", "cnn_8"], "seeds": [7, 8], "validation": {}, "test": result | {"without_leaks": result}}
    text = card.render(model_card.make(facts(seeds=[others, own])), "md")
    assert "The same recipe with the seeds 7, 8: test accuracy 70.1 ± 0.3 % and 70.1 ± 0.3 % without images" in text
    assert "seeds 1, 2" not in text


def test_a_second_opinion_is_told_where_there_is_one() -> None:
    scored = {key: {"accuracy": 0.7, "accuracy_ci": [0.68, 0.72]} for key in ("fer2013", "ferplus", "either")}
    found = {"n": 3350, "unsettled": 239, "labels_agree": 0.656, **scored, "without_leaks": {"n": 3076, **scored}}
    result = card.render(model_card.make(facts(ferplus=found)), "md").replace("\u00a0", " ")
    assert "the two labels agree on 65.6%" in result
    assert "| named right by | all 3,350 | 3,076 not also in training |" in result
    assert "| either | 70.0% (68.0% to 72.0%) | 70.0% (68.0% to 72.0%) |" in result


def test_a_refused_version_is_called_so() -> None:
    known = facts()
    refused = Facts(**{**vars(known), "promotion": {**known.promotion, "champion": {"version": "1"}}})
    assert model_card.make(refused).verdict == "Not promoted"
    nobody = Facts(**{**vars(known), "promotion": {**known.promotion, "champion": None, "comparison": None}})
    assert not model_card.make(nobody).good


def test_drawn_faces_make_a_model_for_nobody() -> None:
    drawn = facts(synthetic=True)
    text = card.render(model_card.make(drawn), "md")
    assert "for no use on people" in text
    assert "Sorting or searching pictures" not in text
    assert "say nothing of real ones" in model_card.summary(drawn)
    result = card.render(data_card.make(drawn), "md")
    assert "Drawn by Mien itself" in result
    assert "The people shown" not in result


def test_the_data_card_says_where_the_faces_come_from_and_what_is_doubtful() -> None:
    text = card.render(data_card.make(facts()), "md")
    for needed in (
        "# Data card: fer2013",
        "**Fit to train on.**",
        "FER+",
        "| angry | 1,000 | 491 |",
        "| all | 7,000 | 3,589 |",
        "| excluded | copy | 1,168 |",
        "| leaks.test | warning | 282 \\| 3,589 | none |",
        "| 000_x.parquet | md5 abba |",
    ):
        assert needed in text
    known = facts()
    for validation in ({}, {**known.validation, "data": {"digest": "of others"}}):
        assert data_card.make(Facts(**{**vars(known), "validation": validation})).verdict == "Not validated"
    assert "Nothing is known here" in card.render(
        data_card.make(Facts(**{**vars(known), "info": {**known.info, "name": "my faces"}})), "md"
    )


@pytest.mark.parametrize("make", [model_card.make, data_card.make])
def test_the_page_opens_offline_and_runs_nothing(make: Any, tmp_path: Path) -> None:
    card.write(tmp_path, "card", make(facts()))
    page = Page((tmp_path / "card.html").read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert (tmp_path / "card.md").read_text(encoding="utf-8").startswith("# ")


def test_the_page_escapes_what_stands_in_reports_and_embeds_pictures(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(b"png")
    section = Section(
        "S", ["<b>x</b>"], ["<i>"], Table(("a",), [("<td>",)], bars=[0.5]), [(tmp_path / "chart.png", "<c>")]
    )
    text = card.render(Card("<t>", "Good", True, "<l>", [section]), "html")
    page = Page(text)
    assert not {"b", "t", "l", "c"} & set(page.tags)
    assert page.addresses == ["data:image/png;base64,cG5n"]
    assert "width: 50.0%" in text
    assert "<b>x</b>" in page.text
