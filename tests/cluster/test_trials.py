"""Searches on a Ray cluster of real nodes: trials of several studies at once, and what dies is tried again."""

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mien.cli.cluster import search_all
from mien.cluster.jobs import Home
from mien.config.params import Params, Tune
from mien.data.dataset import read_split
from mien.errors import MienError
from mien.registry import tracking
from mien.registry.tracking.store import tracking_uri
from mien.stages import tune

pytest.importorskip("ray", reason="ray is not installed")
connection: Any = pytest.importorskip("mien.cluster.connection")
cluster_trials: Any = pytest.importorskip("mien.cluster.trials")

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore::ResourceWarning")]

Workers = Callable[[], list[psutil.Process]]

HOME = Home()


@pytest.fixture
def searched(small: Params) -> Params:
    """A project of two tiny families that search, four trials of two epochs each; none is pruned."""
    Path("reports/tune/cnn.json").unlink()
    budget = Tune(trials=4, minutes=5, epochs=2, max_rows=140, startup_trials=9, storage="journal:optuna.log")
    space = small.family("cnn").search
    families = {name: dataclasses.replace(family, search=space) for name, family in small.families.items()}
    return dataclasses.replace(small, tune=budget, families=families, students={})


@contextmanager
def elsewhere(cluster: Any, say: Callable[[str], None] = lambda _: None, cpus: float = 1) -> Iterator[Any]:
    faces = read_split(HOME.prepared, "train"), read_split(HOME.prepared, "validation")
    with connection.connected(cluster.address):
        yield cluster_trials.Trials(faces, connection.Needs(cpus), say)


def result(name: str) -> dict[str, Any]:
    return dict(json.loads((HOME.tuned / f"{name}.json").read_text()))


def states(name: str) -> list[str]:
    return [trial["state"] for trial in result(name)["trials"]]


def runs(stage: str, family: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    wanted = f"tags.stage = '{stage}' and tags.family = '{family}'"
    return list(client.search_runs([experiment.experiment_id], wanted))


def assert_recorded(name: str, lost: int = 0) -> None:
    """The budget is exact, each trial has its run, none seems to run, and lost values were tried again."""
    assert states(name).count("complete") == 4
    assert states(name).count("fail") == lost
    (parent,) = runs("tune", name)
    assert parent.info.status == "FINISHED"
    children = runs("trial", name)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    ended = sorted(child.info.status for child in children)
    assert ended == ["FAILED"] * lost + ["FINISHED"] * 4
    assert len({child.info.run_name for child in children}) == 4 + lost
    values = [json.dumps(trial["params"]) for trial in result(name)["trials"]]
    assert len(set(values)) == 4, "nothing is trained twice but what died"


def test_trials_of_several_studies_run_at_once_and_are_recorded_as_at_home(cluster: Any, searched: Params) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    most: list[int] = []
    families: set[frozenset[str]] = set()
    with elsewhere(cluster) as machines:
        train = machines.train

        def watched(trial: Any, family: str, plan: Any, on_epoch: Any) -> Any:
            def seen(epoch: int, numbers: dict[str, float]) -> None:
                most.append(len(machines.running))
                families.add(frozenset(run.job.trial.family for run in machines.running))
                on_epoch(epoch, numbers)

            return train(trial, family, plan, seen)

        machines.train = watched
        assert search_all(["cnn", "wider"], searched, HOME, machines) == {}
    assert max(most) == 2, "as many as the nodes hold"
    assert frozenset({"cnn", "wider"}) in families
    for name in ("cnn", "wider"):
        assert_recorded(name)
        for child in runs("trial", name):
            assert child.data.tags["backend"] == os.environ.get("KERAS_BACKEND", "tensorflow")
            assert child.data.params.keys() == searched.family(name).search.keys()
    report = Path("reports/tune/cnn.json").read_bytes()
    files = {path.name for path in Path("reports/study/cnn").iterdir()}
    assert files == {"study.json", "history.png", "parallel_coordinates.png"}
    # At home the budget is spent, and the same score comes from the same values.
    tune.run("cnn", HOME.prepared, HOME.tuned / "cnn.json", HOME.studies / "cnn", searched)
    assert (HOME.tuned / "cnn.json").read_bytes() == report


def test_a_pruned_trial_ends_and_its_process_takes_the_next(
    cluster: Any, searched: Params, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=1)
    monkeypatch.setattr("mien.learning.search.Trial.should_prune", lambda trial, step, score: trial.number in {1, 2})
    seen: set[int] = set()
    with elsewhere(cluster) as machines:
        train = machines.train

        def watched(*arguments: Any, **named: Any) -> Any:
            try:
                return train(*arguments, **named)
            finally:
                seen.update(worker.pid for worker in workers())

        machines.train = watched
        assert search_all(["cnn"], searched, HOME, machines) == {}
    assert states("cnn") == ["complete", "pruned", "pruned", "complete"]
    assert {child.info.status for child in runs("trial", "cnn")} == {"FINISHED"}
    pruned = [child for child in runs("trial", "cnn") if child.data.tags.get("pruned")]
    assert [list(child.data.metrics) != [] for child in pruned] == [True, True]
    assert len(seen) == 1, "one process, which has imported Keras once"


@pytest.mark.parametrize("dies", ["worker", "node"])
def test_the_trial_of_what_dies_is_tried_again_elsewhere(
    dies: str, cluster: Any, searched: Params, workers: Workers
) -> None:
    nodes = {
        node.all_processes["raylet"][0].process.pid: node for node in (cluster.add_node(num_cpus=1) for _ in "123")
    }
    # Long enough that no trial is over when the first one's first epoch is seen.
    searched = dataclasses.replace(searched, tune=dataclasses.replace(searched.tune, epochs=8))
    killed: list[int] = []
    said: list[str] = []
    with elsewhere(cluster, said.append) as machines:
        train = machines.train

        def watched(trial: Any, family: str, plan: Any, on_epoch: Any) -> Any:
            def seen(epoch: int, numbers: dict[str, float]) -> None:
                if not killed:
                    killed.append(trial.number)
                    worker = workers()[0]
                    # Of a node each process is ended, as where a machine loses its power.
                    if dies == "node":
                        cluster.remove_node(nodes[worker.ppid()], allow_graceful=False)
                    else:
                        worker.kill()
                on_epoch(epoch, numbers)

            return train(trial, family, plan, seen)

        machines.train = watched
        assert search_all(["cnn", "wider"], searched, HOME, machines) == {}
    lost = {name: states(name).count("fail") for name in ("cnn", "wider")}
    assert sum(lost.values()) == 1
    for name in ("cnn", "wider"):
        assert_recorded(name, lost[name])


def test_a_need_that_no_node_has_is_said_in_one_sentence(cluster: Any, searched: Params) -> None:
    cluster.add_node(num_cpus=1)
    said: list[str] = []
    with elsewhere(cluster, said.append, cpus=2) as machines:
        search = threading.Thread(target=search_all, args=(["cnn"], searched, HOME, machines))
        search.start()
        try:
            end = time.monotonic() + 60
            while not said and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            machines.slots.close()
            search.join()
    (sentence,) = said
    assert sentence.startswith("No node has the 2 cores that each training asks for (--cpus, --gpus): ")
    assert "has 0 cores" in sentence
    assert "has 1 core." in sentence


def test_values_that_a_node_refuses_end_their_search_alone(cluster: Any, searched: Params) -> None:
    cluster.add_node(num_cpus=2)
    with elsewhere(cluster) as machines:
        train = machines.train

        def broken(trial: Any, family: str, plan: Any, on_epoch: Any) -> Any:
            network = "vgg19" if family == "cnn" else plan.architecture.network
            other = dataclasses.replace(plan, architecture=dataclasses.replace(plan.architecture, network=network))
            return train(trial, family, other, on_epoch)

        machines.train = broken
        failed = search_all(["cnn", "wider"], searched, HOME, machines)
    assert failed.keys() == {"cnn"}
    with pytest.raises(MienError, match=r"cnn-trial-\d: Unknown network 'vgg19'"):
        raise failed["cnn"]
    assert_recorded("wider")
    assert {run.info.status for run in [*runs("tune", "cnn"), *runs("trial", "cnn")]} == {"FAILED"}
