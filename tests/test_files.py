import errno
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mien.cli.main import main
from mien.errors import MienError
from mien.files import alone_in, read_json, replacing, swap, write_file, write_json

ROOT = Path(__file__).parents[1]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def fill_the_disk(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MienError, match=r"Cannot write .*report\.json: No space left on device"):
        write_file(target, fill_the_disk)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    with pytest.raises(MienError, match="Cannot write"):
        write_json(tmp_path / "reports" / "a.json", {})


def test_json_comes_back_as_it_went(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"é": [1, 0.5, None]})
    assert read_json(tmp_path / "deep" / "a.json", made_by="x") == {"é": [1, 0.5, None]}


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[]", "holds list, expected an object")])
def test_a_broken_report_names_the_command_that_makes_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MienError, match=f"{message}.*dvc repro evaluate"):
        read_json(tmp_path / "a.json", made_by="dvc repro evaluate")


def test_a_missing_report_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MienError, match=r"is missing\. Make it with `dvc repro evaluate`"):
        read_json(tmp_path / "a.json", made_by="dvc repro evaluate")


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path: Path) -> None:
    (tmp_path / "champion").mkdir()
    (tmp_path / "champion" / "old").touch()
    (tmp_path / "scratch").mkdir()
    with pytest.raises(OSError, match="No such file"):
        swap(tmp_path / "scratch" / "gone", tmp_path / "champion")
    assert (tmp_path / "champion" / "old").exists()


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("rows.csv", "old")]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("rows.csv", "new")]


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    script = "import sys; from pathlib import Path; from mien.files import alone_in\n"
    script += "with alone_in(Path(sys.argv[1]), 'busy'): print('held', flush=True); input()"
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MienError, match="busy"), alone_in(folder, "busy"):
            pass
        arguments = ["--prepared", "p", "--tuned", "t", "--model", "m", "--report", "r", "--checkpoints", str(folder)]
        said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "train", "cnn", *arguments])
        assert (said.exit_code, said.stderr) == (
            1, f"error: Another `mien train` is at work on {folder}. Wait for its end, or name another folder: "
            "--checkpoints.\n"
        )  # fmt: skip
        holder.kill()
    with alone_in(folder, "busy"):
        pass
