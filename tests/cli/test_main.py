import errno
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from mien.cli.main import main

ROOT = Path(__file__).parents[2]
HEAVY = {
    "tensorflow",
    "keras",
    "mlflow",
    "optuna",
    "great_expectations",
    "cv2",
    "pandas",
    "pyarrow",
    "bentoml",
    "numpy",
}


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, mien.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_every_stage_of_dvc_yaml_is_a_command() -> None:
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = {stage.get("do", stage)["cmd"].split()[1] for stage in stages.values()}
    assert stages.keys() - {"distil"} == commands <= main.commands.keys()
    assert "fetch" in main.commands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "cnm", "--prepared", "data", "--report", "r.json", "--plots", "p"],
         "Unknown family 'cnm': params.yaml has cnn"),
        (["train", "cnn", "--prepared", "d", "--model", "m", "--report", "r", "--checkpoints", "c"],
         "cnn is no student: pass --tuned"),
        (["fetch", "ferplus", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--params", "none.yaml", "tune", "cnn", "--prepared", "d", "--report", "r", "--plots", "p"],
         "none.yaml is missing"),
        (["predict", "nobody.jpg", "--champion", "nowhere"], "nowhere"),
        (["package", "--promotion", "none.json", "--champion", "c", "--report", "r"], "dvc repro promote"),
        (["evaluate", "--prepared", "none", "--models", "m", "--train-reports", "t", "--report", "r", "--plots", "p",
          "--metrics", "n", "--faces", "f"], "dvc repro prepare"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_message_and_exit_code_one(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_full_disk_is_one_message_wherever_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "optuna.log")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("mien.experiments.demo.run", fill)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.stderr) == (
        1, "error: No space left on device at optuna.log. Free the disk or mend the rights, and repeat the command.\n"
    )  # fmt: skip


def test_ctrl_c_is_told_and_has_the_exit_code_of_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mien.cli.predictions.run", interrupt)
    result = CliRunner().invoke(main, ["predict", "photo.jpg"])
    assert (result.exit_code, result.stderr) == (130, "error: Interrupted.\n")


@pytest.mark.parametrize(("closed", "code"), [("1", 0), ("2", 1), ("1 2", 1)])
def test_a_command_whose_output_is_closed_does_its_work(closed: str, code: int, tmp_path: Path) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "photo.png")
    photos = "photo.png" + " gone.png" * code
    script = f"exec {' '.join(f'{number}>&-' for number in closed.split())}; {sys.executable} -m mien predict {photos}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stdout == ("" if "1" in closed else "photo.png: 0 faces\n")


def test_a_demo_outside_the_project_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "Run this in the project's root" in result.stderr
    assert not (tmp_path / "demo").exists()
