"""Connect to the MLflow tracking store and registry, send metrics, and turn failures into MienError."""

import logging
import os
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien import servers
from mien.errors import MienError
from mien.registry.metrics_outbox import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_FILE = "model.onnx"
MODEL_URI = "models:/"
# Attempts at a write that conflicts with other writers.
COLLISIONS = 5

# In the text of an error that came after all of them.
RETRIED = "Max retries exceeded"

# MLflow's own defaults retry a dead server for four minutes and a hanging one for sixteen, with every request; these
# retry for seconds and for one minute. A user's own settings are left alone.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the project's folder."""
    # Absolute, because MLflow caches stores by URI and would mix up the databases of two folders.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project() / 'mlflow.db'}"


def artifact_location() -> str | None:
    """Where a temporary workspace lets a new experiment keep its files: beside mlflow.db. None: as MLflow does."""
    ours = not os.environ.get("MLFLOW_TRACKING_URI") and project() != Path.cwd()
    return (project() / "mlruns").as_uri() if ours else None


def project() -> Path:
    """The current folder; in a temporary workspace of `dvc exp run`, the project that it was made for."""
    here = Path.cwd()
    # DVC makes its workspaces in .dvc/tmp/exps and removes them, with all that it does not know, when they end.
    return next((p.parents[2] for p in (here, *here.parents) if p.parts[-3:] == (".dvc", "tmp", "exps")), here)


def connect() -> "MlflowClient":
    """MLflow's client for the tracking store and the registry."""
    # Before MLflow is imported anywhere: it reads these at import.
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # MLflow logs a database's error with its SQL and raises it; the exception is enough.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
    _create_tables(tracking_uri())
    with answering():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri(), os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri())


@cache
def _create_tables(uri: str) -> None:
    """Make MLflow's tables in an empty PostgreSQL database, once: two clients that both make them fail."""
    if servers.is_postgresql(uri):
        with servers.one_at_a_time(uri, "mlflow"), answering():
            from mlflow import MlflowClient

            MlflowClient(uri).search_experiments(max_results=1)


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow, its database or its server raise within into one MienError.

    It is an UnavailableError where no answer came, so that the same call may succeed later.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        kind = servers.UnavailableError if _is_outage(error) else MienError
        raise kind(_describe(error)) from error


def patiently(act: Callable[[], Any]) -> Any:
    """The result of `act` on a run that has begun, repeated while the server does not answer."""

    def once() -> Any:
        with answering():
            return act()

    return servers.patiently(once)


def find_run(client: "MlflowClient", run_id: str) -> Any:
    """The MLflow run; None where it is unknown or deleted."""
    with answering():
        found = or_none(lambda: client.get_run(run_id))
    return found if found and found.info.lifecycle_stage == "active" else None


def or_none(ask: Callable[[], Any]) -> Any:
    """The result of `ask`, or None where MLflow reports that there is no such entity."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        # MLflow reports a malformed or unknown id and an unknown alias as invalid parameters.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def overwrite(write: Callable[[], Any]) -> None:
    """Write a row that others may write at the same time, in up to COLLISIONS attempts.

    MLflow reads a row, then inserts or updates it. If another client writes or deletes it in between, the database
    rejects the write; the next attempt reads the new state.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(COLLISIONS)):
        try:
            write()
            break
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not left:
                raise


def points_of(metrics: Mapping[str, float], step: int = 0, when: float | None = None) -> list[Point]:
    """Metrics as points with a time in seconds since 1970, the present one if None."""
    stamp = int((time.time() if when is None else when) * 1000)
    return [Point(key, float(value), stamp, step) for key, value in metrics.items()]


def send(client: "MlflowClient", run_id: str, points: Sequence[Point], model_id: str | None = None) -> None:
    """Log points with a run, and with one of its models, in as few requests as MLflow allows."""
    from mlflow.entities import Metric

    sent = [Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id) for point in points]
    with answering():
        for some in portions(sent, 1000):
            client.log_batch(run_id, metrics=some)


def log_metrics(client: "MlflowClient", run_id: str, metrics: Mapping[str, float], model_id: str | None = None) -> None:
    """Log metrics with the present time for a run, and with one of its models."""
    send(client, run_id, points_of(metrics), model_id)


def portions(items: list[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _is_outage(error: Exception) -> bool:
    """Whether the server, or the database behind it, did not answer."""
    from requests import RequestException

    if tracking_uri().startswith("http"):
        unavailable = getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE"
        return unavailable or RETRIED in str(error) or isinstance(error, RequestException)
    return servers.is_outage(tracking_uri(), error)


def where() -> str:
    """The tracking store's address, without a password."""
    return servers.masked(tracking_uri())


def _describe(error: Exception) -> str:
    if "error responses" in str(error):
        return (
            f"The MLflow server at {where()} (MLFLOW_TRACKING_URI) has an error of its own. See its log, whether its "
            "database runs, and repeat the command, which carries on where it stopped."
        )
    if RETRIED in str(error):
        return (
            f"No MLflow server answers at {where()} (MLFLOW_TRACKING_URI). Start it and repeat the command, which "
            "carries on where it stopped, or unset MLFLOW_TRACKING_URI to record runs in ./mlflow.db."
        )
    cause = servers.reason(error) if servers.is_postgresql(tracking_uri()) else str(error).strip()
    cause = servers.masked((cause or type(error).__name__).splitlines()[0].rstrip("."))
    return f"MLflow at {where()} refused: {textwrap.shorten(cause, 300)}. Mend that and repeat the command."
