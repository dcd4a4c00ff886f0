"""Ten times FER-2013's faces are prepared and validated within 3 GB."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import scale
from growth import LAUNCHER

from mien.config.params import merge
from mien.data import dataset
from mien.experiments.pipeline import environment, lay_out, parameters

FACES = 360_000
LIMIT = 3 * 10**9

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def limit() -> None:
    """Heap, stacks and private maps; a map of a file is the system's to drop."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def test_prepare_and_validate_hold_360_000_faces_in_3_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    scale.write(tmp_path / "faces", scale.faces(), FACES)
    lay_out(tmp_path, merge(parameters(), scale.CHANGES))
    for stage in ("fetch", "prepare", "validate"):
        command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "mien", *scale.STAGES[stage].split()]
        own = environment(tmp_path)
        done = subprocess.run(
            command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False, preexec_fn=limit
        )
        assert done.returncode == 0, done.stderr
        assert float(done.stdout.split()[2]) < LIMIT / 2**20, f"{stage}: resident memory in MiB"
    counts = dataset.read_info(tmp_path / "data/prepared")["counts"]
    assert sum(counts["train"].values()) + sum(counts["test"].values()) > 0.85 * FACES
    assert (tmp_path / "data/validated.json").exists()
