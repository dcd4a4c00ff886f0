"""PostgreSQL, an S3-compatible store and MLflow on both, each a process of its own that ends with its fixture."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "s3cr-t"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def find_program(name: str) -> str | None:
    """A program of PostgreSQL, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@dataclass
class Postgres:
    """A PostgreSQL server with data of its own, which can be stopped and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://mien:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """A program as another user than root, which PostgreSQL refuses."""
        other: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []}
        log = (self.folder / "log").open("ab")
        with log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, **(other if os.getuid() == 0 else {})
            )

    def create(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "log").touch()
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        command = [str(find_program("initdb")), "--pgdata", "data", "--username", "mien", "--pwfile", "password"]
        made = self.run(*command, "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C")
        assert made.wait(60) == 0, (self.folder / "log").read_text()

    def start(self) -> None:
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = self.run(str(find_program("postgres")), "-D", "data", *options)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(Exception):
                self.execute("SELECT 1")
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it as `pg_ctl stop` does: open transactions are broken off, connections closed."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            result = connection.execute(statement)
            return result.fetchall() if result.description else []

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if not find_program("initdb"):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # Not below pytest's own folder, which root alone may enter.
    folder = Path(tempfile.mkdtemp(prefix="mien-postgres-"))
    server = Postgres(folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # without a checkpoint
        shutil.rmtree(folder)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a web server answers, whatever it answers."""
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            with suppress(HTTPError):
                urlopen(address, timeout=20).close()
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextmanager
def serve(command: list[str], address: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a web server until the block ends; gives its address once it answers."""
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(address, server, log)
        yield address
    finally:
        # With its workers.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def bare_environment() -> dict[str, str]:
    foreign = ("MLFLOW_", "OPTUNA_", "AWS_", "MIEN_PASSWORD")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


@dataclass(frozen=True)
class Servers:
    """The running servers: PostgreSQL, and the environment that other machines have."""

    postgres: Postgres
    environment: dict[str, str]


Compose = Callable[..., Any]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Settings of a service of compose.yaml, with its variables and names of other services filled in."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    def settings(service: str, key: str, **names: str) -> Any:
        def fill(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: fill(one) for name, one in value.items()}
            if isinstance(value, list):
                return [fill(one) for one in value]
            text = str(value).replace("${MIEN_PASSWORD:?set it in .env}", PASSWORD)
            for name, place in names.items():
                text = text.replace(name, place)
            return text

        return fill(services[service][key])

    return settings


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3-compatible server that keeps everything in memory."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with serve(command, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("s3"), bare_environment()) as address:
        yield address


@pytest.fixture(scope="session")
def running(
    postgres: Postgres, s3: str, compose: Compose, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The services of compose.yaml, started by its own commands; only PostgreSQL and the store are other programs."""
    folder, port = tmp_path_factory.mktemp("mlflow"), str(free_port())
    names = {"postgres:5432": f"127.0.0.1:{postgres.port}", "http://s3:7070": s3, "0.0.0.0": "127.0.0.1"}
    postgres.execute(compose_config("mlflow-database"))
    postgres.database("optuna")
    store = compose("mlflow", "environment", **names)
    python, *script = compose("buckets", "command", **names)
    assert python == "python"
    subprocess.run([sys.executable, *script], env=bare_environment() | store, check=True)
    program, *options = compose("mlflow", "command", **names, **{"port=5000": f"port={port}"})
    environment = bare_environment() | store | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", program, *options]
    with serve(command, f"http://127.0.0.1:{port}", folder, environment):
        places = {"SERVER:5000": f"127.0.0.1:{port}", "SERVER:5432": f"127.0.0.1:{postgres.port}", "PASSWORD": PASSWORD}
        yield Servers(postgres, exports(places | {"http://SERVER:7070": s3}))


def exports(places: dict[str, str]) -> dict[str, str]:
    """The variables that compose.yaml's head gives to other machines."""
    head = (ROOT / "compose.yaml").read_text().partition("\nname:")[0]
    for name, place in places.items():
        head = head.replace(name, place)
    lines = re.findall(r"export (.+)", head)
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def compose_config(name: str) -> str:
    return str(yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"][name]["content"])
