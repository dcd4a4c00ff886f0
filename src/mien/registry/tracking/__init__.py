"""MLflow runs: parameters, data sets, metrics, artifacts and models."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from mien import servers
from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError
from mien.registry import provenance
from mien.registry.metrics_outbox import MetricsOutbox
from mien.registry.tracking.store import (
    MODEL_FILE,
    MODEL_URI,
    answering,
    artifact_location,
    connect,
    find_run,
    log_metrics,
    overwrite,
    patiently,
    points_of,
    portions,
    send,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "mien"


class Run:
    """One open MLflow run, which waits for a server that went away.

    Every method but log_metrics raises MienError if it stays away.
    """

    def __init__(self, client: "MlflowClient", run_id: str, experiment_id: str) -> None:
        self.id = run_id
        self.pruned = False
        self._client = client
        self._experiment_id = experiment_id
        self._unsent = MetricsOutbox(run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log the run's parameters; keep them few and flat, the UI shows a column for each."""
        from mlflow.entities import Param

        for some in portions([Param(key, str(value)) for key, value in params.items()], 100):
            patiently(partial(self._client.log_batch, self.id, params=some))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, when: float | None = None) -> None:
        """Log metrics in one request; with `step` they become points of curves, `when` in seconds since 1970 (now).

        If the server does not respond they go to the metrics outbox on disk and are sent later, at the latest when the
        run ends, so that a long training does not fail.
        """
        points = points_of(metrics, step or 0, when)
        try:
            if self._unsent.due():
                self.send_unsent()
                send(self._client, self.id, points)
                return
        except MienError as error:
            if not self._unsent.points:
                sys.stderr.write(
                    f"warning: {error} This run goes on: its numbers are kept in {self._unsent.path} and sent later.\n"
                )
        self._unsent.keep(points)

    def send_unsent(self) -> None:
        """Send the metrics outbox. Raises MienError if the server still does not respond."""
        self._unsent.send(lambda points: send(self._client, self.id, points))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or all that a folder holds, with the run."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        patiently(lambda: log(self.id, str(path), folder or None))

    def log_text(self, text: str, name: str) -> None:
        """Keep `text` with the run as the file `name`."""
        patiently(lambda: self._client.log_text(self.id, text, name))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        from mlflow.entities import RunTag

        for some in portions([RunTag(key, str(value)) for key, value in tags.items()], 100):
            patiently(partial(overwrite, partial(self._client.log_batch, self.id, tags=some)))

    def log_dataset(self, name: str, digest: str, rows: int, context: str = "training") -> None:
        """Log the data that the run used: `rows` faces of the data set `name` whose SHA-256 is `digest`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # Short, as in MLflow's own digests, for the column of the UI; the whole digest goes into a tag.
        profile = f'{{"num_rows": {rows}}}'
        dataset = Dataset(name, digest[:8], source_type="local", source='{"uri": "data/prepared"}', profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        patiently(lambda: overwrite(lambda: self._client.log_inputs(self.id, inputs)))
        self.set_tags({"data.name": name, "data.digest": digest})

    def log_model(self, onnx_path: Path, metrics: Mapping[str, float], name: str = "model") -> str:
        """Keep the ONNX file, byte for byte, as an MLflow model with signature; returns `models:/<id>`.

        `metrics` describe the model as a whole: name them apart from the curves (`validation_macro_f1`).
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        with TemporaryDirectory() as folder:
            params = patiently(lambda: self._client.get_run(self.id)).data.params
            create = partial(self._client.create_logged_model, self._experiment_id, name, self.id, params=params)
            model = patiently(create)
            _save_model(onnx_path, Path(folder) / "model", self.id, model.model_id)
            patiently(lambda: self._client.log_model_artifacts(model.model_id, str(Path(folder) / "model")))
        patiently(lambda: self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY))
        patiently(lambda: self._client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=0)]))
        servers.patiently(lambda: log_metrics(self._client, self.id, metrics, model_id=model.model_id))
        return f"{MODEL_URI}{model.model_id}"

    def fail_children(self) -> None:
        """End the nested runs that are still open as FAILED; only where no process can be at work on them."""
        nested = f"tags.mlflow.parentRunId = '{self.id}' and attributes.status = 'RUNNING'"
        for child in patiently(lambda: self._client.search_runs([self._experiment_id], nested)):
            patiently(partial(self._client.set_terminated, child.info.run_id, "FAILED"))

    def prune(self) -> None:
        """Mark the run as pruned: it ends FINISHED, whatever exception then leaves the block."""
        self.pruned = True
        self.set_tags({"pruned": "true"})


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

    `parent` is the id of the run to nest in; `resume` reopens that run if the store has it. An exception
    ends the run FAILED, Ctrl-C KILLED, `prune()` FINISHED.
    """
    client = connect()
    opening = partial(
        _open, client, experiment, name, {**provenance.tags(), **_nesting(parent), **(tags or {})}, resume
    )
    # A nested run belongs to work that has begun; a first one says at once that the server is down.
    opened = servers.patiently(opening) if parent else opening()
    if system_metrics:
        opened.log_text(provenance.packages(), "environment.txt")
    try:
        with _system_metrics(opened.id, system_metrics):
            yield opened
    except BaseException as error:
        # The block's own exception matters more than a server that no longer responds.
        with suppress(MienError):
            _close(client, opened, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    servers.patiently(opened.send_unsent)
    servers.patiently(partial(_close, client, opened, "FINISHED"))


def search_run(family: str, study: str) -> AbstractContextManager[Run]:
    """The run of a study, reopened or new; processes that share the study call this one at a time."""
    tags = {"family": family, "stage": "tune", "study": study}
    return run(EXPERIMENT, f"tune {family}", tags=tags, resume=run_with(EXPERIMENT, "study", study))


def trial_run(family: str, number: int, parent: Run, stage: str = "trial") -> AbstractContextManager[Run]:
    """The run of a trial, nested in its study's."""
    tags = {"family": family, "stage": stage}
    return run(EXPERIMENT, f"{family} {stage} {number}", parent=parent.id, tags=tags)


def run_with(experiment: str, key: str, value: str) -> str | None:
    """The id of the newest run of `experiment` that carries the tag `key` = `value`; None where there is none."""
    client = connect()
    with answering():
        known = client.get_experiment_by_name(experiment)
        ids = [known.experiment_id] if known else []
        found = client.search_runs(ids, f"tags.`{key}` = '{value}'", max_results=1) if ids else []
    return found[0].info.run_id if found else None


def exists(run_id: str) -> bool:
    """Whether the run exists in the tracking store and is not deleted."""
    return find_run(connect(), run_id) is not None


def tags_of(run_id: str) -> dict[str, str]:
    """The tags of a run; empty where the store has no such run."""
    found = find_run(connect(), run_id)
    return dict(found.data.tags) if found else {}


def attach(run_id: str, path: Path, folder: str) -> None:
    """Keep a file, or all that a folder holds, with a run that has ended."""
    Run(connect(), run_id, "").log_artifact(path, folder)


def _open(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], resume: str | None) -> Run:
    with answering():
        if resume and (found := find_run(client, resume)):
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
        # By this tag MLflow's UI chooses whether to show training runs or language-model traces.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(name, artifact_location(), tags)
    except MlflowException:
        # Another process may have made it between the two requests.
        if known := client.get_experiment_by_name(name):
            return known.experiment_id
        raise


def _close(client: "MlflowClient", opened: Run, status: str) -> None:
    with answering():
        client.set_terminated(opened.id, "FINISHED" if opened.pruned else status)


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
        # A warning about MLflow's own classes that would be printed over the progress bar of a training.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        mlflow.onnx.save_model(
            onnx.load(onnx_path),
            str(folder),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            signature=ModelSignature(faces, answer),
            pip_requirements=["onnx", "onnxruntime", "numpy"],
            save_as_external_data=False,
        )
    # Re-serialising may change bytes; the served file must be the evaluated one.
    (folder / MODEL_FILE).write_bytes(onnx_path.read_bytes())
