"""Versions of registered models, their tags and aliases, in MLflow's registry."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mien.errors import MienError
from mien.registry.tracking.store import (
    MODEL_FILE,
    MODEL_URI,
    answering,
    connect,
    find_run,
    log_metrics,
    or_none,
    overwrite,
    tracking_uri,
    where,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Version:
    """One version of a registered model: its run, tags, last metrics, and when the store made it (ms since 1970)."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created: int = field(default=0, compare=False)


def register(model_name: str, run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float] | None = None) -> str:
    """Make the run's last model a version of `model_name`; a model that is registered already keeps its version.

    Tags and metrics are set on the version, and the metrics on the run too. Raises MienError without such a model.
    """
    client = connect()
    with answering():
        found = find_run(client, run_id)
        outputs = found.outputs.model_outputs if found and found.outputs else []
    if not found or not outputs:
        raise MienError(f"MLflow at {where()} has no model of run {run_id!r}. Train it anew.")
    model_id = outputs[-1].model_id
    log_metrics(client, run_id, metrics or {}, model_id=model_id)
    with answering():
        return _version_of(client, model_name, run_id, model_id, tags)


def champion(model_name: str, alias: str = "champion") -> Version | None:
    """The version that carries the alias; None where there is no such model or alias."""
    client = connect()
    with answering():
        found = or_none(lambda: client.get_model_version_by_alias(model_name, alias))
    return _read_version(client, found) if found else None


def find_tagged(model_name: str, key: str, value: str) -> Version | None:
    """The newest version of `model_name` that carries the tag `key` = `value`."""
    client = connect()
    with answering():
        found = client.search_model_versions(f"name='{model_name}' and tags.`{key}`='{value}'")
    newest = max(found, key=lambda one: int(one.version), default=None)
    return _read_version(client, newest) if newest else None


def find(model_name: str, number: str) -> Version | None:
    """One version by its number; None where there is none."""
    client = connect()
    with answering():
        found = or_none(lambda: client.get_model_version(model_name, number))
    return _read_version(client, found) if found else None


def every(model_name: str) -> list[Version]:
    """Every version in the order of numbers, without metrics."""
    client = connect()
    found: list[Any] = []
    with answering():
        token = None
        while token or not found:
            page = client.search_model_versions(f"name='{model_name}'", max_results=1000, page_token=token)
            found += page
            if not (token := page.token):
                break
    result = (Version(str(one.version), one.run_id, dict(one.tags), {}, one.creation_timestamp) for one in found)
    return sorted(result, key=lambda one: int(one.version))


def append(log: str, model_name: str, version: str, tags: Mapping[str, str], about: str) -> str:
    """Add an entry about a version of `model_name` to the registered model `log`; returns the entry's number.

    The store assigns numbers under a unique key: concurrent writers get different ones, n + 1 only once n is readable.
    """
    from mlflow.exceptions import MlflowException

    client = connect()
    with answering():
        with suppress(MlflowException):
            client.create_registered_model(log, description=about)
        made = client.create_model_version(log, f"{MODEL_URI}{model_name}/{version}", tags=dict(tags))
    return str(made.version)


def aliases(model_name: str) -> dict[str, str]:
    """Versions by alias."""
    client = connect()
    with answering():
        found = or_none(lambda: client.get_registered_model(model_name))
    return {alias: str(number) for alias, number in found.aliases.items()} if found else {}


def set_alias(model_name: str, alias: str, version: str) -> None:
    """Point the alias to a version, taking it from the one that had it."""
    client = connect()
    with answering():
        overwrite(partial(client.set_registered_model_alias, model_name, alias, version))


def drop_alias(model_name: str, alias: str) -> None:
    """Take the alias from whichever version has it."""
    client = connect()
    with answering():
        client.delete_registered_model_alias(model_name, alias)


def tag(model_name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set or replace tags of a version."""
    client = connect()
    with answering():
        for key, value in tags.items():
            overwrite(partial(client.set_model_version_tag, model_name, version, key, value))


def attach(model_name: str, version: str, folder: Path, name: str, summary: str = "") -> None:
    """Keep what `folder` holds with a version, as its folder `name`; `summary` becomes the version's description."""
    client = connect()
    with answering():
        source = client.get_model_version(model_name, version).source or ""
        client.log_model_artifacts(source.removeprefix(MODEL_URI), str(folder), name)
        if summary:
            client.update_model_version(model_name, version, summary)


def download(model_name: str, version: str, folder: Path) -> Path:
    """Fetch a version's files into `folder`; returns the path of its ONNX file."""
    client = connect()
    with TemporaryDirectory() as temporary:
        with answering():
            from mlflow.artifacts import download_artifacts

            source = client.get_model_version_download_uri(model_name, version)
            local = download_artifacts(artifact_uri=source, dst_path=temporary, tracking_uri=tracking_uri())
        try:
            shutil.copytree(local, folder, dirs_exist_ok=True)
        except OSError as error:
            # shutil.Error lists each file with its error.
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error
            raise MienError(f"Cannot write {folder}: {reason}. Free the disk or mend the rights.") from error
    return folder / MODEL_FILE


def _read_version(client: "MlflowClient", found: Any) -> Version:
    with answering():
        metrics = client.get_logged_model(found.source.removeprefix(MODEL_URI)).metrics or []
    # Oldest first, so that a metric logged again has its last value.
    values = {metric.key: metric.value for metric in sorted(metrics, key=lambda metric: metric.timestamp)}
    return Version(str(found.version), found.run_id, dict(found.tags), values, found.creation_timestamp)


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
