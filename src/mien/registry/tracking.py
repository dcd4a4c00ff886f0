"""MLflow's runs, model versions and aliases: the only module that knows MLflow."""

import logging
import os
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError
from mien.registry import provenance
from mien.registry.unsent import Point, Unsent

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "mien"
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


@dataclass(frozen=True)
class Version:
    """One version of a registered model: its run, tags, last metrics, and when the store made it (ms since 1970)."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created: int = field(default=0, compare=False)


class Run:
    """One open MLflow run; every method raises MienError where the server does not answer."""

    def __init__(self, client: "MlflowClient", run_id: str, experiment_id: str) -> None:
        self.id = run_id
        self.pruned = False
        self._client = client
        self._experiment_id = experiment_id
        self._unsent = Unsent(run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what the run was asked to do; keep them few and flat, the UI shows a column for each."""
        from mlflow.entities import Param

        with _answering():
            for some in _portions([Param(key, str(value)) for key, value in params.items()], 100):
                self._client.log_batch(self.id, params=some)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, in one request; with `step` they become points of curves.

        Where the server does not answer they are kept on disk and sent later, at the latest when the run ends: hours
        of training do not hang on it.
        """
        points = _points(metrics, step or 0)
        try:
            if self._unsent.due():
                self.send_unsent()
                _send(self._client, self.id, points)
                return
        except MienError as error:
            if not self._unsent.points:
                sys.stderr.write(
                    f"warning: {error} This run goes on: its numbers are kept in {self._unsent.path} and sent later.\n"
                )
        self._unsent.keep(points)

    def send_unsent(self) -> None:
        """Send what the server has not taken yet. Raises MienError where it still does not."""
        self._unsent.send(lambda points: _send(self._client, self.id, points))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or all that a folder holds, with the run."""
        with _answering():
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self.id, str(path), folder or None)

    def log_text(self, text: str, name: str) -> None:
        """Keep `text` with the run as the file `name`."""
        with _answering():
            self._client.log_text(self.id, text, name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        with _answering():
            for some in _portions([RunTag(key, str(value)) for key, value in tags.items()], 100):
                self._client.log_batch(self.id, tags=some)

    def log_dataset(self, name: str, digest: str, rows: int, context: str = "training") -> None:
        """Say which data the run saw: `rows` faces of the data set `name` whose SHA-256 is `digest`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # Short, as in MLflow's own digests, for the column of the UI; the whole digest goes into a tag.
        profile = f'{{"num_rows": {rows}}}'
        dataset = Dataset(name, digest[:8], source_type="local", source='{"uri": "data/prepared"}', profile=profile)
        with _answering():
            self._client.log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])
        self.set_tags({"data.name": name, "data.digest": digest})

    def log_model(self, onnx_path: Path, metrics: Mapping[str, float], name: str = "model") -> str:
        """Keep the ONNX file, byte for byte, as an MLflow model with signature; answers `models:/<id>`.

        `metrics` describe the model as a whole: name them apart from the curves (`validation_macro_f1`).
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        with _answering(), TemporaryDirectory() as folder:
            params = self._client.get_run(self.id).data.params
            model = self._client.create_logged_model(self._experiment_id, name, self.id, params=params)
            _save_model(onnx_path, Path(folder) / "model", self.id, model.model_id)
            self._client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            self._client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=0)])
        _log_metrics(self._client, self.id, metrics, model_id=model.model_id)
        return f"{MODEL_URI}{model.model_id}"

    def prune(self) -> None:
        """Mark the run as pruned: it ends FINISHED, whatever exception then leaves the block."""
        self.pruned = True
        self.set_tags({"pruned": "true"})


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    # Absolute, because MLflow remembers stores by address and would mix up the databases of two folders.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


@contextmanager
def run(
    experiment: str,
    name: str,
    *,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    resume: str | None = None,
    system_metrics: bool = False,
) -> Iterator[Run]:
    """An MLflow run for the length of the block, tagged with commit, data, packages and hardware.

    `parent` is the id of the run to nest in; `resume` reopens that run where the store knows it. An exception
    ends the run FAILED, Ctrl-C KILLED, `prune()` FINISHED.
    """
    client = _client()
    opened = _open(client, experiment, name, {**provenance.tags(), **_nesting(parent), **(tags or {})}, resume)
    if system_metrics:
        opened.log_text(provenance.packages(), "environment.txt")
    try:
        with _system_metrics(opened.id, system_metrics):
            yield opened
    except BaseException as error:
        # What went wrong in the block matters more than a server that is gone by now.
        with suppress(MienError):
            _close(client, opened, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    opened.send_unsent()
    _close(client, opened, "FINISHED")


def run_with(experiment: str, key: str, value: str) -> str | None:
    """The id of the newest run of `experiment` that carries the tag `key` = `value`; None where there is none."""
    client = _client()
    with _answering():
        known = client.get_experiment_by_name(experiment)
        ids = [known.experiment_id] if known else []
        found = client.search_runs(ids, f"tags.`{key}` = '{value}'", max_results=1) if ids else []
    return found[0].info.run_id if found else None


def exists(run_id: str) -> bool:
    """Whether the tracking store knows the run and has not deleted it."""
    return _find(_client(), run_id) is not None


def register(model_name: str, run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float] | None = None) -> str:
    """Make the run's last model a version of `model_name`; a model that is one already keeps its version.

    Tags and metrics are set on the version, and the metrics on the run too. Raises MienError without such a model.
    """
    client = _client()
    with _answering():
        found = _find(client, run_id)
        outputs = found.outputs.model_outputs if found and found.outputs else []
    if not found or not outputs:
        raise MienError(f"MLflow at {tracking_uri()} has no model of run {run_id!r}. Train it anew.")
    model_id = outputs[-1].model_id
    _log_metrics(client, run_id, metrics or {}, model_id=model_id)
    with _answering():
        return _version_of(client, model_name, run_id, model_id, tags)


def champion(model_name: str, alias: str = "champion") -> Version | None:
    """The version that carries the alias; None where there is no such model or alias."""
    client = _client()
    with _answering():
        found = _or_none(lambda: client.get_model_version_by_alias(model_name, alias))
    return _told(client, found) if found else None


def version_with(model_name: str, key: str, value: str) -> Version | None:
    """The newest version of `model_name` that carries the tag `key` = `value`."""
    client = _client()
    with _answering():
        found = client.search_model_versions(f"name='{model_name}' and tags.`{key}`='{value}'")
    newest = max(found, key=lambda one: int(one.version), default=None)
    return _told(client, newest) if newest else None


def version(model_name: str, number: str) -> Version | None:
    """One version by its number; None where there is none."""
    client = _client()
    with _answering():
        found = _or_none(lambda: client.get_model_version(model_name, number))
    return _told(client, found) if found else None


def versions(model_name: str) -> list[Version]:
    """Every version in the order of numbers, without metrics."""
    client = _client()
    found: list[Any] = []
    with _answering():
        token = None
        while token or not found:
            page = client.search_model_versions(f"name='{model_name}'", max_results=1000, page_token=token)
            found += page
            if not (token := page.token):
                break
    told = (Version(str(one.version), one.run_id, dict(one.tags), {}, one.creation_timestamp) for one in found)
    return sorted(told, key=lambda one: int(one.version))


def append(log: str, model_name: str, version: str, tags: Mapping[str, str], about: str) -> str:
    """Add an entry about a version of `model_name` to the registered model `log`; answers the entry's number.

    The store gives numbers out under a unique key: of writers at once each gets its own, n + 1 only once n can be read.
    """
    from mlflow.exceptions import MlflowException

    client = _client()
    with _answering():
        with suppress(MlflowException):
            client.create_registered_model(log, description=about)
        made = client.create_model_version(log, f"{MODEL_URI}{model_name}/{version}", tags=dict(tags))
    return str(made.version)


def aliases(model_name: str) -> dict[str, str]:
    """Versions by alias."""
    client = _client()
    with _answering():
        found = _or_none(lambda: client.get_registered_model(model_name))
    return {alias: str(number) for alias, number in found.aliases.items()} if found else {}


def drop_alias(model_name: str, alias: str) -> None:
    """Take the alias from whichever version has it."""
    client = _client()
    with _answering():
        client.delete_registered_model_alias(model_name, alias)


def tag_version(model_name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set or replace tags of a version."""
    client = _client()
    with _answering():
        for key, value in tags.items():
            _overwrite(partial(client.set_model_version_tag, model_name, version, key, value))


def attach_to_version(model_name: str, version: str, folder: Path, name: str, summary: str = "") -> None:
    """Keep what `folder` holds with a version, as its folder `name`; `summary` becomes the version's description."""
    client = _client()
    with _answering():
        source = client.get_model_version(model_name, version).source or ""
        client.log_model_artifacts(source.removeprefix(MODEL_URI), str(folder), name)
        if summary:
            client.update_model_version(model_name, version, summary)


def tags_of(run_id: str) -> dict[str, str]:
    """The tags of a run; none where the store does not know it."""
    found = _find(_client(), run_id)
    return dict(found.data.tags) if found else {}


def attach(run_id: str, path: Path, folder: str) -> None:
    """Keep a file, or all that a folder holds, with a run that has ended."""
    Run(_client(), run_id, "").log_artifact(path, folder)


def set_alias(model_name: str, alias: str, version: str) -> None:
    """Point the alias to a version, taking it from the one that had it."""
    client = _client()
    with _answering():
        _overwrite(partial(client.set_registered_model_alias, model_name, alias, version))


def download(model_name: str, version: str, folder: Path) -> Path:
    """Fetch a version's files into `folder`; answers the path of its ONNX file."""
    client = _client()
    with TemporaryDirectory() as temporary:
        with _answering():
            from mlflow.artifacts import download_artifacts

            source = client.get_model_version_download_uri(model_name, version)
            local = download_artifacts(artifact_uri=source, dst_path=temporary, tracking_uri=tracking_uri())
        try:
            shutil.copytree(local, folder, dirs_exist_ok=True)
        except OSError as error:
            # shutil gathers what went wrong with each file.
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
            raise MienError(f"Cannot write {folder}: {reason}. Free the disk or mend the rights.") from error
    return folder / MODEL_FILE


def _client() -> "MlflowClient":
    # Before MLflow is imported anywhere: it reads these at import.
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with _answering():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri(), os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri())


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what MLflow, its database or its server raise into one message."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise MienError(_describe(error)) from error


def _told(client: "MlflowClient", found: Any) -> Version:
    with _answering():
        metrics = client.get_logged_model(found.source.removeprefix(MODEL_URI)).metrics or []
    # Oldest first, so that a metric logged again has its last value.
    values = {metric.key: metric.value for metric in sorted(metrics, key=lambda metric: metric.timestamp)}
    return Version(str(found.version), found.run_id, dict(found.tags), values, found.creation_timestamp)


def _describe(error: Exception) -> str:
    where = tracking_uri()
    if "Max retries exceeded" in str(error):
        return (
            f"No MLflow server answers at {where} (MLFLOW_TRACKING_URI). Start it and repeat the command, which "
            "carries on where it stopped, or unset MLFLOW_TRACKING_URI to record runs in ./mlflow.db."
        )
    cause = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"MLflow at {where} refused: {textwrap.shorten(cause, 300)}. Mend that and repeat the command."


def _open(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], resume: str | None) -> Run:
    with _answering():
        if resume and (found := _find(client, resume)):
            client.update_run(resume, status="RUNNING")
            return Run(client, resume, found.info.experiment_id)
        experiment_id = _experiment(client, experiment)
        made = client.create_run(experiment_id, run_name=name, tags=dict(tags))
    return Run(client, made.info.run_id, experiment_id)


def _experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    if known := client.get_experiment_by_name(name):
        return known.experiment_id
    try:
        # MLflow's UI asks this kind whether to show training runs or language-model traces.
        return client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
    except MlflowException:
        # Another process may have made it between the two requests.
        if known := client.get_experiment_by_name(name):
            return known.experiment_id
        raise


def _close(client: "MlflowClient", opened: Run, status: str) -> None:
    with _answering():
        client.set_terminated(opened.id, "FINISHED" if opened.pruned else status)


def _find(client: "MlflowClient", run_id: str) -> Any:
    with _answering():
        found = _or_none(lambda: client.get_run(run_id))
    return found if found and found.info.lifecycle_stage == "active" else None


def _or_none(ask: Callable[[], Any]) -> Any:
    """The answer, or None where MLflow says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        # A malformed or unknown id, and an unknown alias, come as invalid parameters.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _overwrite(write: Callable[[], Any]) -> None:
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


def _log_metrics(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, float], model_id: str | None = None
) -> None:
    _send(client, run_id, _points(metrics), model_id)


def _points(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    now = int(time.time() * 1000)
    return [Point(key, float(value), now, step) for key, value in metrics.items()]


def _send(client: "MlflowClient", run_id: str, points: Sequence[Point], model_id: str | None = None) -> None:
    from mlflow.entities import Metric

    sent = [Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id) for point in points]
    with _answering():
        for some in _portions(sent, 1000):
            client.log_batch(run_id, metrics=some)


def _nesting(parent: str | None) -> dict[str, str]:
    return {"mlflow.parentRunId": parent} if parent else {}


@contextmanager
def _system_metrics(run_id: str, wanted: bool) -> Iterator[None]:
    """CPU, memory, disk, network and GPU use as the run's `system/` metrics."""
    if not wanted:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = cast("Any", SystemMetricsMonitor)(run_id, resume_logging=True, tracking_uri=tracking_uri())
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _save_model(onnx_path: Path, folder: Path, run_id: str, model_id: str) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec
    from numpy import dtype

    number = dtype("float32")
    faces = Schema([TensorSpec(number, (-1, FACE_SIZE, FACE_SIZE, 1), "faces")])
    answer = Schema([TensorSpec(number, (-1, len(EMOTIONS)), "probabilities")])
    with warnings.catch_warnings():
        # Of MLflow's own classes, and printed in yellow over the progress of a training.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        mlflow.onnx.save_model(
            onnx.load(onnx_path),
            str(folder),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            signature=ModelSignature(faces, answer),
            pip_requirements=["onnx", "onnxruntime", "numpy"],
            save_as_external_data=False,
        )
    # Serialising anew may change bytes; what was measured is what must be served.
    (folder / MODEL_FILE).write_bytes(onnx_path.read_bytes())


def _version_of(client: "MlflowClient", model_name: str, run_id: str, model_id: str, tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    source = f"{MODEL_URI}{model_id}"
    with suppress(MlflowException):
        client.create_registered_model(model_name)
    for known in client.search_model_versions(f"name='{model_name}' and run_id='{run_id}'"):
        if known.source == source:
            for key, value in tags.items():
                client.set_model_version_tag(model_name, known.version, key, value)
            return str(known.version)
    made = client.create_model_version(model_name, source, run_id, tags=dict(tags), model_id=model_id)
    return str(made.version)


def _portions(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
