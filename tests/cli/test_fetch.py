import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mien.cli.fetch import fetch, label_mapping
from mien.errors import MienError


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(fetch, arguments)


def refusal(*arguments: str) -> str:
    error = call(*arguments).exception
    assert isinstance(error, MienError)
    return str(error)


def test_fetch_says_what_it_wrote_and_what_comes_next() -> None:
    result = call("sample", "--rows", "42")
    assert result.exit_code == 0
    assert "Wrote data/raw/000_synthetic_sample.parquet: 42 rows of synthetic sample (train 28, " in result.output
    assert "Next: " in result.output


def test_fetching_the_same_again_is_nothing_to_do() -> None:
    call("sample", "--rows", "42")
    assert "nothing to do" in call("sample", "--rows", "42").output


def test_data_that_are_there_are_told_before_the_source_is_read() -> None:
    call("sample", "--rows", "42")
    call("sample", "--rows", "42", "--seed", "8", "--append")
    assert "holds data already (000_synthetic_sample.parquet, 001_" in refusal("csv", "there_is_no_such.csv")
    Path("data/raw/001_synthetic_sample.parquet").unlink()
    assert "000_synthetic_sample.parquet is there already: reading" in call("csv", "there_is_no_such.csv").stderr


def test_append_and_force_reach_the_raw_folder() -> None:
    call("sample", "--rows", "42", "--raw", "elsewhere")
    assert "--append" in refusal("sample", "--rows", "42", "--seed", "8", "--raw", "elsewhere")
    call("sample", "--rows", "42", "--seed", "8", "--raw", "elsewhere", "--append")
    assert len(list(Path("elsewhere").iterdir())) == 2
    call("sample", "--rows", "42", "--seed", "9", "--raw", "elsewhere", "--force")
    assert len(list(Path("elsewhere").iterdir())) == 1
    assert "only one of them" in refusal("sample", "--append", "--force")


def test_folders_takes_a_label_map_and_a_name() -> None:
    for name in ("joyous", "contempt"):
        Path("faces", name).mkdir(parents=True)
        cv2.imwrite(f"faces/{name}/1.png", np.zeros((48, 48), np.uint8))
    result = call("folders", "faces", "--label-map", "joyous=happy,contempt=skip", "--name", "mine")
    assert "1 rows of mine" in result.output
    assert "Left out contempt (1)" in result.output


def test_label_maps_are_pairs() -> None:
    assert label_mapping(("a=Happy", "b=skip, c = sad")) == {"a": "happy", "b": "skip", "c": "sad"}
    for wrong in ("a", "a=", "=happy"):
        with pytest.raises(MienError, match=r"expected FOLDER=EMOTION.*or one of rafdb, affectnet"):
            label_mapping((wrong,))


def test_a_label_map_may_be_a_data_sets_and_have_more_pairs() -> None:
    mapping = label_mapping(("AffectNet", "7=disgust,other=skip"))
    assert (mapping["0"], mapping["7"], mapping["other"]) == ("neutral", "disgust", "skip")
    assert label_mapping(("rafdb",))["1"] == "surprise"


def test_a_table_without_splits_is_fetched_by_seed() -> None:
    face = " ".join(["7"] * 2303)
    Path("train.csv").write_text("emotion;pixels\n" + "".join(f"happy;{face} {n}\n" for n in range(20)))
    result = call("csv", "train.csv", "--seed", "3")
    assert "20 rows of fer2013_resplit (train 16, validation 2, test 2)" in result.output
    assert "(seed 3)" in result.output


def test_a_users_mistake_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from mien.cli.main import main; main()", "fetch", "csv", "none.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: none.csv does not exist.")
    assert not (tmp_path / "data").exists()


def test_append_wants_the_tracked_data_pulled_first() -> None:
    Path("data").mkdir()
    Path("data/raw.dvc").touch()
    assert "dvc pull" in refusal("sample", "--append")


def test_raw_data_is_handed_to_dvc_in_a_dvc_project() -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    assert "Tracked by DVC" in call("sample", "--rows", "42").output
    assert "nfiles: 1" in Path("data/raw.dvc").read_text()
    call("sample", "--rows", "42", "--seed", "8", "--append", "--no-track")
    assert "nfiles: 1" in Path("data/raw.dvc").read_text()


def test_a_failing_dvc_add_is_told_and_the_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: the cache is gone")

    Path(".dvc").mkdir()
    monkeypatch.setattr(subprocess, "run", fail)
    assert "the cache is gone" in refusal("sample", "--rows", "42")
    assert len(list(Path("data/raw").iterdir())) == 1
