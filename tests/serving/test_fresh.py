"""A machine with only the serving requirements and the wheel: every way to ask works, nothing of training is there.

It takes a package index and half a minute: `make test-fresh`.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mien.inference.champion import CHAMPION_VARIABLE, SHIPPED, read_card
from mien.inference.photos import register_heif

ROOT = Path(__file__).parents[2]
TRAINING = ("tensorflow", "keras", "mlflow", "dvc", "optuna", "great_expectations", "pandas", "pyarrow", "matplotlib")
OURS = ("PYTHONPATH", CHAMPION_VARIABLE, "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment `v` of its own, made from the lock and a wheel of this checkout."""
    if os.environ.get("MIEN_FRESH") != "1":
        pytest.skip("needs a package index: where there is one, set MIEN_FRESH=1")
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(ROOT / "src", folder / "source" / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "bentofile.yaml", "requirements-serving.lock"):
        shutil.copy(ROOT / name, folder / "source" / name)
    uv = ["uv", "--quiet", "--system-certs"]
    subprocess.run([*uv, "venv", "--seed", "--python", sys.executable, folder / "v"], check=True)
    install: list[str | Path] = [*uv, "pip", "install", "--python", folder / "v" / "bin" / "python"]
    subprocess.run([*install, "--require-hashes", "-r", ROOT / "requirements-serving.lock"], check=True)
    subprocess.run([*install, "--no-deps", folder / "source"], check=True)
    (folder / "empty").mkdir()
    return folder


def run(machine: Path, *words: str | Path, folder: str = "empty") -> str:
    """What a program of that environment prints, started in an empty folder or another."""
    done = subprocess.run(
        [machine / "v" / "bin" / words[0], *words[1:]], cwd=machine / folder, env=outside(machine), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def outside(machine: Path) -> dict[str, str]:
    """The environment variables of someone who has no checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    path = os.pathsep.join([str(machine / "v" / "bin"), "/usr/bin", "/bin"])
    return kept | {"PATH": path, "BENTOML_HOME": str(machine / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}


def test_nothing_of_training_is_installed(machine: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {TRAINING} if u.find_spec(n)])"
    assert run(machine, "python", "-c", code) == "[]\n"


def test_a_photo_is_answered_by_the_shipped_champion(machine: Path, portrait: bytes) -> None:
    register_heif()
    for name in ("photo.jpg", "photo.heic"):
        Image.open(io.BytesIO(portrait)).save(machine / name)
        (line,) = run(machine, "mien", "predict", "--json", machine / name).splitlines()
        answer = json.loads(line)
        assert len(answer["faces"]) == 1
        assert "1 face" in run(machine, "mien", "predict", machine / name)


def test_types_are_shipped_and_a_data_frame_says_what_it_needs(machine: Path, portrait: bytes) -> None:
    (machine / "photo.jpg").write_bytes(portrait)
    code = (
        "import sys; from pathlib import Path; import mien; print((Path(mien.__file__).parent / 'py.typed').exists());"
        "answer = mien.Mien().predict(sys.argv[1]); print(len(answer.faces));"
        "\ntry: answer.to_frame()\nexcept mien.MienError as error: print(error)"
    )
    lines = run(machine, "python", "-c", code, machine / "photo.jpg").splitlines()
    assert lines[:2] == ["True", "1"]
    assert "pip install pandas" in lines[2]


def test_a_video_is_followed(machine: Path, write_video: Callable[..., Path]) -> None:
    write_video(machine / "in.mp4", 10)
    run(machine, "mien", "video", machine / "in.mp4", "--csv", machine / "faces.csv", "--out", machine / "out.mp4",
        "--plot", machine / "plot.png")  # fmt: skip
    assert all((machine / name).stat().st_size for name in ("faces.csv", "out.mp4", "plot.png"))


@contextmanager
def serving(machine: Path, folder: Path, serve: Callable[..., Any], what: str) -> Iterator[str]:
    """The address of `bentoml serve WHAT` in a folder."""
    program = [str(machine / "v" / "bin" / "bentoml"), "serve", *filter(None, [what])]
    with serve(folder, command=program, everything=outside(machine)) as server:
        server.wait()
        yield server.url


@pytest.mark.parametrize("what", ["", "mien.serving.service:Mien"], ids=["a fresh clone", "no checkout"])
def test_the_service_and_its_page_work_with_only_the_shipped_champion(
    what: str, machine: Path, serve: Callable[..., Any], portrait: bytes
) -> None:
    with serving(machine, machine / ("empty" if what else "source"), serve, what) as url:
        answer = httpx.post(f"{url}/predict", files={"image": portrait}, timeout=60).json()
        assert len(answer["faces"]) == 1
        assert answer["model"]["git_commit"] == read_card(SHIPPED).git_commit
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if chromium is None:
            pytest.skip("all but the page worked; that needs Chromium: install `chromium`")
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        command = [chromium, *quiet, f"--user-data-dir={machine / 'profile'}", "--virtual-time-budget=10000",
                   "--dump-dom", f"{url}/app"]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        assert answer["model"]["git_commit"][:8] in shown


def test_a_champion_of_the_project_takes_the_shipped_ones_place(
    machine: Path, serve: Callable[..., Any], champion_folder: Path
) -> None:
    target = machine / "source" / "models" / "champion"
    shutil.copytree(champion_folder, target)
    try:
        with serving(machine, machine / "source", serve, "") as url:
            assert httpx.get(f"{url}/model_info").json()["model"]["version"] == "3"
        run(machine, "bentoml", "build", "--output", "tag", folder="source")
        (page,) = (machine / "bentoml" / "bentos").rglob("app.html")
        assert page.with_name("app.js").exists()
        assert list((machine / "bentoml" / "bentos").rglob("champion/model.onnx"))
    finally:
        shutil.rmtree(target)
