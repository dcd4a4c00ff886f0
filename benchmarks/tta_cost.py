"""What looking at a face more than once costs: the champion that comes with the package, on one thread."""

import argparse

import numpy as np
from timing import milliseconds, table

from mien.inference.champion import MODEL_FILE, SHIPPED
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, average

WAYS = (
    NO_TTA,
    Tta("flip"),
    Tta("multi_scale", (44, 48, 52)),
    Tta("multi_scale", (42, 44, 48, 52, 54)),
    Tta("ten_crop", (44, 46, 48)),
)
SIZES = (1, 8)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    runtime = Runtime(SHIPPED / MODEL_FILE, threads=1)
    draw = np.random.default_rng(0)
    faces = {size: draw.uniform(0, 255, (size, 48, 48, 1)).astype(np.float32) for size in SIZES}
    calls = {
        (tta, size): lambda tta=tta, size=size: average(runtime.predict, faces[size], tta)
        for tta in WAYS
        for size in SIZES
    }
    taken = milliseconds(calls, rounds=15, block=5)
    rows = [[f"{tta}", *(f"{taken[tta, size]:.2f}" for size in SIZES)] for tta in WAYS]
    print(table(["a face is seen", *(f"{size} at a time, CPU ms" for size in SIZES)], rows))


if __name__ == "__main__":
    main()
