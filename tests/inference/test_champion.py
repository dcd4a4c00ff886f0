"""mien.inference.champion: where the champion stands, and what its card must say."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.inference import champion
from mien.inference.champion import Card


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No champion in the current folder or in the environment."""
    monkeypatch.delenv(champion.CHAMPION_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_card_comes_back_as_it_was_written(tmp_path: Path, card: Card) -> None:
    champion.write_card(tmp_path, dataclasses.replace(card, metrics={"test_accuracy": 0.5}))
    assert champion.read_card(tmp_path) == dataclasses.replace(card, metrics={"test_accuracy": 0.5})


def test_what_a_later_card_says_more_is_left_alone(tmp_path: Path) -> None:
    content = {"version": 7, "temperature": 1, "uncertain_below": 0, "detector": "haar", "new": "thing"}
    (tmp_path / "champion.json").write_text(json.dumps(content))
    assert champion.read_card(tmp_path) == Card("7", 1.0, 0.0, "haar")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": "warm"},
        {"temperature": None},
        {"uncertain_below": 2},
        {"low_confidence_below": -0.1},
        {"too_small_below": -1},
        {"blurry_below": "very"},
        {"version": ...},
        {"tta": "thrice"},
        {"tta": "ten_crop", "crops": [50]},
        {"tta": "ten_crop", "crops": "wide"},
    ],
    ids=str,
)
def test_a_card_that_would_make_answers_wrong_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    content = {"version": "1", "temperature": 1.0, "uncertain_below": 0.4, "detector": "haar", **change}
    (tmp_path / "champion.json").write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    with pytest.raises(MienError, match=rf"^{re.escape(str(tmp_path))}.* is no champion's card.* `dvc repro`\.$"):
        champion.read_card(tmp_path)


def test_without_any_other_the_champion_that_comes_with_the_package_is_served() -> None:
    place = champion.folder()
    assert place == champion.SHIPPED
    assert not champion.read_card(place).synthetic
    assert sum(path.stat().st_size for path in place.iterdir()) < 10_000_000


def test_half_a_champion_is_none_and_is_not_passed_over(tmp_path: Path, champion_folder: Path) -> None:
    for place in (tmp_path / "half", tmp_path / "models" / "champion"):
        place.mkdir(parents=True)
        shutil.copy(champion_folder / "model.onnx", place)
    with pytest.raises(MienError, match=r"no champion in .*half.*dvc repro"):
        champion.folder(tmp_path / "half")
    with pytest.raises(MienError, match=r"no champion in .*models/champion"):
        champion.folder()


def test_the_chosen_folder_beats_the_environment_and_that_the_project(
    tmp_path: Path, champion_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chosen", "named", "models/champion"):
        shutil.copytree(champion_folder, tmp_path / name)
    assert champion.folder() == Path("models/champion")
    assert champion.folder(root=tmp_path) == tmp_path / "models" / "champion"
    monkeypatch.setenv(champion.CHAMPION_VARIABLE, str(tmp_path / "named"))
    assert champion.folder() == tmp_path / "named"
    assert champion.folder(tmp_path / "chosen") == tmp_path / "chosen"


def test_a_named_folder_without_a_champion_is_not_passed_over(
    tmp_path: Path, champion_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    monkeypatch.setenv(champion.CHAMPION_VARIABLE, str(tmp_path / "typo"))
    with pytest.raises(MienError, match="typo"):
        champion.folder()
