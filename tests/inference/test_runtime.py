"""mien.inference.runtime: one model, two libraries, the same answers."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import MienError
from mien.inference import openvino_runtime
from mien.inference.champion import SHIPPED
from mien.inference.runtime import CHUNK, Runtime

BACKENDS = ("openvino", "onnxruntime")


def faces(count: int) -> NDArray[np.float32]:
    """Noise in the shape of faces."""
    return np.random.default_rng(1).uniform(0, 255, (count, 48, 48, 1)).astype(np.float32)


def test_openvino_and_onnxruntime_agree(small_onnx: Path) -> None:
    names: tuple[Any, ...] = BACKENDS
    answers = [Runtime(small_onnx, backend=name, threads=1).predict(faces(9)) for name in names]
    # bf16 keeps 8 bits of a number, so there a probability may move by about a hundredth.
    tolerance = 0.02 if Runtime(small_onnx).precision == "bf16" else 1e-5
    np.testing.assert_allclose(answers[0], answers[1], atol=tolerance)
    np.testing.assert_allclose(answers[0].sum(axis=1), 1, atol=tolerance)


def test_the_champion_of_the_package_answers_alike_on_both() -> None:
    names: tuple[Any, ...] = BACKENDS
    loaded = [Runtime(SHIPPED / "model.onnx", backend=name, threads=1) for name in names]
    one, other = (runtime.predict(faces(16)) for runtime in loaded)
    np.testing.assert_allclose(one, other, atol=0.02 if loaded[0].precision == "bf16" else 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_faces_is_answered_in_order(small_onnx: Path, backend: Any) -> None:
    loaded, many = Runtime(small_onnx, backend=backend), faces(CHUNK + 3)
    answer = loaded.predict(many)
    assert answer.shape == (CHUNK + 3, 7)
    assert answer.dtype == np.float32
    for row in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        np.testing.assert_allclose(loaded.predict(many[row : row + 1])[0], answer[row], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_faces_have_no_answers(small_onnx: Path, backend: Any) -> None:
    assert Runtime(small_onnx, backend=backend).predict(faces(0)).shape == (0, 7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_answer_does_not_change_when_the_next_is_asked_for(small_onnx: Path, backend: Any) -> None:
    loaded = Runtime(small_onnx, backend=backend)
    first = loaded.predict(faces(2))
    kept = first.copy()
    loaded.predict(255 - faces(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_faces_may_be_a_view_into_a_larger_array(small_onnx: Path, backend: Any) -> None:
    loaded, many = Runtime(small_onnx, backend=backend), faces(6)
    np.testing.assert_allclose(loaded.predict(many[::2]), loaded.predict(many)[::2], atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [faces(1)[0], faces(1)[..., 0], faces(2)[:, :40], faces(1).astype(np.float64), faces(1).astype(np.uint8), [[1.0]]],
    ids=["one face", "no channel", "too low", "float64", "uint8", "a list"],
)
def test_what_is_no_stack_of_faces_is_refused(small_onnx: Path, wrong: Any) -> None:
    with pytest.raises(MienError, match=r"expected \(n, 48, 48, 1\) and float32"):
        Runtime(small_onnx).predict(wrong)


def test_auto_prefers_openvino(small_onnx: Path) -> None:
    assert Runtime(small_onnx).backend == "openvino"


def test_auto_falls_back_on_onnxruntime(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if "onnx" in name else None)
    assert Runtime(small_onnx).backend == "onnxruntime"
    with pytest.raises(MienError, match="install openvino"):
        Runtime(small_onnx, backend="openvino")


def test_unknown_backends_and_silly_thread_counts_are_refused(small_onnx: Path) -> None:
    with pytest.raises(MienError, match="'tpu': expected one of auto, openvino, onnxruntime"):
        Runtime(small_onnx, backend="tpu")  # type: ignore[arg-type]
    with pytest.raises(MienError, match="threads is 0"):
        Runtime(small_onnx, threads=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_and_broken_files_are_refused(small_onnx: Path, tmp_path: Path, backend: Any) -> None:
    with pytest.raises(MienError, match="is missing"):
        Runtime(tmp_path / "model.onnx", backend=backend)
    with pytest.raises(MienError, match="is missing"):
        Runtime(tmp_path, backend=backend)
    for name, content in {"empty": b"", "text": b"no model" * 50, "cut": small_onnx.read_bytes()[:500]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MienError, match="cannot be run"):
            Runtime(tmp_path / name, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_models_of_other_shapes_are_refused(write_onnx: Callable[..., Path], tmp_path: Path, backend: Any) -> None:
    with pytest.raises(MienError, match=r"shape \(1, 5\), expected \(1, 7\)"):
        Runtime(write_onnx(tmp_path / "classes.onnx", classes=5), backend=backend)
    with pytest.raises(MienError, match=r"expected a model of \(n, 48, 48, 1\)|Expected a model of \(n, 48, 48, 1\)"):
        Runtime(write_onnx(tmp_path / "channels.onnx", channels=3), backend=backend)


def test_loading_openvino_leaves_nothing_in_the_home_folder(small_onnx: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mien.inference.runtime import Runtime;"
        f"Runtime(Path({str(small_onnx)!r}), backend='openvino');"
        "sys.exit('openvino_telemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_may_share_a_runtime(small_onnx: Path, backend: Any) -> None:
    loaded, many = Runtime(small_onnx, backend=backend, threads=1), faces(40)
    expected = loaded.predict(many)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: loaded.predict(many[row : row + 1])[0], range(40)))
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_networks_of_one_thread_are_not_all_tied_to_the_same_core(small_onnx: Path) -> None:
    network = openvino_runtime.Network(openvino_runtime.read(small_onnx), threads=1)
    assert network._compiled.get_property("ENABLE_CPU_PINNING") is False
