"""The benchmarks that docs name run where nothing of what they measure is at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_table_of_trainings_on_a_gpu_is_printed_on_a_processor_too() -> None:
    command = [sys.executable, "benchmarks/training.py", "--device", "cpu", "--networks", "cnn"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")[1:-1]]
    assert cells[0] == "cnn"
    compiling, cached = map(float, cells[4:6])
    assert compiling > cached, "the second process finds what the first one compiled"
