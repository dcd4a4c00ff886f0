"""A machine with NumPy, Keras, PyYAML and JAX alone trains a folder of jobs.

It takes a package index and a minute: `make test-fresh`.
"""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from mien.cluster import jobs as portable
from mien.cluster.jobs import CODE, Home
from mien.config.params import Family, Params

NEEDED = ("jax", "keras", "numpy", "pyyaml")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds what a worker needs and nothing else."""
    if os.environ.get("MIEN_FRESH") != "1":
        pytest.skip("needs a package index: where there is one, set MIEN_FRESH=1")
    folder, uv = tmp_path_factory.mktemp("bare"), ["uv", "--quiet", "--system-certs"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    wanted = [f"{name}=={metadata.version(name)}" for name in NEEDED]
    subprocess.run([*uv, "pip", "install", "--python", folder, *wanted], check=True)
    return folder / "bin" / "python"


def test_it_trains_what_was_written_here(
    python: Path, params: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {"epochs": 2, "max_rows": 140, "batch_size": 32}
    network = replace(params.family("cnn").model, network="cnn", blocks=((8,),))
    small = replace(params, families={"tiny": Family(network, recipe)}, students={})
    home = Home(prepared=prepared)
    portable.write(tmp_path / "jobs", [], small, home)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "jobs" / CODE)}
    command: list[str | Path] = [python, "-m", "mien.learning", "jobs"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tiny finished: epoch" in done.stdout
    taken, refused = portable.take(tmp_path / "jobs", [], small, home)
    assert ([job.name for job in taken], refused) == (["tiny"], [])
