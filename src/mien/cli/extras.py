"""Which extra of the package brings a library that a command misses."""

import importlib.util

from mien.errors import MienError

SERVE = {"bentoml", "starlette", "pydantic", "prometheus_client"}
"""Libraries that the extra `serve` brings; all others that are no base requirement come with `train`."""

PIPELINE = ("dvc", "keras", "mlflow", "bentoml")
"""What commands that run the whole pipeline need, some of it in processes of their own."""


def missing(module: str, command: str) -> str:
    """One sentence that names the extra to install for a command's missing library."""
    library = module.partition(".")[0]
    extra = "serve" if library in SERVE else "cluster" if library == "ray" else "train"
    return (
        f"`mien {command}` needs {library}, which is not installed. Install Mien with its extra `{extra}`: "
        f"pip install 'mien[{extra}]' (in a clone: pip install '.[{extra}]')."
    )


def require(command: str, *modules: str) -> None:
    """Raise MienError before anything is done where a command's own steps would miss a library."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MienError(missing(module, command))
