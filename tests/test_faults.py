"""kill -9, a full disk and a failing remote: what was there stays, the message helps, and the next run carries on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mien.cli import main
from mien.data import sources
from mien.demo import lay_out
from mien.registry import promotions, tracking

ROOT = Path(__file__).parent.parent

KILLER = """
import os, signal, sys

stage, _, target = os.environ.get("KILL_AT", "").partition("=")
if stage and sys.orig_argv[1].endswith("mien") and sys.orig_argv[2] == stage:

    def kill(event, arguments):
        if event == "os.rename" and target in os.path.basename(os.fspath(arguments[1])):
            os.killpg(0, signal.SIGKILL)  # DVC and its shell too, as a machine without power does

    sys.addaudithook(kill)
"""

BUDGET: dict[str, Any] = {
    "tune": {"trials": 1, "minutes": 5, "epochs": 1, "max_rows": 70},
    "train": {"max_rows": 140, "batch_size": 32},
    "evaluate": {"tta": "none", "bootstrap": 0},
    "promote": {"floor": 0.0, "ece": 1.0, "milliseconds": 1e6, "lineage": ["data.digest", "dvc.lock", "run_id"]},
}
"""Seconds for each stage, and a gate that a network of eight filters passes."""

SPOTS = (
    ("prepare", "prepared", "just before the new folder takes the old one's place"),
    ("validate", "index.html", "between its report and its pages"),
    ("tune", "cnn.json", "after the last trial, before the report"),
    ("train", "last-0002", "in the second epoch's checkpoint"),
    ("evaluate", "evaluation.json", "after the plots, before the report"),
    ("promote", "promotion.json", "after the log and the aliases, before the report"),
    ("package", "champion", "while the champion's folder is exchanged"),
)


def dvc(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A DVC command in a group of processes of its own."""
    foreign = ("MLFLOW_TRACKING_URI", "MIEN_CHAMPION", "OPTUNA_STORAGE")
    own = {name: value for name, value in os.environ.items() if name not in foreign}
    own |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}", "BENTOML_HOME": str(folder / "bentoml")}
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The project's own pipeline with one tiny family, on a few hundred drawn faces, before its first run."""
    folder = tmp_path_factory.mktemp("faults") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        lay_out(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, changes in BUDGET.items():
        params[section] |= changes
    cnn = params["families"]["cnn"]
    cnn["model"], cnn["train"] = {"blocks": [[8]]}, {"epochs": 2}
    params["families"] = {"cnn": cnn}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    sources.write(sources.sample(rows=700), folder / "data" / "raw")
    shutil.copy(empty_database, folder / "mlflow.db")
    (folder / "killer").mkdir()
    (folder / "killer" / "sitecustomize.py").write_text(KILLER)
    assert dvc(folder, "init", "--quiet", "--no-scm").returncode == 0
    return folder


@pytest.fixture(scope="module")
def survivor(project: Path) -> dict[str, str]:
    """What was said by a pipeline that was killed once in each stage and then ran to its end; `end` is the last."""
    search = os.pathsep.join([str(project / "killer"), os.environ.get("PYTHONPATH", "")])
    said = {}
    for stage, target, _ in SPOTS:
        done = dvc(project, "repro", KILL_AT=f"{stage}={target}", PYTHONPATH=search)
        assert done.returncode == -signal.SIGKILL, (stage, done.stdout + done.stderr)
        said[stage] = done.stdout + done.stderr
    done = dvc(project, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return said | {"end": done.stdout + done.stderr}


def ran(output: str) -> list[str]:
    return [line.split("'")[1].partition("@")[0] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.mark.timeout(900)
def test_a_pipeline_killed_in_each_stage_carries_on_where_it_was(survivor: dict[str, str], project: Path) -> None:
    stages = [stage for stage, _, _ in SPOTS]
    for before, stage in zip([None, *stages], [*stages, "end"], strict=True):
        again = [before] if before else []
        assert ran(survivor[stage]) == [*again, stage] if stage != "end" else again, "no finished stage runs again"
    assert "epoch 2/2" in survivor["evaluate"]
    assert "epoch 1/2" not in survivor["evaluate"], "the epoch that was checkpointed is not trained again"
    done = dvc(project, "status")
    assert "up to date" in done.stdout, done.stdout


@pytest.mark.usefixtures("survivor")
def test_after_the_kills_one_version_is_champion_and_what_is_served_is_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.aliases("mien") == {"champion": "1"}
    assert [(entry.kind, entry.version) for entry in promotions.read("mien").entries] == [("promotion", "1")]
    from mien.serving.predict import Mien

    answer = Mien(project / "models" / "champion").predict(ROOT / "docs" / "img" / "confusion_matrix.png")
    assert answer["model"]["version"] == "1"
    report = json.loads((project / "reports" / "train" / "cnn.json").read_text())
    assert report["epochs"] == 2
    assert report["run_id"] == json.loads((project / "reports" / "promotion.json").read_text())["run_id"]
    assert sorted(path.name for path in project.glob("models/champion/*")) == [
        "champion.json", "data_card.html", "data_card.md", "model.onnx", "model_card.html", "model_card.md",
        "training_profile.json",
    ]  # fmt: skip
