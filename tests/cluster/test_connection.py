"""What the nodes of a cluster hold, and what is said where none holds enough."""

from typing import Any

import pytest

pytest.importorskip("ray", reason="ray is not installed")
connection: Any = pytest.importorskip("mien.cluster.connection")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, tuple[float, float]]]:
    """Two nodes with a GPU each, and a head without cores."""
    found = {"a": ("10.0.0.1", (0.0, 0.0)), "b": ("10.0.0.2", (8.0, 1.0)), "c": ("10.0.0.3", (3.0, 1.0))}
    monkeypatch.setattr(connection, "_alive", lambda: found)
    return found


@pytest.mark.parametrize(
    ("cpus", "gpus", "trainings"),
    [(1, 0, 11), (2, 0, 5), (1, 1, 2), (1, 0.5, 4), (1, 1 / 3, 6), (4, 0.25, 2), (0, 0.1, 20), (9, 0, 0), (1, 2, 0)],
)
def test_a_node_holds_as_many_trainings_as_cores_and_gpus_allow(
    nodes: object, cpus: float, gpus: float, trainings: int
) -> None:
    assert connection.capacity(connection.Needs(cpus, gpus)) == trainings


def test_what_is_asked_and_what_the_nodes_have_is_one_sentence(nodes: dict[str, Any]) -> None:
    assert connection.shortage(connection.Needs(1, 1)) == ""
    assert connection.shortage(connection.Needs(1, 2)) == (
        "No node has the 1 core and 2 GPUs that each training asks for (--cpus, --gpus): 10.0.0.1 has 0 cores, "
        "10.0.0.2 has 8 cores and 1 GPU, 10.0.0.3 has 3 cores and 1 GPU. Waiting for one that has."
    )
    nodes.clear()
    assert "(--cpus, --gpus): there is none. Waiting" in connection.shortage(connection.Needs())


def test_it_is_said_after_a_while_and_once(nodes: object, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    watch = connection.Nodes(connection.Needs(99), said.append)
    watch.look()
    assert said == [], "a node may be joining"
    monkeypatch.setattr(connection, "SHORT_SECONDS", -1.0)
    watch.look()
    watch.look()
    assert len(said) == 1


def test_trainings_that_share_a_gpu_share_its_memory() -> None:
    assert connection._memory(0) == connection._memory(1) == {}
    variables = connection._memory(0.25)["runtime_env"]["env_vars"]
    assert float(variables["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == pytest.approx(0.23)
