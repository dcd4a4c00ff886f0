"""mien.serving.port: a port that cannot be listened on is one sentence, in the commands that need it."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.errors import MienError
from mien.serving import port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def busy() -> Iterator[int]:
    """A port of this machine that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_port_passes_and_stays_free() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    port.check("127.0.0.1", number)
    port.check("127.0.0.1", number)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_busy_port_is_named_with_a_free_number_to_try(busy: int, host: str) -> None:
    with pytest.raises(MienError, match=rf"The port {busy} of {host} is in use.*PORT={busy + 1}"):
        port.check(host, busy)


@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", "0"), ("127.0.0.1", "70000"), ("127.0.0.1", "http"),
                                              ("192.0.2.1", "3000"), ("nowhere.invalid", "3000")])  # fmt: skip
def test_what_is_no_port_or_no_address_of_this_machine_is_refused(host: str, number: str) -> None:
    with pytest.raises(MienError, match=r"PORT=|as HOST"):
        port.main(host, number)


@pytest.mark.parametrize("target", ["serve", "ui"])
def test_make_says_in_one_sentence_that_the_port_is_busy(busy: int, target: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements-uv.lock", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / ".ready").touch()
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        ["make", "--silent", target, f"PORT={busy}"], cwd=tmp_path, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "PORT": "1", "HOST": "elsewhere"},
    )  # fmt: skip
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert (
        first
        == f"error: The port {busy} of 127.0.0.1 is in use. End what listens there, or choose another: PORT={busy + 1}."
    )
    assert all(line.startswith("make") for line in rest)
    assert done.stdout == ""


def test_bentoml_serve_says_so_too(busy: int, champion_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(champion_folder, tmp_path / "models" / "champion")
    command = [sys.executable, "-m", "bentoml", "serve", "mien.serving.service:Mien", "--port", str(busy)]
    ours = {"PYTHONPATH": str(ROOT / "src"), "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=150, env=os.environ | ours
    )
    assert done.returncode == 1
    assert f"The port {busy} of 0.0.0.0 is in use" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
