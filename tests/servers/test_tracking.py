"""MLflow on PostgreSQL without a server between: its tables made once, and errors of one sentence."""

import subprocess
import sys
import time

import pytest

from mien.errors import MienError
from mien.registry import tracking

from .conftest import Postgres, bare_environment
from .test_search import assert_one_sentence

RUN = """
import sys
from mien.registry import tracking
with tracking.run("mien", "trial") as run:
    run.log_metrics({"loss": 1.0}, step=1)
print(run.id)
"""


@pytest.mark.long
def test_two_processes_that_begin_together_on_an_empty_database_both_record_their_run(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgres.database("mlflow_together")
    environment = bare_environment() | {"MLFLOW_TRACKING_URI": address}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=250) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    found = [tracking.exists(ids.strip()) for ids, _ in said]
    assert found == [True, True]
    assert postgres.execute("SELECT count(*) FROM experiments WHERE name = 'mien'", "mlflow_together") == [(1,)]


@pytest.mark.parametrize(
    ("fault", "told"),
    [("down", "[Rr]efused"), ("password", "password authentication failed"), ("unknown", "does not exist")],
)
def test_a_database_that_cannot_be_used_is_told_in_one_sentence(
    fault: str, told: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = {
        "down": postgres.url("none").replace(str(postgres.port), "1"),
        "password": postgres.url("postgres", password="wr0ng"),
        "unknown": postgres.url("none"),
    }[fault]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    started = time.monotonic()
    with pytest.raises(MienError, match=told) as refused, tracking.run("mien", "trial"):
        pass
    assert time.monotonic() - started < 20
    assert_one_sentence(str(refused.value))
