"""OpenVINO on the processor, set up alike for the classifier and the detector."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read(path: Path) -> Any:
    """OpenVINO's model of an ONNX file; raises what OpenVINO raises for a file that is none."""
    openvino = library()
    # Named, because OpenVINO tries a broken file on every format it knows, and TensorFlow's reader prints it.
    frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    return frontend.convert(frontend.load(str(path)))


class Network:
    """A model made ready for the processor; one instance may be shared by threads."""

    def __init__(self, model: Any, threads: int | None, shape: Sequence[int] | None = None) -> None:
        """Compile `model`, for inputs of one `shape` if given; `threads` None takes what OpenVINO thinks best."""
        if shape:
            model.reshape(list(shape))
        openvino = library()
        core, self._tensor = openvino.Core(), openvino.Tensor
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # Asked for, bf16 is also emulated where the processor lacks it, slowly; the f16 hint is slower than f32.
        self.precision = "bf16" if "BF16" in capabilities else "f32"
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.precision,
            "NUM_STREAMS": 1,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
            # Left to itself, OpenVINO ties the only thread of every network, in every process, to the same core.
            options["ENABLE_CPU_PINNING"] = False
        self._compiled = core.compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output for one input, in the model's order."""
        with self._lock:  # one request holds one set of buffers, and one stream would queue a second one anyway
            # Passed to `infer` itself, the values are inspected first, which takes a tenth of the time for one face.
            held = np.ascontiguousarray(values)
            self._request.set_input_tensor(self._tensor(held, shared_memory=True))
            self._request.infer()
            return self._answers()

    def filled(self, fill: Callable[[NDArray[Any]], None]) -> list[NDArray[np.float32]]:
        """The same for a model of fixed shape, where `fill` writes the input into its buffer: nothing is copied."""
        with self._lock:
            fill(self._request.get_input_tensor().data)
            self._request.infer()
            return self._answers()

    def _answers(self) -> list[NDArray[np.float32]]:
        return [np.array(tensor.data, dtype=np.float32) for tensor in self._request.output_tensors]


def library() -> Any:
    """The module `openvino`; a command that does without it does not wait for its import."""
    with _without_telemetry():
        import openvino
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide OpenVINO's converter while `openvino` is imported.

    The converter is what reports each import over the network and writes ~/intel; openvino does without it.
    """
    name = "openvino.tools.ovc"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
