"""What the tests of the command line share: a terminal."""

import os
import pty
import re
import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def in_terminal() -> Callable[[list[str]], tuple[int, str]]:
    """Run a command in a terminal of its own; gives its exit code and all that it shows, without colours."""

    def run(command: list[str], columns: int = 100) -> tuple[int, str]:
        terminal, inside = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
        process = subprocess.Popen(
            command, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True
        )
        os.close(inside)
        shown = b""
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not part:
                break
            shown += part
        os.close(terminal)
        return process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")

    return run
