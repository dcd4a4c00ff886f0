"""An epoch on JAX as one compiled call: the faces stay on the device, where batches are gathered and augmented."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mien.data.dataset import Split
from mien.emotions import EMOTIONS
from mien.learning.training.batches import Batches
from mien.learning.training.checkpoints import variables

State = tuple[list[Any], ...]
"""Values of the trainable, the other and the optimiser's variables."""


class ScannedEpochs:
    """Trains `learner` as `learner.fit(batches)` does, without a round trip to the host at every step.

    Step by step, a small network leaves a GPU idle most of the time: the host cannot launch its kernels fast enough.
    `lax.scan` runs all steps of an epoch on the device. The faces need 2.3 kB each of its memory. Several devices
    share every batch, and the compiler adds up their gradients and statistics. `loss` is a function of targets
    `(b, 7)` and probabilities `(b, 7)` with one value a face, and `share` its part of the whole loss.
    """

    def __init__(self, learner: keras.Model, split: Split, loss: keras.losses.Loss, share: float = 1.0) -> None:
        import jax

        self.learner, self.loss, self.share = learner, loss, share
        self.whole, self.divided = _placements()
        self.faces = jax.device_put((split.images, split.labels.astype(np.int32)), self.whole)
        # The old state's memory becomes the new one's.
        self._epoch = jax.jit(self._steps, donate_argnums=0)

    def fit(self, batches: Batches, meanwhile: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train one epoch; returns the mean loss and accuracy of its batches.

        `meanwhile` is called while the device computes; the learner's variables have no values then.
        """
        import jax

        state = tuple([variable.value for variable in group] for group in variables(self.learner))
        rows, weights = jax.device_put((batches.rows, batches.weights[batches.rows]), self.divided)
        steps = (rows, jax.device_put(batches.mixes.astype(np.float32), self.whole), weights)
        state, (losses, accuracies) = self._epoch(state, self.faces, steps)
        meanwhile()
        for group, values in zip(variables(self.learner), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return {"loss": float(np.mean(losses)), "accuracy": float(np.mean(accuracies))}

    def _steps(self, state: State, faces: tuple[Any, Any], steps: tuple[Any, ...]) -> tuple[State, tuple[Any, Any]]:
        import jax

        images, labels = faces
        gradient = jax.value_and_grad(self._loss, has_aux=True)

        def step(state: State, drawn: tuple[Any, ...]) -> tuple[State, tuple[Any, Any]]:
            (rows, share, weights), (trainable, others, optimizer) = drawn, state
            batch = ops.cast(images[rows], "float32")
            targets = ops.one_hot(labels[rows], len(EMOTIONS), dtype="float32")
            # Mixup as in Batches; a share of 1 leaves the batch as it is.
            batch = share * batch + (1 - share) * batch[::-1]
            targets = share * targets + (1 - share) * targets[::-1]
            (loss, (answers, others)), slopes = gradient(trainable, others, batch, targets, weights)
            trainable, optimizer = self.learner.optimizer.stateless_apply(optimizer, slopes, trainable)
            hits = ops.argmax(answers, axis=-1) == ops.argmax(targets, axis=-1)
            return (list(trainable), list(others), list(optimizer)), (loss, ops.mean(ops.cast(hits, "float32")))

        result: tuple[State, tuple[Any, Any]] = jax.lax.scan(step, state, steps)
        return result

    def _loss(self, trainable: Any, others: Any, faces: Any, targets: Any, weights: Any) -> tuple[Any, tuple[Any, Any]]:
        """The loss that `compile` adds up: the labels' share, regularisation, and what layers add (distillation)."""
        answers, others, added = self.learner.stateless_call(
            trainable, others, faces, training=True, return_losses=True
        )
        labels = self.share * ops.mean(self.loss(targets, answers) * weights)
        return labels + sum(added), (answers, others)


def _placements() -> tuple[Any, Any]:
    """Where the training's devices keep what each needs whole, and arrays `(steps, b)`, of which each has its share."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None, None
    import jax

    placing: Any = jax.sharding  # not annotated
    mesh = distribution.device_mesh.backend_mesh
    specs = placing.PartitionSpec(), placing.PartitionSpec(None, *mesh.axis_names)
    return placing.NamedSharding(mesh, specs[0]), placing.NamedSharding(mesh, specs[1])
