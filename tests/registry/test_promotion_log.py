"""The promotion log: what follows from its entries, and what survives crashes and writers at once."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from mien.errors import MienError
from mien.registry import promotion_log, tracking
from mien.registry.promotion_log import Entry, fold
from mien.registry.tracking import versions
from mien.registry.tracking.store import tracking_uri


def entry(number: int, kind: Any, version: str, after: int, champion: str | None = None) -> Entry:
    """An entry as it stands in the log."""
    return Entry(kind, version, champion, after, "because", id=str(number), number=number)


def promoted(*moves: tuple[int, str, int]) -> list[Entry]:
    """Promotions: number, version, the last move that its writer had seen."""
    return [entry(number, "promotion", version, after) for number, version, after in moves]


def test_promotions_follow_one_another() -> None:
    log = fold(promoted((1, "1", 0), (2, "2", 1), (3, "5", 2)))
    assert (log.champion, log.previous, log.head, log.succession) == ("5", "2", 3, ("1", "2", "5"))


def test_of_two_entries_against_the_same_champion_the_first_stands() -> None:
    log = fold(promoted((1, "1", 0), (2, "2", 1), (3, "3", 1), (4, "4", 2)))
    assert [one.void for one in log.entries] == [False, False, True, False]
    assert log.succession == ("1", "2", "4")


def test_refusals_move_nothing() -> None:
    log = fold([*promoted((1, "1", 0)), entry(2, "refusal", "2", 1), *promoted((3, "3", 1))])
    assert (log.succession, log.head) == (("1", "3"), 3)
    assert not log.withdrawn


def test_a_rollback_goes_back_and_the_next_goes_further() -> None:
    moves = promoted((1, "1", 0), (2, "2", 1), (3, "3", 2))
    once = fold([*moves, entry(4, "rollback", "2", 3)])
    assert (once.champion, once.previous, set(once.withdrawn)) == ("2", "1", {"3"})
    twice = fold([*moves, entry(4, "rollback", "2", 3), entry(5, "rollback", "1", 4)])
    assert (twice.champion, twice.previous, set(twice.withdrawn)) == ("1", None, {"2", "3"})


def test_what_was_taken_back_by_mistake_can_be_restored() -> None:
    moves = promoted((1, "1", 0), (2, "2", 1))
    log = fold([*moves, entry(3, "rollback", "1", 2), entry(4, "rollback", "2", 3)])
    assert (log.champion, set(log.withdrawn)) == ("2", {"1"})


def test_champions_of_before_the_log_count_until_its_first_move() -> None:
    assert fold([], ["1", "4"]).champion == "4"
    assert fold([entry(1, "refusal", "5", 0, "4")], ["1", "4"]).previous == "1"
    assert fold([entry(1, "promotion", "5", 0, "4")]).succession == ("4", "5")


def register(model: Path, count: int = 3) -> None:
    """So many versions of `mien`."""
    for _ in range(count):
        with tracking.run("mien", "cnn") as run:
            run.log_model(model, {})
        versions.register("mien", run.id, {})


@pytest.fixture
def model(store: Path, write_model: Any) -> Path:
    """A small ONNX file, in a folder with an empty registry."""
    path: Path = write_model(store / "made" / "model.onnx")
    return path


def promote(version: str, after: int | None = None) -> Entry:
    """Promote as the stage does."""
    log = promotion_log.read("mien")
    head = log.head if after is None else after
    made = promotion_log.append("mien", Entry("promotion", version, log.champion, head, f"version {version} is better"))
    promotion_log.settle("mien")
    return made


def test_the_aliases_follow_the_log(model: Path) -> None:
    register(model)
    promotion_log.challenge("mien", "1")
    assert promote("1").who
    assert versions.aliases("mien") == {"champion": "1"}
    promotion_log.challenge("mien", "2")
    assert promote("2").number == 2
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    assert promote("3", after=1).void
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    promotion_log.rollback("mien", "users complained")
    assert versions.aliases("mien") == {"champion": "1"}
    log = promotion_log.read("mien")
    assert [(one.kind, one.version, one.void) for one in log.entries] == [
        ("promotion", "1", False),
        ("promotion", "2", False),
        ("promotion", "3", True),
        ("rollback", "1", False),
    ]
    assert (log.entries[-1].champion, log.entries[-1].why) == ("2", "users complained")
    assert log.entries[-1].when >= log.entries[0].when > 1.6e12


def test_an_entry_of_an_earlier_version_is_read_with_todays_keys(model: Path) -> None:
    register(model, 1)
    old = {"rules": [{"rule": "floor", "passed": True, "told": 'the key "told": of before'}]}
    promotion_log.append("mien", Entry("promotion", "1", None, 0, "first", facts=old))
    (kept,) = promotion_log.read("mien").entries
    assert kept.facts["rules"] == [{"rule": "floor", "passed": True, "message": 'the key "told": of before'}]


def test_an_alias_moved_by_hand_is_set_right(model: Path) -> None:
    register(model)
    promote("1")
    promote("2")
    versions.set_alias("mien", "champion", "3")
    assert promotion_log.read("mien").champion == "2"
    assert promotion_log.settle("mien")
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    assert not promotion_log.settle("mien")


def test_aliases_that_were_overtaken_while_they_were_set_are_set_anew(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(model)
    promote("1")
    real, others = versions.set_alias, [Entry("promotion", "3", "2", 2, "It came meanwhile.")]

    def overtaken(name: str, alias: str, version: str) -> None:
        if others:
            promotion_log.append(name, others.pop())
        real(name, alias, version)

    monkeypatch.setattr(versions, "set_alias", overtaken)
    promote("2")
    assert promotion_log.read("mien").succession == ("1", "2", "3")
    assert versions.aliases("mien") == {"champion": "3", "previous": "2"}


def test_a_champion_of_before_the_log_is_taken_over(model: Path) -> None:
    register(model)
    versions.set_alias("mien", "champion", "1")
    assert promotion_log.read("mien").champion == "1"
    promote("2")
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}


def test_a_rollback_that_cannot_be_says_why(model: Path) -> None:
    register(model)
    with pytest.raises(MienError, match="no champion of 'mien' to go back to: the log knows none"):
        promotion_log.rollback("mien", "")
    promote("1")
    with pytest.raises(MienError, match="no champion of 'mien' to go back to: the log knows version 1"):
        promotion_log.rollback("mien", "")
    promote("2")
    with pytest.raises(MienError, match="Version 3 of 'mien' was never champion"):
        promotion_log.rollback("mien", "", to="3")
    with pytest.raises(MienError, match="Version 2 of 'mien' is champion already"):
        promotion_log.rollback("mien", "", to="2")
    assert len(promotion_log.read("mien").entries) == 2


def test_an_entry_that_is_none_is_named(model: Path) -> None:
    register(model)
    versions.append("mien-promotions", "mien", "1", {"kind": "promotion"}, "")
    with pytest.raises(MienError, match="Entry 1 of the promotion log cannot be read"):
        promotion_log.read("mien")


@pytest.mark.parametrize(
    "step", ["versions.append", "versions.set_alias", "versions.set_alias 2", "versions.drop_alias"]
)
def test_a_crash_after_any_step_of_a_rollback_is_finished_by_the_next(
    model: Path, step: str, crash_after: Callable[[str], AbstractContextManager[None]]
) -> None:
    register(model)
    for version in ("1", "2", "3"):
        promote(version)
    versions.set_alias("mien", "challenger", "2")
    with crash_after(step):
        promotion_log.rollback("mien", "")
    assert versions.aliases("mien")["champion"] in {"2", "3"}
    promotion_log.settle("mien")
    assert versions.aliases("mien") == {"champion": "2", "previous": "1"}
    assert len(promotion_log.read("mien").entries) == 4


@pytest.mark.parametrize("known", [False, True], ids=["both insert", "one deletes what the other updates"])
def test_of_two_writers_of_an_alias_at_once_none_fails(
    model: Path, store: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks an alias up and then writes it; here somebody else always writes in between."""
    register(model)
    if known:
        versions.set_alias("mien", "previous", "1")
    table, row = "registered_model_aliases", "(alias, version, name) VALUES ('previous', 1, 'mien')"
    between = f"DELETE FROM {table}" if known else f"INSERT INTO {table} {row}"
    left, merge = [between], Session.merge

    def meet(self: Session, *arguments: Any, **options: Any) -> Any:
        found = merge(self, *arguments, **options)
        if left:
            with closing(sqlite3.connect(store / "mlflow.db")) as other, other:
                other.execute(left.pop())
        return found

    monkeypatch.setattr(Session, "merge", meet)
    versions.set_alias("mien", "previous", "2")
    assert not left
    assert versions.aliases("mien") == {"previous": "2"}


def test_an_alias_of_a_version_that_is_not_there_is_refused(model: Path) -> None:
    register(model)
    with pytest.raises(MienError, match=r"version=9"):
        versions.set_alias("mien", "previous", "9")


RACE = """
import sys, time
from pathlib import Path
from mien.registry import promotion_log
from mien.registry.promotion_log import Entry
version, here = sys.argv[1], Path(sys.argv[2])
log = promotion_log.read("mien")
(here / f"ready{version}").touch()
while len(list(here.glob("ready*"))) < 2:
    time.sleep(0.005)
entry = promotion_log.append("mien", Entry("promotion", version, log.champion, log.head, "a race"))
promotion_log.settle("mien")
print("void" if entry.void else "won", entry.number)
"""


def race(folder: Path) -> list[list[str]]:
    """Two processes that have both seen version 1 as champion promote versions 2 and 3; what each prints."""
    for old in folder.glob("ready*"):
        old.unlink()
    both = [
        subprocess.Popen([sys.executable, "-c", RACE, version, str(folder)], stdout=subprocess.PIPE, text=True)
        for version in ("2", "3")
    ]
    said = [process.communicate(timeout=240)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    return said


def hold_a_race(folder: Path) -> None:
    """Exactly one of the two wins, and everyone sees the same one."""
    said = race(folder)
    assert sorted(word for word, _ in said) == ["void", "won"]
    winner = "2" if said[0][0] == "won" else "3"
    log = promotion_log.read("mien")
    assert log.succession == ("1", winner)
    assert min(said, key=lambda result: int(result[1]))[0] == "won", "the store's order decides"
    assert versions.aliases("mien") == {"champion": winner, "previous": "1"}


def test_of_two_promotions_at_once_one_wins(model: Path, tmp_path: Path) -> None:
    register(model)
    promote("1")
    hold_a_race(tmp_path)


@pytest.fixture
def server(
    store: Path, mlflow_server: Callable[[Path], AbstractContextManager[int]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An `mlflow server` of its own."""
    with mlflow_server(store) as port:
        address = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address


@pytest.mark.timeout(600)
def test_of_two_promotions_at_once_one_wins_on_a_server_too(model: Path, server: str, tmp_path: Path) -> None:
    assert tracking_uri() == server
    register(model)
    promote("1")
    hold_a_race(tmp_path)
