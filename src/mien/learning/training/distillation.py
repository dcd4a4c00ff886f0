"""Knowledge distillation: a loss between teacher and student probabilities for the same augmented faces."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from mien.config.params import DistillationRecipe
from mien.errors import MienError
from mien.learning.training.checkpoints import copied
from mien.learning.training.normalisation import fused

Tensor = Any

SMALLEST = 1e-7
"""Added to probabilities before the logarithm, which is infinite at zero."""


@dataclass(frozen=True)
class Teachers:
    """A distillation recipe, and its teachers' networks by name."""

    recipe: DistillationRecipe
    networks: Mapping[str, keras.Model]

    @classmethod
    def of(cls, recipe: DistillationRecipe, models: Path) -> "Teachers":
        """The teachers of `recipe` in the folder of trained models; a missing one raises MienError."""
        files = {name: models / name / "model.keras" for name in recipe.teachers}
        for name, path in files.items():
            if not path.is_file():
                raise MienError(f"The teacher {path} is missing. Train it first: dvc repro train@{name}.")
        return cls(recipe, {name: keras.saving.load_model(path, compile=False) for name, path in files.items()})

    def to_dict(self) -> dict[str, Any]:
        """The recipe for reports and fingerprints, with the SHA-256 of every teacher's weights."""
        digests = {name: weights_digest(network.get_weights()) for name, network in self.networks.items()}
        return {**asdict(self.recipe), "teachers": digests}

    def begin(self, student: keras.Model) -> None:
        """Initialise the student with the weights of the teacher `recipe.start`, if one is set."""
        if not self.recipe.start:
            return
        given, own = copied(self.networks[self.recipe.start].weights), student.get_weights()
        if [weights.shape for weights in given] != [weights.shape for weights in own]:
            raise MienError(
                f"The student cannot start from {self.recipe.start}: its network differs. Give both the same model:, "
                "or leave distil.start out."
            )
        student.set_weights(given)


def weights_digest(weights: Iterable[NDArray[np.generic]]) -> str:
    """SHA-256 of a network's weights in order: the same for the same weights, whatever file they stand in."""
    sha = sha256()
    for array in weights:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


class DistillationLoss(keras.layers.Layer):  # type: ignore[misc]
    """Faces and student probabilities → the probabilities unchanged; adds the distillation loss while training.

    The teachers predict the augmented faces, because their predictions for the plain faces they were trained on are
    little more than the labels (Beyer et al. 2022). The faces of a batch are divided among the teachers in turn: over
    the epochs the mean gradient is that of the teachers' mean loss, at the cost of one teacher. The loss is the
    Kullback-Leibler divergence of the softened probabilities, times the squared temperature, which keeps gradients in
    scale (Hinton et al. 2015). `precision` is the dtype policy of the teachers' layers except the last.
    """

    def __init__(self, teachers: Teachers, precision: str) -> None:
        super().__init__(name="teaching", dtype="float32")
        self.recipe = teachers.recipe
        self.teachers = [_teacher(network, precision) for network in teachers.networks.values()]

    def call(self, faces: Tensor, answers: Tensor, training: bool = False) -> Tensor:
        """Add the loss while training."""
        if training:
            temperature, turns = self.recipe.temperature, len(self.teachers)
            targets = ops.concatenate(
                [teacher(faces[i::turns], training=False) for i, teacher in enumerate(self.teachers)]
            )
            predicted = ops.concatenate([answers[i::turns] for i in range(turns)])
            targets, predicted = soften(targets, temperature), soften(predicted, temperature)
            gap = ops.log(targets + SMALLEST) - ops.log(predicted + SMALLEST)
            self.add_loss(self.recipe.weight * temperature**2 * ops.mean(ops.sum(targets * gap, axis=-1)))
        return answers


def _teacher(network: keras.Model, precision: str) -> keras.Model:
    teacher = keras.models.clone_model(network)
    teacher.set_weights(copied(network.weights))
    for layer in teacher.layers[:-1]:
        layer.dtype_policy = precision
    teacher = fused(teacher)
    teacher.trainable = False
    return teacher


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities with their logits divided by `temperature`."""
    return ops.softmax(ops.log(probabilities + SMALLEST) / temperature)
