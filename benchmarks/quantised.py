"""Whether int8 keeps the champion's accuracy, and what it brings: quantised by ONNX Runtime, run on both runtimes."""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from timing import milliseconds, table

from mien.data.dataset import Split, read_split
from mien.errors import MienError
from mien.evaluation.metrics import mcnemar
from mien.inference import champion
from mien.inference.runtime import Runtime

SIZES, CALIBRATION = (1, 8, 64), 512
BACKENDS: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime", "openvino")


class Faces(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Training faces, from which the range of every layer is taken."""

    def __init__(self, split: Split) -> None:
        self._batches = iter(np.array_split(split.images, 8))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {"faces": batch.astype(np.float32)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    options = parser.parse_args()
    model = champion.folder() / champion.MODEL_FILE
    try:
        training = read_split(options.prepared, "train").stratified(CALIBRATION, seed=7)
        validation = read_split(options.prepared, "validation")
    except MienError as error:
        raise SystemExit(f"Not measured: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        small = quantised(model, training, Path(folder))
        runtimes = {}
        for path, backend in itertools.product((model, small), BACKENDS):
            try:
                runtime = Runtime(path, backend=backend, threads=1)
            except MienError as error:  # OpenVINO has no int8 kernels beside bfloat16 ones on every processor
                print(f"Left out: {error}\n")
            else:
                runtimes[f"{'int8' if path == small else runtime.precision}, {backend}"] = runtime
    faces, rows = validation.images.astype(np.float32), []
    taken = [speeds(runtimes, faces[:size]) for size in SIZES]
    base = runtimes["f32, onnxruntime"].predict(faces).argmax(axis=1)
    for name, runtime in runtimes.items():
        named = runtime.predict(faces).argmax(axis=1)
        right = [np.mean((named == validation.labels)[rows_]) for rows_ in (slice(None), ~validation.leaked)]
        p = mcnemar(validation.labels, base, named)
        rows.append(
            [name, *(f"{share:.2%}" for share in right), f"{p:.2f}", *(f"{speed[name]:,.0f}" for speed in taken)]
        )
    head = ["", "PublicTest", "without leaked images", "p", *(f"faces/s, {size} together" for size in SIZES)]
    print(table(head, rows))


def quantised(model: Path, faces: Split, folder: Path) -> Path:
    """The model in int8: weights by channel, activations by their extremes over the faces but for the rarest."""
    plain, small = folder / "plain.onnx", folder / "small.onnx"
    quant_pre_process(str(model), str(plain), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(plain), str(small), Faces(faces), per_channel=True,
        calibrate_method=quantization.CalibrationMethod.Percentile,
    )  # fmt: skip
    return small


def speeds(runtimes: dict[str, Runtime], faces: NDArray[np.float32]) -> dict[str, float]:
    """Faces a second of CPU time."""
    calls = {name: lambda runtime=runtime: runtime.predict(faces) for name, runtime in runtimes.items()}
    taken = milliseconds(calls, rounds=5, block=max(2, 24 // len(faces)))
    return {name: 1000 * len(faces) / each for name, each in taken.items()}


if __name__ == "__main__":
    main()
