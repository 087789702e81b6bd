"""Pictures of a run, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from mien_edge.contract import LABELS
from numpy.typing import NDArray

mpl.use("agg")
mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight")
    return out.getvalue()


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def curves(history: list[dict[str, float]], plateau: int, title: str) -> bytes:
    """Loss and accuracy per epoch; a line marks where validation accuracy is within 0.2 points of its best."""
    figure, (left, right) = _figure(9, 3.2, 2)
    epochs = [entry["epoch"] for entry in history]
    for axes, name in ((left, "loss"), (right, "accuracy")):
        axes.plot(epochs, [entry[name] for entry in history], label="training (augmented)", color="#999999")
        axes.plot(epochs, [entry[f"val_{name}"] for entry in history], label="validation", color="#1f5fa8")
        axes.set(xlabel="epoch", ylabel=name, title=f"{title}: {name}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if plateau:
            axes.axvline(plateau, color="#c0392b", linestyle="--", linewidth=1)
            axes.text(
                plateau, 0.02, f"flat from epoch {plateau}", transform=axes.get_xaxis_transform(),
                rotation=90, ha="right", va="bottom", fontsize=8, color="#c0392b",
            )  # fmt: skip
        axes.legend(frameon=False)
    return png(figure)


def confusion(tables: dict[str, list[list[int]]]) -> bytes:
    """Confusion matrices side by side, rows in per cent of each label."""
    figure, axes = _figure(4.6 * len(tables), 4.2, len(tables))
    for each, (name, table) in zip(np.atleast_1d(axes), tables.items(), strict=True):
        counts = np.array(table, float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        each.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            each.text(
                column,
                row,
                f"{share:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.5 else "black",
            )
        each.set_xticks(range(len(LABELS)), LABELS, rotation=45, ha="right")
        each.set_yticks(range(len(LABELS)), LABELS)
        each.set(xlabel="predicted", ylabel="label", title=name)
    return png(figure)


def reliability(curves_by_name: dict[str, list[tuple[float, float, int]]]) -> bytes:
    """Accuracy against confidence; the dashed line is perfect calibration, a point's size its number of rows."""
    figure, axes = _figure(4.6, 4.2)
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    for name, points in curves_by_name.items():
        confidence, accuracy, count = (np.array(values) for values in zip(*points, strict=True))
        axes.plot(confidence, accuracy, linewidth=1)
        axes.scatter(confidence, accuracy, s=10 + 300 * count / count.sum(), alpha=0.6, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="reliability")
    axes.legend(frameon=False)
    return png(figure)


def bars(values: Mapping[str, Sequence[float]], names: Sequence[str], ylabel: str, floor: float = 0.0) -> bytes:
    """Grouped bars from `floor` up: one group per name, one colour per key of `values`."""
    figure, axes = _figure(9, 3)
    width = 0.8 / len(values)
    for i, (label, heights) in enumerate(values.items()):
        axes.bar(np.arange(len(names)) + i * width, heights, width, label=label)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
    axes.set(ylabel=ylabel)
    axes.set_ylim(bottom=floor)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(values))
    return png(figure)


def coverage(series: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], marks: Sequence[float]) -> bytes:
    """Accuracy of the faces that get a label against their share, for (confidences, accuracies) per name."""
    figure, axes = _figure(6, 3.4)
    for name, (_, accuracy) in series.items():
        axes.plot(np.arange(1, len(accuracy) + 1) / len(accuracy), accuracy, label=name)
    for mark in marks:
        axes.axhline(mark, color="#999999", linestyle="--", linewidth=0.8)
    axes.set(xlabel="share of faces that get a label", ylabel="accuracy on them", xlim=(0, 1), ylim=(0.5, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return png(figure)


def lines(x: Sequence[float], series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, mark: float) -> bytes:
    """Lines over x, with a vertical line at `mark`."""
    figure, axes = _figure(6, 3.4)
    for name, values in series.items():
        axes.plot(x, values, marker="o", markersize=3, label=name)
    axes.axvline(mark, color="#c0392b", linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return png(figure)


def steps(values: Mapping[str, Sequence[float]], names: Sequence[str]) -> bytes:
    """Lying bars, one group per name from the top down, each with its figure; a value of 0 is left out."""
    figure, axes = _figure(8, 0.5 * len(names) + 1)
    height = 0.8 / len(values)
    for number, (label, lengths) in enumerate(values.items()):
        places = np.arange(len(names)) + number * height
        axes.barh(places, lengths, height, label=label)
        for place, length in zip(places, lengths, strict=True):
            if length:
                axes.text(length, place, f" {length:.1%}", va="center", fontsize=8)
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, names)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy", xlim=(0.3, 1))
    axes.legend(frameon=False, loc="upper right")
    return png(figure)


def pareto(points: Sequence[tuple[float, float, float, str]], importances: Mapping[str, float]) -> bytes:
    """(accuracy, M MACs, milliseconds, block) of each trial: accuracy against both costs, each with its front, and the
    importances as bars.
    """
    figure, axes = _figure(12, 3.8, 3)
    blocks = sorted({block for *_, block in points})
    for place, (axis, label) in enumerate(((1, "M multiply-accumulates"), (2, "milliseconds, int8, this machine"))):
        for number, block in enumerate(blocks):
            chosen = [point for point in points if point[3] == block]
            axes[place].scatter(
                [p[axis] for p in chosen], [p[0] for p in chosen], s=18, label=block, color=f"C{number}"
            )
        best, front = -1.0, []
        for point in sorted(points, key=lambda point: (point[axis], -point[0])):
            if point[0] > best:
                best = point[0]
                front.append((point[axis], best))
        axes[place].plot(*zip(*front, strict=True), color="#555555", linewidth=1, drawstyle="steps-post")
        axes[place].set(xlabel=label, ylabel="validation accuracy")
        axes[place].grid(alpha=0.3)
    axes[0].legend(frameon=False)
    names = sorted(importances, key=lambda name: importances[name])
    axes[2].barh(names, [importances[name] for name in names], color="#1f5fa8")
    axes[2].set(xlabel="share of what decides accuracy" if names else "too few trials for importances")
    return png(figure)


def robustness(found: Sequence[Mapping[str, Any]]) -> bytes:
    """One small plot per corruption: accuracy at its strengths for each bundle; dashed: on clean pictures."""
    names = list(found[0]["corruptions"])
    figure = Figure(figsize=(11, 5), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(2, -(-len(names) // 2), place + 1)
        for number, each in enumerate(found):
            one = each["corruptions"][name]
            steps = np.arange(1, len(one["strengths"]) + 1)
            axes.plot(steps, one["accuracy"], marker="o", markersize=3, label=each["model"], color=f"C{number}")
            axes.axhline(each["clean"], color=f"C{number}", linestyle="--", linewidth=0.8)
        axes.set_xticks(steps, [f"{strength:g}" for strength in one["strengths"]])
        axes.set(title=name, xlabel=one["unit"], ylim=(0.2, 0.95))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return png(figure)


def faces(images: NDArray[np.uint8], titles: Sequence[str], columns: int = 10) -> bytes:
    """Face crops in a grid, each with a short title."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.15 * columns, 1.45 * rows), layout="constrained")
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=7)
        axes.axis("off")
    return png(figure)
