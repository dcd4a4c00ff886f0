"""A node in a network namespace of its own, whose link is cut for good: its training goes on elsewhere."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mien.cluster import jobs as portable
from mien.cluster.jobs import Home
from mien.config.params import Params

pytest.importorskip("ray", reason="ray is not installed")
connection: Any = pytest.importorskip("mien.cluster.connection")
fleet: Any = pytest.importorskip("mien.cluster.fleet")

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::ResourceWarning")]

NAMESPACE, HERE, THERE = f"mien{os.getpid()}", "10.213.77.1", "10.213.77.2"
LINK, FAR_END = f"mien{os.getpid() % 10_000}", f"far{os.getpid() % 10_000}"
PORT = "26379"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def link() -> Iterator[Callable[[], None]]:
    """Two machines' worth of network, HERE and THERE; gives what cuts the cable."""
    try:
        ip("netns", "add", NAMESPACE)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs network namespaces: root, and iproute2")
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", FAR_END, "netns", NAMESPACE)
        ip("address", "add", f"{HERE}/24", "dev", LINK)
        ip("link", "set", LINK, "up")
        for words in (["address", "add", f"{THERE}/24", "dev", FAR_END], ["link", "set", FAR_END, "up"]):
            ip("-n", NAMESPACE, *words)
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        yield lambda: ip("link", "set", LINK, "down")
    finally:
        ip("netns", "delete", NAMESPACE)


@pytest.fixture
def start(link: object) -> Iterator[Callable[..., None]]:
    """Start a node of Ray that ends with the test."""
    with ExitStack() as stack:

        def begin(*options: str, prefix: Sequence[str] = ()) -> None:
            command = [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
            process = subprocess.Popen(
                [*command, "--disable-usage-stats"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

            def end() -> None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)

            stack.callback(end)

        yield begin


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)


def listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HERE, int(PORT))) == 0


def test_a_training_on_a_node_that_is_cut_off_goes_on_elsewhere(
    start: Callable[..., None], link: Callable[[], None], small: Params, tmp_path: Path
) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, ["wider"], small, Home())
    start("--head", f"--port={PORT}", f"--node-ip-address={HERE}", "--num-cpus=0", "--include-dashboard=false")
    wait_until(listens)
    join = f"--address={HERE}:{PORT}"
    start(join, f"--node-ip-address={THERE}", "--num-cpus=1", prefix=["ip", "netns", "exec", NAMESPACE])
    cut: list[float] = []
    lines: list[str] = []
    lost: list[float] = []

    def say(line: str) -> None:
        lines.append(line)
        if "goes on elsewhere" in line:
            lost.append(time.monotonic())

    def watch(_: Sequence[Any]) -> None:
        if not cut and (folder / "wider/state.json").exists():
            link()
            cut.append(time.monotonic())
            start(join, f"--node-ip-address={HERE}", "--num-cpus=1")

    with connection.connected(f"{HERE}:{PORT}"):
        wait_until(lambda: connection.capacity(connection.Needs()) == 1)
        given_up = fleet.run(folder, (), connection.Needs(), say, watch)
    print(f"noticed {lost[0] - cut[0]:.0f} s after the cut")
    assert given_up == []
    assert any("goes on elsewhere" in line for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("wider ") and "/3" in line] == ["1/3", "2/3", "3/3"]
    assert {one.state for one in portable.status(folder)} == {"finished"}
