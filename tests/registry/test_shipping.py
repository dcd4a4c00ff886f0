"""mien.registry.shipping: what comes with the package is a real champion with a true card, or stays as it was."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.inference.champion import SHIPPED, Card, read_card, write_card
from mien.inference.tta import Tta
from mien.monitoring.drift_windows import PROFILE_FILE
from mien.registry import shipping

SCORES = {"n": 9, "accuracy": 0.5, "accuracy_ci": [0.4, 0.6], "macro_f1": 0.4, "uar": 0.3, "nll": 1.0, "brier": 0.6,
          "ece": 0.1}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, champion_folder: Path, card: Card) -> Path:
    """A project with a champion of real faces, and the report that evaluated it."""
    place = tmp_path / "champion"
    place.mkdir()
    model = (champion_folder / "model.onnx").read_bytes()
    (place / "model.onnx").write_bytes(model)
    write_card(place, dataclasses.replace(card, synthetic=False, data_name="fer2013"))
    recall = {name: round(0.9 - 0.1 * n, 1) for n, name in enumerate(EMOTIONS)}
    report: dict[str, Any] = {
        "winner": "cnn",
        "families": {
            "cnn": {"onnx_sha256": hashlib.sha256(model).hexdigest(), "parameters": 1234, "validation": SCORES}
        },
        "test": {**SCORES, "without_leaks": SCORES, "recall": recall, "support": dict.fromkeys(EMOTIONS, 5)},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    return tmp_path


def ship(project: Path) -> Card:
    return shipping.ship(project / "champion", project / "evaluation.json", project / "package" / "shipped")


def test_a_shipped_champion_replaces_the_last_one_whole(project: Path) -> None:
    target = project / "package" / "shipped"
    target.mkdir(parents=True)
    (target / "stale").touch()
    ship(project)
    assert sorted(path.name for path in target.iterdir()) == ["CARD.md", "champion.json", "model.onnx"]
    # YuNet's file does not come with the package, so a user's is taken where there is one.
    assert read_card(target) == dataclasses.replace(read_card(project / "champion"), detector="auto")
    assert [path.name for path in target.parent.iterdir()] == ["shipped"]
    result = (target / "CARD.md").read_text()
    assert "1,234 parameters" in result
    assert "| PrivateTest, whole | 9 | 50.00% (40.0% to 60.0%) | 0.400 |" in result
    assert "Neutral, surprise and sad are recognised least often" in result
    assert "mirror" not in result
    assert "teachers" not in result


def test_a_shipped_student_names_its_teachers(project: Path) -> None:
    report = json.loads((project / "evaluation.json").read_text())
    report["families"]["cnn"]["distil"] = {"teachers": {"wide": "0a", "deep": "0b"}}
    report["families"]["deep"] = {"start_sha256": "5a5a"}
    (project / "evaluation.json").write_text(json.dumps(report))
    ship(project)
    assert (
        "Its teachers, trained on the same faces: wide, deep. "
        "`deep` began with the weights of the model shipped before, SHA-256 `5a5a`."
        in (project / "package" / "shipped" / "CARD.md").read_text()
    )


def test_the_scores_of_another_way_of_looking_say_whether_it_is_served(project: Path) -> None:
    report, tta = json.loads((project / "evaluation.json").read_text()), Tta("multi_scale", (44, 52))
    report["test"]["tta"] = SCORES | tta.as_report()
    (project / "evaluation.json").write_text(json.dumps(report))
    words = "| PrivateTest, whole, TTA: 4 times, at sizes of 44, 52 pixels and in the mirror"
    for crops, row in ((tta.crops, f"{words} | 9 |"), ((44, 48), f"{words} (not served) | 9 |")):
        card = read_card(project / "champion")
        write_card(project / "champion", dataclasses.replace(card, tta="multi_scale", crops=crops))
        ship(project)
        assert row in (project / "package" / "shipped" / "CARD.md").read_text()


def refused(project: Path, message: str) -> None:
    target = project / "package" / "shipped"
    target.mkdir(parents=True)
    (target / "kept").touch()
    with pytest.raises(MienError, match=message):
        ship(project)
    assert [path.name for path in target.iterdir()] == ["kept"]


def test_the_training_profile_goes_with_the_champion(project: Path) -> None:
    (project / "champion" / PROFILE_FILE).write_text("{}")
    ship(project)
    assert (project / "package" / "shipped" / PROFILE_FILE).read_text() == "{}"


def test_a_champion_of_drawn_faces_is_not_shipped(project: Path, card: Card) -> None:
    write_card(project / "champion", card)
    refused(project, "drawn faces")


def test_a_champion_too_large_to_download_is_not_shipped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MAX_BYTES", 100)
    refused(project, "at most 100 are shipped")


def test_scores_of_another_model_are_not_shipped(project: Path) -> None:
    with (project / "champion" / "model.onnx").open("ab") as model:
        model.write(b"\0")
    refused(project, r"evaluation.json is not about .*model.onnx")


def test_without_a_champion_of_its_own_a_project_has_nothing_to_ship(project: Path) -> None:
    (project / "champion" / "model.onnx").unlink()
    refused(project, "no champion")


def test_the_card_of_the_shipped_model_tells_what_it_is_not_for() -> None:
    result = (SHIPPED / "CARD.md").read_text()
    assert "Not meant for" in result
    assert read_card(SHIPPED).data_digest in result
