from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mien.config.params import Architecture
from mien.learning import models
from mien.learning.training import hardware
from mien.learning.training.normalisation import BatchNormalization, fused

KERAS = keras.layers.BatchNormalization
MAPS = np.random.default_rng(0).normal(3, 2, (8, 6, 6, 16)).astype(np.float32)


def pair(dtype: str = "float32") -> tuple[Any, Any]:
    """A network of one layer as Keras has it and as it is trained, with the same weights, none of them a default."""
    maps = keras.Input(MAPS.shape[1:])
    own = keras.Model(maps, KERAS(momentum=0.9, dtype=dtype)(maps))
    own.set_weights([np.linspace(low, low + 1, 16) for low in (0.5, -1.0, 2.0, 3.0)])
    return own, fused(own)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.03)])
@pytest.mark.parametrize("training", [True, False])
def test_it_answers_and_learns_as_keras_own_layer_does(dtype: str, tolerance: float, training: bool) -> None:
    result = []
    for network in pair(dtype):
        maps = tf.constant(MAPS)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            answers = network(maps, training=training)
            loss = tf.reduce_sum(tf.cast(answers, tf.float32) * tf.constant(MAPS[::-1]))
        layer = network.layers[1]
        gradients = tape.gradient(loss, [maps, *layer.trainable_variables])
        assert answers.dtype == layer.compute_dtype
        values = [answers, *gradients, layer.moving_mean, layer.moving_variance]
        result.append([np.asarray(value, np.float32) for value in values])
    for keras_own, ours in zip(*result, strict=True):
        # 288 values a channel: the unbiased variance, a tenth of which moves the average, is larger by 0.35 %.
        np.testing.assert_allclose(ours, keras_own, rtol=1e-3, atol=tolerance * np.abs(keras_own).max())


def test_a_layer_that_does_not_train_keeps_its_statistics() -> None:
    own, twin = pair()
    twin.layers[1].trainable = False
    twin(MAPS, training=True)
    for before, after in zip(own.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_channels_that_do_not_fill_a_vector_stay_with_keras() -> None:
    network = fused(models.build(Architecture(network="cnn", blocks=((24,), (32,)), dense=(16,))))
    kinds = [type(layer) for layer in network.layers if isinstance(layer, KERAS)]
    assert kinds == [KERAS, BatchNormalization, KERAS]  # the last one's input are no maps


def test_elsewhere_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = models.build(Architecture(network="cnn", blocks=((16,),)))
    monkeypatch.setattr(hardware, "gpus", lambda: ["gpu:0"])
    assert fused(network) is network


def test_checkpoints_are_read_with_and_without_it(tmp_path: Path) -> None:
    network = models.build(Architecture(network="cnn", blocks=((24,), (16,), (16,))))
    twin = fused(network)
    twin.set_weights([np.full_like(weights, number) for number, weights in enumerate(twin.get_weights())])
    twin.save_weights(tmp_path / "kept.weights.h5")
    network.load_weights(tmp_path / "kept.weights.h5")
    for kept, read in zip(twin.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, read)
