"""Compile, fit and resume a training with Keras and NumPy only, so that it runs on any GPU machine."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.config.params import Architecture, Training
from mien.data.dataset import Split, digest
from mien.emotions import EMOTIONS
from mien.evaluation.metrics import accuracy, macro_f1
from mien.files import write_file
from mien.learning import models
from mien.learning.training import exported, hardware
from mien.learning.training.augmentation import Augment
from mien.learning.training.batches import Batches
from mien.learning.training.camera import CameraEffects
from mien.learning.training.checkpoints import Checkpoints, State, Weights, copied, variables
from mien.learning.training.distillation import DistillationLoss, Teachers
from mien.learning.training.normalisation import fused
from mien.learning.training.optimizers import optimizer, plateau
from mien.learning.training.scan import ScannedEpochs

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training's outcome; leaked validation rows are left out of `validation`.

    `teachers` is set for students only.
    """

    architecture: Architecture
    recipe: Training
    training: Split
    validation: Split
    seed: int
    teachers: Teachers | None = None

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        recipe: Training,
        training: Split,
        validation: Split,
        seed: int,
        teachers: Teachers | None = None,
    ) -> "Plan":
        """The plan on at most `recipe.max_rows` training rows (0: all) and the leak-free validation rows."""
        chosen = training.stratified(recipe.max_rows, seed)
        return cls(architecture, recipe, chosen, validation.without_leaks(), seed, teachers)

    @cached_property
    def precision(self) -> str:
        """Keras' dtype policy on this machine."""
        return hardware.precision(self.recipe.precision)

    @cached_property
    def start(self) -> str:
        """SHA-256 of the exported model whose weights the training begins with; empty where it begins otherwise."""
        source = exported.source(self.architecture)
        return exported.digest(source) if source else ""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that a checkpoint must share with the training that resumes it, on whatever machine."""
        data = digest([self.training, self.validation])
        teachers = self.teachers.to_dict() if self.teachers else None
        parts = [asdict(self.architecture), asdict(self.recipe), self.seed, data, teachers]
        parts += [self.start] if self.start else []
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """A trained network with its best epoch's weights, and its history."""

    network: keras.Model
    state: State


def train(
    plan: Plan,
    checkpoints: Path | None = None,
    on_epoch: OnEpoch | None = None,
    bar: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> Result:
    """Train, and keep the epoch of the highest validation macro-F1.

    With `checkpoints` every epoch is saved there, and the same plan resumes after the last one; of a training that is
    over only the best epoch is read. `on_epoch(epoch, numbers)` may raise to end the training early; `bar` shows a
    progress bar; `origin` is kept with the description of this machine.
    """
    hardware.seed_everything(plan.seed)
    keeper = Checkpoints(checkpoints) if checkpoints else None
    state = keeper.state(plan.fingerprint) if keeper else State(plan.fingerprint)
    state.images = len(plan.training)
    if keeper and state.epoch and is_over(state, plan.recipe):
        network = models.build(plan.architecture)
        network.set_weights(keeper.load_best(state))
        return Result(network, state)
    state.precision = state.precision or plan.precision
    state.origin = hardware.describe() | dict(origin or {})
    if not plan.recipe.epochs:
        network = models.build(plan.architecture)
        _begin(network, plan)
        return Result(network, state)
    with hardware.every_gpu(plan.recipe.batch_size):
        return _train(plan, keeper, state, on_epoch, bar)


def _train(plan: Plan, keeper: Checkpoints | None, state: State, on_epoch: OnEpoch | None, bar: bool) -> Result:
    network, learner = compile_learner(plan, state.precision)
    if keeper and state.epoch:
        keeper.load_last(learner, state)
    else:
        _begin(network, plan)
    best = keeper.load_best(state) if keeper and state.best else copied(network.weights)
    epochs = scanned(learner, plan) if hardware.scans(plan.training.images.nbytes) else None
    if not epochs and keras.backend.backend() == "jax":
        # Else Keras builds its metrics with the first batch of a process's first epoch, and does not train it.
        faces, answers, weights = Batches(plan.training, plan.recipe, plan.seed, state.epoch)[0]
        learner.test_on_batch(faces, answers, sample_weight=weights)
    ended = EndedEpoch(keeper, on_epoch)
    try:
        while not is_over(state, plan.recipe):
            started = time.monotonic()
            last = LastStep()
            numbers = _fit_epoch(learner, plan, state, bar, last, epochs, ended.settle)
            numbers |= _validate(network, plan.validation)
            state.record(numbers, time.monotonic() - started)
            if state.best == state.epoch:
                best = copied(network.weights)
            last.restore()
            ended.take(learner, best, state, numbers)
            if not (keeper and epochs):
                ended.settle()
        ended.settle()
    except (KeyboardInterrupt, SystemExit):
        ended.keep()
        raise
    network.set_weights(best)
    return Result(network, state)


def _begin(network: keras.Model, plan: Plan) -> None:
    """Give a new training the weights that it starts from, where they are not drawn."""
    if source := exported.source(plan.architecture):
        start = models.build(plan.architecture)  # in float32, which statistics are measured in
        exported.restore(start, plan.training.images, source)
        network.set_weights(copied(start.weights))
    if plan.teachers:
        plan.teachers.begin(network)


class EndedEpoch:
    """The last epoch until it is on disk and reported, which waits until the device computes the next one."""

    def __init__(self, keeper: Checkpoints | None, on_epoch: OnEpoch | None) -> None:
        self.keeper, self.on_epoch = keeper, on_epoch
        self.unwritten: tuple[Weights, Weights, State] | None = None
        self.unreported: tuple[int, dict[str, float]] | None = None

    def take(self, learner: keras.Model, best: Weights, state: State, numbers: dict[str, float]) -> None:
        """Copy what a checkpoint holds; nothing changes `best` and `state` before it is written."""
        self.unreported = state.epoch, numbers
        if self.keeper:
            self.unwritten = copied(chain(*variables(learner))), best, state

    def settle(self) -> None:
        """Write the epoch, then report it, if that is yet to be done."""
        self.keep()
        unreported, self.unreported = self.unreported, None
        if self.on_epoch and unreported:
            self.on_epoch(*unreported)

    def keep(self) -> None:
        """Write the epoch, if that is yet to be done; what interrupts it leaves it to be done."""
        if self.keeper and self.unwritten:
            self.keeper.keep(*self.unwritten)
        self.unwritten = None


def predict(network: keras.Model, split: Split) -> NDArray[np.float32]:
    """Probabilities `(n, 7)` of a split's faces."""
    if not len(split):
        return np.zeros((0, len(EMOTIONS)), np.float32)
    # JAX divides a batch among GPUs only where it divides evenly.
    gpus = max(1, len(hardware.gpus()))
    rows, size = np.arange(len(split) + -len(split) % gpus) % len(split), 512 // gpus * gpus
    # Not Keras' `predict`, which uses tf.data and waits for its autotuner at the end (see Batches).
    batches = (split.images[rows[start : start + size]] for start in range(0, len(rows), size))
    answers = [network.predict_on_batch(faces.astype(np.float32)) for faces in batches]
    return np.asarray(np.concatenate(answers)[: len(split)], np.float32)


def in_float32(result: Result, architecture: Architecture) -> Result:
    """The same weights as a float32 network on one device, the one that is saved, evaluated and served."""
    network = models.build(architecture)
    network.set_weights(result.network.get_weights())
    return replace(result, network=network)


def export(network: keras.Model, path: Path) -> None:
    """Write a network in float32 as ONNX: faces `(n, 48, 48, 1)` float32 → probabilities `(n, 7)`, n free."""
    network(np.zeros((1, *network.input_shape[1:]), np.float32), training=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)  # Keras uses np.object
        write_file(path, lambda target: network.export(str(target), format="onnx", verbose=False))


def compile_learner(plan: Plan, precision: str = "") -> tuple[keras.Model, keras.Model]:
    """The network, and the compiled model around it that adds augmentation and distillation for training.

    `precision` is Keras' dtype policy, this machine's choice if empty.
    """
    precision = precision or plan.precision
    keras.config.set_dtype_policy(precision)
    try:
        network = fused(models.build(plan.architecture))
    finally:
        keras.config.set_dtype_policy("float32")
    faces = keras.Input(network.input_shape[1:], dtype="float32")
    seen = Augment(plan.recipe.augmentation, plan.seed)(faces)
    answers = network(CameraEffects.applied(seen, plan.recipe.augmentation, plan.seed))
    learner = keras.Model(
        faces, DistillationLoss(plan.teachers, precision)(seen, answers) if plan.teachers else answers
    )
    learner.compile(
        optimizer=optimizer(plan.recipe, max(1, len(plan.training) // plan.recipe.batch_size)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=plan.recipe.label_smoothing),
        loss_weights=[_labels_share(plan)],
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_execution=hardware.steps_per_call(),
        jit_compile=False if hardware.tensorflow_on_cpu() else "auto",  # XLA halves TensorFlow's speed on a CPU
    )
    # TensorFlow retraces the train step if the first one created variables: 18 s of 45 with ResNet-50.
    learner.optimizer.build(learner.trainable_variables)
    return network, learner


def _labels_share(plan: Plan) -> float:
    """The share of the loss that the labels have; the rest is the teachers'."""
    return 1 - plan.teachers.recipe.weight if plan.teachers else 1.0


def scanned(learner: keras.Model, plan: Plan) -> ScannedEpochs:
    """Epochs of the learner as one compiled call each, on JAX."""
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=plan.recipe.label_smoothing, reduction="none")
    return ScannedEpochs(learner, plan.training, loss, _labels_share(plan))


class Seeds(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets all random states by seed and epoch alone, so that a resumed training repeats the same augmentation."""

    def __init__(self, seed: int, epoch: int) -> None:
        super().__init__()
        self.seed, self.epoch = seed, epoch

    def on_epoch_begin(self, *_: Any) -> None:
        """Set them after `fit` has built what it needs."""
        self.assign(self.model)

    def assign(self, learner: keras.Model) -> None:
        """Set the states of every random layer of `learner`."""
        for number, generator in enumerate(_generators(learner)):
            generator.state.assign(np.array([self.seed + number, self.epoch], dtype=generator.state.dtype))


class LastStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights of an epoch's last step, which `fit` replaces at its end by the optimiser's EMA, if used."""

    def on_epoch_end(self, *_: Any) -> None:
        """Copy the weights if the optimiser uses EMA."""
        variables = self.model.trainable_variables if self.model.optimizer.use_ema else []
        self.weights = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]

    def restore(self) -> None:
        """Restore the weights: EMA weights are validated and saved, but not trained further."""
        for variable, weights in zip(self.model.trainable_variables, self.weights, strict=False):
            variable.assign(weights)


def _fit_epoch(
    learner: keras.Model,
    plan: Plan,
    state: State,
    bar: bool,
    last: LastStep,
    epochs: ScannedEpochs | None,
    meanwhile: Callable[[], object],
) -> dict[str, float]:
    if plan.recipe.schedule == "plateau":
        learner.optimizer.learning_rate = plan.recipe.learning_rate * plateau(state.history.get("val_macro_f1", []))
    batches = Batches(plan.training, plan.recipe, plan.seed, state.epoch)
    seeds = Seeds(plan.seed, state.epoch)
    if epochs:
        seeds.assign(learner)
        logs = epochs.fit(batches, meanwhile)
        last.set_model(learner)
        last.on_epoch_end()
        learner.optimizer.finalize_variable_values(learner.trainable_variables)
    else:
        history = learner.fit(batches, verbose=1 if bar else 0, shuffle=False, callbacks=[seeds, last]).history
        logs = {name: values[0] for name, values in history.items()}
    if learner.optimizer.use_ema:
        # On JAX they now share memory with the optimiser's averages, and a prediction would free it for both.
        for variable in learner.trainable_variables:
            variable.assign(keras.ops.convert_to_numpy(variable).copy())
    rate = float(keras.ops.convert_to_numpy(learner.optimizer.learning_rate))
    return {"loss": logs["loss"], "accuracy": logs["accuracy"], "learning_rate": rate}


def _validate(network: keras.Model, validation: Split) -> dict[str, float]:
    probabilities = predict(network, validation)
    labels, guesses = validation.labels, probabilities.argmax(axis=1)
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "val_loss": float(-np.log(np.maximum(right, 1e-12)).mean()),
        "val_accuracy": float(accuracy(labels, guesses)),
        "val_macro_f1": float(macro_f1(labels, guesses)),
    }


def is_over(state: State, recipe: Training) -> bool:
    """Whether all epochs are trained, or as many without a new best as the recipe's patience."""
    return state.epoch >= recipe.epochs or (bool(recipe.patience) and state.epoch - state.best >= recipe.patience)


def _generators(layer: Any) -> Iterator[Any]:
    for inner in getattr(layer, "layers", []):
        if hasattr(inner, "seed_generator"):
            yield inner.seed_generator
        yield from _generators(inner)
