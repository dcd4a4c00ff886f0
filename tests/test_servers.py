from collections.abc import Callable

import pytest

from mien import servers
from mien.errors import MienError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://mien:s3cret@db:5432/optuna", "postgresql://mien:***@db:5432/optuna"),
        ("https://mien:p@ss:word@mlflow.example/x", "https://mien:***@mlflow.example/x"),
        ("cannot open 'postgresql+psycopg://:s3cret@db/x' (why)", "cannot open 'postgresql+psycopg://:***@db/x' (why)"),
        ("postgresql://db/optuna?user=mien&password=s3cret&x=1", "postgresql://db/optuna?user=mien&password=***&x=1"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("journal:optuna.log", "journal:optuna.log"),
    ],
)
def test_a_password_is_never_shown(text: str, shown: str) -> None:
    assert servers.masked(text) == shown


def failing(times: int, error: Exception) -> Callable[[], int]:
    """What fails that many times, then gives the number of its calls."""
    calls: list[int] = []

    def act() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return act


def test_what_does_not_answer_is_waited_for_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "PAUSE", 0.0)
    assert servers.patiently(failing(3, servers.UnavailableError("The database is away."))) == 4
    assert capsys.readouterr().err == "warning: The database is away. Waiting for it, 300 s at most.\n"


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PAUSE", 0.01)
    monkeypatch.setattr(servers, "PATIENCE", 0.1)
    with pytest.raises(servers.UnavailableError, match="away"):
        servers.patiently(failing(1000, servers.UnavailableError("away")))


def test_a_mistake_is_not_waited_for() -> None:
    with pytest.raises(MienError, match="wrong"):
        servers.patiently(failing(1, MienError("wrong")))


def test_the_reason_is_the_drivers_last_word() -> None:
    from sqlalchemy.exc import OperationalError

    driver = Exception('connection to server at "db", port 5432 failed: FATAL:  database "x" does not exist\n')
    wrapped = OperationalError("SELECT 1", {}, driver)
    wrapped.__cause__ = driver
    assert servers.reason(wrapped) == 'database "x" does not exist'
    assert servers.is_outage("postgresql://db/x", wrapped)
    assert not servers.is_outage("sqlite:///x.db", wrapped)
    assert not servers.is_outage("postgresql://db/x", driver)
