"""The exported model on OpenVINO (bf16 where the processor computes in it) or ONNX Runtime."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, FACE_SIZE
from mien.errors import MienError
from mien.inference import openvino_runtime

Floats = NDArray[np.float32]
Loaded = tuple[Callable[[Floats], Floats], str]

CHUNK = 256
"""Faces per inference: beyond this, memory grows and speed does not."""


class Runtime:
    """A trained model that turns faces into probabilities; one instance may be shared by threads.

    `backend` is the library in use, `precision` the number format it computes in (`bf16` or `f32`).
    """

    backend: str
    precision: str

    def __init__(
        self, path: Path, *, backend: Literal["auto", "openvino", "onnxruntime"] = "auto", threads: int | None = None
    ) -> None:
        """Load the ONNX file `path`; `threads` None takes what the library thinks best for this machine.

        Raises MienError for a missing or broken file, a model of other shapes, and an absent library.
        """
        if threads is not None and threads < 1:
            raise MienError(f"threads is {threads}, expected at least 1, or None to let the library choose.")
        self.backend = _choose(backend)
        if not path.is_file():
            raise MienError(f"{path} is missing: expected a model exported to ONNX. Make it with `dvc repro`.")
        try:
            self._infer, self.precision = LOADERS[self.backend](path, threads)
            answer = self._infer(np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.float32))
        # Both libraries raise bare C++ exceptions of many types for a file they cannot use.
        except Exception as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise MienError(
                f"{path} cannot be run on {self.backend} ({reason[-1].rstrip('.')}). "
                f"Expected a model of (n, {FACE_SIZE}, {FACE_SIZE}, 1) float32 faces; make it anew with `dvc repro`."
            ) from error
        if answer.shape != (1, len(EMOTIONS)):
            raise MienError(f"{path} answers one face with shape {answer.shape}, expected (1, {len(EMOTIONS)}).")

    def predict(self, faces: Floats) -> Floats:
        """Probabilities (n, 7) float32 in the order of EMOTIONS for faces (n, 48, 48, 1) float32 in [0, 255].

        Any n, also 0. Raises MienError for another shape or dtype.
        """
        shape, dtype = getattr(faces, "shape", None), getattr(faces, "dtype", type(faces).__name__)
        if shape is None or shape[1:] != (FACE_SIZE, FACE_SIZE, 1) or dtype != np.float32:
            raise MienError(
                f"Faces have shape {shape} and dtype {dtype}, "
                f"expected (n, {FACE_SIZE}, {FACE_SIZE}, 1) and float32 with values in [0, 255]."
            )
        chunks = [self._infer(faces[start : start + CHUNK]) for start in range(0, len(faces), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, len(EMOTIONS)), np.float32)


def _choose(backend: str) -> str:
    installed = [name for name in LOADERS if importlib.util.find_spec(name)]
    if backend != "auto" and backend not in LOADERS:
        raise MienError(f"Unknown runtime backend {backend!r}: expected one of auto, {', '.join(LOADERS)}.")
    wanted = installed if backend == "auto" else [name for name in installed if name == backend]
    if not wanted:
        missing = " or ".join(LOADERS) if backend == "auto" else backend
        raise MienError(f"Nothing can run the model: install {missing}, for example with `pip install openvino`.")
    return wanted[0]


def _openvino(path: Path, threads: int | None) -> Loaded:
    model = openvino_runtime.read(path)

    @functools.cache
    def network(alone: bool) -> openvino_runtime.Network:
        shape = [1, FACE_SIZE, FACE_SIZE, 1] if alone else None
        return openvino_runtime.Network(model.clone(), threads, shape)

    # Most photos show one face, and for a number of faces known beforehand OpenVINO is a fifth faster.
    return lambda faces: network(len(faces) == 1)(faces)[0], network(True).precision


def _onnxruntime(path: Path, threads: int | None) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def infer(faces: Floats) -> Floats:
        return np.asarray(session.run(None, {name: faces})[0], dtype=np.float32)

    return infer, "f32"


LOADERS: dict[str, Callable[[Path, int | None], Loaded]] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
"""The libraries that can run a model, the preferred one first."""
