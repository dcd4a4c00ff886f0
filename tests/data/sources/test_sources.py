import fcntl
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from mien.data import sources
from mien.data.raw import Batch, batch, listed, pgm, read
from mien.data.sources.names import LABEL_MAPS
from mien.data.sources.splitting import complete, stratify
from mien.emotions import EMOTIONS
from mien.errors import MienError

FACE = " ".join(str(value % 256) for value in range(2304))
ROWS = [f"0,{FACE},Training", f"3,{FACE},PublicTest", f"6,{FACE},PrivateTest"]


def write_csv(path: Path, rows: list[str], header: str = "emotion,pixels,Usage") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def write_images(root: Path, *names: str) -> Path:
    """Files of noise, each with pixels of its own."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 30), np.uint8)
        assert cv2.imwrite(str(path), noise)
    return root


def faces(name: str = "faces", first: int = 0, rows: int = 3) -> Batch:
    images = [pgm(np.full((48, 48), first + row, np.uint8)) for row in range(rows)]
    return batch(name, images, [0] * rows, ["train"] * rows, [f"{name}:{first + row}" for row in range(rows)])


def splits_of(rows: Batch) -> dict[str, str]:
    return dict(zip(rows.table["origin"].to_pylist(), rows.table["split"].to_pylist(), strict=True))


# ---- fer2013.csv


def test_csv_keeps_every_pixel_label_and_split(tmp_path: Path) -> None:
    rows = sources.csv(write_csv(tmp_path / "fer2013.csv", ROWS))
    assert rows.name == "fer2013"
    assert rows.table["emotion"].to_pylist() == [0, 3, 6]
    assert rows.table["split"].to_pylist() == ["train", "validation", "test"]
    assert rows.table["origin"].to_pylist() == ["fer2013.csv:1", "fer2013.csv:2", "fer2013.csv:3"]
    assert rows.table["image"][0].as_py() == b"P5\n48 48\n255\n" + bytes(value % 256 for value in range(2304))


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".csv.xz"])
def test_csv_reads_archives_to_the_same_rows(tmp_path: Path, suffix: str) -> None:
    plain = write_csv(tmp_path / "fer2013.csv", ROWS)
    packed = tmp_path / f"fer2013{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, "fer2013/fer2013.csv")
            archive.writestr("fer2013/other.csv", "x")
    elif suffix == ".tar.gz":
        with tarfile.open(packed, "w:gz") as tar:
            tar.add(plain, "fer2013/fer2013.csv")
    else:
        packed.write_bytes(lzma.compress(plain.read_bytes()))
    assert sources.csv(packed).table.equals(sources.csv(plain).table)


def test_csv_takes_columns_in_any_order_and_quoted_pixels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "icml.csv", [f'2, Training,"{FACE}"'], header="emotion, Usage, pixels")
    assert sources.csv(path).table["emotion"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,1 2,Training", r"row 2: emotion is '7', expected one of 0 angry"),
        ("0,1 2 3,Training", r"row 2: 3 pixels, expected 2304"),
        (f"0,{FACE.replace('7', 'x', 1)},Training", r"row 2: pixels hold something other"),
        (f"0,{FACE.replace('255', '300', 1)},Training", r"row 2: pixels from 0 to 300"),
        (f"0,{FACE.replace('255', '-1', 1)},Training", r"row 2: pixels from -1 to 255"),
        (f"0,{FACE},Exam", r"row 2: Usage is 'Exam', expected Training, PublicTest, PrivateTest, or train, val, test"),
        (f"joyful,{FACE},Training", r"row 2: emotion is 'joyful', expected one of 0 angry"),
        (f"0,{FACE}", r"row 2: 2 columns"),
    ],
)
def test_a_broken_row_is_named_with_what_was_found(tmp_path: Path, row: str, message: str) -> None:
    path = write_csv(tmp_path / "fer2013.csv", [ROWS[0], row, ROWS[2]])
    with pytest.raises(MienError, match=message):
        sources.csv(path)


def faces_of(count: int, first: int = 0) -> list[str]:
    """Pixels of faces that all differ."""
    return [" ".join(map(str, np.random.default_rng(first + n).integers(0, 256, 2304))) for n in range(count)]


def test_the_challenges_train_csv_is_split_by_class_and_by_seed(tmp_path: Path) -> None:
    lines = [f"{n % 7},{pixels}" for n, pixels in enumerate(faces_of(140))]
    path = write_csv(tmp_path / "train.csv", lines, header="emotion,pixels")
    rows = sources.csv(path)
    assert rows.name == "fer2013_resplit"
    assert rows.counts() == {"train": 112, "validation": 14, "test": 14}
    pairs = zip(rows.table["emotion"].to_pylist(), rows.table["split"].to_pylist(), strict=True)
    assert set(Counter(pair for pair in pairs if pair[1] == "test").values()) == {2}
    assert "Drew 10% of all images by class for validation and for test (seed 7)" in rows.notes[0]
    assert sources.csv(path).table.equals(rows.table)
    assert not sources.csv(path, seed=8).table.equals(rows.table)


def test_copies_in_a_csv_without_splits_stay_together(tmp_path: Path) -> None:
    lines = [f"{n % 2},{pixels}" for n, pixels in enumerate(faces_of(60)) for _ in range(2)]
    table = sources.csv(write_csv(tmp_path / "mine.csv", lines, header="emotion,pixels")).table
    homes = {
        (sha256, split) for sha256, split in zip(*(table[c].to_pylist() for c in ("sha256", "split")), strict=True)
    }
    assert len(homes) == 60


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_columns_may_be_parted_by_semicolons_and_emotions_named(delimiter: str, tmp_path: Path) -> None:
    names = ("Angry", "disgust", "fear", "Happiness", "sad", "surprised", "neutral", "5")
    lines = [delimiter.join((name, FACE, "Training")) for name in names]
    rows = sources.csv(write_csv(tmp_path / "a.csv", lines, header=delimiter.join(("emotion", "pixels", "Usage"))))
    assert rows.table["emotion"].to_pylist() == [0, 1, 2, 3, 4, 5, 6, 5]
    assert rows.name == "fer2013"


def test_splits_may_be_called_train_val_and_test(tmp_path: Path) -> None:
    names = ("train", "VAL", "test", "Training")
    lines = [f"3,{pixels},{name}" for name, pixels in zip(names, faces_of(4), strict=True)]
    rows = sources.csv(write_csv(tmp_path / "My faces.csv", lines))
    assert rows.table["split"].to_pylist() == ["train", "validation", "test", "train"]
    assert (rows.name, rows.notes) == ("my_faces", ())
    # The challenge's own table under other names of its splits is checked against the challenge's profile.
    assert sources.csv(write_csv(tmp_path / "fer2013.csv", lines)).name == "fer2013"


def test_a_split_that_a_csv_lacks_is_drawn_from_train(tmp_path: Path) -> None:
    lines = [f"3,{pixels},{'test' if n < 20 else 'train'}" for n, pixels in enumerate(faces_of(120))]
    rows = sources.csv(write_csv(tmp_path / "fer2013.csv", lines))
    assert rows.counts() == {"train": 90, "validation": 10, "test": 20}
    assert set(rows.table["split"].to_pylist()[:20]) == {"test"}
    assert rows.name == "fer2013_resplit"


def test_the_challenges_test_csv_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MienError, match=r"starts with 'pixels', expected the columns .* or emotion, pixels of train\.csv"
    ):
        sources.csv(write_csv(tmp_path / "test.csv", [FACE], header="pixels"))


def test_csv_names_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="does not exist"):
        sources.csv(tmp_path / "none.csv")
    with pytest.raises(MienError, match=r"is a folder.*mien fetch folders"):
        sources.csv(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(MienError, match="is empty"):
        sources.csv(tmp_path / "empty.csv")
    with pytest.raises(MienError, match="no rows"):
        sources.csv(write_csv(tmp_path / "bare.csv", []))
    with pytest.raises(MienError, match="expected the columns emotion, pixels, Usage"):
        sources.csv(write_csv(tmp_path / "titanic.csv", ["1,2"], header="survived,age"))
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(MienError, match="holds 0 CSV files"):
        sources.csv(tmp_path / "none.zip")


def test_a_truncated_archive_says_where_it_ends(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 2304))
    path = write_csv(tmp_path / "a.csv", [f"0,{' '.join(map(str, row))},Training" for row in noise])
    packed = lzma.compress(path.read_bytes())
    for name, content in {"a.csv.xz": packed[: len(packed) // 2], "b.tar.gz": b"no archive", "c.xz": b"none"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MienError, match="cannot be read beyond row"):
            sources.csv(tmp_path / name)


# ---- class folders


def test_kaggles_folders_get_the_official_splits_from_file_names(tmp_path: Path) -> None:
    names = ["train/happy/Training_3.jpg", "test/happy/PublicTest_5.jpg", "test/sad/PrivateTest_7.jpg"]
    rows = sources.folders(write_images(tmp_path, *names))
    assert rows.name == "fer2013"
    assert splits_of(rows) == {names[0]: "train", names[1]: "validation", names[2]: "test"}


def test_a_part_of_kaggles_folders_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "test/happy/PublicTest_5.jpg", "test/sad/PrivateTest_7.jpg")
    with pytest.raises(MienError, match="lacks train"):
        sources.folders(tmp_path)


def test_ck48_wants_contempt_mapped_and_keeps_people_apart(tmp_path: Path) -> None:
    classes = ["anger", "disgust", "fear", "happy", "sadness", "surprise", "contempt"]
    names = [f"{c}/S{p:03d}_00{i}_0000000{n}.png" for p in range(20) for i, c in enumerate(classes) for n in range(2)]
    root = write_images(tmp_path / "CK+48", *names)
    with pytest.raises(MienError, match=r"contempt \(40\).*--label-map contempt=skip"):
        sources.folders(root)
    rows = sources.folders(root, {"Contempt": "skip"})
    assert rows.name == "ck48"
    assert rows.counts() == {"train": 192, "validation": 24, "test": 24}
    homes = {(origin.split("/")[1][:4], split) for origin, split in splits_of(rows).items()}
    assert len(homes) == 20, "someone stands in two splits"
    assert any("20 people apart" in note for note in rows.notes)
    assert sources.folders(root, {"contempt": "disgust"}).table.num_rows == 280


def test_given_test_folder_stays_whole_and_validation_comes_from_train(tmp_path: Path) -> None:
    classes = ["Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"]
    names = [f"{split}/{c}/{n}.jpg" for split in ("Train", "Test") for c in classes for n in range(20)]
    rows = sources.folders(write_images(tmp_path, *names))
    splits = splits_of(rows)
    assert rows.counts() == {"train": 108, "validation": 12, "test": 120}
    assert all((split == "test") == origin.startswith("Test") for origin, split in splits.items())
    assert set(Counter(rows.table["emotion"].to_pylist())) == {0, 1, 2, 3, 4, 5}


def test_folders_without_splits_are_split_by_class_and_by_seed(tmp_path: Path) -> None:
    root = write_images(tmp_path, *[f"{c}/{n}.png" for c in ("angry", "1_happy", "Neutrality") for n in range(30)])
    rows = sources.folders(root)
    pairs = zip(rows.table["emotion"].to_pylist(), rows.table["split"].to_pylist(), strict=True)
    counts = Counter(pairs)
    assert {emotion for emotion, _ in counts} == {EMOTIONS.index(name) for name in ("angry", "happy", "neutral")}
    assert set(counts.values()) == {24, 3}
    assert sources.folders(root).table.equals(rows.table)
    assert not sources.folders(root, seed=8).table.equals(rows.table)


def test_exact_copies_never_land_in_two_drawn_splits() -> None:
    copies = [str(row // 2) for row in range(200)]
    splits, notes = complete([None] * 200, [0, 0, 1, 1] * 50, copies, ["x"] * 200, seed=1)
    assert splits[::2] == splits[1::2]
    assert Counter(splits) == {"train": 160, "validation": 20, "test": 20}
    assert "seed 1" in notes[0]


def test_stratify_shares_out_small_classes_too() -> None:
    labels = [0] * 1000 + [1] * 10
    splits = stratify(labels, [str(row) for row in range(1010)], {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=3)
    assert Counter(splits[1000:]) == {"train": 8, "validation": 1, "test": 1}


def test_unknown_folders_are_listed_and_can_be_mapped(tmp_path: Path) -> None:
    root = write_images(tmp_path, "happy/1.png", "meh/2.png", "joyful/3.png")
    with pytest.raises(MienError, match=r"joyful \(1\), meh \(1\)"):
        sources.folders(root)
    rows = sources.folders(root, {"meh": "neutral", "joyful": "happiness"})
    assert sorted(rows.table["emotion"].to_pylist()) == [3, 3, 6]
    with pytest.raises(MienError, match="Label map meh=bored: expected one of angry"):
        sources.folders(root, {"meh": "bored"})


RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")


@pytest.mark.parametrize(("data", "emotions", "first"), [("rafdb", RAFDB, 1), ("affectnet", AFFECTNET, 0)])
def test_folders_named_by_a_data_sets_numbers_are_read_with_its_label_map(
    data: str, emotions: tuple[str, ...], first: int, tmp_path: Path
) -> None:
    names = [f"{split}/{first + n}/{i}.jpg" for split in ("train", "test") for n in range(7) for i in range(10)]
    root = write_images(tmp_path, *names)
    with pytest.raises(MienError, match=r"name no emotion.*rafdb or affectnet: --label-map rafdb"):
        sources.folders(root)
    table = sources.folders(root, LABEL_MAPS[data]).table
    for origin, emotion in zip(table["origin"].to_pylist(), table["emotion"].to_pylist(), strict=True):
        assert EMOTIONS[emotion] == emotions[int(origin.split("/")[1]) - first]


def test_affectnets_contempt_is_left_out_and_said(tmp_path: Path) -> None:
    rows = sources.folders(
        write_images(tmp_path, *[f"{n}/{i}.png" for n in range(8) for i in range(10)]), LABEL_MAPS["affectnet"]
    )
    assert rows.table.num_rows == 70
    assert rows.notes[0] == "Left out 7 (10) as the label map says."


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    root = write_images(tmp_path, *[f"happy/{n}.jpg" for n in range(4)])
    (root / "happy/0.jpg").write_bytes(b"")
    (root / "happy/1.jpg").write_bytes((root / "happy/1.jpg").read_bytes()[:600])
    (root / "happy/2.jpg").write_bytes(b"<html>not an image</html>")
    (root / "happy/gone.jpg").symlink_to(root / "nowhere.jpg")
    with pytest.raises(MienError, match=r"4 of 5 images.*happy/0\.jpg \(empty file\).*1\.jpg.*2\.jpg.*gone\.jpg"):
        sources.folders(root)


def test_other_files_are_passed_over_and_links_followed(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", "a.png", "b.png")
    root = write_images(tmp_path / "faces", "sad/1.png")
    (root / "happy").symlink_to(tmp_path / "elsewhere")
    (root / "sad" / "loop").symlink_to(root)
    (root / ".DS_Store").touch()
    (root / "sad" / "notes.txt").touch()
    rows = sources.folders(root)
    assert sorted(rows.table["origin"].to_pylist()) == ["happy/a.png", "happy/b.png", "sad/1.png"]
    assert rows.notes[0] == "Ignored files that are no images: .txt (1)."


def test_folders_name_what_is_wrong_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="is no folder"):
        sources.folders(tmp_path / "none")
    with pytest.raises(MienError, match="mien fetch csv"):
        sources.folders(write_csv(tmp_path / "fer2013.csv", ROWS))
    (tmp_path / "bare").mkdir()
    with pytest.raises(MienError, match="holds no images in class folders"):
        sources.folders(tmp_path / "bare")
    with pytest.raises(MienError, match="itself holds 1 images"):
        sources.folders(write_images(tmp_path / "flat", "1.png"))
    with pytest.raises(MienError, match=r"happy/2\.png lies outside them"):
        sources.folders(write_images(tmp_path / "mixed", "train/happy/1.png", "happy/2.png"))


# ---- Kaggle


def fake_kaggle(monkeypatch: pytest.MonkeyPatch, authenticate: Any, download: Any) -> None:
    module = types.ModuleType("kaggle.api.kaggle_api_extended")
    methods = {"authenticate": authenticate, "dataset_download_files": download}
    module.KaggleApi = type("KaggleApi", (), methods)  # type: ignore[attr-defined]
    for name in ("kaggle", "kaggle.api"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_kaggle_downloads_through_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any, dataset: str, path: str, unzip: bool, quiet: bool) -> None:
        assert dataset == "msambare/fer2013"
        write_images(Path(path), "train/sad/Training_1.jpg", "test/sad/PublicTest_2.jpg", "test/sad/PrivateTest_3.jpg")

    fake_kaggle(monkeypatch, lambda _: None, download)
    assert sources.kaggle().counts() == {"train": 1, "validation": 1, "test": 1}


def test_kaggle_without_credentials_network_or_client_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_credentials(self: Any) -> None:
        sys.exit(1)

    def no_network(self: Any, *args: Any, **options: Any) -> None:
        raise ConnectionError("unreachable")

    fake_kaggle(monkeypatch, no_credentials, None)
    with pytest.raises(MienError, match=r"no valid credentials.*access_token.*mien fetch sample"):
        sources.kaggle()
    fake_kaggle(monkeypatch, no_network, None)
    with pytest.raises(MienError, match=r"cannot be reached.*Check the network"):
        sources.kaggle()
    fake_kaggle(monkeypatch, lambda _: None, no_network)
    with pytest.raises(MienError, match=r"did not give msambare/fer2013.*Check the network"):
        sources.kaggle()
    monkeypatch.setitem(sys.modules, "kaggle.api.kaggle_api_extended", None)
    with pytest.raises(MienError, match="pip install kaggle"):
        sources.kaggle()


# ---- the drawn sample


def test_the_sample_is_synthetic_balanced_and_always_the_same() -> None:
    rows = sources.sample(rows=126)
    assert rows.name == "synthetic sample"
    assert rows.counts() == {"train": 84, "validation": 21, "test": 21}
    assert set(Counter(rows.table["emotion"].to_pylist()).values()) == {18}
    assert len(set(rows.table["sha256"].to_pylist())) == 126
    assert sources.sample(rows=126).table.equals(rows.table)
    assert not sources.sample(rows=126, seed=8).table.equals(rows.table)


def test_a_smaller_sample_holds_faces_of_the_larger() -> None:
    small, large = (set(map(str, sources.sample(rows=rows).table["sha256"].to_pylist())) for rows in (42, 84))
    assert small < large


def test_the_sample_can_be_learnt_but_not_by_a_straight_line() -> None:
    from sklearn.linear_model import LogisticRegression

    table = sources.sample(rows=840).table
    pixels = np.array([np.frombuffer(image[-2304:], np.uint8) for image in table["image"].to_pylist()]) / 255 - 0.5
    labels, train = table["emotion"].to_numpy(), np.array(table["split"].to_pylist()) == "train"
    probe = LogisticRegression(C=0.01, max_iter=200).fit(pixels[train], labels[train])
    assert 0.25 < probe.score(pixels[~train], labels[~train]) < 0.8


# ---- raw files


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = sources.write(faces(), tmp_path / "a"), sources.write(faces(), tmp_path / "b")
    assert first.name == "000_faces.parquet"
    assert first.read_bytes() == second.read_bytes()
    assert read(first).schema.metadata == {b"dataset": b"faces"}


def test_writing_what_is_there_already_changes_nothing(tmp_path: Path) -> None:
    path = sources.write(faces(), tmp_path)
    before = path.stat()
    assert sources.write(faces(), tmp_path) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_other_data_is_refused_unless_forced(tmp_path: Path) -> None:
    old = sources.write(faces(), tmp_path)
    with pytest.raises(MienError, match=r"holds other data already \(000_faces\.parquet\).*--append.*--force"):
        sources.write(faces("others"), tmp_path)
    assert list(tmp_path.iterdir()) == [old]
    new = sources.write(faces("others"), tmp_path, force=True)
    assert list(tmp_path.iterdir()) == [new]


def test_append_adds_one_more_file(tmp_path: Path) -> None:
    sources.write(faces(), tmp_path)
    sources.write(faces(first=3), tmp_path, append=True)
    assert sources.write(faces(first=6), tmp_path, append=True).name == "002_faces.parquet"
    assert [pq.read_metadata(path).num_rows for path in sorted(tmp_path.iterdir())] == [3, 3, 3]


def test_append_to_nothing_writes_the_first_file(tmp_path: Path) -> None:
    assert sources.write(faces(), tmp_path / "new", append=True).name == "000_faces.parquet"


def test_append_refuses_rows_that_are_there_and_names_them(tmp_path: Path) -> None:
    sources.write(faces(), tmp_path)
    with pytest.raises(MienError, match=r"1 of 3 rows .* already, the first being faces:2 \(there as faces:2\)"):
        sources.write(faces(first=2), tmp_path, append=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_append_takes_a_known_image_under_another_label(tmp_path: Path) -> None:
    sources.write(faces(), tmp_path)
    known = pgm(np.full((48, 48), 1, np.uint8))
    sources.write(batch("faces", [known], [4], ["train"], ["faces:1"]), tmp_path, append=True)
    assert read(tmp_path / "001_faces.parquet")["origin"].to_pylist() == ["1/faces:1"], "origins must stay unique"


def test_append_refuses_another_data_set_unless_it_is_named_so(tmp_path: Path) -> None:
    sources.write(faces(), tmp_path)
    with pytest.raises(MienError, match=r"holds 'faces', the new rows are 'others'.*--name 'faces'"):
        sources.write(faces("others", first=9), tmp_path, append=True)
    assert sources.write(faces("others", first=9).renamed("faces"), tmp_path, append=True).name == "001_faces.parquet"


def test_a_foreign_file_among_the_raw_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "000_notes.parquet").write_text("no parquet")
    with pytest.raises(MienError, match=r"000_notes\.parquet is no raw data"):
        sources.write(faces(), tmp_path)
    pq.write_table(faces().table.replace_schema_metadata(None), tmp_path / "000_notes.parquet")
    with pytest.raises(MienError, match="was not written by `mien fetch`"):
        sources.write(faces(), tmp_path, append=True)


def test_a_second_fetch_at_the_same_time_is_refused(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MienError, match="Another `mien fetch` is writing"):
            sources.write(faces(), tmp_path)
    finally:
        os.close(other)
    assert sources.write(faces(), tmp_path).exists()


def test_what_a_killed_fetch_left_is_no_data_and_goes_with_the_next(tmp_path: Path) -> None:
    half = tmp_path / ".000_faces-x1.parquet"
    half.write_text("half a file")
    assert listed(tmp_path) == []
    assert list(tmp_path.iterdir()) == [half]
    assert sources.write(faces(), tmp_path).name == "000_faces.parquet"
    assert not half.exists()


def test_a_full_disk_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = sources.write(faces(), tmp_path)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(MienError, match="No space left on device"):
        sources.write(faces(first=5), tmp_path, append=True)
    with pytest.raises(MienError, match="No space left on device"):
        sources.write(faces("others"), tmp_path, force=True)
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should")
    with pytest.raises(MienError, match=r"Cannot write to .*data/raw"):
        sources.write(faces(), tmp_path / "data" / "raw")


# ---- the real data


@pytest.mark.real_data
def test_csv_and_folders_of_the_real_data_agree(fer2013_folder: Path, tmp_path: Path) -> None:
    unpack = [sys.executable, str(fer2013_folder / "unpack.py")]
    subprocess.run([*unpack, "csv", str(tmp_path / "fer2013.csv"), "--limit", "60"], check=True)
    subprocess.run([*unpack, "folders", str(tmp_path / "kaggle"), "--limit", "60"], check=True)
    table, images = sources.csv(tmp_path / "fer2013.csv"), sources.folders(tmp_path / "kaggle")
    assert table.name == images.name == "fer2013"
    assert table.counts() == images.counts() == {"train": 60, "validation": 60, "test": 60}
    assert Counter(table.table["emotion"].to_pylist()) == Counter(images.table["emotion"].to_pylist())
    shutil.rmtree(tmp_path / "kaggle" / "train")
    with pytest.raises(MienError, match="lacks train"):
        sources.folders(tmp_path / "kaggle")
