"""What the tests share: the parameters, a small prepared sample, and the real FER-2013 where it is at hand."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mien.params import Params, load
from mien.registry import tracking

ROOT = Path(__file__).parent.parent

WriteModel = Callable[..., Path]


@pytest.fixture(scope="session")
def params() -> Params:
    return load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def fer2013_folder() -> Path:
    """The folder with fer2013.parquet and unpack.py, named by MIEN_REAL_DATA."""
    folder = Path(os.environ.get("MIEN_REAL_DATA", ""))
    if not (folder / "fer2013.parquet").exists():
        pytest.skip("needs the real FER-2013: name the folder of fer2013.parquet in MIEN_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def yunet_file() -> Path:
    """YuNet's model file, named by MIEN_YUNET."""
    path = Path(os.environ.get("MIEN_YUNET", ""))
    if not path.is_file():
        pytest.skip("needs YuNet's model file: `mien fetch detector`, then set MIEN_YUNET=~/.cache/mien/yunet.onnx")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """A small prepared sample, made as `mien fetch sample` and `mien prepare` make it."""
    from mien.data import sources
    from mien.stages import prepare

    folder = tmp_path_factory.mktemp("sample")
    sources.write(sources.sample(rows=700), folder / "raw")
    prepare.run(folder / "raw", folder / "prepared", folder / "plots", params, progress=False)
    return folder / "prepared"


@pytest.fixture(scope="session")
def write_model() -> WriteModel:
    """Write an ONNX model that tells emotions by brightness: emotion `order[k]` for a mean gray of 30 k + 20.

    More `sharpness`, more confidence.
    """

    def write(path: Path, order: Sequence[int] = range(7), *, sharpness: float = 0.01) -> Path:
        import numpy as np
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        centres = np.empty(7, np.float32)
        centres[list(order)] = 30 * np.arange(7) + 20
        # The softmax of -sharpness (mean - centre)², without the term that all emotions share.
        weights = {
            "axes": np.array([1, 2], np.int64),
            "slope": np.float32(2 * sharpness) * centres[None],
            "offset": np.float32(-sharpness) * centres**2,
        }
        nodes = [
            helper.make_node("ReduceMean", ["faces", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ]
        faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 48, 48, 1])
        answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 7])
        constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "brightness", [faces], [answer], constants)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    return write


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once because their sixty migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        assert not tracking.exists("0" * 32)
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, with an empty mlflow.db."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Write a video of `count` frames: a gray page on which gray squares move, `squares(number)` says where.

    A square is x, y, side and gray.
    """

    def write(
        path: Path,
        count: int = 30,
        squares: Callable[[int], Sequence[tuple[int, int, int, int]]] = lambda number: [(20 + 2 * number, 40, 60, 50)],
        size: tuple[int, int] = (320, 240),
        rate: float = 30.0,
    ) -> Path:
        import cv2
        import numpy as np

        codec = {".avi": "MJPG", ".webm": "VP80"}.get(path.suffix, "mp4v")
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, size)
        assert writer.isOpened()
        for number in range(count):
            page = np.full((size[1], size[0], 3), 230, np.uint8)
            for x, y, side, gray in squares(number):
                page[y : y + side, x : x + side] = gray
            writer.write(page)
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def brightness_champion(tmp_path_factory: pytest.TempPathFactory, write_model: WriteModel) -> Path:
    """A champion's folder with that model of brightness; a flat picture of 48 pixels is a face to it."""
    from mien.serving.champion import Card, write_card

    folder = tmp_path_factory.mktemp("brightness")
    write_model(folder / "model.onnx")
    write_card(folder, Card(version="1", temperature=1.0, uncertain_below=0.5, detector="haar"))
    return folder
