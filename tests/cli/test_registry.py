"""`mien champion`, `mien rollback` and `mien lineage` on a registry of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mien.cli.main import main
from mien.errors import MienError
from mien.files import write_json
from mien.registry import promotion_log, tracking
from mien.registry.promotion_log import Entry
from mien.registry.tracking import versions
from mien.stages import package

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(store: Path, write_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose champion is version 2 and was version 1, with Bentos that cost no time."""
    shutil.copy(ROOT / "params.yaml", store / "params.yaml")
    (store / "reports").mkdir()
    (store / "reports" / "promotion.json").write_text('{"model": "mien"}')
    for number in ("1", "2"):
        onnx = write_model(store / "model.onnx", sharpness=0.01 * int(number))
        with tracking.run("mien", "cnn") as run:
            run.log_model(onnx, {})
        tags = {"family": "cnn", "temperature": "1.0", "validation_macro_f1": "0.5", "data.digest": "d1ce55" * 8}
        versions.register("mien", run.id, tags)
        log = promotion_log.read("mien")
        promotion_log.append("mien", Entry("promotion", number, log.champion, log.head, f"{number} is better."))
        promotion_log.settle("mien")
    monkeypatch.setattr(package, "build", lambda *_: ("mien:v1-20260101-000000", store / "bento"))
    return store


def mien(*arguments: str) -> Result:
    """The command as people type it."""
    return CliRunner().invoke(main, arguments)


@pytest.mark.usefixtures("project")
def test_champion_shows_who_serves_and_the_log() -> None:
    said = mien("champion").output
    assert "champion    version 2    cnn              validation macro-F1 0.5000" in said
    assert "previous    version 1" in said
    assert "challenger  none" in said
    assert "UTC  promoted version 2, by " in said
    assert "2 is better." in said
    assert "points to" not in said
    assert "1 is better." not in mien("champion", "--last", "1").output
    result = json.loads(mien("champion", "--json").output)
    assert (result["champion"], result["previous"], len(result["log"])) == ("2", "1", 2)


def test_an_empty_registry_has_the_shipped_champion(store: Path) -> None:
    shutil.copy(ROOT / "params.yaml", store / "params.yaml")
    said = mien("champion").output
    assert "champion    shipped      student          validation macro-F1 0.6591" in said
    assert "came with the package" in said
    assert json.loads(mien("champion", "--json").output)["champion"] == "shipped"
    for question in ("1", "champion", "shipped", "mien:shipped-20260101-000000"):
        found = mien("lineage", question)
        assert found.output.startswith("mien shipped with the package, found by "), question
        assert "fer2013 f2ebfc4ef22d" in found.output


def test_where_data_are_anothers_the_shipped_model_is_no_champion(store: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (store / "params.yaml").write_text(text.replace("  shipped: true", "  shipped: false"))
    assert "Nothing in the registry" in mien("lineage", "1").stderr
    assert "shipped with the package" in mien("lineage", "shipped").output


@pytest.mark.usefixtures("project")
def test_champion_tells_of_an_alias_that_stands_elsewhere() -> None:
    versions.set_alias("mien", "champion", "1")
    said = mien("champion").output
    assert "champion    version 2" in said
    assert "The alias champion points to 1, the log says version 2" in said


def test_rollback_restores_logs_and_packages(project: Path) -> None:
    result = mien("rollback", "--why", "Users complained.")
    assert result.exit_code == 0, result.output
    assert "Version 1 of mien is champion again, instead of version 2." in result.output
    assert "Packaged as mien:v1-20260101-000000." in result.output
    assert json.loads((project / "models/champion/champion.json").read_text())["version"] == "1"
    assert json.loads((project / "reports/bento.json").read_text())["model_version"] == "1"
    assert versions.aliases("mien") == {"champion": "1"}
    said = mien("champion").output
    assert "restored version 1" in said
    assert "withdrawn   version 2" in said
    assert "Users complained." in said
    assert "mien version 1 (champion), found by bento" in mien("lineage", "mien:v1-20260101-000000").output
    again = mien("rollback")
    assert again.exit_code == 1
    assert "There is no champion of 'mien' to go back to" in again.stderr
    assert mien("rollback", "--to", "2").exit_code == 0
    assert versions.aliases("mien")["champion"] == "2"
    assert "withdrawn   version 2" not in mien("champion").output


PIPELINE = """
stages:
  package:
    cmd: mien package --promotion reports/promotion.json --champion models/champion --report reports/bento.json
    deps: [reports/promotion.json]
    outs:
      - models/champion: {persist: true}
      - reports/bento.json: {cache: false}
"""


def test_a_rollback_leaves_dvc_with_nothing_changed(project: Path) -> None:
    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (project / "dvc.yaml").write_text(PIPELINE)
    (project / "models/champion").mkdir(parents=True)
    (project / "models/champion/model.onnx").write_text("the champion of before")
    write_json(project / "reports/bento.json", {})
    dvc("init", "--no-scm", "--quiet")
    dvc("commit", "--force", "--quiet", "package")
    said = mien("rollback")
    assert "dvc.lock knows of it." in said.output, said.output
    assert dvc("status") == "Data and pipelines are up to date.\n"
    (project / "dvc.yaml").write_text("stages: {")
    assert "dvc.lock does not know of it (" in mien("rollback", "--to", "2").output


@pytest.mark.usefixtures("project")
def test_a_rollback_that_cannot_package_says_what_is_done_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MienError("The disk is full.")

    monkeypatch.setattr(package, "build", fail)
    result = mien("rollback")
    assert result.exit_code == 1
    assert (
        "The registry is rolled back, but models/champion is not: The disk is full. Then run `mien package"
        in result.stderr
    )
    assert versions.aliases("mien")["champion"] == "1"


@pytest.mark.usefixtures("project")
def test_lineage_prints_a_table_or_json() -> None:
    said = mien("lineage", "champion").output
    assert said.startswith("mien version 2 (champion), found by version\n  family")
    assert "d1ce55" * 8 in said
    assert [one["version"] for one in json.loads(mien("lineage", "d1ce55", "--json").output)] == ["1", "2"]
    result = mien("lineage", "nobody")
    assert result.exit_code == 1
    assert "Nothing in the registry of 'mien' matches 'nobody'" in result.stderr


@pytest.mark.usefixtures("store")
def test_an_empty_registry_is_told_as_such(store: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (store / "params.yaml").write_text(text.replace("  shipped: true", "  shipped: false"))
    said = mien("champion").output
    assert said.startswith("champion    none\nprevious    none\nchallenger  none\n")
    assert "The promotion log is empty." in said
