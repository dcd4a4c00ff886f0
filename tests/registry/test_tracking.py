"""mien.registry.tracking against a real MLflow database in a folder of its own."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.registry import tracking
from mien.registry.tracking.store import tracking_uri


def stored(run_id: str) -> Any:
    """The run as MLflow keeps it."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri()).get_run(run_id)


def artifacts(run_id: str, folder: str = "") -> set[str]:
    """Paths that MLflow lists for the run."""
    from mlflow import MlflowClient

    return {file.path for file in MlflowClient(tracking_uri()).list_artifacts(run_id, folder)}


def leave_a_run(error: type[BaseException] | None = None, *, prune: bool = False) -> str:
    """A run that this exception ended."""
    with suppress(*([error] if error else [])), tracking.run("mien", "cnn") as run:
        if prune:
            run.prune()
        if error:
            raise error
    return run.id


@pytest.mark.usefixtures("store")
def test_a_trial_is_the_child_of_its_family() -> None:
    with tracking.run("mien", "cnn") as parent, tracking.run("mien", "trial 0", parent=parent.id) as child:
        child.log_params({"train.learning_rate": 0.1, "model.blocks": [[32], [64]]})
        for epoch in (1, 2, 3):
            child.log_metrics({"val_accuracy": epoch / 10, "loss": 1 / epoch}, step=epoch)
    found = stored(child.id)
    assert found.data.tags["mlflow.parentRunId"] == parent.id
    assert found.data.params == {"train.learning_rate": "0.1", "model.blocks": "[[32], [64]]"}
    assert found.data.metrics["val_accuracy"] == 0.3
    assert {stored(parent.id).info.status, found.info.status} == {"FINISHED"}


@pytest.mark.usefixtures("store")
def test_a_pruned_trial_is_not_failed_though_an_exception_ends_it() -> None:
    run_id = leave_a_run(RuntimeError, prune=True)
    assert stored(run_id).info.status == "FINISHED"
    assert stored(run_id).data.tags["pruned"] == "true"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_what_ends_a_run_decides_its_status(error: type[BaseException], status: str) -> None:
    assert stored(leave_a_run(error)).info.status == status


@pytest.mark.usefixtures("store")
def test_a_run_that_was_cut_short_is_taken_up_again() -> None:
    run_id = leave_a_run(ValueError)
    with tracking.run("mien", "cnn", resume=run_id) as again:
        again.log_metrics({"loss": 1}, step=2)
    assert again.id == run_id
    assert stored(run_id).info.status == "FINISHED"
    with tracking.run("mien", "cnn", resume="0" * 32) as other:
        assert other.id != run_id


def test_a_run_tells_where_it_comes_from(store: Path) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*author, "commit", "-q", "-m", "a", "--allow-empty"]):
        subprocess.run(["git", *command], cwd=store, check=True)
    (store / "data").mkdir()
    (store / "data" / "raw.dvc").write_text("outs:\n- md5: 0123abc.dir\n  path: raw\n")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=store, check=True, capture_output=True, text=True)
    with tracking.run("mien", "cnn", tags={"hardware": "one GPU"}) as run:
        run.log_dataset("fer2013", "ab" * 32, 28_709)
    found = stored(run.id)
    assert found.data.tags["git.commit"] == found.data.tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert found.data.tags["dvc.data"] == "0123abc.dir"
    assert found.data.tags["data.digest"] == "ab" * 32
    assert found.data.tags["hardware"] == "one GPU"
    assert found.data.tags["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.inputs.dataset_inputs[0].dataset.name == "fer2013"


def test_the_data_hash_is_read_from_the_lock_file_too_and_a_broken_one_costs_only_the_tag(store: Path) -> None:
    from mien.registry import provenance

    assert provenance.data_hash(store) == ""
    (store / "dvc.lock").write_text(
        "stages:\n  prepare:\n    deps:\n    - {path: src, md5: 1}\n    - {path: data/raw, md5: 45ef.dir}\n"
    )
    assert provenance.data_hash(store) == "45ef.dir"
    (store / "dvc.lock").write_text("<<<<<<< HEAD\n")
    assert provenance.data_hash(store) == ""


def test_system_metrics_environment_and_files_are_kept(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    (store / "charts").mkdir()
    (store / "charts" / "curve.png").write_bytes(b"png")
    with tracking.run("mien", "cnn", system_metrics=True) as run:
        run.log_artifact(store / "charts", "charts")
        run.log_artifact(store / "charts" / "curve.png")
        while "system/cpu_utilization_percentage" not in stored(run.id).data.metrics:
            time.sleep(0.05)
    assert artifacts(run.id) == {"environment.txt", "charts", "curve.png"}
    tracking.attach(run.id, store / "charts", "evaluation")
    assert artifacts(run.id, "evaluation") == {"evaluation/curve.png"}


def test_a_server_that_is_down_is_one_message_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(MienError, match=f"No MLflow server answers at {address}.*Start it"):
            leave_a_run()


def test_a_database_that_is_none_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.db").write_text("not a database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'broken.db'}")
    with pytest.raises(MienError, match=r"broken\.db refused.*Mend that"):
        tracking.exists("0" * 32)


@pytest.mark.usefixtures("store")
def test_a_temporary_workspace_of_dvc_logs_to_its_projects_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / ".dvc" / "tmp" / "exps" / "tmpx1" / "inside"
    workspace.mkdir(parents=True)
    (tmp_path / "file.txt").write_text("kept")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(workspace)
    with tracking.run("mien", "from a workspace") as run:
        run.log_artifact(tmp_path / "file.txt")
    shutil.rmtree(workspace.parent)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.exists(run.id)
    assert artifacts(run.id) == {"file.txt"}
    assert [path.read_text() for path in (tmp_path / "mlruns").rglob("file.txt")] == ["kept"]


def test_only_a_run_that_the_store_has_exists() -> None:
    assert tracking.exists(leave_a_run())
    assert not tracking.exists("0" * 32)


def test_importing_the_modules_loads_no_mlflow() -> None:
    code = "import sys, mien.registry.tracking, mien.registry.tracking.versions; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
