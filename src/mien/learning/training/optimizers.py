"""A recipe's optimiser and learning-rate schedule."""

from typing import Any

import keras

from mien.config.params import Training

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.75, 5


def optimizer(recipe: Training, steps: int) -> keras.optimizers.Optimizer:
    """The recipe's optimiser; `steps` is the number of batches an epoch. Biases and batch norm do not decay."""
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    common = {"learning_rate": rate(recipe, steps), "weight_decay": recipe.weight_decay or None, **average}
    made: keras.optimizers.Optimizer
    if recipe.optimizer == "sgd":
        made = keras.optimizers.SGD(momentum=recipe.momentum, nesterov=recipe.momentum > 0, **common)
    elif recipe.optimizer == "adam":
        made = keras.optimizers.Adam(**common)
    else:
        made = keras.optimizers.AdamW(**{**common, "weight_decay": recipe.weight_decay})
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def rate(recipe: Training, steps: int) -> Any:
    """A constant, or a cosine with linear warm-up, begun again at half its peak after epoch `restart`."""
    if recipe.schedule != "cosine":
        return recipe.learning_rate
    if not 0 < recipe.restart < recipe.epochs:
        return cycle(recipe.learning_rate, recipe.epochs * steps, recipe.warmup)
    first = cycle(recipe.learning_rate, recipe.restart * steps, recipe.warmup)
    second = cycle(recipe.learning_rate / 2, (recipe.epochs - recipe.restart) * steps, recipe.warmup)
    return Restarted(first, second, recipe.restart * steps)


def cycle(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.CosineDecay:
    """From a 25th of `peak` up to it over the share `warmup` of the steps, then down to nothing."""
    rising = int(warmup * steps)
    if not rising:
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    return keras.optimizers.schedules.CosineDecay(peak / 25, steps - rising, warmup_target=peak, warmup_steps=rising)


class Restarted(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Two cycles, one after the other (SGDR, Loshchilov & Hutter 2017)."""

    def __init__(self, first: Any, second: Any, boundary: int) -> None:
        self.first, self.second, self.boundary = first, second, boundary

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step."""
        step = keras.ops.cast(step, "float32")
        later = self.second(keras.ops.maximum(step - self.boundary, 0.0))
        return keras.ops.where(step < self.boundary, self.first(step), later)


def plateau(scores: list[float]) -> float:
    """The learning rate's factor after these scores: × 0.75 whenever five epochs in a row brought no new best."""
    factor, best, waited = 1.0, -1.0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == PLATEAU_PATIENCE:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor
