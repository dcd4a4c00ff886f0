"""docs/python.md: each example runs, prints what the page says, and passes strict typing."""

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from mien.emotions import EMOTIONS
from mien.inference.champion import CHAMPION_VARIABLE
from mien.inference.detector_file import YUNET_VARIABLE

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", PAGE, re.DOTALL)
ADDRESS = "https://example.org"

Serve = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, portrait: bytes) -> Path:
    """The files that the page speaks of."""
    place = tmp_path_factory.mktemp("page")
    (place / "trip").mkdir()
    (place / "notes.txt").write_text("no picture.\n")
    for name in ("photo.jpg", "trip/1.jpg"):
        (place / name).write_bytes(portrait)
    ImageOps.mirror(Image.open(io.BytesIO(portrait))).save(place / "trip" / "2.jpg")
    Image.new("RGB", (300, 200), "gray").save(place / "trip" / "none.jpg")
    return place


@pytest.fixture(scope="module")
def known(folder: Path, serve_files: Serve) -> Iterator[dict[str, Any]]:
    """What the examples above have defined, in that folder, with the model of the package and OpenCV's detector."""
    with pytest.MonkeyPatch.context() as patch, serve_files(folder) as address, contextlib.chdir(folder):
        for name in (CHAMPION_VARIABLE, YUNET_VARIABLE):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield {"address": address}


def form(text: str) -> str:
    """A text without its numbers, emotions and doubts, which change with the model, and without its spacing."""
    text = re.sub(r"\d+(\.\d+)?", "0", re.sub("|".join(EMOTIONS), "emotion", text))
    return re.sub(r" \(uncertain\)", "", " ".join(text.split())).replace("uncertain", "ok")


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(code: str, printed: str, known: dict[str, Any]) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code.replace(ADDRESS, known["address"]), known)
    assert form(output.getvalue()) == form(printed)


def test_the_page_has_ten_examples_beside_the_first_import() -> None:
    assert len(EXAMPLES) == 11


def test_the_examples_pass_strict_typing(tmp_path: Path) -> None:
    (tmp_path / "examples.py").write_text("\n".join(code for code, _ in EXAMPLES))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path), "examples.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from mien import Mien\nMien().predict("photo.jpg").feces\nMien().predict(3)\n')
    done = subprocess.run([*command[:-1], "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [part in done.stdout for part in ('has no attribute "feces"', "No overload variant")] == [True, True]
