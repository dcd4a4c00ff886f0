"""Naming faces on one thread: OpenVINO against ONNX Runtime, `tf.function` and `keras.Model.predict`, by batch size.

All run the network of the champion that comes with the package, with random weights, which speed does not depend on.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnx
from numpy.typing import NDArray
from timing import milliseconds, table

from mien.config.params import load
from mien.inference import champion, openvino_runtime
from mien.inference.runtime import Runtime

SIZES = (1, 8, 64)
Floats = NDArray[np.float32]
Classifier = Callable[[Floats], object]


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(section())


def section() -> str:
    """The comparison, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        keras_predict, tf_function = keras_model(path)
        fast = Runtime(path, backend="openvino", threads=1)
        calls: dict[str, Classifier] = {
            "`keras.Model.predict`": keras_predict,
            "`tf.function`": tf_function,
            "ONNX Runtime f32": Runtime(path, backend="onnxruntime", threads=1).predict,
            f"OpenVINO {fast.precision}": fast.predict,
        }
        work = multiplications(path)
    peak, rows = ceiling(), []
    for size in SIZES:
        taken = speeds(calls, size)
        *others, ours = (size / taken[name] * 1000 for name in calls)
        ratios = (f"{ours / other:.1f}×" if ours / other > 10 else f"{ours / other:.2f}×" for other in others)  # noqa: PLR2004
        rows.append([size, *(f"{speed:,.0f}" for speed in (*others, ours)), *ratios, f"{ours * work / peak:.2f}"])
    head = ["faces at a time", *calls, *(f"against {name}" for name in list(calls)[:-1]), "share of the ceiling"]
    caption = f"Faces a second of CPU time. The ceiling, this processor's best {fast.precision} convolution: "
    caption += f"{peak / 1e9:.1f} billion multiplications a second; a face takes {work / 1e6:.0f} million."
    return f"{table(head, rows)}\n\n{caption}"


def speeds(calls: dict[str, Classifier], size: int) -> dict[str, float]:
    """Milliseconds for a batch of so many faces."""
    faces = np.random.default_rng(0).uniform(0, 255, (size, 48, 48, 1)).astype(np.float32)
    ready = {name: lambda call=call: call(faces) for name, call in calls.items()}
    return milliseconds(ready, rounds=5, block=max(2, 24 // size))


def keras_model(path: Path) -> tuple[Classifier, Classifier]:
    """Write the network as ONNX; its `predict`, and its call as a `tf.function`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from mien.learning import models
    from mien.learning.training import loop

    family = champion.read_card(champion.SHIPPED).family
    architecture, _ = load(Path(__file__).parents[1] / "params.yaml").training(family)
    network = models.build(architecture)
    loop.export(network, path)
    function = tf.function(lambda faces: network(faces, training=False))
    return lambda faces: network.predict(faces, verbose=0, batch_size=64), lambda faces: function(faces).numpy()


def multiplications(path: Path) -> float:
    """Multiplications of the convolutions for one face."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    kernels = {weights.name: weights.dims for weights in graph.initializer}
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    return float(sum(np.prod(kernels[node.input[1]]) * np.prod(shapes[node.output[0]][2:]) for node in nodes))


def ceiling() -> float:
    """Multiplications a second of CPU time in the best of a few convolutions of 3 × 3, eight pictures at a time."""
    best = 0.0
    for channels, side in ((64, 48), (128, 24), (256, 24), (256, 12), (512, 12)):
        call = _convolution(channels, side)
        taken = milliseconds({"it": call}, rounds=3, block=5)["it"]
        best = max(best, 8 * 9 * channels**2 * side**2 / taken * 1000)
    return best


def _convolution(channels: int, side: int) -> Callable[[], object]:
    openvino = openvino_runtime.library()
    ops = openvino.opset13
    picture = ops.parameter([8, channels, side, side], openvino.Type.f32)
    kernel = ops.constant(np.random.default_rng(0).normal(0, 0.01, (channels, channels, 3, 3)).astype(np.float32))
    answer = ops.convolution(picture, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    # Little is read and written beside the convolution: only the mean of each channel is asked for.
    model = openvino.Model([ops.reduce_mean(answer, ops.constant(np.array([2, 3])), keep_dims=True)], [picture])
    network = openvino_runtime.Network(model, 1)
    return lambda: network.filled(lambda _: None)


if __name__ == "__main__":
    main()
