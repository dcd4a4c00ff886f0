"""Fused batch normalisation for training with TensorFlow on a CPU."""

from typing import Any

import keras

from mien.learning.training import hardware

Tensor = Any

MAPS = 4
"""Dimensions of maps `(n, h, w, c)`."""

LANES = 16
"""oneDNN has its quick kernel where channels fill its vectors; elsewhere Keras' own layer is quicker."""


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras' layer over maps `(n, h, w, c)`, as one operation of TensorFlow's instead of a dozen.

    Statistics are float32, as in Keras' layer; bfloat16 maps are read and written as they are instead of as float32.
    The moving variance is Bessel's unbiased one: larger by one part in n·h·w. The class is named as in
    Keras because checkpoints store weights under that name.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:  # noqa: ARG002
        """Maps normalised by their own statistics while training, else by the moving ones; maps have no mask."""
        import tensorflow as tf

        learns = bool(training and self.trainable)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.momentum,
            is_training=learns,
        )
        if learns:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs


def fused(network: keras.Model) -> keras.Model:
    """The network, with fused batch normalisation wherever that is quicker, and the same weights.

    On GPUs and with JAX it is returned unchanged: there the compiler fuses.
    """
    if not hardware.tensorflow_on_cpu():
        return network
    twin = keras.models.clone_model(network, clone_function=_clone)
    twin.set_weights(network.get_weights())
    return twin


def _clone(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = BatchNormalization if _fuses(layer) else type(layer)
    return kind.from_config(layer.get_config())


def _fuses(layer: keras.layers.Layer) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or not (layer.scale and layer.center):
        return False
    shape = layer.input.shape
    return len(shape) == MAPS and layer.axis in {-1, MAPS - 1} and shape[-1] % LANES == 0
