"""Build a network by name: all families share hyperparameters, input and output."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from mien.config.params import Architecture
from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError
from mien.learning.models import backbone

if TYPE_CHECKING:
    import keras

    from mien.learning.models.backbone import Network


def names() -> list[str]:
    """The networks there are: the modules of this package but `backbone`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "backbone")


def find(name: str) -> "Network":
    """The network's `features` function and its pretrained counterpart's name; unknown ones raise MienError."""
    if name not in names():
        raise MienError(f"Unknown network {name!r}: learning/models has {', '.join(names())}.")
    network: Network = importlib.import_module(f"{__name__}.{name}")
    return network


def build(architecture: Architecture) -> "keras.Model":
    """A face `(n, 48, 48, 1)` float32 in [0, 255] → probabilities `(n, 7)` float32 in the order of EMOTIONS.

    Resizing, gray→RGB and normalisation are part of the graph.
    """
    import keras

    network = find(architecture.network)
    faces = keras.Input((FACE_SIZE, FACE_SIZE, 1), name="faces", dtype="float32")
    x = backbone.resize(faces, architecture)
    if architecture.weights == "imagenet":
        x = backbone.pretrained(x, network.PRETRAINED)
    else:
        x = backbone.checked(network.features(backbone.normalise(x), architecture), architecture.network)
    x = backbone.head(x, architecture)
    # Softmax stays float32 under mixed precision: bfloat16 has two digits.
    answer = keras.layers.Dense(len(EMOTIONS), activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(faces, answer, name=architecture.network)
