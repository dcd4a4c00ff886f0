"""mien.cli.predictions: answers for people and for programs, and what could not be read."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console

from mien.cli import predictions
from mien.cli.main import main
from mien.cli.prediction_table import rich_table
from mien.emotions import EMOTIONS
from mien.inference.detector_file import YUNET_VARIABLE
from mien.inference.predictions import COLUMNS, Box, FacePrediction, ModelInfo, Prediction

Call = Callable[..., Result]
InTerminal = Callable[[list[str]], tuple[int, str]]


@pytest.fixture(autouse=True)
def _album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two faces of one name, a picture without a face, a broken one, and a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(YUNET_VARIABLE, raising=False)  # which doubts that stripes are faces
    for name, gray, size in (("a/face.png", 110, 48), ("a/b/face.png", 20, 48), ("a/none.png", 90, 200)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        stripes = np.tile(np.array([gray - 10, gray + 10], np.uint8), (size, size // 2))  # a flat face would be blurry
        Image.fromarray(stripes).save(name)
    Path("a/notes.txt").write_text("no photo")


@pytest.fixture
def call(brightness_champion: Path) -> Call:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["predict", "--champion", str(brightness_champion), *arguments])

    return run


@pytest.fixture
def command(brightness_champion: Path) -> list[str]:
    return [sys.executable, "-m", "mien", "predict", "--champion", str(brightness_champion)]


def answer(photo: str, count: int, status: str = "ok") -> Prediction:
    probabilities = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.6, "sad": 0.15}
    boxes = [Box(10 * i, 20, 30, 40) for i in range(count)]
    faces = tuple(FacePrediction(box, "happy", probabilities, 0.6, status, "haar") for box in boxes)
    return Prediction("ok", faces, ModelInfo("1", "", "", "", "", synthetic=False), photo)


def shown(answers: list[Prediction], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(rich_table(answers, width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_a_folder_is_answered_photo_by_photo(call: Call) -> None:
    result = call("a")
    assert result.exit_code == 0
    assert result.stderr == ""
    heads = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert heads == ["a/face.png: 1 face", "a/none.png: 0 faces", "a/b/face.png: 1 face"]
    assert "happy     ok         at 0,0 48×48   happy 100%" in result.stdout


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv", "-")])
def test_a_photo_cut_off_at_its_end_is_answered_and_a_warning_printed(
    form: tuple[str, ...], call: Call, portrait: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(portrait[:-900])
    result = call(*form, str(path))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {path}: The photo is cut off: 9")
    assert ("cut off" in result.stdout) == (form == ("--json",))


def test_broken_metadata_is_no_matter(command: list[str]) -> None:
    Image.new("L", (100, 100)).save("plain.jpg")
    start, rest = (data := Path("plain.jpg").read_bytes())[:2], data[2:]
    Path("odd.jpg").write_bytes(start + b"\xff\xe1\x00\x10Exif\0\0MM\0*\0\0\0\x08" + rest)
    done = subprocess.run([*command, "odd.jpg"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("odd.jpg: 0 faces\n", "")


def test_json_is_one_object_a_line(call: Call) -> None:
    result = call("--json", "a")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [a["photo"] for a in answers] == ["a/face.png", "a/none.png", "a/b/face.png"]
    assert [len(a["faces"]) for a in answers] == [1, 0, 1]
    assert answers[2]["faces"][0]["emotion"] == "angry"
    assert answers[0]["model"]["version"] == "1"


def test_csv_has_a_row_a_face_and_one_for_a_photo_without(call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(call("--csv", "-", "a").stdout)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["photo"] for row in rows] == ["a/face.png", "a/none.png", "a/b/face.png"]
    assert [row["status"] for row in rows] == ["ok", "no_face", "ok"]
    assert [row["emotion"] for row in rows] == ["happy", "", "angry"]
    assert (rows[0]["face"], rows[0]["width"], rows[0]["found_by"]) == ("1", "48", "whole_image")
    assert float(rows[0]["confidence"]) == float(rows[0]["happy"]) == max(float(rows[0][name]) for name in EMOTIONS)
    assert rows[1]["x"] == rows[1]["happy"] == ""


def test_what_cannot_be_read_is_named_and_the_rest_answered(call: Call) -> None:
    Path("a/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    result = call("--json", "gone.jpg", "a", "a/notes.txt", "no/*.png")
    assert result.exit_code == predictions.FAILED
    assert len(result.stdout.splitlines()) == 3
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [next(n for n in ("gone", "broken", "notes", "no/") if n in error) for error in errors] == [
        "no/", "gone", "broken", "notes",
    ]  # fmt: skip
    assert "Traceback" not in result.output


def test_no_photo_at_all_has_an_exit_code_of_its_own(call: Call) -> None:
    Path("empty").mkdir()
    result = call("empty", "none-*.jpg")
    assert result.exit_code == predictions.NOTHING
    assert result.stdout == ""
    assert "empty: no photo is there" in result.stderr
    assert "There is no photo to answer" in result.stderr


def test_a_photo_without_a_face_is_no_failure(call: Call) -> None:
    assert call("a/none.png").exit_code == 0


@pytest.mark.parametrize("both", [("--json", "--csv", "-"), ("--csv", "x", "--jsonl", "y"), ("--json", "--jsonl", "x")])
def test_only_one_form_can_be_wanted(both: tuple[str, ...], call: Call) -> None:
    result = call(*both, "a")
    assert result.exit_code == 1
    assert "pass only one of them" in result.stderr


def test_annotated_copies_keep_their_paths(call: Call) -> None:
    before = {path: path.read_bytes() for path in Path("a").rglob("*.png")}
    assert call("--annotate", "out", "a").exit_code == 0
    assert sorted(map(str, Path("out").rglob("*.*"))) == ["out/b/face.png", "out/face.png", "out/none.png"]
    assert {path: path.read_bytes() for path in Path("a").rglob("*.png")} == before
    with Image.open("out/face.png") as drawn:
        assert drawn.size == (48, 48)
        assert len(drawn.getcolors(4096) or ()) > 3


def test_a_copy_in_its_originals_place_is_refused_before_anything_is_done(call: Call) -> None:
    before = Path("a/face.png").read_bytes()
    result = call("--annotate", "a", "a")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Name another folder" in result.stderr
    assert Path("a/face.png").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told_for_each_photo(call: Call) -> None:
    Path("out").write_text("a file")
    result = call("--annotate", "out", "a/face.png")
    assert result.exit_code == 1
    assert "Cannot write out/face.png" in result.stderr


def test_a_reader_that_stops_early_ends_it_quietly(command: list[str]) -> None:
    for number in range(40):
        Image.fromarray(np.full((48, 48), number, np.uint8)).save(f"a/{number}.png")
    with subprocess.Popen([*command, "--json", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert b"a/0.png" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_terminal_gets_a_table_with_a_sum_and_its_errors(command: list[str], in_terminal: InTerminal) -> None:
    Path("a/broken.png").write_bytes(b"broken")
    code, text = in_terminal([*command, "a"])
    assert code == 1
    assert "2 faces in 3 photos" in text
    assert re.search(r"^error: a/broken\.png: The 6 bytes", text, re.MULTILINE)
    assert text.index("emotion") < text.index("happy")


def test_results_reach_a_file_while_the_bar_is_on_the_terminal(command: list[str], in_terminal: InTerminal) -> None:
    line = " ".join([*command, "--json", "a", ">", "answers.jsonl"])
    _, text = in_terminal(["sh", "-c", line])
    assert len(Path("answers.jsonl").read_text().splitlines()) == 3
    assert "3/3" in text
    assert "happy" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_fits_any_terminal(width: int) -> None:
    long = "a/very/long/path/to/some/folder/of/photos/portrait.jpg"
    lines = shown([answer(long, 2, "low_confidence"), answer("b.jpg", 0)], width)
    assert max(map(len, lines)) <= width
    for text in ("happy", "60%", "no face"):
        assert any(text in line for line in lines)


def test_a_hundred_faces_take_a_line_each_and_name_their_photo_once() -> None:
    lines = shown([answer("party.jpg", 100)], 120)
    assert sum("happy" in line for line in lines) == 100
    assert sum("party.jpg" in line for line in lines) == 1
    assert any("100" in line and "30×40 at 990,20" in line for line in lines)


def test_a_photos_name_is_never_read_as_markup() -> None:
    assert any("[red]me[/red].jpg" in line for line in shown([answer("[red]me[/red].jpg", 1)], 120))


def test_an_answer_of_a_model_of_drawn_faces_is_warned_of_on_stderr(champion_folder: Path, tmp_path: Path) -> None:
    Image.new("L", (48, 48), 80).save(tmp_path / "face.png")
    command = [sys.executable, "-m", "mien", "predict", str(tmp_path / "face.png"), "--champion", str(champion_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "was trained on drawn faces (synthetic sample)" in done.stderr
    assert "drawn" not in done.stdout
