"""The running service against its own OpenAPI, with schemathesis. It takes a package index: `make test-fresh`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_what_is_documented_is_answered_as_documented(served: Any) -> None:
    if os.environ.get("MIEN_FRESH") != "1":
        pytest.skip("needs a package index: where there is one, set MIEN_FRESH=1")
    script = Path(__file__).with_name("check_openapi.py")
    done = subprocess.run([sys.executable, script, served.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout
