"""Search in processes that begin at the same moment: `python searching.py STORAGE TRIALS [[KILLED, …], …]`.

Each inner list is one round of processes; KILLED is the number of the trial in which a process kills itself (-1: none).
Prints a JSON list of what the processes found that ended well, with the numbers of the trials that each `ran`.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mien.config.params import Dimension, Tune
from mien.learning import search, studies


def search_here(storage: str, trials: int, killed: int) -> dict[str, Any]:
    ran = []

    def objective(trial: search.Trial) -> float:
        ran.append(trial.number)
        if trial.number == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        return 1 - abs(float(trial.values["x"]) - 0.3)

    budget = Tune(trials=trials, minutes=5, epochs=1, max_rows=0, startup_trials=100, storage=storage)
    found = search.search("study", {"x": Dimension(low=0.0, high=1.0)}, [{"x": 0.5}], objective, budget, 1)
    return {"ran": ran, **found}


def run_round(storage: str, trials: int, killed: list[int], folder: Path) -> list[dict[str, Any]]:
    children = {}
    for number, one in enumerate(killed):
        # Forked: all begin at once, and Optuna is imported once.
        if not (child := os.fork()):
            (folder / str(number)).write_text(json.dumps(search_here(storage, trials, one)))
            os._exit(0)
        children[child] = folder / str(number)
    ended = [os.wait() for _ in children]
    assert {status for _, status in ended} <= {0, signal.SIGKILL}, ended
    return [json.loads(children[child].read_text()) for child, status in ended if status == 0]


if __name__ == "__main__":
    studies.POLL = 0.2
    found = []
    for killed in json.loads(sys.argv[3]):
        with tempfile.TemporaryDirectory() as folder:
            found += run_round(sys.argv[1], int(sys.argv[2]), killed, Path(folder))
    print(json.dumps(found))
