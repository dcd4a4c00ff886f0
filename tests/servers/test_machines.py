"""Searches and trainings on the servers of compose.yaml: several at once, killed, and cut off from them for a while."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mien.config.params import Family, Params
from mien.files import write_json
from mien.learning.training import loop
from mien.registry import metrics_outbox, tracking
from mien.registry.tracking import versions
from mien.registry.tracking.store import connect
from mien.stages import train, tune

from .conftest import PASSWORD, ROOT, Servers

pytestmark = pytest.mark.long

AWAY = 20.0
"""Seconds for which the database is away."""


@pytest.fixture
def project(running: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in whose runs and searches go to the servers; params.yaml has one tiny family."""
    monkeypatch.chdir(tmp_path)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    family = tree["families"]["cnn"]
    family["model"]["blocks"] = [[4]]
    tree |= {"families": {"cnn": family | {"train": {"batch_size": 32, "epochs": 3, "max_rows": 70}}}, "students": {}}
    tree["tune"] |= {"trials": 4, "epochs": 1, "max_rows": 70, "startup_trials": 9}  # none is pruned
    tree["evaluate"]["ensembles"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return tmp_path


@pytest.fixture
def short(project: Path) -> Params:
    from mien.config.params import load

    return load(project / "params.yaml")


def seeded(params: Params, seed: int) -> Params:
    """The same parameters for a study of its own."""
    family = params.family("cnn")
    own = Family(family.model, family.train, family.search, seed=seed)
    return dataclasses.replace(params, families={"cnn": own})


@pytest.fixture
def restart(running: Servers) -> Iterator[Callable[[], None]]:
    """Stop PostgreSQL, and start it again AWAY seconds later."""
    threads = []

    def stop() -> None:
        def start() -> None:
            time.sleep(AWAY)
            running.postgres.start()

        running.postgres.stop()
        threads.append(threading.Thread(target=start))
        threads[-1].start()

    yield stop
    for thread in threads:
        thread.join()


def search(project: Path, prepared: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """`mien tune cnn`, as it is typed on one of several machines; its report is NAME.json."""
    command = [sys.executable, "-m", "mien", "tune", "cnn", "--prepared", str(prepared)]
    command += ["--report", f"{name}.json", "--plots", name, *options]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def nested_runs(study: str) -> list[Any]:
    """The runs of a study's trials; the study has one run, which has ended well."""
    client = connect()
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], f"tags.study = '{study}'")
    assert [parent.info.status for parent in parents] == ["FINISHED"]
    nested = f"tags.mlflow.parentRunId = '{parents[0].info.run_id}'"
    return list(client.search_runs([experiment.experiment_id], nested))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_two_machines_that_tune_from_the_same_second_share_study_run_and_budget(project: Path, prepared: Path) -> None:
    machines = [search(project, prepared, name) for name in ("one", "other")]
    said = [machine.communicate(timeout=280)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert (project / "one.json").read_bytes() == (project / "other.json").read_bytes()
    assert [trial["state"] for trial in read(project / "one.json")["trials"]] == ["complete"] * 4
    assert sum(text.count("val_macro_f1") for text in said) == 4, "no trial was trained twice"
    children = nested_runs(read(project / "one" / "study.json")["study"])
    assert sorted(child.info.run_name for child in children) == [f"cnn trial {number}" for number in range(4)]
    assert {child.info.status for child in children} == {"FINISHED"}
    assert all("val_macro_f1" in child.data.metrics for child in children)


def test_a_killed_search_is_carried_on(project: Path, prepared: Path, short: Params) -> None:
    tree = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(tree | {"seed": 8}, sort_keys=False))
    killed = search(project, prepared, "report")
    assert killed.stdout
    assert any(line.startswith("cnn trial 1:") for line in killed.stdout)
    killed.kill()
    killed.communicate(timeout=30)
    assert not (project / "report.json").exists()
    again = search(project, prepared, "report")
    said, _ = again.communicate(timeout=280)
    assert again.returncode == 0, said
    assert "trial 0:" not in said, "what was finished is not trained again"
    states = [trial["state"] for trial in read(project / "report.json")["trials"]]
    assert states.count("complete") == 4
    assert states.count("fail") == len(states) - 4 <= 1
    runs = nested_runs(read(project / "report" / "study.json")["study"])
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}, "none seems to run"


def test_a_search_loses_nothing_while_the_database_is_away(
    project: Path,
    prepared: Path,
    short: Params,
    restart: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    attempt = tune._try
    begun: list[int] = []

    def stopping(trial: Any, *rest: Any, prunes: bool) -> float:
        begun.append(trial.number)
        if trial.number == 1:
            restart()
        return attempt(trial, *rest, prunes=prunes)

    monkeypatch.setattr(tune, "_try", stopping)
    tune.run("cnn", prepared, Path("cnn.json"), Path("study"), seeded(short, 9))
    assert_said(capfd.readouterr().err)
    assert begun == [0, 1, 2, 3]
    assert [trial["state"] for trial in read(Path("cnn.json"))["trials"]] == ["complete"] * 4
    children = nested_runs(read(Path("study/study.json"))["study"])
    assert {child.info.status for child in children} == {"FINISHED"}
    assert all("val_macro_f1" in child.data.metrics and child.data.params for child in children)


@pytest.fixture
def three_nodes(cluster: Any, project: Path, request: pytest.FixtureRequest) -> str:
    """The address of a Ray cluster with three cores on as many nodes; the test's own study has eight trials."""
    tree = yaml.safe_load((project / "params.yaml").read_text())
    tree["tune"] |= {"trials": 8, "minutes": 60, "epochs": 2}
    own = {"seed": len(request.node.name)}
    (project / "params.yaml").write_text(yaml.safe_dump(tree | own, sort_keys=False))
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    return str(cluster.address)


def assert_eight_trials(project: Path, most_lost: int) -> None:
    """The budget is exact, each trial has its run, and nothing was tried twice but what was lost."""
    trials = read(project / "report.json")["trials"]
    states = [trial["state"] for trial in trials]
    assert states.count("complete") == 8
    lost = [trial["params"] for trial in trials if trial["state"] == "fail"]
    assert len(lost) == len(states) - 8 <= most_lost
    values = [json.dumps(trial["params"]) for trial in trials]
    assert len(set(values)) == 8
    runs = nested_runs(read(project / "report" / "study.json")["study"])
    # A trial may have ended its run when the process died before it told the study.
    assert len(runs) == len(trials)
    assert [run.info.status for run in runs].count("FINISHED") >= 8
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}, "none seems to run"
    whole = [run for run in runs if run.info.status == "FINISHED"]
    assert all("val_macro_f1" in run.data.metrics and run.data.params for run in whole)


@pytest.mark.timeout(600)
def test_a_killed_search_on_a_cluster_is_carried_on(project: Path, prepared: Path, three_nodes: str) -> None:
    killed = search(project, prepared, "report", "--cluster", three_nodes)
    assert killed.stdout
    assert any(line.startswith("cnn trial ") for line in killed.stdout)
    killed.kill()
    killed.communicate(timeout=30)
    again = search(project, prepared, "report", "--cluster", three_nodes)
    said, _ = again.communicate(timeout=500)
    assert again.returncode == 0, said
    assert_eight_trials(project, most_lost=3)


@pytest.mark.timeout(600)
def test_a_search_on_a_cluster_loses_nothing_while_the_database_is_away(
    project: Path, prepared: Path, three_nodes: str, restart: Callable[[], None]
) -> None:
    said = list[str]()
    with search(project, prepared, "report", "--cluster", three_nodes) as machine:
        assert machine.stdout
        for line in machine.stdout:
            if line.startswith("cnn trial ") and not any(before.startswith("cnn trial ") for before in said):
                restart()
            said.append(line)
    assert machine.returncode == 0, said
    assert_said("".join(said))
    assert_eight_trials(project, most_lost=0)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_training_arrives_whole_though_the_database_was_away(
    epoch: int,
    project: Path,
    prepared: Path,
    short: Params,
    restart: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    trained: list[int] = []
    fit, tell = loop._fit_epoch, train.EpochLogger.__call__

    def counted(learner: Any, plan: Any, state: Any, *rest: Any) -> dict[str, float]:
        trained.append(state.epoch + 1)
        return fit(learner, plan, state, *rest)

    def stopping(self: train.EpochLogger, number: int, numbers: dict[str, float]) -> None:
        if number == epoch:
            restart()
        tell(self, number, numbers)

    monkeypatch.setattr(loop, "_fit_epoch", counted)
    monkeypatch.setattr(train.EpochLogger, "__call__", stopping)
    write_json(Path("tuned.json"), {"best": {"value": None, "params": {}}})
    train.run("cnn", prepared, Path("tuned.json"), Path("model"), Path("cnn.json"), Path("checkpoints"), short)
    report = read(Path("cnn.json"))
    said = capfd.readouterr().err
    assert_said(said)
    assert "its numbers are kept in" in said
    assert trained == [1, 2, 3]
    assert_arrived(report, Path("model/model.onnx"))


def assert_said(text: str) -> None:
    """The outage was noticed, and told in plain warnings."""
    assert "Waiting for it" in text
    for foreign in (PASSWORD, "SELECT", "psycopg", "Traceback"):
        assert foreign not in text


def assert_arrived(report: dict[str, Any], model: Path) -> None:
    """Curves, artifacts, model and registry version of a training are all with the servers, once."""
    client, run_id = connect(), report["run_id"]
    curve = sorted(client.get_metric_history(run_id, "val_macro_f1"), key=lambda point: point.step)
    assert [point.step for point in curve] == [1, 2, 3]
    assert [point.value for point in curve] == report["history"]["val_macro_f1"]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert not list(Path().glob(f"{metrics_outbox.FOLDER}/*")), "nothing is left to be sent"
    assert {file.path for file in client.list_artifacts(run_id)} >= {"cnn.json", "environment.txt"}

    import boto3

    kept = boto3.client("s3").list_objects_v2(Bucket="mlflow")["Contents"]
    assert any(one["Key"].endswith("model.onnx") and one["Size"] == model.stat().st_size for one in kept)
    number = versions.register("mien", run_id, {"family": "cnn"})
    assert versions.register("mien", run_id, {}) == number, "the same model stays one version"
    assert versions.download("mien", number, Path("fetched")).read_bytes() == model.read_bytes()


def test_data_goes_to_the_object_store_and_comes_back(project: Path) -> None:
    def dvc(*arguments: str) -> None:
        done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    Path("faces.csv").write_text("faces")
    dvc("init", "--no-scm")
    dvc("remote", "add", "--default", "storage", "s3://dvc")
    dvc("add", "faces.csv")
    dvc("push")
    Path("faces.csv").unlink()
    Path(".dvc/cache").rename("elsewhere")
    dvc("pull")
    assert Path("faces.csv").read_text() == "faces"
