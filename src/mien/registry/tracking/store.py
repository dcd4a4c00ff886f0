"""The MLflow that runs and versions are kept in: how it is asked, and what its failures say."""

import logging
import os
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import MienError
from mien.registry.metrics_outbox import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_FILE = "model.onnx"
MODEL_URI = "models:/"
# As often as several writers may meet on one row before the last of them gives up.
COLLISIONS = 5

# MLflow's own defaults retry a dead server for four minutes and a hanging one for sixteen, with every request; these do
# for seconds and for one minute. A user's own settings are left alone.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    # Absolute, because MLflow remembers stores by address and would mix up the databases of two folders.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


def connect() -> "MlflowClient":
    """MLflow's client for the tracking store and the registry."""
    # Before MLflow is imported anywhere: it reads these at import.
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with answering():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri(), os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri())


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow, its database or its server raise within into one MienError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise MienError(_describe(error)) from error


def find_run(client: "MlflowClient", run_id: str) -> Any:
    """The run as MLflow has it; None where it is unknown or deleted."""
    with answering():
        found = or_none(lambda: client.get_run(run_id))
    return found if found and found.info.lifecycle_stage == "active" else None


def or_none(ask: Callable[[], Any]) -> Any:
    """The answer, or None where MLflow says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        # A malformed or unknown id, and an unknown alias, come as invalid parameters.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def overwrite(write: Callable[[], Any]) -> None:
    """Write what others may be writing too, as often as one of them comes in between.

    MLflow looks a row up, then inserts or updates it. Where another writes or deletes it meanwhile, its database
    refuses this one, who finds what the other did when it looks again.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(COLLISIONS)):
        try:
            write()
            break
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not left:
                raise


def points_of(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    """Numbers as points of this moment."""
    now = int(time.time() * 1000)
    return [Point(key, float(value), now, step) for key, value in metrics.items()]


def send(client: "MlflowClient", run_id: str, points: Sequence[Point], model_id: str | None = None) -> None:
    """Log points with a run, and with one of its models, in as few requests as MLflow allows."""
    from mlflow.entities import Metric

    sent = [Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id) for point in points]
    with answering():
        for some in portions(sent, 1000):
            client.log_batch(run_id, metrics=some)


def log_metrics(client: "MlflowClient", run_id: str, metrics: Mapping[str, float], model_id: str | None = None) -> None:
    """Log numbers of this moment with a run, and with one of its models."""
    send(client, run_id, points_of(metrics), model_id)


def portions(items: list[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _describe(error: Exception) -> str:
    where = tracking_uri()
    if "Max retries exceeded" in str(error):
        return (
            f"No MLflow server answers at {where} (MLFLOW_TRACKING_URI). Start it and repeat the command, which "
            "carries on where it stopped, or unset MLFLOW_TRACKING_URI to record runs in ./mlflow.db."
        )
    cause = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"MLflow at {where} refused: {textwrap.shorten(cause, 300)}. Mend that and repeat the command."
