"""`mien run`: a folder belongs to one request, and minutes become epochs that are written down."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.main import main
from mien.config.params import parse
from mien.data.dataset import Split, write_split
from mien.errors import MienError
from mien.experiments import budget, own_folder, pipeline
from mien.experiments.run import Request, carries_on, in_project
from mien.files import alone_in

ROOT = Path(__file__).parents[2]
NETWORK: dict[str, Any] = {"network": "cnn", "blocks": [[4]]}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def faces(rows: int) -> Split:
    labels = np.arange(rows) % 7
    images = np.broadcast_to((30 * labels)[:, None, None, None], (rows, 48, 48, 1)).astype(np.uint8)
    return Split(images, labels, np.zeros(rows, bool), np.arange(rows))


@pytest.fixture
def tree() -> dict[str, Any]:
    """One searched family, one that is not, and a student of both."""
    tree = pipeline.parameters(only=["cnn", "vgg16"])
    tree["families"]["cnn"]["model"] = NETWORK
    tree["families"]["vgg16"] = {"model": NETWORK, "train": {"epochs": 9}}
    distil = {"teachers": ["cnn", "vgg16", "cnn", "cnn", "cnn"], "start": "cnn"}
    tree["students"] = {"pupil": {"model": NETWORK, "train": {"epochs": 4}, "distil": distil}}
    return tree


def test_a_folder_is_named_by_its_request() -> None:
    assert Request((Path("params/small.yaml"),), ("cnn",), 20).name == "small-cnn-20min"
    assert Request(()).name == "all"


def test_a_folder_carries_on_its_own_request_and_refuses_another(tmp_path: Path) -> None:
    folder, request = tmp_path / "run", Request((), ("cnn",), 20)
    assert not carries_on(request, folder)
    own_folder.mark(folder.parent)
    folder.mkdir()
    own_folder.mark(folder)
    assert not carries_on(request, folder), "it was interrupted before its parameters were decided"
    (folder / "params.yaml").write_text(request.mark + "seed: 7\n")
    assert carries_on(request, folder)
    with pytest.raises(MienError, match=r"holds another run \(mien run -f cnn --minutes 20 .*--minutes 10"):
        carries_on(Request((), ("cnn",), 10), folder)


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").touch()
    with pytest.raises(MienError, match="is not empty"):
        carries_on(Request(()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_of_two_runs_in_one_folder_the_second_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "000_x.parquet").touch()
    folder = tmp_path / "run"
    arguments = ["run", "-f", "cnn", "--raw", str(tmp_path), "--folder", str(folder)]
    with alone_in(folder, ""):
        result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, list(folder.iterdir())) == (1, [])
    assert f"Another `mien run` is at work on {folder}" in result.stderr


def test_faces_are_brought_again_after_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/000_x.parquet").write_text("faces")
    for _ in range(2):
        pipeline.bring(tmp_path / "raw", tmp_path / "run/data/raw")
    assert (tmp_path / "run/data/raw/000_x.parquet").read_text() == "faces"


def test_an_overlay_that_changed_makes_another_request(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("train: {epochs: 3}")
    before = Request((path,)).mark
    path.write_text("train: {epochs: 4}")
    assert Request((path,)).mark != before


def test_here_nothing_uncommitted_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.lay_out(tmp_path / "p", pipeline.parameters())
    monkeypatch.chdir(tmp_path / "p")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/000_x.parquet").touch()
    subprocess.run(["git", "init", "--quiet"], check=True)
    before = Path("params.yaml").read_text()
    with pytest.raises(MienError, match="not committed"):
        in_project(Request((), ("cnn",)), tmp_path / "raw")
    assert Path("params.yaml").read_text() == before


def test_without_faces_the_command_says_how_to_fetch_some(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", "-f", "cnn", "--raw", str(tmp_path), "--folder", str(tmp_path / "run")])
    assert (result.exit_code, result.stderr.splitlines()[-1][:7]) == (1, "error: ")
    assert "holds no faces. Fetch some first" in result.stderr
    assert not (tmp_path / "run").exists()


def test_minutes_become_epochs_of_every_family(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path, "train", faces(700))
    write_split(tmp_path, "validation", faces(300))
    # 800 faces an epoch, with a third of validation's: 80 s.
    monkeypatch.setattr(budget, "seconds_per_face", lambda *_: 0.1)
    params = parse(budget.within(30, tree, tmp_path))
    # Ten minutes each: 75 % for epochs, of three quarters where there is a search.
    assert [params.training(name)[1].epochs for name in ("cnn", "vgg16", "pupil")] == [4, 5, 4]
    assert params.tune.minutes == 2.5
    assert params.training("cnn")[1].restart == 0, "a restart after the last epoch would be none"


def test_an_epoch_that_is_too_long_is_shortened(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path, "train", faces(700))
    write_split(tmp_path, "validation", faces(300))
    monkeypatch.setattr(budget, "seconds_per_face", lambda *_: 0.1)
    recipe = parse(budget.within(3, tree, tmp_path)).training("vgg16")[1]
    assert (recipe.epochs, recipe.max_rows) == (1, 393)
    with pytest.raises(MienError, match=r"--minutes is too short for cnn: an epoch takes 1\.3 minutes"):
        budget.within(0.5, tree, tmp_path)


@pytest.mark.parametrize("name", ["cnn", "pupil"])
def test_speed_is_measured_by_training(tree: dict[str, Any], name: str) -> None:
    assert 0 < budget.seconds_per_face(parse(tree), name, faces(300)) < 1
