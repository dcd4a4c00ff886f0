"""`mien jobs run` as it is typed, on a Ray cluster of this machine that `ray start` made."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from click.testing import CliRunner

from mien.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose only family is tiny, and whose search is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    shutil.copytree(prepared, "data/prepared")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    recipe = {"epochs": 6, "restart": 0, "max_rows": 140, "batch_size": 32, "precision": "float32"}
    tree |= {"families": {"cnn": {"model": {"network": "cnn", "blocks": [[8]]}, "train": recipe}}, "students": {}}
    tree["evaluate"]["ensembles"] = {}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a cluster of one node, started as docs/cluster.md does it."""
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=1"]
    start += ["--disable-usage-stats", "--include-dashboard=false", "--block"]
    with (tmp_path / "ray.log").open("w") as log:
        head = psutil.Popen(start, stdout=log, stderr=log)
    try:
        while "runtime started" not in (tmp_path / "ray.log").read_text():
            assert head.is_running(), (tmp_path / "ray.log").read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:  # not `ray stop`, which ends the clusters of other tests too
        for process in [*head.children(recursive=True), head]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(60)


def run(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mien", "jobs", "run", "jobs", "cnn", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    # A shell that starts the tests in the background lets them, and all that they start, ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_carried_on_it_comes_home(project: Path, address: str, ended_by: signal.Signals) -> None:
    with run("--cluster", address) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("cnn 1/6"))
        process.send_signal(ended_by)
        _, errors = process.communicate(timeout=60)
    if ended_by == signal.SIGINT:
        assert process.returncode == 130, errors
        assert errors.endswith(
            "error: Interrupted. Every finished trial and epoch is kept: the same command carries on.\n"
        )
    kept = json.loads((project / "jobs/cnn/state.json").read_text())["epoch"]
    assert kept >= 1
    with run("--cluster", address) as process:
        told, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert f"cnn {kept}/6" not in told, "an epoch that came back is not trained again"
    assert f"cnn {kept + 1}/6" in told
    assert told.endswith("cnn: taken to checkpoints/cnn\nNext: dvc repro\n")
    assert json.loads((project / "checkpoints/cnn/state.json").read_text())["epoch"] == 6


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_search_that_is_not_done_comes_first(project: Path, address: str) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["families"]["cnn"]["search"] = {"train.learning_rate": {"low": 0.01, "high": 0.1, "log": True}}
    tree["tune"] |= {"trials": 3, "epochs": 1, "max_rows": 140, "startup_trials": 9}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    with run("--cluster", address) as process:
        told, errors = process.communicate(timeout=380)
    assert process.returncode == 0, errors
    trials = json.loads((project / "reports/tune/cnn.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    best = max(trials, key=lambda trial: trial["value"])["params"]["train.learning_rate"]
    assert json.loads((project / "jobs/cnn/plan.json").read_text())["recipe"]["learning_rate"] == best
    assert told.index("cnn trial ") < told.index("cnn 1/6")
    assert told.endswith("cnn: taken to checkpoints/cnn\nNext: dvc repro\n")


def test_without_an_address_the_command_says_where_to_name_one(project: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    result = CliRunner().invoke(main, ["jobs", "run", "jobs", "cnn"])
    assert result.exit_code == 1
    assert "Name a Ray cluster: --cluster HOST:PORT or RAY_ADDRESS" in result.output
    assert not Path("jobs").exists()
