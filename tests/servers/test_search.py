"""Searches of several processes on a real PostgreSQL: together from an empty database, killed, cut off, refused."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mien import servers
from mien.config.params import Dimension, Tune
from mien.errors import MienError
from mien.learning import search, studies

from .conftest import Postgres

SPACE = {"x": Dimension(low=0.0, high=1.0)}
START = {"x": 0.5}


@pytest.fixture(scope="module")
def empty(postgres: Postgres) -> Callable[[], str]:
    """The URL of a new, empty database with each call."""
    numbers = count()
    return lambda: postgres.database(f"search{next(numbers)}")


def budget(storage: str, trials: int = 6) -> Tune:
    return Tune(trials=trials, minutes=5, epochs=1, max_rows=0, startup_trials=100, storage=storage)


def searched(storage: str, *rounds: list[int], trials: int = 6) -> list[dict[str, Any]]:
    """What processes found that search together, round after round; see searching.py."""
    script = str(Path(__file__).with_name("searching.py"))
    # Python 3.12 warns of forks beside threads, which NumPy has.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", script, storage, str(trials), json.dumps(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def states(found: dict[str, Any], state: str) -> list[dict[str, Any]]:
    return [trial for trial in found["trials"] if trial["state"] == state]


def test_processes_that_begin_together_on_an_empty_database_share_one_budget(empty: Callable[[], str]) -> None:
    found = searched(empty(), [-1] * 4, trials=12)
    ran = [one.pop("ran") for one in found]
    assert found == [found[0]] * 4, "each reports the trials of all"
    assert [trial["state"] for trial in found[0]["trials"]] == ["complete"] * 12
    assert sorted(number for numbers in ran for number in numbers) == list(range(12))
    assert sum(bool(numbers) for numbers in ran) > 1, "several of them searched"
    values = [trial["params"]["x"] for trial in found[0]["trials"]]
    assert values.count(0.5) == 1, "the recipe as it stands is tried once"
    assert len(set(values)) == 12, "none repeats the draws of another"


def test_one_process_alone_draws_the_same_as_in_a_journal(empty: Callable[[], str], tmp_path: Path) -> None:
    results = [
        search.search("study", SPACE, [START], lambda trial: trial.values["x"], budget(storage), 1)
        for storage in (empty(), f"journal:{tmp_path / 'optuna.log'}")
    ]
    one, other = ([trial["params"] for trial in found["trials"]] for found in results)
    assert one == other


def test_the_trial_of_a_killed_process_is_tried_again_by_the_other(empty: Callable[[], str]) -> None:
    (found,) = searched(empty(), [1, 1])
    (lost, *more) = states(found, "fail")
    again = [trial for trial in states(found, "complete") if trial["params"] == lost["params"]]
    assert not more
    assert len(again) == 1
    assert len(states(found, "complete")) == 6


def test_a_killed_search_carries_on(empty: Callable[[], str]) -> None:
    (found,) = searched(empty(), [3], [-1])
    assert found["ran"] == [4, 5, 6]
    assert [trial["number"] for trial in states(found, "fail")] == [3]
    assert found["trials"][3]["params"] == found["trials"][4]["params"], "the lost values are tried again"


def test_values_that_kill_each_process_are_given_up_after_three(empty: Callable[[], str]) -> None:
    (found,) = searched(empty(), [0], [1], [2], [-1], trials=2)
    assert [trial["params"] for trial in states(found, "fail")] == [START] * 3
    assert START not in [trial["params"] for trial in states(found, "complete")]


def test_the_trial_of_a_lost_machine_is_tried_again_when_its_heartbeat_stays_out(
    empty: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = empty()
    assert searched(storage, [1], trials=3) == []
    monkeypatch.setattr(studies, "_machine", lambda: "another machine")
    monkeypatch.setattr(studies, "LOST_AFTER", 3)
    monkeypatch.setattr(studies, "POLL", 0.5)
    started = time.monotonic()
    found = search.search("study", SPACE, [START], lambda trial: 0.5, budget(storage, trials=3), 1)
    assert time.monotonic() - started < 30
    assert [trial["state"] for trial in found["trials"]] == ["complete", "fail", "complete", "complete"]
    assert found["trials"][1]["params"] in [trial["params"] for trial in states(found, "complete")]


def test_a_trial_that_counts_as_lost_is_ended_by_the_process_that_was_cut_off(
    empty: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = empty()
    ran: list[int] = []

    def objective(trial: search.Trial) -> float:
        ran.append(trial.number)
        if trial.number == 0:
            # What another process does that misses the heartbeat.
            trial.study.interrupt(trial.optuna_trial)
        if trial.should_prune(1, 0.5):
            raise search.Pruned
        return 0.5

    found = search.search("study", SPACE, [START], objective, budget(storage, trials=2), 1)
    assert ran == [0, 1, 2]
    assert [trial["state"] for trial in found["trials"]] == ["fail", "complete", "complete"]


@pytest.fixture
def back(postgres: Postgres) -> Iterator[Callable[[float], None]]:
    """Stop the database, and start it again after some seconds."""
    threads: list[threading.Thread] = []

    def stop(seconds: float) -> None:
        def start() -> None:
            time.sleep(seconds)
            postgres.start()

        postgres.stop()
        threads.append(threading.Thread(target=start))
        threads[-1].start()

    yield stop
    for thread in threads:
        thread.join()


def test_a_lock_that_the_database_broke_off_ends_without_a_word(
    postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    address, others = (
        postgres.url("postgres"),
        "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'mien'",
    )
    with servers.one_at_a_time(address, "test"):
        assert postgres.execute(f"SELECT pg_terminate_backend(pid) {others}")
    with servers.one_at_a_time(address, "test"):
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("moment", ["while it trains", "before the next trial"])
def test_a_search_outlives_a_restart_of_its_database(
    moment: str, empty: Callable[[], str], back: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = empty()

    def objective(trial: search.Trial) -> float:
        if trial.number == 1 and moment == "while it trains":
            back(3)
        assert not trial.should_prune(1, 0.5)
        if trial.number == 1 and moment == "before the next trial":
            back(3)
        return float(trial.values["x"])

    found = search.search("study", SPACE, [START], objective, budget(storage, trials=4), 1)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 4
    said = capsys.readouterr().err
    assert said.count("does not answer") + said.count("cannot be used") == 1
    assert "Waiting for it" in said
    assert "s3cr-t" not in said


def test_a_database_that_stays_away_ends_the_search_with_one_sentence_and_loses_one_trial(
    empty: Callable[[], str], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = empty()
    monkeypatch.setattr(servers, "PATIENCE", 1.0)

    def objective(trial: search.Trial) -> float:
        if trial.number == 1:
            postgres.stop()
        return float(trial.values["x"])

    try:
        with pytest.raises(MienError, match="does not answer") as refused:
            search.search("study", SPACE, [START], objective, budget(storage, trials=3), 1)
    finally:
        postgres.start()
    assert_one_sentence(str(refused.value))
    # As if this process had ended with the error.
    monkeypatch.setattr(studies, "_runs", lambda process: False)
    found = search.search("study", SPACE, [START], lambda trial: trial.values["x"], budget(storage, trials=3), 1)
    assert len(states(found, "complete")) == 3
    assert [trial["number"] for trial in states(found, "fail")] == [1]


def assert_one_sentence(text: str) -> None:
    assert "\n" not in text
    for foreign in ("s3cr-t", "wr0ng", "SELECT", "psycopg", "sqlalche", "Traceback"):
        assert foreign not in text


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("down", r"postgresql://mien:\*\*\*@127.0.0.1:1/none \(OPTUNA_STORAGE.*\) cannot be used: .*[Rr]efused"),
        ("password", "cannot be used: password authentication failed for user"),
        ("unknown", 'cannot be used: database "none" does not exist'),
        ("malformed", "cannot be used"),
        ("driver", r"without its driver .* pip install '\.\[servers\]'"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_one_sentence(fault: str, told: str, postgres: Postgres) -> None:
    storage = {
        "down": postgres.url("none").replace(str(postgres.port), "1"),
        "password": postgres.url("postgres", password="wr0ng"),
        "unknown": postgres.url("none"),
        "malformed": postgres.url("none").replace(str(postgres.port), "port"),
        "driver": postgres.url("none").replace("postgresql:", "postgresql+pg8000:"),
    }[fault]
    started = time.monotonic()
    with pytest.raises(MienError, match=told) as refused:
        search.search("study", SPACE, [START], lambda trial: 0.5, budget(storage), 1)
    assert time.monotonic() - started < 15
    assert_one_sentence(str(refused.value))
