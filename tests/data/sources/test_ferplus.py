from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mien.cli.main import main
from mien.data.dataset import Split
from mien.data.sources import ferplus
from mien.data.sources.ferplus import ANSWERS, COLUMNS, NONE
from mien.emotions import EMOTIONS
from mien.errors import MienError


def line(usage: str = "Training", /, **votes: int) -> str:
    return f"{usage},fer.png," + ",".join(str(votes.get(answer, 0)) for answer in ANSWERS)


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def faces(*rows: int) -> Split:
    n = len(rows)
    return Split(np.zeros((n, 48, 48, 1), np.uint8), np.zeros(n, np.int64), np.zeros(n, bool), np.array(rows))


def origins(folder: Path, *names: str) -> Path:
    pq.write_table(pa.table({"origin": list(names)}), folder / "statistics.parquet")
    return folder


def test_the_label_is_what_most_people_chose(tmp_path: Path) -> None:
    lines = [line(anger=5, sadness=4), line(happiness=10), line(neutral=6, contempt=4), line(fear=3, unknown=1)]
    found = ferplus.read(table(tmp_path / "votes.csv", *lines)).plurality()
    assert [EMOTIONS[label] for label in found] == ["angry", "happy", "neutral", "fear"]


@pytest.mark.parametrize(
    "votes", [{"anger": 5, "sadness": 5}, {"contempt": 6, "neutral": 4}, {"NF": 10}, {"unknown": 5, "sadness": 5}, {}]
)
def test_a_tie_or_another_answer_settles_nothing(tmp_path: Path, votes: dict[str, int]) -> None:
    assert ferplus.read(table(tmp_path / "votes.csv", line(**votes))).plurality().tolist() == [NONE]


def test_faces_are_found_by_their_row_in_the_challenges_table(tmp_path: Path) -> None:
    path = table(tmp_path / "votes.csv", line(fear=9), line("PrivateTest", sadness=9), line("PrivateTest", disgust=9))
    folder = origins(tmp_path, "fer2013.csv:3", "fer2013.csv:1", "fer2013.csv:2")
    found = ferplus.labels(ferplus.read(path), folder, "test", faces(0, 2))
    assert [EMOTIONS[label] for label in found] == ["disgust", "sad"]


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("fer2013.csv:1", "is a face of test here and of train in FER"),
        ("fer2013.csv:4", "1 faces of test are none of these, the first being fer2013.csv:4"),
        ("test/angry/PrivateTest_1.jpg", "none of these"),
        ("1/fer2013.csv:2", "none of these"),
    ],
)
def test_faces_of_other_rows_are_refused(tmp_path: Path, origin: str, message: str) -> None:
    votes = ferplus.read(table(tmp_path / "votes.csv", line(fear=9), line("PrivateTest", sadness=9)))
    with pytest.raises(MienError, match=message):
        ferplus.labels(votes, origins(tmp_path, origin), "test", faces(0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emotion,pixels,Usage\n", "starts with 'emotion,pixels,Usage', expected Usage,Image name,neutral"),
        (",".join(COLUMNS) + "\n", "has a header but no rows"),
        (",".join(COLUMNS) + "\nTest,a" + ",1" * 10, "row 1 is 'Test,a,1"),
        (",".join(COLUMNS) + "\nTraining,a,1,2", "row 1 is"),
        (",".join(COLUMNS) + "\nTraining,a" + ",x" * 10, "row 1 is"),
    ],
)
def test_what_is_no_table_of_votes_is_refused_and_not_kept(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(MienError, match=message):
        ferplus.keep(tmp_path / "votes.csv", tmp_path / "kept.csv")
    assert not (tmp_path / "kept.csv").exists()


def test_the_command_keeps_the_votes_beside_the_raw_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path / "fer2013new.csv", line(fear=9), line(NF=10))
    result = CliRunner().invoke(main, ["fetch", "ferplus", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "votes on 2 faces, 1 of them settled" in result.output
    assert "dvc repro --force --single-item evaluate" in result.output
    assert (tmp_path / "data" / "ferplus.csv").read_bytes() == path.read_bytes()
    assert not (tmp_path / "data" / "raw").exists()


@pytest.mark.real_data
def test_the_real_votes_agree_with_the_real_labels_on_two_faces_in_three(fer2013_folder: Path) -> None:
    votes = ferplus.read(fer2013_folder / "fer2013new.csv")
    own = np.array(pq.read_table(fer2013_folder / "fer2013.parquet", columns=["emotion"])["emotion"].to_pylist())
    assert {split: int((votes.splits == split).sum()) for split in ("train", "validation", "test")} == {
        "train": 28709, "validation": 3589, "test": 3589,
    }  # fmt: skip
    private = (votes.splits == "test") & (votes.plurality() != NONE)
    assert private.sum() == 3350
    assert np.mean(votes.plurality()[private] == own[private]) == pytest.approx(0.656, abs=0.001)
