"""kill -9, a full disk and a failing remote: what was there stays, the message helps, and the next run carries on."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from mien.data import sources
from mien.errors import MienError
from mien.experiments.demo import OVERLAY
from mien.experiments.pipeline import lay_out, parameters
from mien.registry import promotion_log, tracking
from mien.registry.tracking import versions

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

KILLER = """
import os, signal, sys

stage, _, target = os.environ.get("KILL_AT", "").partition("=")
if stage and sys.orig_argv[1].endswith("mien") and sys.orig_argv[2] == stage:

    def kill(event, arguments):
        if event == "os.rename" and target == os.path.basename(os.fspath(arguments[1])):
            os.killpg(0, signal.SIGKILL)  # DVC and its shell too, as a machine without power does

    sys.addaudithook(kill)
"""

BUDGET: dict[str, Any] = {
    "tune": {"trials": 1, "minutes": 5, "epochs": 1, "max_rows": 70},
    "train": {"max_rows": 140, "batch_size": 32},
    "evaluate": {"tta": "none", "bootstrap": 0},
    "promote": {"floor": 0.0, "ece": 1.0, "milliseconds": 1e6, "lineage": ["data.digest", "dvc.lock", "run_id"]},
}
"""Seconds for each stage, and a gate that a network of eight filters passes."""

SPOTS = (
    ("prepare", "prepared", "just before the new folder takes the old one's place"),
    ("validate", "index.html", "between its report and its pages"),
    ("tune", "cnn.json", "after the last trial, before the report"),
    ("train", "last-0002.npz", "in the second epoch's checkpoint"),
    ("evaluate", "evaluation.json", "after the plots, before the report"),
    ("promote", "promotion.json", "after the log and the aliases, before the report"),
    ("package", "champion", "while the champion's folder is exchanged"),
)


def dvc(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A DVC command in a group of processes of its own."""
    foreign = ("MLFLOW_TRACKING_URI", "MIEN_CHAMPION", "MIEN_YUNET", "OPTUNA_STORAGE")
    own = {name: value for name, value in os.environ.items() if name not in foreign}
    own |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}", "BENTOML_HOME": str(folder / "bentoml")}
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The project's own pipeline with one tiny family, on a few hundred drawn faces, before its first run."""
    folder = tmp_path_factory.mktemp("faults") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        lay_out(folder, parameters(OVERLAY))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, changes in BUDGET.items():
        params[section] |= changes
    cnn = params["families"]["cnn"]
    cnn["model"], cnn["train"] = {"network": "cnn", "blocks": [[8]]}, {"epochs": 2}
    params["families"] = {"cnn": cnn}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    sources.write(sources.sample(rows=700), folder / "data" / "raw")
    shutil.copy(empty_database, folder / "mlflow.db")
    (folder / "killer").mkdir()
    (folder / "killer" / "sitecustomize.py").write_text(KILLER)
    assert dvc(folder, "init", "--quiet", "--no-scm").returncode == 0
    return folder


@pytest.fixture(scope="module")
def survivor(project: Path) -> dict[str, str]:
    """What was said by a pipeline that was killed once in each stage and then ran to its end; `end` is the last."""
    search = os.pathsep.join([str(project / "killer"), os.environ.get("PYTHONPATH", "")])
    said = {}
    for stage, target, _ in SPOTS:
        done = dvc(project, "repro", KILL_AT=f"{stage}={target}", PYTHONPATH=search)
        assert done.returncode == -signal.SIGKILL, (stage, done.stdout + done.stderr)
        said[stage] = done.stdout + done.stderr
    done = dvc(project, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return said | {"end": done.stdout + done.stderr}


def ran(output: str) -> list[str]:
    return [line.split("'")[1].partition("@")[0] for line in output.splitlines() if line.startswith("Running stage")]


def test_a_pipeline_killed_in_each_stage_carries_on_where_it_was(survivor: dict[str, str], project: Path) -> None:
    stages = [stage for stage, _, _ in SPOTS]
    for before, stage in zip([None, *stages], [*stages, "end"], strict=True):
        again = [before] if before else []
        assert ran(survivor[stage]) == [*again, stage] if stage != "end" else again, "no finished stage runs again"
    assert "epoch 2/2" in survivor["evaluate"]
    assert "epoch 1/2" not in survivor["evaluate"], "the epoch that was checkpointed is not trained again"
    litter = list((project / "reports" / "tune").glob(".*-cnn.json"))
    assert litter, "a writer that is killed cannot clean up"
    shutil.copy(litter[0], project / "reports" / "train")  # a folder that the evaluation depends on
    done = dvc(project, "status")
    assert "up to date" in done.stdout, done.stdout


@pytest.mark.usefixtures("survivor")
def test_after_the_kills_one_version_is_champion_and_what_is_served_is_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert versions.aliases("mien") == {"champion": "1"}
    assert [(entry.kind, entry.version) for entry in promotion_log.read("mien").entries] == [("promotion", "1")]
    from mien.inference.predictor import Mien

    answer = Mien(project / "models" / "champion").predict(ROOT / "docs" / "img" / "confusion_matrix.png")
    assert answer["model"]["version"] == "1"
    report = json.loads((project / "reports" / "train" / "cnn.json").read_text())
    assert report["epochs"] == 2
    assert report["run_id"] == json.loads((project / "reports" / "promotion.json").read_text())["run_id"]
    assert sorted(path.name for path in project.glob("models/champion/*")) == [
        "champion.json", "data_card.html", "data_card.md", "model.onnx", "model_card.html", "model_card.md",
        "training_profile.json",
    ]  # fmt: skip


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, room: int = 0) -> None:
    """Leave so many bytes of the file system free."""
    with (place / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            filler.truncate(filler.tell() - room)


def contents(place: Path) -> dict[str, str]:
    files = (path for path in sorted(place.rglob("*")) if path.is_file() and path.name != "filler")
    return {str(path.relative_to(place)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


OUTPUTS = {
    "prepare": ["--raw", "data/raw", "--prepared", "{}/data/prepared", "--plots", "{}/reports/data"],
    "validate": ["--prepared", "data/prepared", "--report", "{}/reports/validation.json",
                 "--data-docs", "{}/reports/data_docs"],
    "train": ["cnn", "--prepared", "data/prepared", "--tuned", "reports/tune/cnn.json", "--model", "{}/models/cnn",
              "--report", "{}/reports/train/cnn.json", "--checkpoints", "{}/checkpoints"],
    "evaluate": ["--prepared", "data/prepared", "--models", "models", "--train-reports", "reports/train",
                 "--report", "{}/reports/evaluation.json", "--metrics", "{}/reports/metrics.json",
                 "--plots", "{}/reports/plots", "--faces", "{}/reports/faces"],
    "package": ["--promotion", "reports/promotion.json", "--champion", "{}/models/champion",
                "--report", "{}/reports/bento.json"],
}  # fmt: skip
"""Each stage's options, with its outputs on another file system."""


@pytest.mark.usefixtures("survivor")
@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_disk_that_takes_nothing_is_one_message_and_keeps_what_was_there(
    stage: str, reason: str, project: Path, full: Path, tmp_path: Path
) -> None:
    for name in ("data/prepared", "reports/data", "reports/plots", "models"):
        shutil.copytree(project / name, full / name, ignore=shutil.ignore_patterns(".*"))
    for path in (project / "reports").glob("[a-z]*.json"):
        shutil.copy(path, full / "reports")
    before = contents(full)
    if reason.startswith("No space"):
        fill(full, room=8192)
    else:
        subprocess.run(["mount", "-o", "remount,ro", full], check=True)
    options = [option.format(full) for option in OUTPUTS[stage]]
    own = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "MIEN_CHAMPION")}
    done = subprocess.run(
        [sys.executable, "-m", "mien", stage, *options],
        cwd=project,
        env={**own, "BENTOML_HOME": str(tmp_path / "bentoml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr
    assert reason in done.stderr
    assert "Free the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert before.items() <= contents(full).items()
    assert not [name for name in contents(full) if "/." in name], "no half of a file is left"


def test_a_tracking_database_on_a_full_disk_says_so(
    full: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, full / "mlflow.db")
    fill(full)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{full}/mlflow.db")
    monkeypatch.chdir(full)
    with pytest.raises(MienError, match=r"MLflow at sqlite.* refused: .*disk is full"), tracking.run("mien", "a run"):
        pass


class Remote(BaseHTTPRequestHandler):
    """A web server as a DVC remote, which takes as many uploads as it has room for."""

    files: ClassVar[dict[str, bytes]] = {}
    room = 0

    def do_HEAD(self) -> None:
        """Say whether there is such a file."""
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("content-length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        """Send it."""
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path, b""))

    def do_POST(self) -> None:
        """Take it, or refuse."""
        chunked = self.headers.get("transfer-encoding") == "chunked"
        content = self._chunks() if chunked else self.rfile.read(int(self.headers["content-length"]))
        if taken := len(self.files) < Remote.room:
            self.files[self.path] = content
        self.send_response(200 if taken else 403)
        self.send_header("content-length", "0")
        self.end_headers()

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def remote() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Remote)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/store"
    server.shutdown()
    server.server_close()


def test_a_push_that_fails_half_way_is_completed_by_the_next(tmp_path: Path, remote: str) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    raw = origin / "data" / "raw"
    raw.mkdir(parents=True)
    batches = {f"00{number}.parquet": f"faces {number}".encode() for number in range(6)}
    for name, content in batches.items():
        (raw / name).write_bytes(content)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q", "-b", "main", "."], cwd=origin, check=True)
    for command in (["init", "--quiet"], ["add", "--quiet", "data/raw"], ["remote", "add", "-d", "s", remote]):
        assert dvc(origin, *command).returncode == 0
    subprocess.run([*git, "add", "-A"], cwd=origin, check=True)
    subprocess.run([*git, "commit", "-qm", "data"], cwd=origin, check=True)
    Remote.room = 3
    done = dvc(origin, "push")
    assert done.returncode != 0
    assert "failed to push" in done.stderr
    assert len(Remote.files) == 3, "half of it is there"
    assert not [path for path in Remote.files if path.endswith(".dir")], "their list comes last: half a push is none"
    subprocess.run([*git, "clone", "-q", str(origin), str(clone)], check=True)
    assert dvc(clone, "pull").returncode != 0
    Remote.room = 99
    done = dvc(origin, "push")
    assert done.returncode == 0, done.stderr
    assert "4 files pushed" in done.stdout, "what is there is not sent again"
    assert dvc(clone, "pull").returncode == 0
    assert {path.name: path.read_bytes() for path in (clone / "data" / "raw").iterdir()} == batches
