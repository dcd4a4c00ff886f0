"""`mien jobs` as it is typed."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mien.cli.main import main
from mien.learning.worker import Worker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose only family is tiny."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared, "data/prepared")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    recipe = {"epochs": 1, "restart": 0, "max_rows": 140, "batch_size": 32, "precision": "float32"}
    tree |= {"families": {"cnn": {"model": {"network": "cnn", "blocks": [[8]]}, "train": recipe}}, "students": {}}
    tree["evaluate"]["ensembles"] = {}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["jobs", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_trainings_are_written_looked_at_and_taken_home(project: Path) -> None:
    written = call("write", "jobs")
    assert "cnn, 1 epochs" in written
    assert "PYTHONPATH=jobs/mien.zip python -m mien.learning jobs" in written
    assert "waiting" in call("status", "jobs")
    assert "Nothing in jobs is finished" in call("take", "jobs", code=1)
    Worker(Path("jobs"), say=lambda line: None).run()
    shown = call("status", "jobs")
    assert "finished" in shown
    state = json.loads((project / "jobs/cnn/state.json").read_text())
    assert state["images"] == 140
    assert f" {140 / state['seconds']:,.0f} " in shown, "images/s"
    assert call("take", "jobs").endswith("Next: dvc repro\n")
    assert (project / "checkpoints/cnn/state.json").exists()


def test_a_refused_training_is_an_error_with_its_name(project: Path) -> None:
    call("write", "jobs")
    Worker(Path("jobs"), say=lambda line: None).run()
    (project / "jobs/cnn/weights.npz").write_bytes(b"damaged")
    assert "error: cnn: " in call("take", "jobs", code=1)


def test_an_unknown_family_is_named(project: Path) -> None:
    assert "Unknown family 'vgg'" in call("write", "jobs", "vgg", code=1)
