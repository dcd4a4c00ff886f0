"""The connection to a Ray cluster: what its nodes have, and calls of node.train there."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import mien
from mien.cluster import node
from mien.cluster.jobs import LEFT_OUT
from mien.errors import MienError

AHEAD = 2
"""Updates of a training that may wait for this process."""

CONNECT_SECONDS = 10

LOOK = 10.0
"""Seconds between looks whether a call's node is alive."""

SHORT_SECONDS = 5.0
"""For so long a node may be joining before it is said that none has what is needed."""


class NodeLostError(Exception):
    """The worker or node of a call is gone; the text is Ray's name for it."""


@dataclass(frozen=True)
class Needs:
    """Cores and GPUs (also parts of one) of each training."""

    cpus: float = 1
    gpus: float = 0

    def __str__(self) -> str:
        return _of(self.cpus, self.gpus)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the cluster at `address`, whose nodes get this package's code; raises MienError."""
    root = Path(mien.__file__).parent
    environment = {
        "py_modules": [str(root)],
        "excludes": [f"{name}/" for name in LEFT_OUT],
        "env_vars": {name: os.environ[name] for name in ("KERAS_BACKEND", "JAX_PLATFORMS") if name in os.environ},
    }
    try:
        if address != "auto":  # Ray would wait for a cluster that is not there for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        raise MienError(
            f"No Ray cluster answers at {address!r} ({str(error).splitlines()[0]}). Start one with `ray start --head` "
            "and name its address: RAY_ADDRESS or --cluster."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def capacity(needs: Needs) -> int:
    """How many trainings with these needs the nodes hold at once."""
    return sum(_held(resources, needs) for _, resources in _alive().values())


class Nodes:
    """Looks after the nodes: it is said where none has what is needed, and those without GPUs import Keras in time."""

    def __init__(self, needs: Needs, say: Callable[[str], None]) -> None:
        self._needs, self._say = needs, say
        self._since, self._said = time.monotonic(), ""
        self._warmed: dict[str, Any] = {}

    def look(self) -> None:
        """To be called every second or so, after what can start has been started."""
        for node_id, (_, resources) in _alive().items():
            if node_id not in self._warmed and not self._needs.gpus and _held(resources, self._needs):
                self._warmed[node_id] = _warm(node_id, self._needs)
        text = shortage(self._needs)
        if not text:
            self._since, self._said = time.monotonic(), ""
        elif text != self._said and time.monotonic() - self._since > SHORT_SECONDS:
            self._say(text)
            self._said = text


def shortage(needs: Needs) -> str:
    """One sentence where no node has what each training needs; empty where one has."""
    nodes = _alive().values()
    if any(_held(resources, needs) for _, resources in nodes):
        return ""
    have = ", ".join(f"{address} has {_of(*resources)}" for address, resources in sorted(nodes))
    return (
        f"No node has the {needs} that each training asks for (--cpus, --gpus): {have or 'there is none'}. "
        "Waiting for one that has."
    )


def _warm(node_id: str, needs: Needs) -> Any:
    """Let a process of the node import Keras, once there is room; Ray gives it the next training."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(node.warm).options(num_cpus=needs.cpus, max_retries=0, scheduling_strategy=there).remote()


def _memory(gpus: float) -> dict[str, Any]:
    """Options by which trainings that share a GPU share its memory; Keras' backends take most of it by themselves."""
    if not 0 < gpus < 1:
        return {}
    shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.92 * gpus:.3f}", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {"runtime_env": {"env_vars": shared}}


def _alive() -> dict[str, tuple[str, tuple[float, float]]]:
    """Address of each node by id, and its cores and GPUs, whoever uses them."""
    nodes: Any = ray.nodes  # untyped
    return {
        one["NodeID"]: (one["NodeManagerAddress"], (one["Resources"].get("CPU", 0.0), one["Resources"].get("GPU", 0.0)))
        for one in nodes()
        if one["Alive"]
    }


def _held(resources: tuple[float, float], needs: Needs) -> int:
    # Ray counts in ten-thousandths; a third of a GPU shall fit thrice.
    shares = [have / need for have, need in zip(resources, (needs.cpus, needs.gpus), strict=True) if need]
    return int(min(shares or [resources[0]]) + 1e-4)


def _of(cpus: float, gpus: float) -> str:
    cores = f"{cpus:g} core{'s' * (cpus != 1)}"
    return f"{cores} and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus else cores


class Call:
    """A call of `node.train` on whichever node has room, and the updates that come back."""

    def __init__(self, name: str, given: node.Files, faces: Any, needs: Needs) -> None:
        # Not in `options`: by these Ray ends a process that used a GPU, which the next task need not be given.
        resources: Any = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus)
        remote = resources(node.train).options(
            num_returns="streaming",
            max_retries=0,  # a retry by Ray would begin anew
            **_memory(needs.gpus),
            _generator_backpressure_num_objects=AHEAD,
        )
        self.updates: Any = remote.remote(name, given, faces)
        self._node_id, self._cut_off, self._looked = "", False, time.monotonic()

    def look(self) -> bool:
        """Whether the node on which it runs is dead, looked up every LOOK seconds.

        Ray itself waits for an answer for minutes where a node's link is cut.
        """
        if self._node_id and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._cut_off = self._node_id not in _alive()
        return self._cut_off

    def receive(self) -> node.Update | None:
        """Wait for the next update; None after the last. Raises NodeLostError, or MienError for its own fault."""
        if self._cut_off:
            raise NodeLostError("NodeCutOff")
        try:
            update: node.Update = ray.get(next(self.updates))
        except StopIteration:
            return None
        except ray.exceptions.RayTaskError as error:  # raised by the training itself
            raise MienError(str(error.cause or error).splitlines()[-1]) from None
        except ray.exceptions.RayError as error:
            raise NodeLostError(type(error).__name__) from None
        self._node_id = update.node_id
        return update

    def cancel(self, force: bool = True) -> None:
        """End it: with its process, or by the end of its epoch so that the process can take another training."""
        ray.cancel(self.updates, force=force)


def with_updates(calls: Sequence[Call], seconds: float) -> list[Call]:
    """Calls whose `receive` need not wait, if there are some within so many seconds."""
    known = {call.updates: call for call in calls}
    ready = ray.wait(list(known), timeout=seconds)[0] if known else []
    return [call for updates, call in known.items() if updates in ready or call.look()]


def put(content: bytes) -> Any:
    """Keep bytes in the cluster's object store, from which each node takes them once."""
    return ray.put(content)
