"""Databases and servers that several machines use at once: locks, patience, and messages without passwords."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mien.errors import MienError

if TYPE_CHECKING:
    from sqlalchemy import Connection

PATIENCE = 300.0
"""Seconds for which work that has begun waits for a server that went away."""

PAUSE = 2.0
"""Seconds between attempts."""

CONNECTING = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""How PostgreSQL's client notices a machine that no longer answers; without it that takes hours."""

# A process that hangs or lost its network while it holds the lock does not hold up the others for longer.
LONGEST_LOCK = "SET LOCAL idle_in_transaction_session_timeout = '5min'"

Result = TypeVar("Result")


class UnavailableError(MienError):
    """A server does not answer at present; the same call may succeed later."""


def masked(text: str) -> str:
    """The text with the passwords of URLs in it replaced by ***."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)(password=)[^&\s'\"]+", r"\1***", text)


def reason(error: BaseException) -> str:
    """What the innermost library says went wrong: one line, without SQL and without passwords."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # psycopg lists its attempts for each address of a host below a first line that only counts them.
    told = next((line for line in lines if "FATAL:" in line or "failed: " in line), (lines or [""])[0])
    return masked(told.rpartition("FATAL:")[2].strip(" .") or type(error).__name__)


def patiently(act: Callable[[], Result]) -> Result:
    """The result of `act`, repeated while it raises UnavailableError, for at most PATIENCE seconds."""
    end, warned = time.monotonic() + PATIENCE, False
    while True:
        try:
            return act()
        except UnavailableError as error:
            if time.monotonic() + PAUSE > end:
                raise
            if not warned:
                sys.stderr.write(f"warning: {error} Waiting for it, {PATIENCE:.0f} s at most.\n")
            warned = True
            time.sleep(PAUSE)


def is_postgresql(address: str) -> bool:
    """Whether a URL names a PostgreSQL database, with whatever driver."""
    return address.startswith("postgresql")


def is_outage(address: str, error: BaseException) -> bool:
    """Whether a database server did not answer; SQLite's file that is full or locked is no reason to wait."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    cause: BaseException | None = error
    while cause and not isinstance(cause, (InterfaceError, OperationalError)):
        cause = cause.__cause__
    return cause is not None and not address.startswith("sqlite")


@contextmanager
def one_at_a_time(address: str, subject: str) -> Iterator[None]:
    """Let one process of all that use this PostgreSQL database do what is within; other addresses have no lock.

    Raises UnavailableError where the database cannot be reached, MienError where the address cannot be right.
    """
    if not is_postgresql(address):
        yield
        return
    connection = _connect(address, subject)
    try:
        yield
    finally:
        # The lock goes with the connection. Without a rollback, which the database may have gone too far for.
        connection.invalidate()
        connection.close()


def _connect(address: str, subject: str) -> "Connection":
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    cannot = f"The database {masked(address)} (OPTUNA_STORAGE or MLFLOW_TRACKING_URI) cannot be used"
    try:
        connection = create_engine(address, poolclass=NullPool, connect_args=CONNECTING).connect()
        return _lock(connection, subject)
    except OperationalError as error:
        raise UnavailableError(f"{cannot}: {reason(error)}.") from error
    except ImportError as error:
        raise MienError(f"{cannot} without its driver ({reason(error)}): pip install '.[servers]'.") from error
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        raise MienError(f"{cannot}: {reason(error)}.") from error


def _lock(connection: "Connection", subject: str) -> "Connection":
    from sqlalchemy import text

    try:
        connection.execute(text(LONGEST_LOCK))
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:subject))"), {"subject": f"mien {subject}"})
    except BaseException:
        connection.close()
        raise
    return connection
