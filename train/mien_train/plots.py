"""Pictures of a run, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mien_train.arrays import Doubles, Pixels
from mien_train.metrics import ReliabilityBin, RiskCoverage

mpl.use("agg")
mpl.rcParams["font.size"] = 9
mpl.rcParams["axes.spines.top"] = False
mpl.rcParams["axes.spines.right"] = False
mpl.rcParams["figure.dpi"] = 110

_GRAY = "#999999"
_DARK_GRAY = "#555555"
_BLUE = "#1f5fa8"
_RED = "#c0392b"
_GROUP_WIDTH = 0.8  # of the distance between two groups of bars


class CorruptionAccuracy(NamedTuple):
    """Accuracy, 0..1, at each strength of one corruption, and the strengths' unit."""

    unit: str
    strengths: Sequence[float]
    accuracy: Sequence[float]


class RobustnessCurves(NamedTuple):
    """What `robustness` draws of one model: its accuracy, 0..1, on clean pictures and under each
    corruption.
    """

    model: str
    clean: float
    corruptions: Mapping[str, CorruptionAccuracy]


class FrameCorruptionCurve(NamedTuple):
    """Accuracy of all photographs, and the share whose face is found, 0..1, at each strength of one
    corruption, and the strengths' unit.
    """

    unit: str
    strengths: Sequence[float]
    accuracy: Sequence[float]
    found: Sequence[float]


class FrameCurves(NamedTuple):
    """What `frame_robustness` draws of one model: its accuracy, 0..1, on frames as placed and under
    each corruption, and the label changes of a moving face per minute, smoothed and not, each with
    the ends of its interval.
    """

    model: str
    as_placed: float
    corruptions: Mapping[str, FrameCorruptionCurve]
    label_changes: tuple[float, float, float]
    unsmoothed_changes: tuple[float, float, float]


class TrialPoint(NamedTuple):
    """One trained design: accuracy 0..1, million multiply-accumulates, milliseconds, its blocks."""

    accuracy: float
    macs: float
    milliseconds: float
    block: str


class BeforeAfter(NamedTuple):
    """One row of `before_after`: its name, and value, low and high end, 0..1, of either."""

    name: str
    before: tuple[float, float, float]
    after: tuple[float, float, float]


class Confusion(NamedTuple):
    """A model's confusion matrix of counts; row: label, column: prediction."""

    model: str
    counts: Sequence[Sequence[int]]
    label_names: Sequence[str]


class GroupBar(NamedTuple):
    """A group's figure, a share of 1, with its interval; whether a test claims that it is another
    than the others'.
    """

    value: float
    interval: tuple[float, float]
    is_claimed: bool


class GroupPoint(NamedTuple):
    """What `groups` draws of one group; None where it is too small."""

    name: str
    accuracy: GroupBar | None
    overconfidence: GroupBar | None


class GroupPanel(NamedTuple):
    """What `groups` draws of one model: its groups, and the figures of all pictures."""

    model: str
    points: Sequence[GroupPoint]
    accuracy: float
    overconfidence: float


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight")
    return out.getvalue()


def curves(history: Sequence[Mapping[str, float]], plateau: int, title: str) -> bytes:
    """Loss and accuracy per epoch, of training and validation.

    history: one entry per epoch with `epoch`, `loss`, `accuracy`, `val_loss` and `val_accuracy`.
    plateau: the epoch from which validation accuracy is within 0.2 points of its best, marked by a
    line; 0 for none.
    """
    figure, (left, right) = _figure(9, 3.2, 2)
    for axes, name in ((left, "loss"), (right, "accuracy")):
        _plot_history(axes, history, name)
        axes.set(xlabel="epoch", ylabel=name, title=f"{title}: {name}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if plateau:
            _mark_plateau(axes, plateau)
        axes.legend(frameon=False)
    return png(figure)


def confusion(matrices: Mapping[str, Sequence[Sequence[int]]], label_names: Sequence[str]) -> bytes:
    """(labels, labels) confusion matrices by name, side by side, rows in per cent of each label."""
    side = max(0.6 * len(label_names), 2.6)
    figure, axes = _figure((side + 0.4) * len(matrices), side, len(matrices))
    for panel, (name, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        _draw_matrix(panel, np.array(matrix, float), label_names)
        panel.set(xlabel="predicted", ylabel="label", title=name)
    return png(figure)


def reliability(bins_by_name: Mapping[str, Sequence[ReliabilityBin]]) -> bytes:
    """Accuracy against confidence; the dashed line is perfect calibration, a point's size its
    number of rows.
    """
    figure, axes = _figure(4.6, 4.2)
    axes.plot([0, 1], [0, 1], color=_GRAY, linestyle="--", linewidth=1)
    for name, bins in bins_by_name.items():
        confidence = np.array([bin_.confidence for bin_ in bins])
        accuracy = np.array([bin_.accuracy for bin_ in bins])
        rows = np.array([bin_.rows for bin_ in bins])
        sizes = 10 + 300 * rows / rows.sum()
        axes.plot(confidence, accuracy, linewidth=1)
        axes.scatter(confidence, accuracy, s=sizes, alpha=0.6, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="reliability")
    axes.legend(frameon=False)
    return png(figure)


def bars(
    values: Mapping[str, Sequence[float]],
    names: Sequence[str],
    ylabel: str,
    floor: float = 0.0,
) -> bytes:
    """Grouped bars from `floor` up: one group per name, one colour per key of `values`."""
    figure, axes = _figure(9, 3)
    positions = np.arange(len(names))
    width = _GROUP_WIDTH / len(values)
    for number, (label, heights) in enumerate(values.items()):
        axes.bar(positions + number * width, heights, width, label=label)
    axes.set_xticks(positions + _GROUP_WIDTH / 2 - width / 2, names)
    axes.set(ylabel=ylabel)
    axes.set_ylim(bottom=floor)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(values))
    return png(figure)


def coverage(
    series: Mapping[str, RiskCoverage],
    targets: Sequence[float],
    thresholds: Mapping[str, float] = MappingProxyType({}),
) -> bytes:
    """Accuracy of the faces that get a label against their share; dashed lines at the target
    accuracies.

    thresholds: by the series' name the confidence, 0..1, below which a device says 'uncertain': a
    point marks it.
    """
    figure, axes = _figure(6, 3.4)
    _plot_coverage(axes, series, targets, thresholds)
    return png(figure)


def photographs(
    series: Mapping[str, RiskCoverage],
    targets: Sequence[float],
    thresholds: Mapping[str, float],
    confusion: Confusion,
) -> bytes:
    """`coverage` of several bundles on photographs, and beside it the confusion of one of them."""
    side = max(0.6 * len(confusion.label_names), 2.6)
    figure = Figure(figsize=(6.5 + side, side), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(6, side))
    _plot_coverage(left, series, targets, thresholds)
    _draw_matrix(right, np.array(confusion.counts, float), confusion.label_names)
    right.set(xlabel="predicted", ylabel="label", title=confusion.model)
    return png(figure)


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    mark: float,
) -> bytes:
    """Lines over `x`, one per key of `series`, with a vertical line at `mark`."""
    figure, axes = _figure(6, 3.4)
    for name, values in series.items():
        axes.plot(x, values, marker="o", markersize=3, label=name)
    axes.axvline(mark, color=_RED, linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return png(figure)


def steps(values: Mapping[str, Sequence[float]], names: Sequence[str]) -> bytes:
    """Horizontal bars of accuracies, one group per name from the top down, each with its figure; 0
    is left out.
    """
    figure, axes = _figure(8, 0.5 * len(names) + 1)
    rows = np.arange(len(names))
    height = _GROUP_WIDTH / len(values)
    for number, (label, lengths) in enumerate(values.items()):
        positions = rows + number * height
        axes.barh(positions, lengths, height, label=label)
        for position, length in zip(positions, lengths, strict=True):
            if length:
                axes.text(length, position, f" {length:.1%}", va="center", fontsize=8)
    axes.set_yticks(rows + _GROUP_WIDTH / 2 - height / 2, names)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy", xlim=(0.3, 1))
    axes.legend(frameon=False, loc="upper right")
    return png(figure)


def before_after(rows: Sequence[BeforeAfter], before: str, after: str) -> bytes:
    """Accuracies before and after, one row each from the top down, with their intervals as lines.

    before, after: names for the legend.
    """
    figure, axes = _figure(8, 0.42 * len(rows) + 1.1)
    for title, offset, colour, field in (
        (before, -0.13, _GRAY, "before"),
        (after, 0.13, _BLUE, "after"),
    ):
        values = np.array([getattr(row, field) for row in rows])
        errors = np.abs(values[:, 1:] - values[:, :1]).T
        positions = np.arange(len(rows)) + offset
        axes.errorbar(values[:, 0], positions, xerr=errors, fmt="o", color=colour, label=title)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="accuracy, with its 95 % interval", xlim=(0, 1))
    axes.grid(alpha=0.3, axis="x")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return png(figure)


def pareto(trials: Sequence[TrialPoint], importances: Mapping[str, float]) -> bytes:
    """Accuracy against multiply-accumulates and against milliseconds, each with its Pareto front;
    and the importances, shares by name, as bars.
    """
    figure, (macs_axes, time_axes, importance_axes) = _figure(12, 3.8, 3)
    _plot_cost(macs_axes, trials, [trial.macs for trial in trials])
    _plot_cost(time_axes, trials, [trial.milliseconds for trial in trials])
    macs_axes.set(xlabel="M multiply-accumulates")
    macs_axes.legend(frameon=False)
    time_axes.set(xlabel="milliseconds, int8, this machine")
    names = sorted(importances, key=lambda name: importances[name])
    importance_axes.barh(names, [importances[name] for name in names], color=_BLUE)
    label = "share of what decides accuracy" if names else "too few trials for importances"
    importance_axes.set(xlabel=label)
    return png(figure)


def robustness(models: Sequence[RobustnessCurves]) -> bytes:
    """One panel per corruption: accuracy at its strengths for each model; dashed: on clean
    pictures.
    """
    names = list(models[0].corruptions)
    columns = -(-len(names) // 2)
    figure = Figure(figsize=(11, 5), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(2, columns, index + 1)
        for number, model in enumerate(models):
            colour = f"C{number}"
            accuracy = model.corruptions[name].accuracy
            positions = np.arange(1, len(accuracy) + 1)
            label = model.model
            axes.plot(positions, accuracy, marker="o", markersize=3, label=label, color=colour)
            axes.axhline(model.clean, color=colour, linestyle="--", linewidth=0.8)
        corruption = models[-1].corruptions[name]
        labels = [f"{strength:g}" for strength in corruption.strengths]
        axes.set_xticks(np.arange(1, len(labels) + 1), labels)
        axes.set(title=name, xlabel=corruption.unit, ylim=(0.2, 0.95))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return png(figure)


def frame_robustness(models: Sequence[FrameCurves]) -> bytes:
    """One panel per corruption: accuracy at its strengths for each model; dashed: as placed;
    dotted: the share of faces that are found. In the last panel label changes in motion.
    """
    names = list(models[0].corruptions)
    columns = (len(names) + 2) // 2
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(2, columns, index + 1)
        _plot_frame_corruption(axes, name, models)
    figure.axes[0].set_ylabel("share of all photographs")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    _plot_label_changes(figure.add_subplot(2, columns, len(names) + 1), models)
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels))
    return png(figure)


def groups(panels: Sequence[GroupPanel]) -> bytes:
    """Accuracy and confidence minus accuracy of groups, one below the other, with intervals; lines
    at those of all pictures.
    """
    heights = [0.3 * len(panel.points) + 1.2 for panel in panels]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights, sharey="row")
    for (left, right), panel in zip(grid, panels, strict=True):
        points = panel.points
        _plot_groups(left, [point.accuracy for point in points], panel.accuracy)
        _plot_groups(right, [point.overconfidence for point in points], panel.overconfidence)
        left.set(xlabel="share that is right", title=panel.model)
        right.set(xlabel="confidence − share that is right")
        left.set_yticks(range(len(points)), [point.name for point in points])
        left.set_ylim(len(points) - 0.5, -0.5)
    return png(figure)


def face(image: Pixels) -> bytes:
    """A (s, s) gray or (s, s, 3) BGR face crop as a PNG, pixel by pixel."""
    return cv2.imencode(".png", image)[1].tobytes()


def faces(images: Pixels, titles: Sequence[str], columns: int = 10) -> bytes:
    """(n, s, s) face crops in a grid of `columns`, each with a short title."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.15 * columns, 1.45 * rows), layout="constrained")
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=7)
        axes.axis("off")
    return png(figure)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of so many inches, and its panel, or an array of its panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _plot_history(axes: Axes, history: Sequence[Mapping[str, float]], name: str) -> None:
    epochs = [entry["epoch"] for entry in history]
    training = [entry[name] for entry in history]
    validation = [entry[f"val_{name}"] for entry in history]
    axes.plot(epochs, training, label="training (augmented)", color=_GRAY)
    axes.plot(epochs, validation, label="validation", color=_BLUE)


def _plot_coverage(
    axes: Axes,
    series: Mapping[str, RiskCoverage],
    targets: Sequence[float],
    thresholds: Mapping[str, float],
) -> None:
    for number, (name, curve) in enumerate(series.items()):
        colour = f"C{number}"
        axes.plot(curve.coverage, curve.accuracy, label=name, color=colour)
        rows = int((curve.confidence >= thresholds[name]).sum()) if name in thresholds else 0
        if rows:
            point = (curve.coverage[rows - 1], curve.accuracy[rows - 1])
            axes.plot(*point, marker="o", markersize=7, color=colour, markeredgecolor="white")
    for target in targets:
        axes.axhline(target, color=_GRAY, linestyle="--", linewidth=0.8)
    lowest = min(float(curve.accuracy[-1]) for curve in series.values())
    axes.set(
        xlabel="share of faces that get a label",
        ylabel="accuracy on them",
        xlim=(0, 1),
        ylim=(min(0.5, lowest), 1.01),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _plot_groups(axes: Axes, bars: Sequence[GroupBar | None], of_all: float) -> None:
    axes.axvline(of_all, color=_GRAY, linestyle="--", linewidth=1)
    for row, bar in enumerate(bars):
        if bar is not None:
            colour = _RED if bar.is_claimed else _BLUE
            axes.plot(bar.interval, [row, row], color=colour, linewidth=2)
            axes.plot(bar.value, row, marker="o", markersize=5, color=colour)
    axes.grid(axis="x", alpha=0.3)


def _plot_frame_corruption(axes: Axes, name: str, models: Sequence[FrameCurves]) -> None:
    curve = models[0].corruptions[name]
    positions = np.arange(1, len(curve.strengths) + 1)
    for number, model in enumerate(models):
        colour = f"C{number}"
        accuracy = model.corruptions[name].accuracy
        axes.plot(positions, accuracy, marker="o", markersize=3, label=model.model, color=colour)
        axes.axhline(model.as_placed, color=colour, linestyle="--", linewidth=0.8)
    axes.plot(positions, curve.found, color=_DARK_GRAY, linestyle=":", label="face found")
    axes.set_xticks(positions, [f"{strength:g}" for strength in curve.strengths])
    axes.set(title=name, xlabel=curve.unit, ylim=(0, 1.03))
    axes.grid(alpha=0.3)


def _plot_label_changes(axes: Axes, models: Sequence[FrameCurves]) -> None:
    """Bars of the smoothed label changes, and pale ones of the unsmoothed, with intervals."""
    height = _GROUP_WIDTH / 2
    for row, model in enumerate(models):
        for position, rate, opacity in (
            (row - height / 2, model.label_changes, 1.0),
            (row + height / 2, model.unsmoothed_changes, 0.4),
        ):
            value, low, high = rate
            axes.barh(position, value, height, color=f"C{row}", alpha=opacity)
            axes.plot((low, high), (position, position), color=_DARK_GRAY, linewidth=1)
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlim(left=0, right=max(1.0, axes.get_xlim()[1]))
    axes.set(title="in motion", xlabel="label changes a minute; pale: unsmoothed")
    axes.grid(axis="x", alpha=0.3)


def _mark_plateau(axes: Axes, epoch: int) -> None:
    axes.axvline(epoch, color=_RED, linestyle="--", linewidth=1)
    axes.text(
        epoch,
        0.02,
        f"flat from epoch {epoch}",
        transform=axes.get_xaxis_transform(),
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=8,
        color=_RED,
    )


def _draw_matrix(axes: Axes, counts: Doubles, label_names: Sequence[str]) -> None:
    """A confusion matrix in shades, each cell with its share of the row."""
    labelled = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(labelled, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(label_names)), label_names, rotation=45, ha="right")
    axes.set_yticks(range(len(label_names)), label_names)


def _plot_cost(axes: Axes, trials: Sequence[TrialPoint], costs: Sequence[float]) -> None:
    """Accuracy against one cost, a colour per kind of block, and the front."""
    blocks = sorted({trial.block for trial in trials})
    for number, block in enumerate(blocks):
        rows = [row for row, trial in enumerate(trials) if trial.block == block]
        x = [costs[row] for row in rows]
        y = [trials[row].accuracy for row in rows]
        axes.scatter(x, y, s=18, label=block, color=f"C{number}")
    accuracies = [trial.accuracy for trial in trials]
    front = _pareto_front(list(zip(costs, accuracies, strict=True)))
    x = [cost for cost, _ in front]
    y = [accuracy for _, accuracy in front]
    axes.plot(x, y, color=_DARK_GRAY, linewidth=1, drawstyle="steps-post")
    axes.set(ylabel="validation accuracy")
    axes.grid(alpha=0.3)


def _pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, accuracy) that nothing cheaper is as accurate as, from the cheapest up."""
    front: list[tuple[float, float]] = []
    best = -1.0
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            front.append((cost, accuracy))
    return front
