"""Trainings on a Ray cluster of three real nodes: what dies is carried on, and nothing else is trained twice."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mien.cluster import jobs as portable
from mien.cluster.jobs import Home
from mien.config.params import Params
from mien.errors import MienError
from mien.learning import jobs
from mien.learning.worker import Worker

ray = pytest.importorskip("ray", reason="ray is not installed")
connection: Any = pytest.importorskip("mien.cluster.connection")
fleet: Any = pytest.importorskip("mien.cluster.fleet")

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::ResourceWarning")]

Workers = Callable[[], list[psutil.Process]]


@pytest.fixture
def folder(small: Params, tmp_path: Path) -> Path:
    """Two families, and a student of the first."""
    portable.write(tmp_path / "jobs", [], small, Home())
    return tmp_path / "jobs"


def run(cluster: Any, folder: Path, watch: Callable[[Sequence[Any]], None] = lambda _: None) -> tuple[Any, list[str]]:
    lines: list[str] = []
    with connection.connected(cluster.address):
        given_up = fleet.run(folder, (), connection.Needs(), lines.append, watch)
    return given_up, lines


def epochs(lines: Sequence[str], name: str) -> list[int]:
    """The epochs of a training that were told, in order."""
    found = (re.match(rf"{name} (\d+)/", line) for line in lines)
    return [int(match[1]) for match in found if match]


def in_one_process(small: Params, tmp_path: Path) -> Path:
    folder = tmp_path / "alone"
    portable.write(folder, [], small, Home())
    Worker(folder, say=lambda _: None).run()
    return folder


def assert_same_weights(one: Path, other: Path) -> None:
    for name in ("cnn", "wider", "pupil"):
        pairs = zip(jobs.read(one / name).weights(), jobs.read(other / name).weights(), strict=True)
        assert all(np.array_equal(left, right) for left, right in pairs), name


def test_two_nodes_train_side_by_side_and_a_student_after_its_teacher(
    cluster: Any, folder: Path, small: Params, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    seen: set[frozenset[str]] = set()
    given_up, lines = run(cluster, folder, lambda all_: seen.add(frozenset(one.job.name for one in all_ if one.call)))
    assert given_up == []
    assert frozenset({"cnn", "wider"}) in seen
    assert [epochs(lines, name) for name in ("cnn", "wider", "pupil")] == [[1, 2, 3]] * 3
    told = "\n".join(lines)
    assert told.index("cnn finished") < told.index("pupil: 140 faces")
    assert {one.state for one in portable.status(folder)} == {"finished"}
    assert portable.take(folder, [], small, Home())[1] == []
    assert_same_weights(folder, in_one_process(small, tmp_path))


def test_a_node_that_dies_costs_one_epoch(cluster: Any, folder: Path, small: Params, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=2)

    def kill(trainings: Sequence[Any]) -> None:
        nonlocal doomed
        if doomed and any((folder / "wider" / "state.json").exists() for _ in trainings):
            cluster.add_node(num_cpus=1)
            cluster.remove_node(doomed, allow_graceful=False)
            doomed = None

    given_up, lines = run(cluster, folder, kill)
    assert given_up == []
    assert sum("goes on elsewhere" in line for line in lines) in {1, 2}
    for name in ("cnn", "wider", "pupil"):
        assert sorted(set(epochs(lines, name))) == [1, 2, 3]
        assert len(epochs(lines, name)) == 3, "what came back is not trained again"
    assert_same_weights(folder, in_one_process(small, tmp_path))


def test_a_worker_that_is_killed_goes_on(
    cluster: Any, folder: Path, small: Params, tmp_path: Path, workers: Workers
) -> None:
    cluster.add_node(num_cpus=1)
    killed: list[int] = []

    def kill(trainings: Sequence[Any]) -> None:
        kept = (folder / "cnn/state.json").exists() or (folder / "wider/state.json").exists()
        if kept and not killed:
            for worker in workers():
                worker.kill()
                killed.append(worker.pid)

    given_up, lines = run(cluster, folder, kill)
    assert killed
    assert given_up == []
    assert any("goes on elsewhere" in line for line in lines)
    assert_same_weights(folder, in_one_process(small, tmp_path))


def test_a_node_that_joins_gets_work(cluster: Any, folder: Path) -> None:
    joined: list[float] = []

    def join(_: Sequence[Any]) -> None:
        if not joined:
            joined.append(time.monotonic())
            cluster.add_node(num_cpus=1)

    given_up, lines = run(cluster, folder, join)
    assert given_up == []
    assert "pupil finished" in "\n".join(lines)


def test_a_training_that_cannot_be_built_is_given_up_with_its_reason_and_its_student(
    cluster: Any, folder: Path
) -> None:
    cluster.add_node(num_cpus=1)
    path = folder / "cnn/plan.json"
    path.write_text(path.read_text().replace('"cnn"', '"vgg19"'))
    given_up, _ = run(cluster, folder)
    assert {one.job.name for one in given_up} == {"cnn", "pupil"}
    assert "Unknown network 'vgg19'" in next(one.fault for one in given_up if one.job.name == "cnn")
    assert (folder / "wider/weights.npz").exists()


def test_a_cluster_that_does_not_answer_is_one_sentence() -> None:
    with (
        pytest.raises(MienError, match=r"No Ray cluster answers at '127\.0\.0\.1:1'"),
        connection.connected("127.0.0.1:1"),
    ):
        pass
