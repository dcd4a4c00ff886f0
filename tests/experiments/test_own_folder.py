"""A folder of the demo's keeps to itself, whatever the user's environment says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mien.experiments import own_folder


def test_commands_in_a_marked_folder_use_its_registry_and_its_bentos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "MIEN_CHAMPION", "BENTOML_HOME"):
        monkeypatch.setenv(name, "theirs")
    own_folder.enter(tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"] == os.environ["BENTOML_HOME"] == "theirs", "it is not marked"
    own_folder.mark(tmp_path)
    own_folder.enter(tmp_path)
    assert not {"MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "MIEN_CHAMPION"} & os.environ.keys()
    assert os.environ["BENTOML_HOME"] == str(tmp_path / ".bentoml")


def test_every_command_enters_the_folder_that_it_is_typed_in(tmp_path: Path) -> None:
    own_folder.mark(tmp_path)
    script = (
        "import os; from click.testing import CliRunner; from mien.cli.main import main;"
        "CliRunner().invoke(main, ['champion']); print(os.environ['BENTOML_HOME'])"
    )
    foreign = os.environ | {"BENTOML_HOME": "theirs"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=foreign, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / ".bentoml")
