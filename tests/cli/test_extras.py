"""What commands say where the extras are not installed: the libraries are hidden from a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mien.cli.drift import LIMITS, limits_of
from mien.config.params import load
from mien.errors import MienError

ROOT = Path(__file__).parents[2]
HIDDEN = ("bentoml", "dvc", "jinja2", "keras", "matplotlib", "mlflow", "onnx", "optuna", "pandas", "pyarrow", "scipy")


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line of an installation without extras."""
    script = f"import sys\nfor name in {HIDDEN}: sys.modules[name] = None\nfrom mien.cli.main import main\nmain()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "library"),
    [
        (("fetch", "sample"), "pyarrow"),
        (("demo",), "dvc"),
        (("story",), "dvc"),
        (("retrain",), "dvc"),
        (("baselines",), "dvc"),
        (("champion",), "mlflow"),
        (("lineage", "1"), "mlflow"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_command_whose_extra_is_missing_names_it(arguments: tuple[str, ...], library: str) -> None:
    done = without_extras(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"`mien {arguments[0]}` needs {library}, which is not installed." in " ".join(done.stderr.split())
    assert "mien[train]" in done.stderr


def test_drift_needs_no_parameter_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert limits_of(Path("params.yaml")) == LIMITS
    assert "PSI of 0.25" in capsys.readouterr().err
    with pytest.raises(MienError, match=r"mine\.yaml is missing"):
        limits_of(Path("mine.yaml"))


def test_limits_without_a_parameter_file_are_those_of_the_project() -> None:
    assert load(ROOT / "params.yaml").drift == LIMITS
    assert yaml.safe_load((ROOT / "params.yaml").read_text())["drift"]["psi"] == LIMITS.psi
