"""What the tests share: the parameters, a small prepared sample, and the real FER-2013 where it is at hand."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from starlette.testclient import TestClient

from mien.config.params import Params, load
from mien.inference import champion
from mien.inference.champion import CHAMPION_VARIABLE, Card, write_card
from mien.inference.detector_file import CACHE_VARIABLE, YUNET_VARIABLE
from mien.inference.first_use import HINTED, OFFLINE_VARIABLE
from mien.registry import tracking
from mien.registry.tracking import versions

ROOT = Path(__file__).parent.parent

# No test, nor any process that it starts, fetches YuNet or finds the developer's; the hint was given already.
CACHE = tempfile.TemporaryDirectory(prefix="mien-cache-")
Path(CACHE.name, HINTED).touch()
os.environ |= {OFFLINE_VARIABLE: "1", CACHE_VARIABLE: CACHE.name}

WriteModel = Callable[..., Path]
MlflowServer = Callable[[Path], AbstractContextManager[int]]
CrashAfter = Callable[[str], AbstractContextManager[None]]


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
def mlflow_server(empty_database: Path) -> MlflowServer:
    """Run an `mlflow server` whose database and files are in a folder; gives its port on 127.0.0.1, once it answers."""

    @contextmanager
    def serve(folder: Path) -> Iterator[int]:
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_database, folder / "mlflow.db")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder / "files")]
        own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        own |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log, start_new_session=True)
        try:
            end, up = time.monotonic() + 200, False
            while not up:
                assert server.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < end, (folder / "server.log").read_text()
                with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=20):
                    up = True
                time.sleep(0.1)
            yield port
        finally:
            # With its worker.
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)

    return serve


@pytest.fixture
def crash_after() -> CrashAfter:
    """Interrupt the code within after a step such as `versions.set_alias`, or after its second call: `… 2`."""

    @contextmanager
    def crashing(step: str) -> Iterator[None]:
        place, _, count = step.partition(" ")
        module, name = {"tracking": tracking, "versions": versions}[place.split(".")[0]], place.split(".")[1]
        real, left = getattr(module, name), [int(count or 1)]

        def crash(*arguments: Any) -> Any:
            done = real(*arguments)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, crash)
            with pytest.raises(KeyboardInterrupt):
                yield

    return crashing


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
    from mien.inference.champion import Card, write_card

    folder = tmp_path_factory.mktemp("brightness")
    write_model(folder / "model.onnx")
    # No face is doubted, so that flat pictures may stand for some.
    write_card(folder, Card("1", temperature=1.0, uncertain_below=0.5, detector="haar", low_confidence_below=0.0))
    return folder


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


@pytest.fixture(scope="session")
def serve_files() -> Callable[[Path], AbstractContextManager[str]]:
    """Serve a folder over HTTP on 127.0.0.1 until the block ends; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    @contextmanager
    def serving(folder: Path) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()

    return serving


@dataclass
class MjpegServer:
    """A camera in the network: each connection gets the next of `plans`, the last one for ever after.

    A plan is how many frames are sent before the server hangs up; frame k is `draw(k)`, k counting all frames sent.
    """

    draw: Callable[[int], NDArray[np.uint8]]
    plans: list[int]
    rate: float
    sent: int = 0
    connections: int = 0
    address: str = ""


@pytest.fixture
def mjpeg() -> Iterator[Callable[..., MjpegServer]]:
    """Serve MJPEG over HTTP on 127.0.0.1, as cameras do, until the test ends."""
    with ExitStack() as stack:

        def start(draw: Callable[[int], NDArray[np.uint8]], plans: list[int], rate: float = 25.0) -> MjpegServer:
            camera = MjpegServer(draw, plans, rate)

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    plan = camera.plans[min(camera.connections, len(camera.plans) - 1)]
                    camera.connections += 1
                    self.send_response(200 if plan else 503)
                    self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                    self.end_headers()
                    with suppress(OSError):  # the reader has gone
                        for _ in range(plan):
                            self._send(camera.draw(camera.sent))
                            camera.sent += 1
                            if over.wait(1 / camera.rate):
                                return

                def _send(self, pixels: NDArray[np.uint8]) -> None:
                    target = io.BytesIO()
                    Image.fromarray(pixels).save(target, "JPEG", quality=95)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {target.tell()}\r\n\r\n"
                    self.wfile.write(head.encode() + target.getvalue() + b"\r\n")
                    self.wfile.flush()

                def log_message(self, *_: object) -> None:
                    pass

            over = threading.Event()
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            for ending in (thread.join, server.shutdown, over.set):
                stack.callback(ending)
            camera.address = f"http://127.0.0.1:{server.server_port}/video"
            return camera

        yield start


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster on loopback: a head without cores, to which tests add nodes."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()
