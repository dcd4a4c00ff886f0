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

import mien
from mien.cluster import node
from mien.cluster.jobs import LEFT_OUT
from mien.errors import MienError

AHEAD = 2
"""Updates of a training that may wait for this process."""

CONNECT_SECONDS = 10

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
    return sum(_held(resources, needs) for resources in _nodes().values())


def shortage(needs: Needs) -> str:
    """One sentence where no node has what each training needs; empty where one has."""
    nodes = _nodes()
    if any(_held(resources, needs) for resources in nodes.values()):
        return ""
    have = ", ".join(f"{name} has {_of(*resources)}" for name, resources in sorted(nodes.items()))
    return (
        f"No node has the {needs} that each training asks for (--cpus, --gpus): {have or 'there is none'}. "
        "Waiting for one that has."
    )


class Shortage:
    """Says it where no node has what each training needs: after a few seconds, and again once nodes have changed."""

    def __init__(self, needs: Needs, say: Callable[[str], None]) -> None:
        self._needs, self._say = needs, say
        self._since, self._said = time.monotonic(), ""

    def look(self) -> None:
        """To be called every second or so."""
        text = shortage(self._needs)
        if not text:
            self._since, self._said = time.monotonic(), ""
        elif text != self._said and time.monotonic() - self._since > SHORT_SECONDS:
            self._say(text)
            self._said = text


def _nodes() -> dict[str, tuple[float, float]]:
    """Cores and GPUs of each node that is alive, whoever uses them, by address (numbered where several share one)."""
    found: dict[str, tuple[float, float]] = {}
    nodes: Any = ray.nodes  # untyped
    for one in nodes():
        if one["Alive"]:
            name, resources = one["NodeManagerAddress"], one["Resources"]
            name = f"{name} ({len(found) + 1})" if name in found else name
            found[name] = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    return found


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
        remote = ray.remote(node.train).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            num_returns="streaming",
            max_retries=0,  # a retry by Ray would begin anew
            _generator_backpressure_num_objects=AHEAD,
        )
        self.updates: Any = remote.remote(name, given, faces)

    def receive(self) -> node.Update | None:
        """Wait for the next update; None after the last. Raises NodeLostError, or MienError for its own fault."""
        try:
            update: node.Update = ray.get(next(self.updates))
        except StopIteration:
            return None
        except ray.exceptions.RayTaskError as error:  # raised by the training itself
            raise MienError(str(error.cause or error).splitlines()[-1]) from None
        except ray.exceptions.RayError as error:
            raise NodeLostError(type(error).__name__) from None
        return update

    def cancel(self, force: bool = True) -> None:
        """End it: with its process, or by the end of its epoch so that the process can take another training."""
        ray.cancel(self.updates, force=force)


def with_updates(calls: Sequence[Call], seconds: float) -> list[Call]:
    """A call whose `receive` need not wait, if there is one within so many seconds."""
    known = {call.updates: call for call in calls}
    return [known[updates] for updates in ray.wait(list(known), timeout=seconds)[0]] if known else []


def put(content: bytes) -> Any:
    """Keep bytes in the cluster's object store, from which each node takes them once."""
    return ray.put(content)
