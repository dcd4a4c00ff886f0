"""Compute cost of one prediction."""

from math import prod

import keras


def macs(network: keras.Model) -> int:
    """Multiply-accumulates for one face, in convolutions and dense layers; the rest is small beside them."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            total += macs(layer)
        elif hasattr(layer, "kernel"):
            # Every weight of a kernel is used once at each position of the output.
            total += prod(layer.kernel.shape) * prod(layer.output.shape[1:-1])
    return total
