"""Mien: from labelled face images to a served emotion classifier."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.inference.predictor import Mien

__all__ = ["Mien"]


def __getattr__(name: str) -> Any:
    # Imported late to keep `import mien` cheap: the classifier imports OpenCV and an inference runtime.
    if name == "Mien":
        from mien.inference.predictor import Mien

        return Mien
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
