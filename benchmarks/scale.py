"""What each stage costs for 36,000 to a million faces: seconds, most memory, disk, and how the cost grows.

python benchmarks/scale.py --sizes 36000 360000 1000000 --folder /disk/with/room

The faces are drawn, or FER-2013's where MIEN_REAL_DATA is set: a base of some thousand, of which each further one is
shifted, brightened and given noise, so that no two are alike. Every stage runs in a process of its own. A search and
the training are one epoch of a tiny network on all faces; promotion counts the profile that drift is measured against,
and the report compares the faces with those of the last commit.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from growth import LAUNCHER
from numpy.typing import NDArray
from PIL import Image
from timing import table

from mien.config.params import merge
from mien.data.raw import pgm
from mien.data.sources.sample import face
from mien.emotions import EMOTIONS, SPLITS
from mien.experiments.pipeline import DVC, GIT, environment, lay_out, parameters
from mien.files import read_json, write_json
from mien.monitoring import drift_windows

DRAWN, PART = 4200, 4096
CHANGES: dict[str, Any] = {
    "validate": {"profile": "generic"},
    "tune": {"trials": 1, "epochs": 1, "max_rows": 0},
    "evaluate": {"ensembles": {}, "tta": "flip", "bootstrap": 100, "robustness": False},
    "promote": {"floor": 0.0, "ece": 1.0, "lineage": [], "shipped": False},
}
TINY = {
    "model": {"network": "cnn", "blocks": [[8], [16], [16], [16], [32]], "dropout": 0.1},
    "train": {"epochs": 1},
    "search": {"model.dropout": {"low": 0.0, "high": 0.2}},
}
STAGES = {
    "fetch": "fetch parquet faces --no-track",
    "prepare": "prepare --raw data/raw --prepared data/prepared --plots reports/data",
    "validate": "validate --prepared data/prepared --report reports/validation.json --data-docs reports/data_docs "
    "--passed data/validated.json --raw data/raw",
    "tune": "tune cnn --prepared data/prepared --report reports/tune/cnn.json --plots reports/study/cnn",
    "train": "train cnn --prepared data/prepared --tuned reports/tune/cnn.json --model models/cnn "
    "--report reports/train/cnn.json --metrics reports/families/cnn.json --checkpoints checkpoints/cnn",
    "evaluate": "evaluate --prepared data/prepared --models models --train-reports reports/train "
    "--report reports/evaluation.json --metrics reports/metrics.json --plots reports/plots --faces reports/faces",
    "promote": "promote --evaluation reports/evaluation.json --models models --plots reports/plots --prepared "
    "data/prepared --validated data/validated.json --validation reports/validation.json --train-reports reports/train "
    "--report reports/promotion.json --cards reports/cards",
    "drift": "drift windows --baseline windows",
    "report": "report --base HEAD",
}

Cost = tuple[float, float, float]
"""Seconds, CPU seconds and the most MiB."""


def main() -> None:
    """Print a table of seconds and memory, one of disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[36_000, 360_000], help="numbers of faces")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=tuple(STAGES), help="in the pipeline's order")
    parser.add_argument("--folder", type=Path, help="where to work, on a disk with room; 15 kB a face")
    asked = parser.parse_args()
    base, costs, disks = faces(), dict[int, dict[str, Cost]](), []
    for size in asked.sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder, prefix="scale-") as folder:
            costs[size] = {}
            disks.append([f"{size:,}", *measure(Path(folder), base, size, costs[size], asked.stages)])
    print(summary(costs))
    print("\n" + table(["faces", "source, MB", "data/raw, MB", "data/prepared, MB"], disks))


def faces() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The base: images `(n, 48, 48)` and labels `(n,)`."""
    folder = os.environ.get("MIEN_REAL_DATA")
    if not folder:
        labels = np.arange(DRAWN) % len(EMOTIONS)
        return np.stack([face(int(n), np.random.default_rng([5, row])) for row, n in enumerate(labels)]), labels
    rows = pq.read_table(Path(folder) / "fer2013.parquet", columns=["image", "emotion"])
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in rows["image"].to_pylist()]
    return np.stack(images), rows["emotion"].to_numpy()


def altered(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Images shifted by up to six pixels, by up to 30 % brighter or darker, and noisy."""
    shift = random.integers(-6, 7, 2)
    moved = np.roll(images, tuple(shift), axis=(1, 2)).astype(np.float32)
    lit = moved * random.uniform(0.7, 1.3, (len(images), 1, 1)).astype(np.float32)
    return (lit + random.normal(0, 8, images.shape).astype(np.float32)).clip(0, 255).astype(np.uint8)


def write(folder: Path, base: tuple[NDArray[np.uint8], NDArray[np.int64]], size: int) -> None:
    """Write `size` faces as the Hugging Face hub serves data sets, eight tenths for training."""
    folder.mkdir()
    random = np.random.default_rng(size)
    kinds = pa.schema([("image", pa.struct([("bytes", pa.binary())])), ("label", pa.int64())])
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        with pq.ParquetWriter(folder / f"{split}-00000-of-00001.parquet", kinds) as writer:
            for rows in parts(round(share * size)):
                chosen = random.integers(0, len(base[0]), rows)
                images = [{"bytes": pgm(image)} for image in altered(base[0][chosen], random)]
                writer.write_table(pa.table([images, base[1][chosen]], kinds))


def parts(size: int) -> Iterator[int]:
    """`PART` again and again, and what is left."""
    yield from [PART] * (size // PART)
    yield size % PART


def measure(folder: Path, base: Any, size: int, costs: dict[str, Cost], stages: Sequence[str]) -> list[str]:
    """Fill `costs` by running the stages in `folder`; returns the MB of what they read and wrote."""
    write(folder / "faces", base, size)
    lay_out(folder, merge(parameters(), CHANGES) | {"families": {"cnn": TINY}, "students": {}})
    write_json(folder / "reports/tune/cnn.json", {"best": {"params": {}}})
    for stage in stages:
        if stage == "drift":
            serve(folder)
        elif stage == "report":
            commit(folder)
        costs[stage] = run(folder, STAGES[stage].split())
        print(f"{size:,} {stage}: {cell(costs[stage])}", file=sys.stderr, flush=True)
    used = [sum(file.stat().st_size for file in (folder / name).rglob("*")) for name in PLACES]
    return [f"{size / 1e6:,.0f}" for size in used]


PLACES = ("faces", "data/raw", "data/prepared")


def serve(folder: Path) -> None:
    """Windows such as a service leaves, of as many faces as were trained on."""
    profile = read_json(folder / "reports/cards" / drift_windows.PROFILE_FILE, made_by="mien promote")
    drift_windows.append(folder / "windows", drift_windows.Window(0, 60, profile["version"], profile["counts"]))


def commit(folder: Path) -> None:
    """Let DVC and Git keep the faces."""
    for command in (
        [*GIT, "init", "-q"],
        [*DVC, "init", "-q"],
        [*DVC, "add", "-q", "data/raw"],
        [*GIT, "add", "data/raw.dvc", "params.yaml"],
        [*GIT, "commit", "-qm", "faces"],
    ):
        subprocess.run(command, cwd=folder, env=environment(folder), check=True, stdout=sys.stderr)


def run(folder: Path, words: list[str]) -> Cost:
    """What one command of Mien costs."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "mien", *words]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: mien {' '.join(words)} failed:\n{done.stderr[-3000:]}")
    wall, cpu, held = (float(value) for value in done.stdout.split())
    return wall, cpu, held


def summary(costs: Mapping[int, Mapping[str, Cost]]) -> str:
    """Seconds, CPU seconds and MiB of each stage and size; the exponent of the CPU time's growth between the ends."""
    sizes = sorted(costs)
    rows = []
    for stage in costs[sizes[0]]:
        cells = [cell(costs[n][stage]) for n in sizes]
        first, last = costs[sizes[0]][stage], costs[sizes[-1]][stage]
        grown = f"{log(last[1] / first[1]) / log(sizes[-1] / sizes[0]):.2f}" if len(sizes) > 1 else ""
        rows.append([stage, *cells, grown])
    return table(["stage: wall, CPU, most memory", *(f"{n:,} faces" for n in sizes), "growth exponent"], rows)


def cell(cost: Cost) -> str:
    """A cost in words."""
    return f"{cost[0]:.0f} s, {cost[1]:.0f} s, {cost[2]:,.0f} MiB"


if __name__ == "__main__":
    main()
