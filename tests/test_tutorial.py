"""docs/tutorial.md: its commands run in a fresh copy of the project and print what the page says."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS = re.findall(r"```bash\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Git tracks, as it stands in the working tree, with the environment that runs the tests."""
    if not (Path(sys.prefix) / ".ready").exists():
        pytest.skip("the environment was not made by `make setup`")
    folder = tmp_path_factory.mktemp("tutorial") / "mien"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
            os.utime(folder / name, (0, 0))  # older than the environment, which make would else make anew
    (folder / ".venv").symlink_to(sys.prefix)
    identity = ["-c", "user.name=A newcomer", "-c", "user.email=newcomer@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet", "--initial-branch", "main"], ["add", "."], ["commit", "-qm", "The project"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def form(line: str) -> str:
    """A line without what changes from run to run: numbers, hashes, the user, the detector, columns' widths."""
    line = re.sub(r"\bdetector (auto|yunet)\b", "detector", line)
    line = re.sub(r"\b[0-9a-f]{7}\b", "0", re.sub(r"\bby \S+@\S+", "by somebody", line))
    return " ".join(re.sub(r"\d+", "0", re.sub(r"[+-]?\d[\d.,:-]*\d|\bAM\b|\bPM\b", "0", line)).split())


def test_the_page_has_seven_steps() -> None:
    assert len(STEPS) == PAGE.count("```bash") == PAGE.count("\n## ") == 7


def test_every_command_runs_and_prints_what_the_page_says(clone: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    parts = [f"{commands}echo '=== {number}'" for number, (commands, _) in enumerate(STEPS)]
    script = "set -eo pipefail\n" + "\n".join(parts).replace("3107", port)
    outside = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "MIEN_CHAMPION", "BENTOML_HOME", "PYTHONPATH", "COLUMNS")
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=clone,
            env={key: value for key, value in os.environ.items() if key not in outside} | {"MIEN_OFFLINE": "1"},
            stdout=output,
            stderr=output,
            check=False,
        )
    text = log.read_text(encoding="utf-8")
    assert done.returncode == 0, text[-4000:]
    printed = [{form(line) for line in part.splitlines()} for part in re.split(r"=== \d+\n", text)]
    missing = {
        f"step {number + 1}: {line}"
        for number, (_, expected) in enumerate(STEPS)
        for line in expected.splitlines()
        if form(line) not in printed[number]
    }
    assert not missing, text[-4000:]
