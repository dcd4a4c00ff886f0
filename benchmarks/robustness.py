"""A model on damaged validation faces: accuracy and calibration at every kind and level of damage.

python benchmarks/robustness.py MODEL.onnx [--prepared DIR]; PrivateTest is not read.
"""

import argparse
from pathlib import Path

from timing import table

from mien.data.dataset import read_split
from mien.evaluation import metrics
from mien.evaluation.calibration import fit_temperature
from mien.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from mien.inference.calibration import apply_temperature
from mien.inference.runtime import Runtime
from mien.inference.tta import NO_TTA, Tta, average

SEED = 7
TTA = {"one pass": NO_TTA, "ten passes": Tta("multi_scale", (42, 44, 48, 52, 54))}


def main() -> None:
    """Print the scores on clean faces, and a table of the damaged ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    options = parser.parse_args()
    split, runtime = read_split(options.prepared, "validation").without_leaks(), Runtime(options.model)
    images, labels = split.images.astype("float32"), split.labels
    answers = {name: average(runtime.predict, images, tta) for name, tta in TTA.items()}
    temperature = fit_temperature(answers["one pass"], labels)
    print(f"{options.model}: {len(labels):,} validation faces, temperature {temperature:.3f} fitted on clean ones")
    for name, probabilities in answers.items():
        guesses = probabilities.argmax(axis=1)
        scores = metrics.accuracy(labels, guesses), metrics.macro_f1(labels, guesses)
        print(f"clean, {name}: accuracy {scores[0]:.1%}, macro-F1 {scores[1]:.3f}")
    rows = []
    for name, kind in CORRUPTIONS.items():
        cells = []
        for severity in range(len(SEVERITIES)):
            damaged = runtime.predict(corrupt(split.images, name, severity, SEED).astype("float32"))
            scaled = apply_temperature(damaged, temperature)
            share, ece = metrics.accuracy(labels, scaled.argmax(axis=1)), metrics.ece(scaled, labels)
            cells.append(f"{kind.level_text(severity)}: {share:.1%}, ECE {ece:.3f}")
        rows.append([name, *cells])
    print(table(["damage", *SEVERITIES], rows))


if __name__ == "__main__":
    main()
