"""The whole pipeline, as `dvc repro` runs it, on a slice of the real FER-2013."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mien.experiments.demo import OVERLAY
from mien.experiments.pipeline import environment, lay_out, parameters

ROOT = Path(__file__).parent.parent
ROWS = 350
CHANGES: dict[str, Any] = {
    "validate": {"profile": "fer2013_part", "probe": False},
    "tune": {"trials": 1, "epochs": 1, "max_rows": 200},
    "promote": {"floor": 0.0, "ece": 1.0, "milliseconds": 1000.0, "lineage": ["data.digest", "dvc.lock", "run_id"]},
}

pytestmark = [pytest.mark.real_data, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def project(fer2013_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project laid out beside a slice of the challenge's table, with two small families, after `dvc repro`."""
    folder = tmp_path_factory.mktemp("real") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        lay_out(folder, parameters(OVERLAY))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in CHANGES.items():
        params[section].update(values)
    params["families"] = {name: params["families"][name] for name in ("cnn", "vgg16")}
    for family in params["families"].values():
        family["train"] |= {"epochs": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    table = folder.parent / "fer2013.csv"
    unpack = [sys.executable, str(fer2013_folder / "unpack.py"), "csv", str(table), "--limit", str(ROWS)]
    subprocess.run(unpack, check=True)
    call(folder, "dvc", "init", "--quiet", "--no-scm")
    call(folder, "mien", "fetch", "csv", str(table))
    call(folder, "dvc", "repro")
    return folder


def call(folder: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def report(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "reports" / name).read_text())
    return content


def test_the_winner_is_scored_on_the_whole_test_split(project: Path) -> None:
    evaluation = report(project, "evaluation.json")
    assert evaluation["data"]["name"] == "fer2013"
    assert not evaluation["data"]["synthetic"]
    assert evaluation["test"]["n"] == ROWS
    assert evaluation["test"]["without_leaks"]["n"] <= ROWS
    assert evaluation["families"].keys() == {"cnn", "vgg16"}
    scores = {name: family["validation"]["macro_f1"] for name, family in evaluation["families"].items()}
    assert evaluation["winner"] == max(scores, key=lambda name: scores[name])


def test_the_winner_is_champion_and_packaged(project: Path) -> None:
    promotion, bento = report(project, "promotion.json"), report(project, "bento.json")
    assert promotion["promoted"]
    assert bento["model_version"] == promotion["version"] == "1"
    card = json.loads((project / "models/champion/champion.json").read_text())
    assert card["data_digest"] == report(project, "evaluation.json")["data"]["digest"]


def test_the_champion_answers_a_photo(project: Path) -> None:
    import cv2

    from mien.data.dataset import read_split

    photo = project / "photo.png"
    cv2.imwrite(str(photo), read_split(project / "data/prepared", "test").images[0])
    answer = json.loads(call(project, "mien", "predict", "--json", str(photo)))
    assert sum(answer["faces"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["model"]["version"] == "1"


def test_a_second_run_does_nothing(project: Path) -> None:
    assert "Running stage" not in call(project, "dvc", "repro")


def test_the_metrics_can_be_read_and_compared(project: Path) -> None:
    shown = json.loads(call(project, "dvc", "metrics", "show", "--json"))
    assert "reports/metrics.json" in shown[""]["data"]
    call(project, "dvc", "plots", "show", "--out", "plots")
    assert (project / "plots" / "index.html").stat().st_size > 10_000
