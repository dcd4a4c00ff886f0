"""A real MLflow server that is down, hangs or dies: nothing that was trained is lost, and it is said what to do."""

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from mien import servers
from mien.config.params import Family, Params
from mien.errors import MienError
from mien.files import write_json
from mien.learning.training import loop
from mien.registry import metrics_outbox
from mien.registry.tracking.store import connect
from mien.stages import train, tune


class Line:
    """The way to a server, which can be cut, or kept open without an answer, and mended."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.flows = threading.Event()
        self.open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Let everything through, also what has waited."""
        self.flows.set()
        if self.listener.fileno() < 0:
            self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def hang(self) -> None:
        """Take requests and answer none."""
        self.flows.clear()

    def cut(self) -> None:
        """Refuse to connect."""
        # A thread that waits in accept() would keep the listener alive after close().
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self._connect(listener.accept()[0])

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.server))
        except OSError:  # the server is not up yet
            near.close()
            return
        self.open += [near, far]
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def line(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: Callable[[Path], AbstractContextManager[int]]
) -> Iterator[Line]:
    """The way to a real `mlflow server` with an empty store."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        made = Line(port)
        yield made
        made.cut()


@pytest.fixture
def short(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: Line) -> Params:
    """One tiny network of three epochs, whose runs go to the server; a hanging one is given up after four seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(servers, "PATIENCE", 0.0)
    family = params.family("cnn")
    recipe = {"batch_size": 32, "epochs": 3, "max_rows": 70}
    small = Family(dataclasses.replace(family.model, blocks=((4,),)), recipe, family.search)
    write_json(tmp_path / "tuned.json", {"best": {"value": None, "params": {}}})
    return dataclasses.replace(params, families={"cnn": small})


def run(prepared: Path, params: Params) -> dict[str, Any]:
    train.run("cnn", prepared, Path("tuned.json"), Path("model"), Path("cnn.json"), Path("checkpoints"), params)
    report: dict[str, Any] = json.loads(Path("cnn.json").read_text())
    return report


def after_epoch(number: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen between the checkpoint of an epoch and its way to the server."""
    tell = train.EpochLogger.__call__

    def told(self: train.EpochLogger, epoch: int, numbers: dict[str, float]) -> None:
        if epoch == number:
            act()
        tell(self, epoch, numbers)

    monkeypatch.setattr(train.EpochLogger, "__call__", told)


def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained from now on."""
    epochs: list[int] = []
    fit = loop._fit_epoch

    def counted(learner: Any, plan: Any, state: Any, *rest: Any) -> dict[str, float]:
        epochs.append(state.epoch + 1)
        return fit(learner, plan, state, *rest)

    monkeypatch.setattr(loop, "_fit_epoch", counted)
    return epochs


def assert_whole(report: dict[str, Any]) -> None:
    """The run has every epoch once, in order, with the numbers of the report, and has ended well."""
    client = connect()
    curve = sorted(client.get_metric_history(report["run_id"], "val_macro_f1"), key=lambda point: point.step)
    assert [point.step for point in curve] == [1, 2, 3]
    assert [point.value for point in curve] == report["history"]["val_macro_f1"]
    assert client.get_run(report["run_id"]).info.status == "FINISHED"
    assert not list(Path().glob(f"{metrics_outbox.FOLDER}/*")), "nothing is left to be sent"


def test_a_server_that_is_down_or_hangs_at_the_start_is_named_and_nothing_is_begun(
    line: Line, short: Params, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = trained(monkeypatch)
    for fault in (line.hang, line.cut):
        fault()
        with pytest.raises(MienError, match=rf"No MLflow server answers at {line.address} .*Start it and repeat"):
            run(prepared, short)
        with pytest.raises(MienError, match=rf"No MLflow server answers at {line.address} .*Start it and repeat"):
            tune.run("cnn", prepared, Path("tune.json"), Path("study"), short)
        line.mend()
    assert epochs == []
    assert [path.name for path in Path().iterdir()] == ["tuned.json"]


def test_a_server_that_hangs_in_the_middle_gets_the_numbers_later(
    line: Line, short: Params, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics_outbox, "PAUSE", 0.0)
    after_epoch(2, line.hang, monkeypatch)
    after_epoch(3, line.mend, monkeypatch)
    assert_whole(run(prepared, short))
    said = capsys.readouterr().err
    assert said.count("No MLflow server answers") == 1
    assert "numbers are kept in" in said


def test_a_server_that_dies_for_good_costs_no_epoch(
    line: Line, short: Params, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = trained(monkeypatch)
    with monkeypatch.context() as patch:
        after_epoch(2, line.cut, patch)
        with pytest.raises(MienError, match="No MLflow server answers"):
            run(prepared, short)
    assert epochs == [1, 2, 3], "it trained to the end without the server"
    with pytest.raises(MienError, match="No MLflow server answers"):
        run(prepared, short)
    line.mend()
    report = run(prepared, short)
    assert epochs == [1, 2, 3], "and not again when it was back"
    assert_whole(report)
    assert not Path("checkpoints").exists()


def test_a_search_loses_the_trial_that_the_server_died_in_and_no_other(
    line: Line, short: Params, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = dataclasses.replace(short.tune, trials=3, minutes=5, epochs=1, max_rows=70, startup_trials=9)
    params = dataclasses.replace(short, tune=budget)
    begun: list[int] = []
    attempt = tune._try

    def counted(trial: Any, *rest: Any, prunes: bool) -> float:
        begun.append(trial.number)
        if trial.number == 1 and len(begun) == 2:
            line.cut()
        return attempt(trial, *rest, prunes=prunes)

    monkeypatch.setattr(tune, "_try", counted)
    with pytest.raises(MienError, match="No MLflow server answers"):
        tune.run("cnn", prepared, Path("cnn.json"), Path("study"), params)
    assert not Path("cnn.json").exists()
    line.mend()
    tune.run("cnn", prepared, Path("cnn.json"), Path("study"), params)
    states = [trial["state"] for trial in json.loads(Path("cnn.json").read_text())["trials"]]
    assert states == ["complete", "fail", "complete", "complete"]
    assert begun == [0, 1, 2, 3]
