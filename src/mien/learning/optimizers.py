"""A recipe's optimiser and learning-rate schedule."""

from typing import Any

import keras

from mien.params import Training

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
    """A constant, or Keras' cosine with a linear warm-up over the recipe's share of all steps."""
    if recipe.schedule != "cosine":
        return recipe.learning_rate
    total = recipe.epochs * steps
    warmup = int(recipe.warmup * total)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total)
    start = recipe.learning_rate / 25
    return keras.optimizers.schedules.CosineDecay(
        start, total - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def plateau(scores: list[float]) -> float:
    """The learning rate's factor after these scores: × 0.75 whenever five epochs in a row brought no new best."""
    factor, best, waited = 1.0, -1.0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == PLATEAU_PATIENCE:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor
