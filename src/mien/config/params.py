"""params.yaml as frozen dataclasses; unknown, missing or out-of-range keys raise MienError with their name."""

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from mien.config.schema import between, build
from mien.errors import MienError

CHAMPION = "champion"
"""The folder in models/ that is no family's."""

WEIGHTS = "imagenet, shipped or the path of an exported model.onnx"

TEACHERS = 5
"""Length of a student's `teachers` list: the number of teachers that dvc.yaml's stage `distil` depends on."""


@dataclass(frozen=True)
class Prepare:
    """How `prepare` treats doubtful rows; it never removes rows of the official test splits."""

    copies: Literal["keep", "drop"]
    conflicts: Literal["keep", "drop"]
    flat: Literal["keep", "drop"]
    placeholders: Literal["keep", "drop"]
    leaks: Literal["flag", "drop_from_train"]


@dataclass(frozen=True)
class Validate:
    """The profile to validate data against (`auto`: chosen by data set name) and how strictly."""

    profile: str
    probe: bool
    class_drift: Annotated[float, between(0, 1)]


@dataclass(frozen=True)
class Effect:
    """One effect of a camera: the share of faces that get it, and its largest strength."""

    probability: Annotated[float, between(0, 1)] = 0.0
    strength: Annotated[float, between(0, 100)] = 0.0


@dataclass(frozen=True)
class Augmentation:
    """In-graph augmentation of training batches; every field 0 (or false) switches its step off.

    rotation is in degrees, shift and zoom are shares of the side, brightness and contrast are relative
    strengths, erasing is the probability of hiding one random rectangle. The effects of cameras have a probability and
    a largest strength: blur (σ in pixels), gamma (log2 of the exponent, either way), noise (σ in grays of 255), jpeg
    (100 less the quality), dark (share of the light that is missing).
    """

    flip: bool = False
    rotation: Annotated[float, between(0, 180)] = 0.0
    shift: Annotated[float, between(0, 0.5)] = 0.0
    zoom: Annotated[float, between(0, 0.9)] = 0.0
    brightness: Annotated[float, between(0, 1)] = 0.0
    contrast: Annotated[float, between(0, 1)] = 0.0
    erasing: Annotated[float, between(0, 1)] = 0.0
    blur: Effect = Effect()
    gamma: Effect = Effect()
    dark: Effect = Effect()
    noise: Effect = Effect()
    jpeg: Effect = Effect()


@dataclass(frozen=True)
class Training:
    """One training recipe: optimiser, schedule, regularisation and budget.

    restart is the epoch after which a cosine schedule restarts at half its peak; 0 disables the restart. No epochs at
    all keep the weights that model.weights names.
    """

    epochs: Annotated[int, between(0)]
    batch_size: Annotated[int, between(1)]
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: Annotated[float, between(0)]
    schedule: Literal["constant", "cosine", "plateau"]
    augmentation: Augmentation
    momentum: Annotated[float, between(0, 1)] = 0.9
    weight_decay: Annotated[float, between(0)] = 0.0
    label_smoothing: Annotated[float, between(0, 1)] = 0.0
    mixup: Annotated[float, between(0)] = 0.0
    ema: Annotated[float, between(0, 0.99999)] = 0.0
    balance: Literal["none", "weights", "sampling"] = "none"
    patience: Annotated[int, between(0)] = 0
    warmup: Annotated[float, between(0, 1)] = 0.0
    restart: Annotated[int, between(0)] = 0
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    max_rows: Annotated[int, between(0)] = 0


@dataclass(frozen=True)
class Architecture:
    """Network hyperparameters, the same for every model family.

    network names the module in learning/models; blocks (cnn only) lists the filters of each block's convolutions, with
    pooling between blocks; width scales every channel count; l2 is one number or one per block; weights is `imagenet`,
    `shipped` (the package's own champion) or the path of another exported model.onnx, for a network like it, or null;
    options are hyperparameters of this network alone, which its module declares and `models.check` checks.
    """

    network: str
    input_size: Annotated[int, between(16, 512)] = 48
    weights: str | None = None
    width: Annotated[float, between(0.01, 4)] = 1.0
    blocks: tuple[tuple[int, ...], ...] = ()
    batch_norm: Literal["none", "conv", "block"] = "conv"
    block_dropout: Annotated[float, between(0, 0.95)] = 0.0
    pooling: Literal["flatten", "avg", "max"] = "avg"
    dense: tuple[int, ...] = ()
    dropout: Annotated[float, between(0, 0.95)] = 0.0
    l2: float | tuple[float, ...] = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exported(self) -> str:
        """The exported model whose weights the network starts with; empty where it starts otherwise."""
        return "" if self.weights in {None, "imagenet"} else str(self.weights)


@dataclass(frozen=True)
class Dimension:
    """One searched parameter: an interval, of whole numbers where `integer` is set, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[float | str, ...] = ()


@dataclass(frozen=True)
class DistillationRecipe:
    """Knowledge distillation: a student learns from labels and teacher probabilities for the same augmented faces.

    dvc.yaml fixes the number of dependencies, so `teachers` always lists TEACHERS families or students above this one;
    duplicates count once.
    `temperature` softens teacher and student probabilities; `weight` is the distillation loss's share of the loss. The
    student is initialised from the teacher `start`, which must have the same network, or at random.
    """

    teachers: tuple[str, ...]
    temperature: Annotated[float, between(0.1, 100)] = 2.0
    weight: Annotated[float, between(0, 1)] = 0.7
    start: str | None = None


@dataclass(frozen=True)
class Family:
    """One model family: its network, its overrides of `train:`, and its Optuna search space (dotted keys).

    seed overrides the common one, so that one recipe can be trained with several; distil makes it a student.
    """

    model: Architecture
    train: Mapping[str, Any]
    search: Mapping[str, Dimension] = field(default_factory=dict)
    seed: Annotated[int, between(0)] | None = None
    distil: DistillationRecipe | None = None


@dataclass(frozen=True)
class Tune:
    """The budget of one Optuna study, over all processes: `trials`, or `minutes` of trials, whichever is first.

    So many of the best settings as `confirm` are then trained in full beside the recipe, and the best of these wins.
    """

    trials: Annotated[int, between(0)]
    minutes: Annotated[float, between(0)]
    epochs: Annotated[int, between(1)]
    max_rows: Annotated[int, between(0)]
    startup_trials: Annotated[int, between(0)]
    storage: str
    confirm: Annotated[int, between(0)] = 0


@dataclass(frozen=True)
class Evaluate:
    """How models are scored.

    tta is the test-time augmentation (TTA) that is scored beside the single pass; ten_crop takes ten squares of each
    side in `crops`, in pixels, multi_scale two (central and mirrored; sides above 48 show the face smaller). damaged
    lets families be chosen, and champions replaced, by the validation faces as they are and as poor cameras give them.
    ensembles maps names to families whose probabilities are averaged.
    """

    tta: Literal["none", "flip", "ten_crop", "multi_scale"]
    damaged: bool
    crops: tuple[Annotated[int, between(24, 72)], ...]
    ensembles: Mapping[str, tuple[str, ...]]
    robustness: bool
    ece_bins: Annotated[int, between(2)]
    bootstrap: Annotated[int, between(0)]


@dataclass(frozen=True)
class Promote:
    """The promotion gate: limits that every model must meet, and the required improvement over the champion."""

    model: str
    floor: Annotated[float, between(0, 1)]
    confidence: Annotated[float, between(0.5, 0.999)]
    resamples: Annotated[int, between(100)]
    recall_drop: Annotated[float, between(0, 1)]
    ece: Annotated[float, between(0, 1)]
    bytes: Annotated[int, between(1)]
    milliseconds: Annotated[float, between(0)]
    parity: Annotated[float, between(0, 1)]
    lineage: tuple[Literal["git.commit", "data.digest", "dvc.lock", "run_id"], ...]
    shipped: bool = True
    """Whether the model that comes with the package is the champion of a registry without one."""


@dataclass(frozen=True)
class Package:
    """What the Bento contains and how the service predicts: `tta` is its TTA, with sides from `evaluate.crops`."""

    detector: Literal["auto", "haar", "yunet"]
    tta: Literal["none", "flip", "ten_crop", "multi_scale"]
    uncertain_below: Annotated[float, between(0, 1)]


@dataclass(frozen=True)
class Drift:
    """Thresholds of drift: a PSI of at least `psi` with a chi-square p-value of at most `alpha`.

    `watch` is the PSI of a warning; fewer than `faces` faces (or photos) are not compared.
    """

    faces: Annotated[int, between(1)]
    watch: Annotated[float, between(0)]
    psi: Annotated[float, between(0)]
    alpha: Annotated[float, between(0, 1)]


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    seed: Annotated[int, between(0)]
    prepare: Prepare
    validate: Validate
    tune: Tune
    train: Training
    evaluate: Evaluate
    promote: Promote
    package: Package
    drift: Drift
    families: Mapping[str, Family]
    students: Mapping[str, Family]

    @property
    def candidates(self) -> dict[str, Family]:
        """All families that can become champion: the plain families, then the students."""
        return {**self.families, **self.students}

    def family(self, name: str) -> Family:
        """The block of one family or student; an unknown name raises MienError listing the known ones."""
        if name not in self.candidates:
            known = ", ".join(self.candidates)
            raise MienError(f"Unknown family {name!r}: params.yaml has {known}. Add a block under families:.")
        return self.candidates[name]

    def seed_of(self, name: str) -> int:
        """The family's own seed, or the common one."""
        own = self.family(name).seed
        return self.seed if own is None else own

    def training(self, name: str, chosen: Mapping[str, Any] | None = None) -> tuple[Architecture, Training]:
        """Network and recipe of a family: `train:`, overridden by the family's block, then by `chosen` dotted keys."""
        family = self.family(name)
        recipe = merge(dataclasses.asdict(self.train), family.train)
        tree: dict[str, Any] = {"model": dataclasses.asdict(family.model), "train": recipe}
        for key, value in (chosen or {}).items():
            tree = merge(tree, _nest(key, value))
        place = f"families.{name}"
        return (
            build(Architecture, tree["model"], f"{place}.model"),
            build(Training, tree["train"], f"{place}.train"),
        )


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml; every error names the key, its value and what was expected."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MienError(f"{path} is missing. Run mien in the project's root, or pass --params FILE.") from None
    except yaml.YAMLError as error:
        raise MienError(f"{path} is not valid YAML: {error}") from None
    return parse(tree)


def parse(tree: Any) -> Params:
    """Check parsed YAML; one MienError names every key that does not fit."""
    params = build(Params, tree, "")
    faults = [*_family_faults(params), *_student_faults(params), *_ensemble_faults(params)]
    if faults:
        raise MienError("\n".join(faults))
    return params


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of `changes` into `base`; an empty mapping in `changes` empties the one in `base`."""
    merged = dict(base)
    for key, value in changes.items():
        both = value and isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _family_faults(params: Params) -> Iterator[str]:
    for name, family in params.candidates.items():
        if name == CHAMPION:
            yield f"A family is named {name!r}, and models/{name} holds the packaged champion. Name it otherwise."
        try:
            architecture, recipe = params.training(name)
        except MienError as error:
            yield str(error)
        else:
            if not (recipe.epochs or architecture.weights):
                yield f"families.{name}.train.epochs is 0, expected 1 or more where model.weights names no weights."
            if (dark := recipe.augmentation.dark.strength) > 1:
                yield f"families.{name}.train.augmentation.dark.strength is {dark}, expected 0 to 1."
            if not re.fullmatch(r"imagenet|shipped|.+\.onnx", architecture.weights or "shipped"):
                yield f"families.{name}.model.weights is {architecture.weights!r}, expected {WEIGHTS}."
        for key in family.search:
            if not _is_hyperparameter(key):
                yield (
                    f"families.{name}.search has {key!r}, expected a dotted key such as train.learning_rate or "
                    "model.dropout."
                )


def _student_faults(params: Params) -> Iterator[str]:
    for name, family in params.families.items():
        if family.distil or name in params.students:
            yield f"families.{name} is a student, or is named like one. What has distil: stands in students:."
    known = list(params.families)  # and the students above
    for name, student in params.students.items():
        if not student.distil or student.search:
            yield f"students.{name} needs distil: with its teachers, and no search: tune a family instead."
            continue
        teachers = student.distil.teachers
        if len(teachers) != TEACHERS or not set(teachers) <= set(known):
            yield (
                f"students.{name}.distil.teachers is {list(teachers)}, expected {TEACHERS} names out of "
                f"{', '.join(known)}. A name may stand again to fill the places; it counts once."
            )
        if student.distil.start not in {None, *teachers}:
            yield f"students.{name}.distil.start is {student.distil.start!r}, expected one of its teachers or null."
        known.append(name)


def _ensemble_faults(params: Params) -> Iterator[str]:
    for name, members in params.evaluate.ensembles.items():
        if len(set(members)) < len(members) or len(members) == 1 or not set(members) <= set(params.candidates):
            yield (
                f"evaluate.ensembles.{name} is {list(members)}, expected different names, at least two, out of "
                f"{', '.join(params.candidates)}."
            )


def _is_hyperparameter(key: str) -> bool:
    """Whether a dotted key names a field of Architecture or Training, or an option that a network may declare."""
    head, *rest = key.split(".")
    cls: Any = {"model": Architecture, "train": Training}.get(head)
    for number, part in enumerate(rest):
        if typing.get_origin(cls) is Mapping:
            return number == len(rest) - 1
        hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        cls = hints.get(part)
    return cls is not None and bool(rest)


def _nest(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: _nest(rest, value) if rest else value}
