"""A folder of its own: demo, story and comparisons keep registry, searches and Bentos to themselves."""

import os
from collections.abc import Mapping
from pathlib import Path

MARK = ".mien-own"
TEXT = """\
What `mien` does in this folder stays in it: runs and registry in mlflow.db, searches in optuna.log, Bentos in .bentoml,
whatever MLFLOW_TRACKING_URI, OPTUNA_STORAGE, BENTOML_HOME and MIEN_CHAMPION say. Delete this file to change that.
"""
FOREIGN = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "MIEN_CHAMPION")


def mark(folder: Path) -> None:
    """Let every later command in `folder` keep to it, also those that people type."""
    (folder / MARK).write_text(TEXT, encoding="utf-8")


def variables(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The `given` environment, without what leads out of `folder`."""
    own = {key: value for key, value in given.items() if key not in FOREIGN}
    return own | {"BENTOML_HOME": str(folder.absolute() / ".bentoml")}


def enter(folder: Path = Path()) -> None:
    """Let this process keep to `folder`, if it is marked; to be called before any library reads its environment."""
    if (folder / MARK).is_file():
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ |= variables(folder, {})
