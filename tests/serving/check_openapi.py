"""Hold a running service against its own OpenAPI with schemathesis, in an environment of its own.

`bentoml serve` in one terminal, `python tests/serving/check_openapi.py http://localhost:3000` in another.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

WANTED = "schemathesis>=4.32,<5"

# What is a photo, OpenAPI cannot say: a form that fits the schema may hold none. And 413 is a refusal too.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = [200, 413, 415, 422]
[checks.negative_data_rejection]
expected-statuses = [400, 405, 413, 415, 422]
"""


def main() -> None:
    """Make the environment, and end with schemathesis' own exit code."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3000"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = f"{folder}/bin"
        subprocess.run([f"{programs}/pip", "install", "--quiet", WANTED], check=True)
        Path(folder, "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
        command = [f"{programs}/schemathesis", "run", f"{address}/docs.json", "--url", address, "--max-examples", "25"]
        raise SystemExit(subprocess.run([*command, "--continue-on-failure"], cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main()
