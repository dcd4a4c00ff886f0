"""Trials written to a folder, trained by a bare worker, and their scores taken home into the study."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mien.cluster import jobs as portable
from mien.cluster import trial_jobs
from mien.cluster.jobs import Home
from mien.config.params import Params, Tune
from mien.errors import MienError
from mien.learning import jobs
from mien.learning.worker import Worker
from mien.registry import tracking
from mien.registry.tracking.store import tracking_uri
from mien.stages import tune

HOME = Home()


@pytest.fixture
def searched(small: Params) -> Params:
    """A project whose only family has a search of four trials, each of two epochs."""
    budget = Tune(trials=4, minutes=5, epochs=2, max_rows=140, startup_trials=9, storage="journal:optuna.log")
    return dataclasses.replace(small, tune=budget, families={"cnn": small.family("cnn")}, students={})


@pytest.fixture
def folder(searched: Params, tmp_path: Path) -> Path:
    """A folder with two trials, trained as on another machine."""
    made = trial_jobs.write(tmp_path / "jobs", ["cnn"], 2, searched, HOME)
    assert [job.name for job in made] == ["cnn-trial-0", "cnn-trial-1"]
    lines: list[str] = []
    Worker(tmp_path / "jobs", say=lines.append).run()
    assert [line.partition(":")[0] for line in lines if "finished" in line] == [f"{job.name} finished" for job in made]
    return tmp_path / "jobs"


def search_here(params: Params) -> list[dict[str, Any]]:
    """What `mien tune cnn` writes."""
    tune.run("cnn", HOME.prepared, HOME.tuned / "cnn.json", HOME.studies / "cnn", params)
    trials: list[dict[str, Any]] = json.loads((HOME.tuned / "cnn.json").read_text())["trials"]
    return trials


def test_the_search_carries_on_from_trials_that_were_trained_elsewhere(searched: Params, folder: Path) -> None:
    tried = [jobs.read(folder / f"cnn-trial-{number}").trial for number in (0, 1)]
    assert sum(path.stat().st_size for path in folder.glob("cnn-trial-*/*")) < 20_000, "a score is all that comes home"
    for _ in range(2):  # the second time changes nothing
        taken, refused = trial_jobs.take(folder, [], searched, HOME)
        assert ([job.name for job in taken], refused) == (["cnn-trial-0", "cnn-trial-1"], [])
    trials = search_here(searched)
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert [trial["params"] for trial in trials[:2]] == [trial.values for trial in tried if trial]
    assert trials[0]["params"]["train.learning_rate"] == searched.family("cnn").train.get("learning_rate", 0.08)
    assert len({json.dumps(trial["params"]) for trial in trials}) == 4, "nothing is tried twice"
    for number in (0, 1):
        scores = json.loads((folder / f"cnn-trial-{number}/state.json").read_text())["history"]["val_macro_f1"]
        assert trials[number]["value"] == scores[-1]

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.stage = 'tune'")
    nested = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert sorted(run.info.run_name for run in nested) == [f"cnn trial {number}" for number in range(4)]
    assert {run.info.status for run in nested} == {"FINISHED"}
    assert all("trained.hardware" in run.data.tags for run in nested)
    (first,) = [run for run in nested if run.info.run_name == "cnn trial 0"]
    points = client.get_metric_history(first.info.run_id, "val_macro_f1")
    assert [point.step for point in points] == [1, 2]


def test_no_more_trials_are_written_than_the_budget_has_left(searched: Params, folder: Path) -> None:
    assert [job.name for job in trial_jobs.write(folder, ["cnn"], 2, searched, HOME)] == []
    more = trial_jobs.write(folder, ["cnn"], 9, searched, HOME)
    assert [job.name for job in more] == ["cnn-trial-2", "cnn-trial-3"]
    values = [json.dumps(job.trial.values) for job in map(jobs.read, folder.glob("cnn-trial-*")) if job.trial]
    assert len(set(values)) == 4


def test_trials_by_another_plan_or_damaged_are_refused_by_name(searched: Params, folder: Path) -> None:
    (folder / "cnn-trial-1" / jobs.WEIGHTS).write_bytes(b"damaged")
    taken, (reason,) = trial_jobs.take(folder, [], searched, HOME)
    assert [job.name for job in taken] == ["cnn-trial-0"]
    assert reason.startswith("cnn-trial-1: ")
    assert "is damaged" in reason
    longer = dataclasses.replace(searched, tune=dataclasses.replace(searched.tune, epochs=3))
    taken, reasons = trial_jobs.take(folder, [], longer, HOME)
    assert taken == []
    assert [reason.partition(":")[0] for reason in reasons] == ["cnn-trial-0", "cnn-trial-1"]
    assert "it tried another plan or other faces (recipe.epochs: 2 and 3, trial.study: " in reasons[0]


def test_trials_are_no_trainings(searched: Params, folder: Path) -> None:
    assert portable.take(folder, [], searched, HOME) == ([], [])
    assert {one.state for one in portable.status(folder)} == {"finished"}
    plain = dataclasses.replace(searched, families={"wider": dataclasses.replace(searched.family("cnn"), search={})})
    with pytest.raises(MienError, match="wider has no search"):
        trial_jobs.write(folder, ["wider"], 2, plain, HOME)
