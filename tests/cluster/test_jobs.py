"""Trainings written to a folder, trained by another process, and brought home."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.cluster import jobs as portable
from mien.cluster import trial_jobs
from mien.cluster.jobs import CODE, Home
from mien.config.params import Family, Params
from mien.data.dataset import digest, read_split
from mien.errors import MienError
from mien.files import write_json
from mien.learning import jobs
from mien.learning.worker import Worker
from mien.stages import train

ABSENT = "bentoml click cv2 dvc great_expectations matplotlib mlflow onnx optuna pandas pyarrow sklearn tensorflow"

BARE = f"""
import runpy, sys
class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in "{ABSENT}".split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = ["mien.learning", *sys.argv[1:]]
runpy.run_module("mien.learning", run_name="__main__")
"""
"""Runs the worker as on a machine that has none of these packages."""

HOLD = """
import sys
from pathlib import Path
from mien.files import alone_in
with alone_in(Path(sys.argv[1]), ""):
    print("held", flush=True)
    sys.stdin.read()
"""
"""Holds a folder of checkpoints as `mien train` does, until its input ends."""


def bare(*arguments: str | Path, code: Path, **variables: str) -> subprocess.Popen[str]:
    """The worker in a process of its own, on JAX, with the code that the folder of jobs carries."""
    environment = {**os.environ, "PYTHONPATH": str(code), "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-c", BARE, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trained(folder: Path, **options: Any) -> list[str]:
    """What a worker in this process says while it trains all that it can."""
    lines: list[str] = []
    Worker(folder, say=lines.append, **options).run()
    return lines


def run_train(name: str, params: Params) -> dict[str, Any]:
    """`mien train` as dvc.yaml calls it; returns its report."""
    tuned = Path(f"reports/tune/{name}.json") if params.family(name).search or name == "wider" else None
    if name == "wider":
        write_json(Path("reports/tune/wider.json"), {"best": {"params": {}}})
    report = Path(f"reports/train/{name}.json")
    train.run(name, Path("data/prepared"), tuned, Path(f"models/{name}"), report, Path(f"checkpoints/{name}"), params)
    return dict(json.loads(report.read_text()))


def test_faces_come_back_as_they_were(prepared: Path, tmp_path: Path) -> None:
    faces = read_split(prepared, "train"), read_split(prepared, "validation")
    jobs.write_faces(tmp_path, faces)
    assert digest(jobs.read_faces(tmp_path)) == digest(faces)


def test_a_machine_without_this_projects_packages_trains_and_home_records_it_without_training(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere/jobs"
    assert [job.name for job in portable.write(folder, [], small, Home())] == ["cnn", "pupil", "wider"]
    worker = bare(folder, code=folder / CODE)
    said, errors = worker.communicate(timeout=240)
    assert worker.returncode == 0, errors
    assert "pupil finished: epoch" in said
    assert said.index("cnn finished") < said.index("pupil: 140 faces")
    assert {one.state for one in portable.status(folder)} == {"finished"}

    taken, refused = portable.take(folder, [], small, Home())
    assert ([job.name for job in taken], refused) == (["cnn", "pupil", "wider"], [])
    monkeypatch.setattr(
        "mien.learning.training.loop.compile_learner", lambda *_: pytest.fail("nothing is trained here")
    )
    for name in ("cnn", "wider", "pupil"):
        report = run_train(name, small)
        assert report["hardware"]["backend"] == "jax"
        assert report["epochs"] == len(report["history"]["loss"]) == 3
        assert report["validation"]["accuracy"] == pytest.approx(report["hardware"]["validation_accuracy"], abs=0.02)

    from mlflow import MlflowClient

    from mien.registry.tracking.store import tracking_uri

    client = MlflowClient(tracking_uri())
    run = client.get_run(report["run_id"])
    assert run.data.tags["backend"] == "jax"
    assert run.data.tags["trained.hardware"].endswith("GPUs: none")
    state = json.loads((folder / "pupil/state.json").read_text())
    points = client.get_metric_history(report["run_id"], "val_loss")
    assert [point.timestamp for point in points] == [int(ended * 1000) for ended in state["ended"]]


def test_a_family_that_starts_from_the_shipped_model_is_trained_at_home(small: Params, tmp_path: Path) -> None:
    shipped = dataclasses.replace(small.family("wider").model, weights="shipped")
    searched = Family(shipped, {"epochs": 1}, small.family("cnn").search)
    changed = dataclasses.replace(small, families={**small.families, "wider": searched})
    with pytest.raises(MienError, match=r"wider starts from an exported model.*dvc repro train@wider"):
        portable.write(tmp_path / "jobs", ["cnn", "wider"], changed, Home())
    with pytest.raises(MienError, match="wider starts from an exported model"):
        trial_jobs.write(tmp_path / "jobs", ["wider"], 2, changed, Home())
    assert not (tmp_path / "jobs").exists()


def test_how_far_jobs_are_is_said_without_keras() -> None:
    code = "import sys, mien.cluster.jobs, mien.cluster.trial_jobs; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_job_that_was_killed_goes_on_at_its_last_epoch(small: Params, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, ["wider"], small, Home())
    with bare(folder, code=folder / CODE) as worker:
        assert worker.stdout is not None
        next(line for line in worker.stdout if "wider 1/3" in line)
        worker.send_signal(signal.SIGKILL)
    kept = json.loads((folder / "wider/state.json").read_text())
    assert 1 <= kept["epoch"] < 3
    again = bare(folder, code=folder / CODE)
    said, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert f"wider {kept['epoch']}/3" not in said
    assert f"wider {kept['epoch'] + 1}/3" in said
    finished = json.loads((folder / "wider/state.json").read_text())
    assert finished["history"]["loss"][: kept["epoch"]] == kept["history"]["loss"]
    assert len(finished["ended"]) == 3


def test_what_was_begun_here_gives_way_to_what_was_trained_elsewhere(small: Params, tmp_path: Path) -> None:
    folder, begun = tmp_path / "jobs", Path("checkpoints/wider")
    portable.write(folder, ["wider"], small, Home())
    trained(folder)
    write_json(begun / "run.json", {"fingerprint": "of this plan", "run_id": "a run with half of its epochs"})
    (begun / "last-0001.npz").write_bytes(b"half trained")
    portable.take(folder, [], small, Home())
    state = json.loads((begun / "state.json").read_text())
    assert {path.name for path in begun.iterdir()} == {"state.json", f"best-{state['best']:04d}.npz"}


def test_a_training_that_runs_here_is_not_disturbed(small: Params, tmp_path: Path) -> None:
    folder, begun = tmp_path / "jobs", Path("checkpoints/wider")
    portable.write(folder, ["wider"], small, Home())
    trained(folder)
    write_json(begun / "state.json", {"half": "trained"})
    with subprocess.Popen([sys.executable, "-c", HOLD, str(begun)], stdin=-1, stdout=-1) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == b"held\n"
        taken, (reason,) = portable.take(folder, [], small, Home())
        busy.communicate()
    assert (taken, "`mien train wider` is at work" in reason) == ([], True)
    assert json.loads((begun / "state.json").read_text()) == {"half": "trained"}


@pytest.mark.long
def test_two_workers_share_a_folder_and_train_nothing_twice(small: Params, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, [], small, Home())
    worker = bare(folder, "--parallel", "2", code=folder / CODE)
    said, errors = worker.communicate(timeout=280)
    assert worker.returncode == 0, errors
    for name in ("cnn", "wider", "pupil"):
        assert said.count(f"{name} finished") == 1
        assert said.count(f"{name} 3/3") == 1


@pytest.mark.long
def test_time_that_is_over_ends_the_worker_with_every_epoch_kept(small: Params, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    longer = dataclasses.replace(small.family("wider"), train={**small.family("wider").train, "epochs": 10_000})
    portable.write(folder, ["wider"], dataclasses.replace(small, families={"wider": longer}, students={}), Home())
    worker = bare(folder, "--minutes", "0.5", code=folder / CODE)
    said, errors = worker.communicate(timeout=120)
    assert worker.returncode == 0, errors
    assert said.endswith("Run the same command again to go on.\n")
    assert json.loads((folder / "wider/state.json").read_text())["epoch"] >= 1


def test_weights_in_half_the_bytes_say_what_they_cost(small: Params, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, [], small, Home())
    (line, *_) = [line for line in trained(folder, float16=True) if "wider finished" in line]
    assert "in float32, " in line
    assert line.endswith("in float16")
    with np.load(folder / "wider" / jobs.WEIGHTS) as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float16)}
    taken, refused = portable.take(folder, [], small, Home())
    assert (len(taken), refused) == (3, [])
    for name in ("cnn", "pupil"):
        assert run_train(name, small)["epochs"] == 3


def test_teachers_that_are_trained_here_go_along(small: Params, tmp_path: Path) -> None:
    run_train("cnn", small)
    folder = tmp_path / "jobs"
    assert [job.name for job in portable.write(folder, ["pupil"], small, Home())] == ["pupil"]
    assert {one.job.name: one.state for one in portable.status(folder)} == {"cnn": "given", "pupil": "waiting"}
    assert any("pupil finished" in line for line in trained(folder))
    taken, refused = portable.take(folder, [], small, Home())
    assert ([job.name for job in taken], refused) == (["pupil"], [])
    assert run_train("pupil", small)["epochs"] == 3


def test_a_teacher_that_started_from_the_shipped_model_goes_along(small: Params, tmp_path: Path) -> None:
    run_train("cnn", small)
    began = dataclasses.replace(small.family("cnn").model, weights="shipped")
    teacher = dataclasses.replace(small.family("cnn"), model=began)
    changed = dataclasses.replace(small, families={**small.families, "cnn": teacher})
    assert [job.name for job in portable.write(tmp_path / "jobs", ["pupil"], changed, Home())] == ["pupil"]
    assert any("pupil finished" in line for line in trained(tmp_path / "jobs"))


def test_a_student_waits_for_a_teacher_that_nobody_trains(small: Params, tmp_path: Path) -> None:
    portable.write(tmp_path / "jobs", [], small, Home())
    lines = trained(tmp_path / "jobs", only=frozenset({"pupil"}))
    assert lines == ["pupil waits for cnn"]


def _other_plan(folder: Path, params: Params) -> Params:
    wider = dataclasses.replace(params.family("wider"), train={**params.family("wider").train, "epochs": 4})
    return dataclasses.replace(params, families={**params.families, "wider": wider})


def _other_faces(folder: Path, params: Params) -> Params:
    from mien.data.dataset import write_split

    split = read_split(Path("data/prepared"), "train")
    write_split(Path("data/prepared"), "train", split.take(np.arange(len(split) - 1)))
    return params


def _damage(folder: Path, params: Params) -> Params:
    path = folder / "wider" / jobs.WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_plan, r"wider: it was trained by another plan or on other faces \(recipe.epochs: 3 and 4\)"),
        (_other_faces, r"wider: it was trained by another plan or on other faces \(data: "),
        (_damage, r"wider: .*weights.npz is damaged"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(
    small: Params, tmp_path: Path, change: Callable[[Path, Params], Params], message: str
) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, ["wider"], small, Home())
    trained(folder)
    taken, (reason,) = portable.take(folder, [], change(folder, small), Home())
    assert taken == []
    with pytest.raises(MienError, match=message):
        raise MienError(reason)
    assert not Path("checkpoints").exists()


def test_a_folder_with_other_plans_or_faces_is_not_written_over(small: Params, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    portable.write(folder, ["wider"], small, Home())
    portable.write(folder, ["wider"], small, Home())
    with pytest.raises(MienError, match=r"holds another plan of wider \(recipe.epochs: 3 and 4\)"):
        portable.write(folder, ["wider"], _other_plan(folder, small), Home())
    shutil.rmtree(folder / "wider")
    with pytest.raises(MienError, match=r"holds other faces than data/prepared"):
        portable.write(folder, ["wider"], _other_faces(folder, small), Home())


def test_an_unknown_name_and_an_empty_folder_are_one_sentence(small: Params, tmp_path: Path) -> None:
    portable.write(tmp_path / "jobs", ["wider"], small, Home())
    for arguments, message in (
        (("jobs", "--only", "vgg"), "error: jobs has no job vgg, but wider.\n"),
        (("nowhere",), "error: nowhere holds no trainings. Write some with `mien jobs write nowhere`.\n"),
    ):
        worker = bare(*arguments, code=tmp_path / "jobs" / CODE)
        _, errors = worker.communicate(timeout=120)
        assert (worker.returncode, errors) == (1, message)
