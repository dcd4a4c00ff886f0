"""mien.inference.photo_files: which files are photos, and where their copies go."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.errors import MienError
from mien.inference.photo_files import ENDINGS, collect, targets, write_copy


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fill() -> Callable[..., None]:
    def write(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return write


def names(*paths: str) -> list[str]:
    return [str(photo) for photo in collect(paths).photos]


def test_a_folder_gives_the_photos_below_it_by_name(fill: Callable[..., None]) -> None:
    fill("a/2.jpg", "a/1.JPEG", "a/deep/er/3.png", "a/notes.txt", "a/.hidden.jpg", "a/.cache/4.jpg", "a/no_ending")
    assert names("a") == ["a/1.JPEG", "a/2.jpg", "a/deep/er/3.png"]


def test_a_file_is_taken_as_it_is(fill: Callable[..., None]) -> None:
    fill("notes.txt", ".hidden", "photo")
    assert names("notes.txt", ".hidden", "photo", "gone.jpg") == ["notes.txt", ".hidden", "photo", "gone.jpg"]


def test_a_glob_gives_photos_also_of_folders_below(fill: Callable[..., None]) -> None:
    fill("trip/1.jpg", "trip/2.png", "trip/x.txt", "trip/day/3.jpg")
    assert names("trip/*") == ["trip/1.jpg", "trip/2.png"]
    assert names("trip/**/*.jpg") == ["trip/1.jpg", "trip/day/3.jpg"]


def test_brackets_in_the_name_of_a_file_are_no_pattern(fill: Callable[..., None]) -> None:
    fill("me [1].jpg")
    assert names("me [1].jpg") == ["me [1].jpg"]


def test_each_photo_is_answered_once(fill: Callable[..., None]) -> None:
    fill("a/1.jpg")
    assert names("a", "a/1.jpg", "a/*.jpg", str(Path("a/1.jpg").absolute())) == ["a/1.jpg"]


def test_what_leads_to_no_photo_is_told(fill: Callable[..., None]) -> None:
    fill("empty/notes.txt", "a.jpg")
    found = collect(("empty", "no/*.jpg", "a.jpg"))
    assert [str(photo) for photo in found.photos] == ["a.jpg"]
    assert [problem.partition(":")[0] for problem in found.problems] == ["empty", "no/*.jpg"]
    assert ".jpg" in found.problems[0]


def test_a_folder_that_may_not_be_read_is_told(fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    fill("a/1.jpg", "a/b/2.jpg")
    read = os.scandir

    def refuse(place: str) -> Any:
        if place.endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return read(place)

    monkeypatch.setattr(os, "scandir", refuse)
    found = collect(("a",))
    assert [str(photo) for photo in found.photos] == ["a/1.jpg"]
    assert found.problems == ["a/b: cannot be searched (Permission denied)."]


def test_the_copies_of_a_former_run_are_not_searched(fill: Callable[..., None]) -> None:
    fill("a/1.jpg", "a/drawn/1.jpg")
    assert [str(photo) for photo in collect(("a",), Path("a/drawn")).photos] == ["a/1.jpg"]


def test_copies_keep_their_paths_so_that_equal_names_stay_apart(tmp_path: Path) -> None:
    photos = [Path("a/1.jpg"), Path("a/b/1.jpg"), tmp_path / "a/c/1.jpg", Path("a/c/../2.jpg")]
    copies = targets(photos, Path("out"))
    assert list(copies.values()) == [Path("out/1.jpg"), Path("out/b/1.jpg"), Path("out/c/1.jpg"), Path("out/2.jpg")]


def test_a_lone_photo_keeps_its_name() -> None:
    assert targets([Path("a/b/1.jpg")], Path("out")) == {Path("a/b/1.jpg"): Path("out/1.jpg")}


@pytest.mark.parametrize(
    ("photos", "folder"),
    [(["a/1.jpg"], "a"), (["a/1.jpg", "a/b/1.jpg"], "a"), (["a/1.jpg", "b/1.jpg"], "."), (["a/1", "a/1.png"], "out")],
)
def test_a_copy_never_takes_another_files_place(photos: list[str], folder: str) -> None:
    with pytest.raises(MienError, match=r"would take the place of .*Name another folder"):
        targets([Path(photo) for photo in photos], Path(folder))


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_copies_are_written_in_the_photos_own_format(ending: str) -> None:
    photo, target = Path(f"photo{ending}"), Path(f"out/photo{ending}")
    Image.fromarray(np.full((120, 160, 3), 128, np.uint8)).save(photo, ENDINGS[ending])
    face = {"box": [40, 30, 60, 60], "emotion": "happy", "probabilities": {"happy": 1.0}, "status": "ok"}
    write_copy(photo, [face], target)
    with Image.open(target) as drawn:
        assert drawn.format == ENDINGS[ending]
        assert drawn.size == (160, 120)
        assert np.ptp(np.asarray(drawn.convert("L"), np.int64)) > 60
    with Image.open(photo) as original:
        assert np.ptp(np.asarray(original.convert("L"), np.int64)) < 10
    assert [path.name for path in Path("out").iterdir()] == [target.name]


def test_a_photo_that_has_gone_before_its_copy_is_drawn_is_told() -> None:
    with pytest.raises(MienError, match=r"Cannot read the photo gone\.jpg: No such file"):
        write_copy(Path("gone.jpg"), [], Path("out/gone.jpg"))
