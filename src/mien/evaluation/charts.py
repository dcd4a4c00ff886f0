"""Draw charts as PNG files in one style with a colour-blind-safe palette."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, FACE_SIZE, SPLITS
from mien.evaluation.metrics import Coverage, Reliability
from mien.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[float]]
"""Numbers by epoch, under Keras' names."""

INK, MUTED, GRID, PAPER = "#22303c", "#6b7a86", "#e4e9ed", "#ffffff"
# Okabe and Ito's colours, which stay apart under every common colour blindness; yellow is left out as too faint.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#22303c")

DPI = 150
WIDE = 8
"""A range whose end is this many times its start is drawn by logarithm."""
CAPTION = 14
"""Pixels of a face's own size kept free below it for its caption."""
DARK = 0.5
"""Share from which a cell of the confusion matrix is so dark that its text must be white."""

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
}


def class_distribution(counts: Mapping[str, Mapping[str, int]], path: Path, note: str = "") -> None:
    """Faces of each emotion in each split: `counts[split][emotion]`."""
    with _style():
        splits = [split for split in SPLITS if split in counts]
        figure = _figure(10, 3.4)
        panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        for axes, split in zip(panels, splits, strict=True):
            values = [counts[split].get(emotion, 0) for emotion in EMOTIONS]
            _bars(axes, values, f"{split}: {sum(values):,} faces")
        panels[0].set_yticks(range(len(EMOTIONS)), EMOTIONS, color=INK)
        panels[0].invert_yaxis()
        _save(figure, path, "", note)


def contact_sheet(images: NDArray[Any], labels: NDArray[Any], path: Path, note: str = "") -> None:
    """The faces `(n, 48, 48[, 1])`, a row for each emotion in the order given."""
    rows = [np.flatnonzero(labels == label) for label in range(len(EMOTIONS))]
    with _style():
        _gallery(images, rows, [["" for _ in row] for row in rows], path, "", note)


def confusion_matrix(matrix: NDArray[np.int64], path: Path, note: str = "") -> None:
    """Counts `(7, 7)`, actual emotions down and predicted across, coloured by share of the actual emotion."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with _style():
        figure = _figure(6.7, 6.7)
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            colour = PAPER if share > DARK else INK
            axes.text(column, row - 0.1, f"{share:.0%}", ha="center", va="center", color=colour)
            axes.text(column, row + 0.24, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, size=7)
        axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=30, ha="right", rotation_mode="anchor", color=INK)
        axes.set_yticks(range(len(EMOTIONS)), EMOTIONS, color=INK)
        axes.set(xlabel="predicted", ylabel="actual")
        axes.spines[:].set_visible(False)
        _save(figure, path, "Confusion: share of the actual emotion, and faces", note)


def reliability_diagram(curves: Mapping[str, Reliability], path: Path, note: str = "") -> None:
    """Accuracy against confidence for each named curve, above how the faces spread over confidence."""
    with _style():
        figure = _figure(6, 6.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label="perfect")
        for (name, curve), colour, marker in zip(curves.items(), COLOURS, "osD^", strict=False):
            some = curve.count > 0
            size = 12 + 130 * curve.count[some] / curve.count.max()
            upper.plot(curve.confidence[some], curve.accuracy[some], color=colour, linewidth=1.5)
            upper.scatter(
                curve.confidence[some], curve.accuracy[some], size, color=colour, marker=marker, alpha=0.8, label=name
            )
            lower.stairs(curve.count / curve.count.sum(), curve.edges, color=colour, linewidth=1.5)
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
        legend = upper.legend(loc="upper left")
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([40])
        lower.set(xlabel="confidence in the emotion named", ylabel="share of faces")
        for axes in (upper, lower):
            axes.grid(visible=True)
        _save(figure, path, "Is a confidence of 80 % right 80 times in 100?", note)


def learning_curves(recipes: Mapping[str, Sequence[History]], path: Path, note: str = "") -> None:
    """Loss, accuracy and macro-F1 by epoch: a row for each recipe, with lines for each of its trainings."""
    columns = (("loss", "loss", "val_loss"), ("accuracy", "accuracy", "val_accuracy"), ("macro-F1", "", "val_macro_f1"))
    with _style():
        figure = _figure(9, min(16, 1.5 + 1.1 * len(recipes)))
        panels = figure.subplots(len(recipes), len(columns), sharex=True, sharey="col", squeeze=False)
        for line, (recipe, histories) in zip(panels, recipes.items(), strict=True):
            line[0].set_ylabel(recipe, color=INK, rotation=0, ha="right", va="center")
            for axes, (_, training, validation) in zip(line, columns, strict=True):
                for history in histories:
                    _curve(axes, history.get(training, ()), COLOURS[1], linewidth=1)
                    _curve(axes, history.get(validation, ()), COLOURS[0], linewidth=1.2)
                axes.grid(visible=True)
        for axes, (title, _, _) in zip(panels[0], columns, strict=True):
            axes.set_title(title, size=9)
        for axes in panels[-1]:
            axes.set(xlabel="epoch", xlim=(0, None))
            axes.xaxis.get_major_locator().set_params(nbins=6, integer=True)
        first = [one["loss"][0] for histories in recipes.values() for one in histories if one.get("loss")]
        if first:
            # An untrained network's validation loss can be many times that, and would flatten all curves.
            panels[0, 0].set_ylim(top=1.15 * max(first))
        _save(figure, path, "Learning curves: validation blue, training orange", note)


def example_errors(
    images: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    path: Path,
    note: str = "",
    *,
    columns: int = 8,
) -> None:
    """The most confident mistakes for each actual emotion, each with its predicted emotion and confidence."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = [np.flatnonzero((labels == label) & (predicted != label)) for label in range(len(EMOTIONS))]
    rows = [row[np.argsort(-confidence[row], kind="stable")][:columns] for row in wrong]
    captions = [[f"{EMOTIONS[predicted[face]]} {confidence[face]:.0%}" for face in row] for row in rows]
    title = "Most confident mistakes: actual emotion at the left, answer below"
    with _style():
        _gallery(images, rows, captions, path, title, note)


def families(results: Mapping[str, Mapping[str, float]], path: Path, winner: str = "", note: str = "") -> None:
    """Validation accuracy, macro-F1 and mean recall of each family: `results[family][metric]`."""
    names = sorted(results, key=lambda name: results[name]["macro_f1"])
    scores = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("uar", "mean recall"))
    with _style():
        figure = _figure(8, 0.5 * len(names) + 1.4)
        axes = figure.subplots()
        for (key, title), colour, marker in zip(scores, COLOURS, "osD", strict=False):
            values = [results[name][key] for name in names]
            axes.scatter(values, range(len(names)), 60, color=colour, marker=marker, label=title, zorder=3)
        for row, name in enumerate(names):
            values = [results[name][key] for key, _ in scores]
            axes.plot([min(values), max(values)], [row, row], color=MUTED, linewidth=1)
            score = results[name]["macro_f1"]
            axes.annotate(f"{score:.3f}", (score, row), (0, 8), textcoords="offset points", ha="center", color=INK)
        labels = [f"{name} (winner)" if name == winner else name for name in names]
        axes.set_yticks(range(len(names)), labels, color=INK)
        axes.set(xlabel="score on validation, without leaked faces", ylim=(-0.6, len(names) - 0.4))
        axes.margins(x=0.12)
        axes.grid(visible=True, axis="x")
        figure.legend(loc="outside upper center", ncols=3)
        _save(figure, path, "", note)


def coverage(curve: Coverage, below: float, path: Path, note: str = "") -> None:
    """Accuracy against coverage, the most confident faces first, with a mark at the confidence threshold `below`."""
    with _style():
        figure = _figure(7, 4.4)
        axes = figure.subplots()
        # The first few dozen faces are too few for a share of them to mean much.
        shown = slice(min(len(curve.share) - 1, len(curve.share) // 50), None)
        axes.plot(curve.share[shown], curve.accuracy[shown], color=COLOURS[0], linewidth=1.8)
        answered = int(np.sum(curve.confidence >= below))
        if answered:
            x, y = curve.share[answered - 1], curve.accuracy[answered - 1]
            axes.scatter([x], [y], 60, color=COLOURS[1], zorder=3)
            label = f"limit {below:g}: {x:.0%} answered,\n{y:.1%} of them right"
            axes.annotate(label, (x, y), (-12, -10), textcoords="offset points", ha="right", va="top", color=INK)
        lowest = min(float(curve.accuracy[shown].min()), float(curve.accuracy[-1]))
        axes.set(xlabel="share of faces answered, the surest first", ylabel="accuracy of the answered faces")
        axes.set(xlim=(0, 1.02), ylim=(max(0.0, lowest - 0.1), 1.01))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(visible=True)
        _save(figure, path, "What leaving unsure faces unanswered is worth", note)


def robustness(found: Mapping[str, Any], path: Path, note: str = "") -> None:
    """Accuracy at each severity of each corruption, the most harmful below; the line is that of undamaged faces."""
    clean = found["clean"]["accuracy"]
    rows = {
        name: [(word, result["level"], result["accuracy"]) for word, result in severities.items()]
        for name, severities in found["corruptions"].items()
    }
    names = sorted(rows, key=lambda name: float(np.mean([value for *_, value in rows[name]])))
    with _style():
        figure = _figure(9, 0.62 * len(names) + 1.8)
        axes = figure.subplots()
        axes.axvline(clean, color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label=f"undamaged {clean:.1%}")
        for place, (colour, marker) in enumerate(zip((COLOURS[4], COLOURS[0], COLOURS[1]), "osD", strict=True)):
            values = [rows[name][place][2] for name in names]
            label = next(iter(rows.values()))[place][0]
            axes.scatter(values, range(len(names)), 60, color=colour, marker=marker, label=label, zorder=3)
        for row, name in enumerate(names):
            values = [clean, *(value for *_, value in rows[name])]
            axes.plot([min(values), max(values)], [row, row], color=GRID, linewidth=2, zorder=1)
            levels = " | ".join(level for _, level, _ in rows[name])
            axes.annotate(levels, (0.005, row), (0, 9), xycoords=("axes fraction", "data"), textcoords="offset points",
                          size=7.5, color=MUTED)  # fmt: skip
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set(xlabel="accuracy", ylim=(-0.6, len(names) - 0.3))
        axes.locator_params(axis="x", steps=[1, 2, 5, 10])  # whole percents, as they are labelled
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(visible=True, axis="x")
        figure.legend(loc="outside upper center", ncols=4)
        _save(figure, path, "", note)


def search_history(trials: Sequence[Mapping[str, Any]], path: Path, note: str = "") -> None:
    """Each trial's score in the order of the search, and the best so far; pruned ones hollow, with their last score."""
    with _style():
        figure = _figure(7, 4)
        axes = figure.subplots()
        whole = [trial for trial in trials if trial["state"] == "complete"]
        pruned = [trial for trial in trials if trial["state"] != "complete"]
        best = np.maximum.accumulate([trial["value"] for trial in whole])
        if whole:
            x = [*(trial["number"] for trial in whole), max(trial["number"] for trial in trials)]
            axes.step(x, [*best, best[-1]], where="post", color=COLOURS[1], label="best so far")
        for some, fill, title in ((whole, COLOURS[0], "finished"), (pruned, PAPER, "pruned")):
            x, y = [trial["number"] for trial in some], [trial["value"] for trial in some]
            axes.scatter(x, y, 45, facecolor=fill, edgecolor=COLOURS[0], label=title, zorder=3)
        axes.set(xlabel="trial", ylabel="score")
        axes.locator_params(axis="x", integer=True)
        axes.margins(0.08)
        axes.grid(visible=True)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, path, "How the search went", note)


def parallel_coordinates(trials: Sequence[Mapping[str, Any]], path: Path, note: str = "") -> None:
    """A line a trial through its value on every searched axis to its score; the darker, the better; pruned dashed."""
    from matplotlib import colormaps

    names = list(trials[0]["params"])
    scales = [_Scale([trial["params"][name] for trial in trials]) for name in names]
    scales.append(_Scale([trial["value"] for trial in trials]))
    score = scales[-1]
    with _style():
        figure = _figure(max(5, 2.4 * len(scales)), 4.4)
        axes = figure.subplots()
        for trial in sorted(trials, key=lambda one: one["value"]):
            values = [*(trial["params"][name] for name in names), trial["value"]]
            places = [scale.place(value) for scale, value in zip(scales, values, strict=True)]
            colour = colormaps["Blues"](0.3 + 0.7 * score.place(trial["value"]))
            style = "-" if trial["state"] == "complete" else (0, (3, 2))
            axes.plot(range(len(scales)), places, color=colour, linewidth=1.8, linestyle=style)
        for x, scale in enumerate(scales):
            axes.axvline(x, color=INK, linewidth=0.8, zorder=1)
            for place, text in scale.marks():
                axes.annotate(text, (x, place), (5, 0), textcoords="offset points", size=8, color=INK, va="center",
                              bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1})  # fmt: skip
        axes.set_xticks(range(len(scales)), [*names, "score"], color=INK)
        axes.set(xlim=(-0.1, len(scales) - 0.6), ylim=(-0.06, 1.06), yticks=[])
        axes.spines[:].set_visible(False)
        _save(figure, path, "What was tried, and how it scored", note)


def proxy(confirmed: Sequence[Mapping[str, Any]], path: Path, note: str = "") -> None:
    """Scores of short trials against those of full trainings with the same values; the recipe, trial 0, stands out."""
    with _style():
        figure = _figure(5.5, 5)
        axes = figure.subplots()
        for one in confirmed:
            recipe = one["trial"] == 0
            axes.scatter(one["short"], one["full"], 55, color=COLOURS[1 if recipe else 0], zorder=3)
            text = "recipe" if recipe else str(one["trial"])
            axes.annotate(text, (one["short"], one["full"]), (6, 4), textcoords="offset points", color=MUTED)
        axes.set(xlabel="score of the short trial", ylabel="score of the full training")
        axes.margins(0.15)
        axes.grid(visible=True)
        _save(figure, path, "Do short trials predict?", note)


def importances(weights: Mapping[str, float], path: Path, note: str = "") -> None:
    """Share of the scores' variance that each searched value explains."""
    names = sorted(weights, key=lambda name: weights[name])
    with _style():
        figure = _figure(7, 0.5 * len(names) + 1.5)
        axes = figure.subplots()
        bars = axes.barh(names, [weights[name] for name in names], height=0.6, color=COLOURS[0])
        axes.bar_label(bars, [f"{weights[name]:.0%}" for name in names], padding=4, color=INK)
        axes.set(xlim=(0, 1.12 * max(*weights.values(), 1e-9)), xticks=[])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
        _save(figure, path, "Which value mattered", note)


def ablations(gains: Mapping[str, Sequence[float]], path: Path, note: str = "") -> None:
    """Macro-F1 that each change to a recipe gains, one point a seed, the bar their mean; the first change on top."""
    names = list(gains)
    with _style():
        figure = _figure(8, 0.42 * len(names) + 1.6)
        axes = figure.subplots()
        axes.barh(names, [float(np.mean(gains[name])) for name in names], height=0.6, color=COLOURS[4])
        for row, name in enumerate(names):
            axes.scatter(gains[name], [row] * len(gains[name]), 30, color=COLOURS[0], zorder=3)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set(xlabel="macro-F1 gained on validation", ylim=(len(names) - 0.4, -0.6))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3f}" if value else "0")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=True, axis="x")
        _save(figure, path, "", note)


class _Scale:
    """Position of a value on one of the parallel axes, 0 to 1: choices in their order, wide ranges by logarithm."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.choices = sorted({str(value) for value in values}) if any(isinstance(v, str) for v in values) else []
        self.low, self.high = (0.0, 1.0) if self.choices else (float(min(values)), float(max(values)))
        self.log = self.low > 0 and self.high > WIDE * self.low

    def place(self, value: Any) -> float:
        """The value's position; a single value is placed in the middle."""
        if self.choices:
            return self.choices.index(str(value)) / max(1, len(self.choices) - 1)
        if self.high == self.low:
            return 0.5
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (float(value) - self.low) / (self.high - self.low)

    def marks(self) -> list[tuple[float, str]]:
        """What to write beside the axis: every choice, or the ends."""
        if self.choices:
            return [(self.place(choice), choice) for choice in self.choices]
        return [(self.place(value), f"{value:.3g}") for value in sorted({self.low, self.high})]


def _bars(axes: "Axes", values: Sequence[int], title: str) -> None:
    bars = axes.barh(range(len(values)), values, height=0.72, color=COLOURS[0])
    total = max(sum(values), 1)
    axes.bar_label(bars, [f"{value:,}  {value / total:.0%}" for value in values], padding=4, size=8, color=MUTED)
    axes.set_title(title)
    axes.set_xlim(0, max(*values, 1) * 1.42)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _gallery(
    images: NDArray[Any],
    rows: Sequence[NDArray[np.intp]],
    captions: Sequence[Sequence[str]],
    path: Path,
    title: str,
    note: str,
) -> None:
    """Rows of faces by emotion, three dots to a pixel, with captions below them."""
    columns = max([len(row) for row in rows] + [6])
    gap = CAPTION if any(any(row) for row in captions) else 4
    down, across = FACE_SIZE + gap, FACE_SIZE + 4
    # One picture, because a plot for each face takes Matplotlib seconds to lay out.
    wall = np.full((down * len(rows), across * columns), 255, np.uint8)
    figure, axes = _canvas(wall.shape, top=22 if title else 4)
    for y, (emotion, row, texts) in enumerate(zip(EMOTIONS, rows, captions, strict=True)):
        axes.text(-5, y * down + FACE_SIZE / 2, emotion, ha="right", va="center", size=11)
        for x, (face, text) in enumerate(zip(row, texts, strict=True)):
            wall[y * down :, x * across :][:FACE_SIZE, :FACE_SIZE] = images[face].reshape(FACE_SIZE, FACE_SIZE)
            axes.text(x * across + FACE_SIZE / 2, y * down + FACE_SIZE + 2, text, ha="center", va="top", size=8)
    axes.imshow(wall, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _save(figure, path, title, note)


def _canvas(shape: tuple[int, ...], top: int, left: int = 44, bottom: int = 12) -> "tuple[Figure, Axes]":
    """A figure with one bare plot of exactly three dots to a pixel of a picture `shape`, and margins in such pixels."""
    from matplotlib.figure import Figure

    height, width = shape[0] + top + bottom, shape[1] + left
    figure = Figure(figsize=(3 * width / DPI, 3 * height / DPI))
    axes = figure.add_axes((left / width, bottom / height, shape[1] / width, shape[0] / height))
    axes.set_axis_off()
    return figure, axes


def _curve(axes: "Axes", values: Sequence[float], colour: str, marker: str = "", **style: Any) -> None:
    if len(values):
        # A lone epoch has no line to draw.
        marker = "o" if len(values) == 1 else marker
        axes.plot(range(1, len(values) + 1), values, color=colour, marker=marker, **style)


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(cast("Any", STYLE))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def _save(figure: "Figure", path: Path, title: str, note: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=12)
    if note:
        figure.supxlabel(note, x=0.99, ha="right", size=8, color=MUTED)
    # Without the library's name and version in it, the same data give the same bytes.
    write_file(path, lambda target: figure.savefig(target, dpi=DPI, metadata={"Software": None}))
