"""`mien-train data audit` and `data show`: what is in the data, and what is wrong with it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from mien_edge.contract import LABELS
from numpy.typing import NDArray

from mien_train import html, plots
from mien_train.data import duplicates, read

_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Audit:
    """`figures` are plain values for JSON; `examples` maps a finding to rows that show it."""

    figures: dict[str, Any]
    examples: dict[str, NDArray[np.int64]]


def audit(dataset: read.Dataset) -> Audit:
    """Shapes and classes per split, duplicates within and across splits, pictures without a face, constant pictures,
    and disagreement with FER+ where there are votes.
    """
    exact, near = duplicates.exact_groups(dataset.images), duplicates.cached_near_groups(dataset)
    constant = np.flatnonzero(dataset.images.reshape(len(dataset), -1).std(axis=1) == 0)
    figures: dict[str, Any] = {
        "rows": len(dataset),
        "skipped": dataset.skipped,
        "sha256": dataset.sha256,
        "splits": {name: _part(dataset, i) for i, name in enumerate(read.USAGES)},
        "exact_duplicates": _groups(dataset, exact),
        "near_duplicates": _groups(dataset, near),
        "constant": len(constant),
    }
    examples = {
        "identical pictures": _members(exact),
        "identical pictures with different labels": _members(exact, dataset.labels),
        "nearly identical pictures": _members(near[_unlike(exact, near)], back=_unlike(exact, near)),
        "constant pictures": constant[:_SHOWN],
    }
    if dataset.votes is not None:
        figures["ferplus"], more = _ferplus(dataset)
        examples |= more
    return Audit(figures, examples)


def _part(dataset: read.Dataset, usage: int) -> dict[str, Any]:
    labels = dataset.labels[dataset.usages == usage]
    return {
        "shape": [len(labels), read.SIZE, read.SIZE],
        "classes": {label: int((labels == i).sum()) for i, label in enumerate(LABELS)},
    }


def _groups(dataset: read.Dataset, groups: NDArray[np.int64]) -> dict[str, int]:
    """Groups of more than one row; those that span splits; those with more than one label; rows beyond the first."""
    counts = np.bincount(groups)
    many = np.flatnonzero(counts > 1)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(counts)[:-1])
    return {
        "groups": len(many),
        "across_splits": sum(len(set(dataset.usages[members[g]].tolist())) > 1 for g in many),
        "with_different_labels": sum(len(set(dataset.labels[members[g]].tolist())) > 1 for g in many),
        "surplus_rows": int((counts[many] - 1).sum()),
    }


def _members(
    groups: NDArray[np.int64], labels: NDArray[np.int8] | None = None, back: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Rows of the first groups of more than one; only those that differ in `labels` if given."""
    rows: list[int] = []
    counts = np.bincount(groups)
    for group in np.flatnonzero(counts > 1):
        members = np.flatnonzero(groups == group)
        if labels is None or len(set(labels[members].tolist())) > 1:
            rows += members.tolist()
        if len(rows) >= _SHOWN:
            break
    chosen = np.array(rows[:_SHOWN], np.int64)
    return chosen if back is None else back[chosen]


def _unlike(exact: NDArray[np.int64], near: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row of each exact group, so that near groups hold pictures that differ."""
    return np.sort(np.unique(exact, return_index=True)[1])


def _ferplus(dataset: read.Dataset) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    assert dataset.votes is not None  # noqa: S101 - the caller looked; this tells mypy
    votes = dataset.votes
    faceless = np.flatnonzero(votes[:, read.VOTES.index("NF")] * 2 > votes.sum(axis=1))
    majority = dataset.majority()
    known = majority >= 0
    disagree = np.flatnonzero(known & (majority != dataset.labels))
    clear = disagree[np.argsort(-votes[disagree].max(axis=1), kind="stable")]
    figures = {
        "without_face": len(faceless),
        "with_majority": int(known.sum()),
        "disagreement": float((majority != dataset.labels)[known].mean()),
        "agreement_of_all_rows": float((majority == dataset.labels).mean()),
    }
    return figures, {"no face, says FER+": faceless[:_SHOWN], "another label, says FER+": clear[:_SHOWN]}


def as_text(figures: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = [f"{figures['rows']} rows, {figures['skipped']} bad rows left out, sha256 {figures['sha256']}"]
    for name, part in figures["splits"].items():
        total = max(part["shape"][0], 1)
        classes = "  ".join(f"{label} {count} ({count / total:.1%})" for label, count in part["classes"].items())
        lines.append(f"{name:<12} {'x'.join(map(str, part['shape'])):<12} {classes}")
    for key in ("exact_duplicates", "near_duplicates"):
        each = figures[key]
        lines.append(
            f"{key.replace('_', ' ')}: {each['groups']} groups, {each['across_splits']} across splits, "
            f"{each['with_different_labels']} with different labels, {each['surplus_rows']} surplus rows"
        )
    lines.append(f"constant pictures: {figures['constant']}")
    if "ferplus" in figures:
        plus = figures["ferplus"]
        lines.append(
            f"FER+: {plus['without_face']} rows without a face, {plus['with_majority']} with a majority for one of the "
            f"seven, which differs from FER2013's label in {plus['disagreement']:.1%} of them"
        )
    return "\n".join(lines)


def as_html(found: Audit, dataset: read.Dataset) -> str:
    """The figures and the pictures behind them as one page."""
    parts = [html.pre(as_text(found.figures))]
    for title, rows in found.examples.items():
        if len(rows):
            parts += [html.heading(title), html.picture(_grid(dataset, rows), title)]
    return html.page("mien: data audit", parts)


def show(dataset: read.Dataset, count: int = 40, seed: int | None = None) -> bytes:
    """A labelled grid as PNG: the first rows, or random ones with a seed."""
    rows = np.arange(min(count, len(dataset)))
    if seed is not None:
        rows = np.sort(np.random.default_rng(seed).choice(len(dataset), len(rows), replace=False))
    return _grid(dataset, rows)


def _grid(dataset: read.Dataset, rows: NDArray[np.int64]) -> bytes:
    titles = [f"row {row}: {LABELS[dataset.labels[row]]}{_other_label(dataset, row)}" for row in rows]
    return plots.faces(dataset.images[rows], titles)


def _other_label(dataset: read.Dataset, row: int) -> str:
    """FER+'s majority in a second line where it is another one."""
    if dataset.votes is None:
        return ""
    majority = int(dataset.take(np.array([row])).majority()[0])
    return f"\nFER+ {LABELS[majority]}" if majority not in (-1, dataset.labels[row]) else ""
