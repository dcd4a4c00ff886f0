import errno
import shutil
from pathlib import Path

import pytest

from mien.errors import MienError
from mien.files import read_json, replacing, swap, write_file, write_json


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


def test_hdf5_is_not_begun_on_a_disk_without_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last-0001.weights.h5").write_bytes(bytes(1000))
    usage, following = shutil.disk_usage(tmp_path), tmp_path / "last-0002.weights.h5"
    monkeypatch.setattr("mien.files.HDF5_ROOM", 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1200))
        with pytest.raises(MienError, match="No space left on device"):
            write_file(following, lambda _: pytest.fail("it was begun"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1300))
    write_file(following, lambda path: path.touch())
    assert following.exists()


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
