"""mien.cli.prediction_files: answers in a file, whole or gone on with; and many photos at once."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mien.cli import predictions
from mien.cli.main import main
from mien.cli.terminal import INTERRUPTED
from mien.inference.predictions import COLUMNS

Call = Callable[..., Result]
InTerminal = Callable[[list[str]], tuple[int, str]]


def draw(count: int, first: int = 0) -> None:
    """Tiny faces of striped gray in the folder `a`."""
    Path("a").mkdir(exist_ok=True)
    for number in range(first, first + count):
        stripes = np.tile(np.array([number % 200, number % 200 + 30], np.uint8), (48, 24))
        Image.fromarray(stripes).save(f"a/{number:05}.png")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(brightness_champion: Path) -> list[str]:
    return [sys.executable, "-m", "mien", "predict", "--champion", str(brightness_champion)]


@pytest.fixture
def call(brightness_champion: Path) -> Call:
    return lambda *words: CliRunner().invoke(main, ["predict", "--champion", str(brightness_champion), *words])


def rows(path: str = "faces.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_the_photos_in_order_and_says_what_it_holds(call: Call) -> None:
    draw(20)
    result = call("--csv", "faces.csv", "a")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "20 faces in 20 photos\n", "Wrote faces.csv\n")
    assert [row["photo"] for row in rows()] == [f"a/{number:05}.png" for number in range(20)]
    assert Path("faces.csv").read_text() == call("--csv", "-", "a").stdout
    assert sorted(path.name for path in Path().iterdir()) == ["a", "faces.csv"]


def test_json_lines_reach_a_file_or_stdout(call: Call) -> None:
    draw(3)
    assert call("--jsonl", "faces.jsonl", "a").exit_code == 0
    lines = Path("faces.jsonl").read_text()
    assert [json.loads(line)["photo"] for line in lines.splitlines()] == [f"a/{n:05}.png" for n in range(3)]
    assert call("--jsonl", "-", "a").stdout == call("--json", "a").stdout == lines


@pytest.mark.parametrize("name", ["a/00000.png", "new.jpg", "a"])
def test_a_photo_is_never_overwritten_by_a_table(name: str, call: Call) -> None:
    draw(1)
    before = Path("a/00000.png").read_bytes()
    result = call("--csv", name, "a")
    assert result.exit_code == 1
    assert "expected a file to write, such as faces.csv" in result.stderr
    assert Path("a/00000.png").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["a"]


def test_photos_that_cannot_be_read_have_no_row_and_are_tried_again(call: Call) -> None:
    draw(12)
    whole = Path("a/00003.png").read_bytes()
    Path("a/00003.png").write_bytes(whole[:60])
    result = call("--csv", "faces.csv", "a")
    assert result.exit_code == predictions.FAILED
    assert "a/00003.png" in result.stderr
    assert len(rows()) == 11
    Path("a/00003.png").write_bytes(whole)
    assert call("--csv", "faces.csv", "--resume", "a").exit_code == 0
    assert sorted(row["photo"] for row in rows()) == [f"a/{number:05}.png" for number in range(12)]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_answers_and_is_gone_on_with(
    form: str, number: signal.Signals, command: list[str], call: Call
) -> None:
    draw(3000)
    part = Path(f"faces.{form}.part")
    # A shell that starts the tests in the background lets them, and all that they start, ignore SIGINT.
    before = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen([*command, f"--{form}", f"faces.{form}", "a"], stderr=subprocess.PIPE)
    signal.signal(number, before)
    while process.poll() is None and (not part.exists() or part.stat().st_size < 3000):
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode == INTERRUPTED, errors
    kept = part.read_text()
    count = len(kept.splitlines()) - (form == "csv")
    assert errors.decode() == (
        f"error: Interrupted. The answers to {count:,} photos are in {part}: add --resume to go on with it.\n"
    )
    assert not Path(f"faces.{form}").exists()

    refused = call(f"--{form}", f"faces.{form}", "a")
    assert refused.exit_code == 1
    assert "Add --resume" in refused.stderr
    assert part.read_text() == kept

    result = call(f"--{form}", f"faces.{form}", "--resume", "a")
    assert result.exit_code == 0, result.output
    assert "before" in result.stdout
    assert Path(f"faces.{form}").read_text().startswith(kept)
    assert Path(f"faces.{form}").read_text() == call(f"--{form}", "-", "a").stdout
    assert not part.exists()


def test_an_interruption_before_the_first_answer_leaves_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(1)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predictions.Job, "_answers", interrupt)
    result = call("--csv", "faces.csv", "a")
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "error: Interrupted. There was no answer yet.\n"
    assert [path.name for path in Path().iterdir()] == ["a"]


@pytest.mark.parametrize("cut", range(1, 400, 37))
def test_a_file_torn_anywhere_is_gone_on_with(cut: int, call: Call) -> None:
    draw(9)
    for form in ("csv", "jsonl"):
        first = call(f"--{form}", f"faces.{form}", "a")
        assert first.exit_code == 0, (first.output, first.exception)
        whole = Path(f"faces.{form}").read_bytes()
        Path(f"faces.{form}").unlink()
        Path(f"faces.{form}.part").write_bytes(whole[:-cut])
        assert call(f"--{form}", f"faces.{form}", "--resume", "a").exit_code == 0
        assert Path(f"faces.{form}").read_bytes() == whole


def test_a_whole_file_takes_up_photos_that_have_come_since(call: Call) -> None:
    draw(10)
    call("--jsonl", "faces.jsonl", "a")
    draw(5, first=10)
    result = call("--jsonl", "faces.jsonl", "--resume", "a")
    assert result.stdout == "5 faces in 5 photos, 10 before\n"
    assert len(Path("faces.jsonl").read_text().splitlines()) == 15


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "photo,age\na,3\n", "does not have the columns of `mien predict`"),
        ("x.jsonl", '{"name": 1}\n', "lines are not those of `mien predict`"),
        ("x.jsonl", "[1]\n", "lines are not those of `mien predict`"),
        ("x.jsonl", "photo\n", "Expecting value"),
        ("x.csv", "\udcff\n", "does not have the columns of `mien predict`"),
    ],
)
def test_another_file_is_not_gone_on_with(name: str, content: str, message: str, call: Call) -> None:
    draw(1)
    data = content.encode(errors="surrogateescape")
    Path(name).write_bytes(data)
    result = call(f"--{Path(name).suffix[1:]}", name, "--resume", "a")
    assert result.exit_code == 1
    assert message in result.stderr
    assert Path(name).read_bytes() == data
    assert not Path(f"{name}.part").exists()


def test_to_resume_needs_a_file(call: Call) -> None:
    draw(1)
    for words in ((), ("--csv", "-"), ("--json",)):
        assert "name it with --csv FILE or --jsonl FILE" in call("--resume", *words, "a").stderr


def test_copies_are_drawn_by_all_workers_before_their_rows_are_written(call: Call) -> None:
    draw(20)
    Path("out").mkdir()
    Path("out/00004.png").mkdir()  # which the copy cannot replace
    result = call("--annotate", "out", "--csv", "faces.csv", "--workers", "2", "a")
    assert result.exit_code == 1
    assert "Cannot write out/00004.png" in result.stderr
    assert [row["photo"] for row in rows()] == [f"a/{number:05}.png" for number in range(20) if number != 4]
    assert len([path for path in Path("out").iterdir() if path.is_file()]) == 19


def test_a_name_that_is_no_utf8_keeps_its_bytes(call: Call, command: list[str]) -> None:
    draw(9)
    Path("a/00003.png").rename(os.fsdecode(b"a/\xff\xe9.png"))
    for form in ("csv", "jsonl"):
        assert call(f"--{form}", f"faces.{form}", "a").exit_code == 0
        Path(f"faces.{form}").rename(f"faces.{form}.part")
        result = call(f"--{form}", f"faces.{form}", "--resume", "a")
        assert result.stdout == (
            "1 face in 1 photo, 8 before\n" if form == "csv" else "0 faces in 0 photos, 9 before\n"
        )
    assert b"a/\xff\xe9.png" in Path("faces.csv").read_bytes()
    done = subprocess.run([*command, "a"], capture_output=True, check=True)
    assert b"a/\xff\xe9.png: 1 face" in done.stdout


def test_a_terminal_sees_photos_a_second_and_many_as_they_come(command: list[str], in_terminal: InTerminal) -> None:
    draw(predictions.MOST_TABLED + 50)
    code, text = in_terminal([*command, "a"])
    assert code == 0
    assert "photos/s" in text
    assert "a/00249.png: 1 face" in text
    assert "250 faces in 250 photos" in text
    assert "emotion" not in text  # the head of the table


def test_without_a_terminal_there_is_no_bar(command: list[str]) -> None:
    draw(30)
    done = subprocess.run([*command, "--csv", "faces.csv", "a"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("30 faces in 30 photos\n", "Wrote faces.csv\n")


def test_memory_does_not_grow_with_the_number_of_photos(brightness_champion: Path) -> None:
    # In a process of its own, since others' peaks would hide this one's; 800 photos held would be 550 MB.
    script = """
import resource, sys
from mien import Mien
import numpy as np
mien, peaks = Mien(sys.argv[1]), []
photos = (np.full((480, 480, 3), number % 250, np.uint8) for number in range(800))
for number, answer in enumerate(mien.stream(photos, workers=2)):
    if number in (100, 799):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""
    done = subprocess.run([sys.executable, "-c", script, str(brightness_champion)], check=True, capture_output=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 50 * 1024  # kilobytes


def test_the_columns_of_a_file_are_those_of_a_data_frame(call: Call) -> None:
    draw(1)
    call("--csv", "faces.csv", "a")
    assert tuple(rows()[0]) == COLUMNS
