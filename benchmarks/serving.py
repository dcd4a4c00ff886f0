"""Classification speed of an exported model: OpenVINO against ONNX Runtime, one thread, by batch size."""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from mien.errors import MienError
from mien.serving.runtime import Runtime

SIZES, REPEATS, SECONDS = (1, 8, 64), 5, 1.0
MODELS = ("models/champion/model.onnx", "demo/models/champion/model.onnx")


def main() -> None:
    """Print a table for the model named on the command line, else for the champion, else for the demo's."""
    named = sys.argv[1:] or [path for path in MODELS if Path(path).exists()]
    if not named:
        raise SystemExit("No model to measure: run `make demo` first, or name an ONNX file.")
    try:
        runtimes = {name: Runtime(Path(named[0]), backend=name, threads=1) for name in ("onnxruntime", "openvino")}
    except MienError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{named[0]}: faces a second on one thread, median of {REPEATS} runs of {SECONDS:g} s in turns")
    print(
        f"{'batch':>6}" + "".join(f"{name + ' ' + rt.precision:>18}" for name, rt in runtimes.items()) + f"{'ratio':>8}"
    )
    for size in SIZES:
        faces = np.random.default_rng(0).uniform(0, 255, (size, 48, 48, 1)).astype(np.float32)
        speeds: dict[str, list[float]] = {name: [] for name in runtimes}
        for _ in range(REPEATS):
            for name, runtime in runtimes.items():  # in turns, so that a busy moment hits both
                speeds[name].append(speed(runtime, faces))
        slow, fast = (median(speeds[name]) for name in runtimes)
        print(f"{size:>6}{slow:>18,.0f}{fast:>18,.0f}{fast / slow:>8.2f}")


def speed(runtime: Runtime, faces: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> float:
    """Faces per second."""
    runtime.predict(faces)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        runtime.predict(faces)
        count += len(faces)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
