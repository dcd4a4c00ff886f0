"""An exported model as the start of a training: its ONNX weights back in the Keras network they came from."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from mien.config.params import Architecture
from mien.errors import MienError

SHIPPED = Path(__file__).parents[2] / "shipped" / "model.onnx"

SEEN = 4096
"""Most faces over which the statistics of batch normalisation are measured."""

BATCH = 256

Array = NDArray[np.float32]


def source(architecture: Architecture) -> Path | None:
    """The exported model whose weights the network starts with; None where it starts otherwise."""
    name = architecture.exported
    return SHIPPED if name == "shipped" else Path(name) if name else None


def digest(model: Path) -> str:
    """SHA-256 of an exported model. Raises MienError where it is missing."""
    if model.is_file():
        return sha256(model.read_bytes()).hexdigest()
    if model == SHIPPED:
        raise MienError(f"weights: shipped needs the package's own model, and {model} is missing. Install mien anew.")
    raise MienError(f"weights: {model} is not there. Name a model.onnx that `mien train` wrote, or shipped.")


def restore(network: keras.Model, faces: NDArray[np.uint8], model: Path) -> None:
    """Give `network` the weights of the ONNX file that was exported from one like it.

    An export folds batch normalisation into the convolution before it. Here each normalisation gets the mean and
    variance of what it sees of `faces` `(n, 48, 48, 1)`, and the scale and offset that undo them: predictions are the
    exported ones, and a training normalises as it did. Raises MienError where the networks differ, and where the file
    is no ONNX model.
    """
    stored = list(_stored(model))
    own = [layer for layer in network.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    shapes = [tuple(kernel.shape) for kernel, _ in stored]
    if shapes != [tuple(layer.kernel.shape) for layer in own]:
        raise MienError(
            f"The network {network.name} cannot start from {model}, whose kernels are {', '.join(map(str, shapes))}. "
            "Give it the model: of the family that was exported, or leave weights: out."
        )
    normalised = {layer: _next(layer, network) for layer in own if not layer.use_bias}
    if set(normalised.values()) != set(_normalisations(network)):
        raise MienError(
            f"The network {network.name} normalises batches elsewhere than where an export folds it into a kernel."
        )
    for layer, (kernel, bias) in zip(own, stored, strict=True):
        layer.kernel.assign(kernel)
        (layer.bias if layer.use_bias else normalised[layer].beta).assign(bias)
    _normalise(_normalisations(network), network, faces[:: -(-len(faces) // SEEN)].astype(np.float32))


def _stored(model: Path) -> Iterator[tuple[Array, Array]]:
    """Kernels in Keras' order of axes and biases, layer by layer."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(model).graph
    except DecodeError:
        raise MienError(f"weights: {model} is no ONNX model. Name a model.onnx that `mien train` wrote.") from None
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node, following in zip(graph.node, [*graph.node[1:], None], strict=True):
        given = [arrays[name] for name in node.input if name in arrays]
        if node.op_type == "Conv":
            kernel, *bias = given
            yield kernel.transpose(2, 3, 1, 0), bias[0] if bias else np.zeros(len(kernel), np.float32)
        elif node.op_type == "MatMul":
            (kernel,) = given
            yield kernel, _bias(following, arrays, kernel.shape[-1])


def _bias(node: Any, arrays: dict[str, Array], size: int) -> Array:
    """What the node after a matrix product adds: nothing if it is another operation."""
    given = [arrays[name] for name in node.input if name in arrays] if node and node.op_type == "Add" else []
    return given[0].reshape(size) if given else np.zeros(size, np.float32)


def _next(layer: keras.Layer, network: keras.Model) -> keras.Layer:
    return network.layers[network.layers.index(layer) + 1]


def _normalisations(network: keras.Model) -> list[layers.BatchNormalization]:
    return [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]


def _normalise(inner: list[layers.BatchNormalization], network: keras.Model, faces: Array) -> None:
    """Measure layer by layer, with those before it as they stay; `beta` holds the offset of the export."""
    for layer in inner:
        layer.gamma.assign(np.ones(layer.gamma.shape))
        layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        layer.moving_variance.assign(np.full(layer.moving_variance.shape, 1 - layer.epsilon))
    for layer in inner:
        mean, variance = _moments(keras.Model(network.input, layer.input), faces)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        layer.gamma.assign(np.sqrt(variance + layer.epsilon))
        layer.beta.assign(mean + keras.ops.convert_to_numpy(layer.beta))


def _moments(maps: keras.Model, faces: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each channel over all places of all faces."""
    sums, squares, count = 0.0, 0.0, 0
    for start in range(0, len(faces), BATCH):
        values = keras.ops.convert_to_numpy(maps(faces[start : start + BATCH], training=False)).astype(np.float64)
        values = values.reshape(-1, values.shape[-1])
        sums, squares, count = sums + values.sum(axis=0), squares + np.square(values).sum(axis=0), count + len(values)
    mean = np.asarray(sums / count)
    return mean, squares / count - np.square(mean)
