import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mien.cli import stage_results
from mien.config.params import Family, Params, Tune
from mien.errors import MienError
from mien.experiments.pipeline import checked, parameters
from mien.learning import family_search, models, search
from mien.registry import tracking
from mien.registry.tracking.store import tracking_uri
from mien.stages import tune

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Two trials of a tiny network; MLflow and Optuna write to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    family = params.family("cnn")
    small = Family(dataclasses.replace(family.model, blocks=((8,),)), {"batch_size": 32}, family.search)
    budget = Tune(trials=2, minutes=5, epochs=1, max_rows=70, startup_trials=1, storage="journal:optuna.log")
    return dataclasses.replace(params, tune=budget, families={"cnn": small})


def runs(stage: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'"))


def test_every_trial_is_a_child_of_the_familys_run(short: Params, prepared: Path, tmp_path: Path) -> None:
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", short)
    report = json.loads((tmp_path / "cnn.json").read_text())
    assert report["family"] == "cnn"
    assert report["best"]["params"].keys() == short.family("cnn").search.keys()
    assert [trial["number"] for trial in report["trials"]] == [0, 1]
    (parent,) = runs("tune")
    children = runs("trial")
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.info.status for child in children} == {"FINISHED"}
    assert all("val_macro_f1" in child.data.metrics for child in children)

    tune.run("cnn", prepared, tmp_path / "again.json", tmp_path / "study", short)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "cnn.json").read_bytes(), "a spent budget adds nothing"
    assert len(runs("tune")) == 1, "and goes on in the run that it began"


def test_the_study_is_drawn_and_kept_with_its_run(short: Params, prepared: Path, tmp_path: Path) -> None:
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", short)
    result = json.loads((tmp_path / "study" / "study.json").read_text())
    assert result["trials"] == 2
    assert result["importances"] == {}, "two trials tell nothing of that"
    names = {path.name for path in (tmp_path / "study").iterdir()}
    assert names == {"study.json", "history.png", "parallel_coordinates.png"}

    from mlflow import MlflowClient

    (parent,) = runs("tune")
    kept = {file.path for file in MlflowClient(tracking_uri()).list_artifacts(parent.info.run_id, "study")}
    assert kept == {f"study/{name}" for name in names}


def test_the_recipe_is_trained_in_full_though_its_first_trial_was_lost_and_a_later_one_has_its_values() -> None:
    def trial(number: int, rate: float, value: float | None) -> dict[str, Any]:
        state = "fail" if value is None else "complete"
        return {"number": number, "state": state, "value": value, "params": {"rate": rate, "dropout": 0.3}}

    known = [trial(0, 0.1, None), trial(1, 0.2, 0.5), trial(2, 0.3, 0.7), trial(3, 0.1, 0.4), trial(4, 0.4, 0.6)]
    chosen = tune.finalists(known, {"rate": 0.1}, 2)
    assert [one["number"] for one in chosen] == [3, 2, 4]
    assert tune.finalists(known, {"rate": 0.1}, 0) == []


def test_full_trainings_decide_where_they_are_asked_for(
    short: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In full, the lower learning rate is the better one, whatever the short trials say.
    def score(trial: search.Trial, plan: Any, *_: Any, prunes: bool) -> float:
        assert prunes == (plan.recipe.epochs == short.tune.epochs) == (len(plan.training) == short.tune.max_rows)
        return float(plan.recipe.learning_rate) * (1 if prunes else -1)

    monkeypatch.setattr(tune, "_try", score)
    params = dataclasses.replace(short, tune=dataclasses.replace(short.tune, trials=6, confirm=3))
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", params)
    report = json.loads((tmp_path / "cnn.json").read_text())
    confirmed = report["confirmed"]
    assert confirmed[0]["trial"] == 0, "the recipe is always among them"
    assert len(confirmed) == 4
    others = sorted((trial["value"] for trial in report["trials"][1:]), reverse=True)
    assert [one["short"] for one in confirmed[1:]] == others[:3]
    lowest = min(confirmed, key=lambda one: float(one["params"]["train.learning_rate"]))
    assert report["best"]["params"] == lowest["params"]
    assert report["rank_correlation"]["rho"] == pytest.approx(-1)
    assert (
        "chosen by 4 full trainings, which the short trials ranked with a correlation of -1.00"
        in stage_results.tuned(tmp_path / "cnn.json")
    )
    assert (tmp_path / "study/proxy.png").stat().st_size > 1000
    assert len(runs("full training")) == 4

    tune.run("cnn", prepared, tmp_path / "again.json", tmp_path / "study", params)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "cnn.json").read_bytes()
    assert len(runs("full training")) == 4


def test_a_pruned_trial_does_not_show_as_failed(
    short: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.learning.search.Trial.should_prune", lambda trial, step, score: trial.number == 1)
    params = dataclasses.replace(short, tune=dataclasses.replace(short.tune, epochs=2))
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", params)
    states = [trial["state"] for trial in json.loads((tmp_path / "cnn.json").read_text())["trials"]]
    assert states == ["complete", "pruned"]
    assert sorted(child.data.tags.get("pruned", "") for child in runs("trial")) == ["", "true"]
    assert {child.info.status for child in runs("trial")} == {"FINISHED"}


def test_the_searches_overlay_begins_with_each_recipe_and_draws_what_trainings_take(tmp_path: Path) -> None:
    params = checked(parameters(ROOT / "params/search.yaml"))
    models.check(params)
    for name, family in params.families.items():
        budget = dataclasses.replace(params.tune, trials=12, storage=f"journal:{tmp_path / name}.log")
        start = family_search.start(name, params)
        found = search.search(name, family.search, [start], lambda trial: trial.number, budget, seed=1)
        assert found["trials"][0]["params"] == start
        for trial in found["trials"]:
            assert params.training(name, trial["params"])


def test_a_trial_is_not_pruned_at_its_last_epoch(
    short: Params, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.learning.search.Trial.should_prune", lambda *_: True)
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", short)
    assert [trial["state"] for trial in json.loads((tmp_path / "cnn.json").read_text())["trials"]] == ["complete"] * 2


def test_a_family_that_searches_nothing_is_not_tried(short: Params, prepared: Path, tmp_path: Path) -> None:
    plain = dataclasses.replace(short, families={"cnn": dataclasses.replace(short.family("cnn"), search={})})
    tune.run("cnn", prepared, tmp_path / "cnn.json", tmp_path / "study", plain)
    report = json.loads((tmp_path / "cnn.json").read_text())
    assert report["best"] == {"value": None, "params": {}}
    assert report["trials"] == []
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["study.json"]
    assert not (tmp_path / "mlflow.db").exists()


def test_without_prepared_data_the_error_says_how_to_make_them(short: Params, tmp_path: Path) -> None:
    with pytest.raises(MienError, match="dvc repro prepare"):
        tune.run("cnn", tmp_path / "nowhere", tmp_path / "cnn.json", tmp_path / "study", short)
    assert not (tmp_path / "cnn.json").exists()
