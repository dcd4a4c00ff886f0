"""Build a network by name: all families share input, output and most hyperparameters; a module may declare its own."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mien.config.params import Architecture, Params
from mien.config.schema import build as build_options
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


@dataclass(frozen=True)
class NoOptions:
    """What a network without hyperparameters of its own takes."""


def options(network: str, values: Mapping[str, Any], place: str = "model.options") -> Any:
    """A network's own hyperparameters: `values` as the dataclass `Options` of its module; raises MienError."""
    return build_options(getattr(find(network), "Options", NoOptions), values, place)


def check(params: Params, names: tuple[str, ...] = ()) -> None:
    """Raise MienError that names every network and option of these families (all, if none is named) that is none."""
    faults = []
    for name in names or params.candidates:
        family = params.family(name)
        searched = {key.split(".")[2] for key in family.search if key.startswith("model.options.")}
        try:
            known = options(family.model.network, family.model.options, f"families.{name}.model.options")
        except MienError as error:
            faults.append(str(error))
            continue
        faults += [
            f"families.{name}.search has model.options.{key}, which {family.model.network} does not have."
            for key in sorted(searched - vars(known).keys())
        ]
    if faults:
        raise MienError("\n".join(faults))


def build(architecture: Architecture) -> "keras.Model":
    """A face `(n, 48, 48, 1)` float32 in [0, 255] → probabilities `(n, 7)` float32 in the order of EMOTIONS.

    Resizing, gray→RGB and normalisation are part of the graph.
    """
    import keras

    network, own = find(architecture.network), options(architecture.network, architecture.options)
    faces = keras.Input((FACE_SIZE, FACE_SIZE, 1), name="faces", dtype="float32")
    x = backbone.resize(faces, architecture)
    if architecture.weights == "imagenet":
        x = backbone.pretrained(x, network.PRETRAINED)
    else:
        x = backbone.checked(network.features(backbone.normalise(x), architecture, own), architecture.network)
    x = backbone.head(x, architecture)
    # Softmax stays float32 under mixed precision: bfloat16 has two digits.
    answer = keras.layers.Dense(len(EMOTIONS), activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(faces, answer, name=architecture.network)
