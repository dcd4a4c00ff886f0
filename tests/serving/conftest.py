"""A small champion that needs no training, and photos to show it."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from starlette.testclient import TestClient

from mien.serving import champion
from mien.serving.champion import CHAMPION_VARIABLE, Card, write_card
from mien.serving.detector_file import YUNET_VARIABLE

WriteOnnx = Callable[..., Path]


@pytest.fixture(scope="session")
def write_onnx() -> WriteOnnx:
    """Write a network of one convolution that answers faces of `channels` with `classes` probabilities."""

    def write(path: Path, classes: int = 7, channels: int = 1) -> Path:
        random = np.random.default_rng(0)
        weights = {
            "scale": np.float32(1 / 255),
            "filters": random.normal(0, 0.3, (16, 1, 3, 3)).astype(np.float32),
            "dense": random.normal(0, 1, (16, classes)).astype(np.float32),
        }
        nodes = [
            helper.make_node("Mul", ["faces", "scale"], ["scaled"]),
            helper.make_node("Transpose", ["scaled"], ["turned"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["turned", "filters"], ["seen"], strides=[2, 2]),
            helper.make_node("Relu", ["seen"], ["active"]),
            helper.make_node("GlobalMaxPool", ["active"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
        faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 48, 48, channels])
        answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])
        tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "small", [faces], [answer], tensors)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    return write


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory, write_onnx: WriteOnnx) -> Path:
    """The path of such a network."""
    return write_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="session")
def card() -> Card:
    """What the small champion says of itself."""
    return Card(
        version="3",
        temperature=2.0,
        uncertain_below=0.4,
        detector="haar",
        family="cnn",
        data_name="synthetic sample",
        data_digest="d1ce",
        git_commit="c0de",
        synthetic=True,
    )


@pytest.fixture(scope="session")
def champion_folder(tmp_path_factory: pytest.TempPathFactory, write_onnx: WriteOnnx, card: Card) -> Path:
    """A champion's folder with that network."""
    folder = tmp_path_factory.mktemp("champion")
    write_onnx(folder / "model.onnx")
    write_card(folder, card)
    return folder


@pytest.fixture(scope="session")
def portrait() -> bytes:
    """A real photo, 512 × 600, with one face in its upper middle: Grace Hopper's, which Matplotlib brings with it."""
    return files("matplotlib").joinpath("mpl-data", "sample_data", "grace_hopper.jpg").read_bytes()


@pytest.fixture(scope="session")
def gradient() -> NDArray[np.uint8]:
    """A gray 96 × 120 picture without a face."""
    return np.add.outer(np.arange(96), np.arange(120)).astype(np.uint8)


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """An image's bytes in a format, with Pillow's options for it."""

    def to_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
        target = io.BytesIO()
        image.save(target, kind, **options)
        return target.getvalue()

    return to_bytes


@dataclass(frozen=True)
class Served:
    """A running `bentoml serve`: its address, its process and what it logged so far."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + 150
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the service did not become ready:\n{self.log.read_text()}")

    def workers(self) -> set[int]:
        """The ids of the processes that answer."""
        found = set()
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it may be gone by now
                found |= {child.pid} if "_bentoml_impl.worker.service" in child.cmdline() else set()
        return found

    def started(self) -> int:
        """How many workers have become ready since the service began."""
        return self.log.read_text().count("Service mien initialized")


@contextmanager
def _serve(
    project: Path, command: list[str] | None = None, everything: dict[str, str] | None = None, **environment: str
) -> Iterator[Served]:
    if command is None:
        (project / "bentofile.yaml").write_text('service: "mien.serving.service:Mien"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    search = os.pathsep.join(filter(None, [str(Path(champion.__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    cleared = {name: value for name, value in os.environ.items() if name not in (CHAMPION_VARIABLE, YUNET_VARIABLE)}
    ours = {**cleared, "BENTOML_HOME": str(project / "bentoml"), "PYTHONPATH": search, **environment}
    words = [*(command or [sys.executable, "-m", "bentoml", "serve"]), "--port", str(port)]
    with (project / "log").open("wb") as log:
        server = subprocess.Popen(words, cwd=project, env=everything or ours, stdout=log, stderr=log)
        try:
            yield Served(f"http://127.0.0.1:{port}", server, project / "log")
        finally:
            server.terminate()
            server.wait(60)


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[Served]]:
    """`bentoml serve`, as people start it in the project's root, until the block ends."""
    return _serve


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, champion_folder: Path) -> Iterator[Served]:
    """A service with the small champion in its project's models/champion, running for all tests."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(champion_folder, project / "models" / "champion")
    with _serve(project) as server:
        server.wait()
        yield server


@pytest.fixture(scope="session")
def client(champion_folder: Path) -> Iterator[TestClient]:
    """The service in this process, with the small champion."""
    from mien.serving.service import Mien

    service: Any = Mien  # the decorator makes a Service of the class
    with ExitStack() as stack:
        # The variables are read once, at the start; left set, they would reach all later tests.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CHAMPION_VARIABLE, str(champion_folder))
            patch.delenv(YUNET_VARIABLE, raising=False)
            opened = stack.enter_context(TestClient(service.to_asgi()))
        yield opened
