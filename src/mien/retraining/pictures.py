"""The pictures of a report: faces that came or changed their label, and the charts of the evaluation."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.quality import statistics
from mien.emotions import EMOTIONS, FACE_SIZE
from mien.evaluation import charts
from mien.files import replacing
from mien.retraining import revisions
from mien.retraining.changes import Changes

ADDED, RELABELLED = "added.png", "relabelled.png"
EACH, MOST, COLUMNS = 8, 24, 8
"""Added faces per emotion, relabelled faces in all, and faces in a row."""

SYNTHETIC = "synthetic"
"""What the name of drawn faces holds, which may be shown to anybody."""

CHARTS: Mapping[str, str] = {
    "confusion_matrix.png": "Confusion on the test split",
    "learning_curves.png": "Learning curves",
    "reliability.png": "Reliability",
    "families.png": "Families",
}


def faces(changes: Changes, folder: Path) -> dict[str, str]:
    """Draw sheets of added and of relabelled faces; their titles by file name."""
    by_emotion = defaultdict[int, list[str]](list)
    for row in changes.added:
        by_emotion[row.emotion].append(row.sha256)
    added = {image: label for label, images in sorted(by_emotion.items()) for image in images[:EACH]}
    turned = {new.sha256: f"{EMOTIONS[old.emotion]} → {EMOTIONS[new.emotion]}" for old, new in changes.relabelled}
    turned = dict(list(turned.items())[:MOST])
    found = {
        key: statistics.face(statistics.decode(data, key)) for key, data in revisions.images({*added, *turned}).items()
    }
    titles = {}
    if added:
        images, labels = np.stack([found[key] for key in added]), np.array(list(added.values()))
        charts.contact_sheet(images, labels, folder / ADDED)
        titles[ADDED] = "Some of the faces that were added"
    if turned:
        _sheet([found[key] for key in turned], list(turned.values()), folder / RELABELLED)
        titles[RELABELLED] = "Some of the faces that were relabelled"
    return titles


def evaluation(plots: Path, folder: Path) -> dict[str, str]:
    """Copy the evaluation's charts, none of which shows a face; their titles by file name."""
    found = {name: title for name, title in CHARTS.items() if (plots / name).exists()}
    for name in found:
        with replacing(folder / name) as temporary:
            shutil.copyfile(plots / name, temporary)
    return found


def _sheet(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], path: Path) -> None:
    """Faces in rows, each with its caption below, two dots to a pixel."""
    from matplotlib.figure import Figure

    across, down = 2 * FACE_SIZE + 44, 2 * FACE_SIZE + 30
    columns, rows = min(COLUMNS, len(images)), -(-len(images) // COLUMNS)
    figure = Figure(figsize=(across * columns / 100, down * rows / 100), facecolor=charts.PAPER)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = (number % columns * across + 22) / (across * columns)
        top = 1 - (number // columns * down + 4) / (down * rows)
        size = 2 * FACE_SIZE / (across * columns), 2 * FACE_SIZE / (down * rows)
        axes = figure.add_axes((left, top - size[1], *size))
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(caption, y=-0.19, size=7, color=charts.INK)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
