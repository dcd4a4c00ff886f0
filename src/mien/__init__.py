"""Mien: from labelled face images to a served emotion classifier."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.errors import MienError
    from mien.inference.predictions import Box, FacePrediction, ModelInfo, Prediction, to_frame
    from mien.inference.predictor import Mien

__all__ = ["Box", "FacePrediction", "Mien", "MienError", "ModelInfo", "Prediction", "to_frame"]

# Hidden from type checkers, to which it would give every name that is misspelt.
if not TYPE_CHECKING:

    def __getattr__(name):
        """Import what is wanted when it is wanted: the classifier imports OpenCV and an inference runtime."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        places = {"Mien": "mien.inference.predictor", "MienError": "mien.errors"}
        return getattr(importlib.import_module(places.get(name, "mien.inference.predictions")), name)
