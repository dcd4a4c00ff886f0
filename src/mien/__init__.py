"""Mien: from labelled face images to a served emotion classifier."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.inference.predictor import Mien

__all__ = ["Mien"]


def __getattr__(name: str) -> Any:
    # Late, so that `import mien` costs nothing: the classifier brings OpenCV and a runtime with it.
    if name == "Mien":
        from mien.inference.predictor import Mien

        return Mien
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
