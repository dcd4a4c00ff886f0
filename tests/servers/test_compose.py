"""compose.yaml and its page say the same as the specification, the lock file and each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT

COMPOSE = ROOT / "compose.yaml"
PAGE = ROOT / "docs" / "servers.md"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_yaml_keeps_to_the_specification() -> None:
    done = check(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_a_mistake_in_it_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchecks:"))
    assert "healthchecks" in check(wrong).stdout


@pytest.mark.parametrize("path", [COMPOSE, PAGE])
def test_the_server_runs_the_versions_of_the_lock_file(path: Path) -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    named = re.findall(r"([a-z0-9]+)(?:\[binary\])?==([0-9.]+)", path.read_text())
    assert {name for name, _ in named} == {"mlflow", "boto3", "psycopg"}
    assert all(locked[name] == version for name, version in named)


def test_each_service_that_another_waits_for_exists() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert {name for service in services.values() for name in service.get("depends_on", ())} <= services.keys()


def test_the_page_has_the_variables_and_the_command_of_compose_yaml() -> None:
    text, page = COMPOSE.read_text(), PAGE.read_text()
    exports = re.findall(r"export .+", text)
    assert len(exports) == 3
    assert all(line in page for line in exports)
    command = yaml.safe_load(text)["services"]["mlflow"]["command"]
    assert all(option in page for option in command if "://mien:" not in option)
