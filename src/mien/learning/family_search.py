"""What the search of a family is: its short trainings, the name of its study, and the values that it begins with."""

import dataclasses
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from mien.config.params import Params
from mien.data.dataset import Split
from mien.learning import models

if TYPE_CHECKING:
    from mien.learning.training.loop import Plan

METRIC = "val_macro_f1"
"""What a search maximises: of the last epoch, because that is what a longer training builds on."""


def plan(
    family: str, params: Params, values: Mapping[str, Any], faces: tuple[Split, Split], *, full: bool = False
) -> "Plan":
    """The training that tries these values (dotted keys) on the training and validation split, shortly or in full."""
    from mien.learning.training.loop import Plan

    architecture, recipe = params.training(family, values)
    if not full:
        recipe = dataclasses.replace(recipe, epochs=params.tune.epochs, restart=0, max_rows=params.tune.max_rows)
    return Plan.of(architecture, recipe, *faces, params.seed_of(family))


def study(family: str, params: Params, faces: tuple[Split, Split]) -> str:
    """A name that holds what makes scores comparable: a changed recipe or changed data begin a new study."""
    fingerprint, space = plan(family, params, {}, faces).fingerprint, params.family(family).search
    return f"{family}-{sha256(f'{fingerprint}{space}'.encode()).hexdigest()[:12]}"


def start(family: str, params: Params) -> dict[str, Any]:
    """The values of the searched keys in params.yaml."""
    architecture, recipe = params.training(family)
    tree: Any = {"model": dataclasses.asdict(architecture), "train": dataclasses.asdict(recipe)}
    tree["model"]["options"] = dataclasses.asdict(models.options(architecture.network, architecture.options))
    values = {}
    for key in params.family(family).search:
        value = tree
        for part in key.split("."):
            value = value[part]
        values[key] = value
    return values
