import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mien.config.params import Dimension, Params, Tune
from mien.errors import MienError
from mien.learning import search, studies
from mien.learning.slots import InTurn, Slots

SPACE = {"train.learning_rate": Dimension(low=0.0, high=1.0), "train.optimizer": Dimension(choices=("sgd", "adam"))}
START = {"train.learning_rate": 0.5, "train.optimizer": "sgd"}


def budget(tmp_path: Path, **changes: Any) -> Tune:
    settings = Tune(
        trials=8, minutes=1, epochs=2, max_rows=0, startup_trials=2, storage=f"journal:{tmp_path / 'optuna.log'}"
    )
    return dataclasses.replace(settings, **changes)


def peak(trial: search.Trial) -> float:
    """Best at a learning rate of 0.3."""
    return 1 - abs(float(trial.values["train.learning_rate"]) - 0.3)


def test_the_first_trial_is_the_recipe_as_it_stands(tmp_path: Path) -> None:
    found = search.search("a", SPACE, [START], peak, budget(tmp_path, trials=1), seed=1)
    assert found["trials"][0]["params"] == START
    assert found["best"] == {"value": pytest.approx(0.8), "params": START}


@pytest.mark.filterwarnings("error")
def test_a_value_of_the_recipe_that_the_space_does_not_hold_is_drawn(tmp_path: Path) -> None:
    space = SPACE | {"train.learning_rate": Dimension(low=0.6, high=1.0)}
    first = search.search("a", space, [START], peak, budget(tmp_path, trials=1), seed=1)["trials"][0]["params"]
    assert first["train.optimizer"] == "sgd"
    assert 0.6 <= first["train.learning_rate"] <= 1


def test_whole_numbers_and_choices_are_searched(tmp_path: Path) -> None:
    space = {
        "train.epochs": Dimension(low=2, high=5, integer=True),
        "model.options.stem_strides": Dimension(choices=(1, 2)),
    }
    found = search.search(
        "a", space, [{"train.epochs": 3}], lambda trial: trial.values["train.epochs"], budget(tmp_path), seed=1
    )
    values = [trial["params"] for trial in found["trials"]]
    assert {type(each["train.epochs"]) for each in values} == {int}
    assert {each["model.options.stem_strides"] for each in values} == {1, 2}
    assert found["best"]["value"] == 5


def test_a_search_finds_better_than_it_began_with(tmp_path: Path) -> None:
    found = search.search("a", SPACE, [START], peak, budget(tmp_path), seed=1)
    assert len(found["trials"]) == 8
    assert found["best"]["value"] > 0.8
    assert found["best"]["value"] == max(trial["value"] for trial in found["trials"])


def test_the_same_seed_searches_alike(tmp_path: Path) -> None:
    one, other = (search.search(name, SPACE, [START], peak, budget(tmp_path), seed=1) for name in "ab")
    assert [t["params"] for t in one["trials"]] == [t["params"] for t in other["trials"]]


def test_a_hopeless_trial_is_pruned_and_does_not_win(tmp_path: Path) -> None:
    def objective(trial: search.Trial) -> float:
        score = 0.9 if trial.number < 3 else 0.1
        for step in (1, 2, 3):
            if trial.should_prune(step, score):
                raise search.Pruned
        return score

    found = search.search("a", SPACE, [START], objective, budget(tmp_path, trials=5), seed=1)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 3 + ["pruned"] * 2
    assert found["best"]["value"] == 0.9


def test_half_of_the_trials_end_half_way_and_none_sooner(tmp_path: Path) -> None:
    reached: dict[int, int] = {}

    def objective(trial: search.Trial) -> float:
        for step in range(1, 7):
            reached[trial.number] = step
            if trial.should_prune(step, -trial.number):
                raise search.Pruned
        return -trial.number

    search.search("a", SPACE, [START], objective, budget(tmp_path, trials=4, epochs=6), seed=1)
    assert reached == {0: 6, 1: 6, 2: 3, 3: 3}, "each worse than the one before; the first two are startup trials"


def test_values_that_follow_the_recipe_are_tried_in_their_order(tmp_path: Path) -> None:
    then = [START | {"train.learning_rate": rate} for rate in (0.7, 0.1)]
    for _ in "12":
        found = search.search("a", SPACE, [START, *then], peak, budget(tmp_path, trials=3), seed=1)
        assert [trial["params"] for trial in found["trials"]] == [START, *then]


def test_a_spent_budget_runs_no_more_trials(tmp_path: Path) -> None:
    search.search("a", SPACE, [START], peak, budget(tmp_path, trials=2), seed=1)
    again = search.search("a", SPACE, [START], peak, budget(tmp_path, trials=2), seed=1)
    assert len(again["trials"]) == 2
    assert search.search("b", SPACE, [START], peak, budget(tmp_path, minutes=0), seed=1)["best"]["value"] is None


def test_a_killed_search_carries_on_and_tries_the_lost_values_again(tmp_path: Path) -> None:
    storage = tmp_path / "optuna.log"
    script = f"""
import os, signal
from mien.learning import search, studies
from mien.learning.slots import InTurn, Slots
from mien.config.params import Dimension, Tune
def objective(trial):
    if trial.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.1
search.search("a", {{"x": Dimension(low=0.0, high=1.0)}}, [{{"x": 0.5}}], objective,
              Tune(trials=6, minutes=1, epochs=1, max_rows=0, startup_trials=9, storage="journal:{storage}"), 1)
"""
    killed = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    space, more = {"x": Dimension(low=0.0, high=1.0)}, budget(tmp_path, trials=6, startup_trials=9)
    found = search.search("a", space, [{"x": 0.5}], lambda trial: trial.values["x"], more, seed=1)
    states = [trial["state"] for trial in found["trials"]]
    assert states.count("complete") == 6
    assert states.count("fail") == 1
    assert found["trials"][3]["params"] == found["trials"][4]["params"]
    assert len({trial["params"]["x"] for trial in found["trials"]}) == 6, "and draws no others twice"


def test_values_that_a_dying_process_drew_at_the_last_moment_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = budget(tmp_path, storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    taken = studies.Study("a", settings, 1, []).next_trial(InTurn())
    assert taken
    drawn: list[float] = []

    def died(process: int) -> bool:
        if not drawn:  # between the look at the running trials and the look at their processes
            drawn.append(taken.suggest_float("x", 0.0, 1.0))
        return False

    monkeypatch.setattr(studies, "_runs", died)
    again = studies.Study("a", settings, 1, []).next_trial(InTurn())
    assert again
    assert again.suggest_float("x", 0.0, 1.0) == drawn[0]


def test_after_ctrl_c_the_values_of_the_interrupted_trial_are_tried_again(tmp_path: Path) -> None:
    def objective(trial: search.Trial) -> float:
        if trial.number == 1:
            raise KeyboardInterrupt
        return peak(trial)

    with pytest.raises(KeyboardInterrupt):
        search.search("a", SPACE, [START], objective, budget(tmp_path, trials=3), seed=1)
    found = search.search("a", SPACE, [START], objective, budget(tmp_path, trials=3), seed=1)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "fail", "complete", "complete"]
    assert found["trials"][1]["params"] == found["trials"][2]["params"]


def test_the_environment_names_another_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    search.search("a", SPACE, [START], peak, budget(tmp_path, trials=1), seed=1)
    assert (tmp_path / "optuna.db").exists()
    assert not (tmp_path / "optuna.log").exists()


def test_a_storage_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="Optuna cannot open the storage 'nonsense://x'"):
        search.search("a", SPACE, [START], peak, budget(tmp_path, storage="nonsense://x"), seed=1)


def test_a_dimension_without_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="search x: give low and high"):
        search.search("a", {"x": Dimension(low=1.0)}, [{}], peak, budget(tmp_path), seed=1)


def test_every_familys_search_space_can_be_drawn_from(tmp_path: Path, params: Params) -> None:
    for name, family in params.families.items():
        found = search.search(name, family.search, [{}], lambda trial: 1.0, budget(tmp_path, trials=3), seed=1)
        for trial in found["trials"]:
            params.training(name, trial["params"])


def test_the_value_that_decides_is_found_to_matter(tmp_path: Path) -> None:
    settings = budget(tmp_path, trials=12, startup_trials=12)
    search.search("a", SPACE, [START], peak, settings, seed=1)
    found = search.importances("a", settings, seed=1)
    assert next(iter(found)) == "train.learning_rate"
    assert found["train.learning_rate"] > 0.8
    assert found == search.importances("a", settings, seed=1)


def test_of_scores_that_are_all_alike_nothing_can_be_told(tmp_path: Path) -> None:
    search.search("a", SPACE, [START], lambda trial: 0.5, budget(tmp_path, trials=6), seed=1)
    assert search.importances("a", budget(tmp_path), seed=1) == {}
    search.search("b", SPACE, [START], peak, budget(tmp_path, trials=4), seed=1)
    assert search.importances("b", budget(tmp_path), seed=1) == {}, "four trials are too few"


def test_trials_run_side_by_side_in_as_many_slots_as_there_are(tmp_path: Path) -> None:
    met, slots = threading.Barrier(3), Slots(lambda: 3)
    together: list[int] = []

    def objective(trial: search.Trial) -> float:
        together.append(met.wait(20))
        return peak(trial)

    found = search.search("a", SPACE, [START], objective, budget(tmp_path, trials=6), seed=1, slots=slots)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 6
    assert sorted(together) == [0, 0, 1, 1, 2, 2]
    assert len({trial["params"]["train.learning_rate"] for trial in found["trials"]}) == 6


def test_searches_that_share_slots_never_take_more(tmp_path: Path) -> None:
    slots, running, most = Slots(lambda: 2), set[str](), list[int]()

    def objective(name: str, trial: search.Trial) -> float:
        running.add(f"{name}{trial.number}")
        most.append(len(running))
        time.sleep(0.05)
        running.remove(f"{name}{trial.number}")
        return peak(trial)

    def searched(name: str) -> dict[str, Any]:
        return search.search(name, SPACE, [START], partial(objective, name), budget(tmp_path, trials=5), 1, slots)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(searched, "ab"):
            assert [trial["state"] for trial in found["trials"]] == ["complete"] * 5
    assert max(most) == 2


def test_the_values_of_a_lost_trial_are_tried_again_and_it_does_not_count(tmp_path: Path) -> None:
    def objective(trial: search.Trial) -> float:
        if trial.number == 1:
            raise search.LostError("node 1 is gone")
        return peak(trial)

    found = search.search("a", SPACE, [START], objective, budget(tmp_path, trials=4), 1, Slots(lambda: 2))
    states = [trial["state"] for trial in found["trials"]]
    assert (states.count("complete"), states.count("fail")) == (4, 1)
    again = [trial["number"] for trial in found["trials"] if trial["params"] == found["trials"][1]["params"]]
    assert len(again) == 2


def test_a_trial_that_fails_ends_the_search_and_the_trials_beside_it(tmp_path: Path) -> None:
    begun = threading.Event()

    def objective(trial: search.Trial) -> float:
        if trial.number == 1:
            begun.wait(20)
            raise MienError("no such network")
        begun.set()
        while True:
            trial.check()
            time.sleep(0.01)

    with pytest.raises(MienError, match="no such network"):
        search.search("a", SPACE, [START], objective, budget(tmp_path), 1, Slots(lambda: 2))
    more = budget(tmp_path, trials=2)
    found = search.search("a", SPACE, [START], peak, more, 1)
    rates = {
        state: sorted(one["params"]["train.learning_rate"] for one in found["trials"] if one["state"] == state)
        for state in ("complete", "fail")
    }
    assert len(rates["fail"]) == 2
    assert rates["complete"] == rates["fail"]
