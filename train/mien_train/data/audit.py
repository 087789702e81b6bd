"""`mien-train data audit` and `data show`: what is in the data, and what is wrong with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import schema
from mien_edge.labels import LABELS

from mien_train import html, plots
from mien_train.arrays import Array, Indices, Labels, Pixels
from mien_train.data import findings, heads, sights
from mien_train.data.duplicates import cached_near_groups, exact_groups
from mien_train.data.findings import Finding
from mien_train.data.read import SIZE, USAGES, VOTES, Dataset

_MAX_EXAMPLES = 20
_EXPLANATIONS = {
    findings.UNREADABLE: "Missing, damaged, or no pictures; they are left out.",
    findings.NO_FACE: "The device's detector sees no face in them; they are left out.",
    findings.SEVERAL_FACES: "The face in green, the largest, is taken; those in gray are not.",
    findings.DOUBTFUL_LABEL: "Look at them: one wrong label in a hundred is soon learnt by heart.",
}
_NO_FACE = VOTES.index("NF")


@dataclass(frozen=True)
class UsageFigures:
    """The rows of one usage: shape (n, 48, 48), and how many rows have each label."""

    shape: tuple[int, int, int]
    classes: dict[str, int]


@dataclass(frozen=True)
class DuplicateFigures:
    """Groups of more than one row, those of them that span usages, those with more than one label,
    and how many rows the groups have beyond their first.
    """

    groups: int
    across_splits: int
    with_different_labels: int
    surplus_rows: int


@dataclass(frozen=True)
class VoteFigures:
    """What FER+'s votes say of the rows.

    without_face: rows that most people call no face. with_majority: rows with a majority for one of
    LABELS.
    disagreement: share of these whose FER2013 label is another one. agreement_of_all_rows: share of
    all rows whose majority is FER2013's label.
    """

    without_face: int
    with_majority: int
    disagreement: float
    agreement_of_all_rows: float


@dataclass(frozen=True)
class AuditFigures:
    """All counts of an audit; `to_json` gives them as JSON's values.

    splits: the figures of each of USAGES that has rows, and of FER2013's three. groups: how many
    the data set has, of persons for example; None without. findings: pictures by what was noticed
    about them. ferplus: None without votes.
    """

    rows: int
    skipped: int
    sha256: str
    splits: dict[str, UsageFigures]
    exact_duplicates: DuplicateFigures
    near_duplicates: DuplicateFigures
    constant: int
    groups: int | None = None
    findings: dict[str, int] = field(default_factory=dict)
    ferplus: VoteFigures | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's values; what is None is left out."""
        values = schema.to_dict(self)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found: the figures, and for each finding (n,) rows that show it."""

    figures: AuditFigures
    examples: dict[str, Indices] = field(default_factory=dict)


def audit(dataset: Dataset) -> Audit:
    """Count shapes and classes per usage, duplicates within and across usages, pictures without a
    face, constant pictures, and disagreement with FER+ where there are votes.
    """
    exact = exact_groups(dataset.images)
    near = cached_near_groups(dataset)
    constant = np.flatnonzero(dataset.images.reshape(len(dataset), -1).std(axis=1) == 0)
    different = _first_rows(exact)
    examples = {
        "identical pictures": _duplicate_rows(exact),
        "identical pictures with different labels": _duplicate_rows(exact, dataset.labels),
        "nearly identical pictures": different[_duplicate_rows(near[different])],
        "constant pictures": constant[:_MAX_EXAMPLES],
    }
    votes = None
    if dataset.votes is not None:
        votes = _vote_figures(dataset, dataset.votes)
        examples |= _vote_examples(dataset, dataset.votes)
    figures = AuditFigures(
        rows=len(dataset),
        skipped=dataset.skipped,
        sha256=dataset.sha256,
        splits=_split_figures(dataset),
        exact_duplicates=_duplicate_figures(dataset, exact),
        near_duplicates=_duplicate_figures(dataset, near),
        constant=len(constant),
        groups=None if dataset.groups is None else len(np.unique(dataset.groups)),
        findings=findings.counts(dataset.findings),
        ferplus=votes,
    )
    return Audit(figures, examples)


def as_text(result: Audit, dataset: Dataset) -> str:
    """The figures for a terminal, and the first pictures of each kind of finding."""
    figures = result.figures
    lines = [
        f"{figures.rows} rows, {figures.skipped} bad rows left out, sha256 {figures.sha256}",
        *(_usage_line(name, part) for name, part in figures.splits.items()),
        _duplicates_line("exact duplicates", figures.exact_duplicates),
        _duplicates_line("near duplicates", figures.near_duplicates),
        f"constant pictures: {figures.constant}",
    ]
    if figures.groups is not None:
        lines.append(f"groups that no split tears: {figures.groups}")
    if figures.ferplus is not None:
        votes = figures.ferplus
        lines.append(
            f"FER+: {votes.without_face} rows without a face, {votes.with_majority} with a "
            "majority "
            f"for one of the seven, which differs from FER2013's label in {votes.disagreement:.1%} "
            "of them"
        )
    lines += findings.as_text(dataset.findings)
    return "\n".join(lines)


def as_html(result: Audit, dataset: Dataset, folder: Path | None = None) -> str:
    """An HTML page of the figures and the pictures behind them, the most important first.

    folder: where the photographs lie that findings name, to show them; None where there are none.
    """
    figures = result.figures
    parts = [html.heading("Summary"), html.facts(_summary(figures))]
    parts += [html.heading("Labels"), html.note("How many rows of each split have each label.")]
    parts.append(html.table(["label", *figures.splits], _label_rows(figures)))
    parts += [html.heading("Pictures that occur twice"), _duplicates_table(figures)]
    parts += _finding_parts(dataset, folder)
    for title, rows in result.examples.items():
        if len(rows):
            captions = [_title(dataset, row).replace(": ", "\n") for row in rows]
            pictures = [plots.face(image) for image in dataset.images[rows]]
            parts.append(html.heading(title[0].upper() + title[1:]))
            parts.append(html.note(f"The first {len(rows)}, each with its row in the data."))
            parts.append(html.gallery(zip(pictures, captions, strict=True)))
    return html.page("mien: data audit", parts)


def _finding_parts(dataset: Dataset, folder: Path | None) -> Iterator[str]:
    """Of each kind of finding the first pictures, and a table of all."""
    for kind in dict.fromkeys(finding.kind for finding in dataset.findings):
        members = [finding for finding in dataset.findings if finding.kind == kind]
        yield html.heading(f"Photographs: {kind}")
        yield html.note(f"{findings.count_pictures(len(members))}. {_EXPLANATIONS[kind]}")
        if folder is not None:
            yield html.gallery(_finding_pictures(members[:_MAX_EXAMPLES], folder))
        rows = [
            [finding.name, finding.detail, "left out" if finding.is_left_out else "taken"]
            for finding in members
        ]
        yield html.details("All of them by name", html.table(["picture", "why", ""], rows))


def _finding_pictures(
    members: Sequence[Finding],
    folder: Path,
) -> Iterator[tuple[bytes, str]]:
    for finding in members:
        picture = sights.thumbnail(folder / finding.name)
        if picture is not None:
            yield picture, f"{finding.name}\n{finding.detail}"


def _summary(figures: AuditFigures) -> Iterator[tuple[str, object]]:
    yield "rows", f"{figures.rows:,}"
    yield "bad rows left out", f"{figures.skipped:,}"
    surplus = figures.near_duplicates.surplus_rows
    yield "surplus rows", f"{surplus:,} repeat another one, exactly or nearly"
    leaked = figures.near_duplicates.across_splits
    yield "across splits", f"{leaked:,} groups of such rows: what was trained on is in the test"
    yield "constant pictures", f"{figures.constant:,}"
    if figures.groups is not None:
        yield "groups", f"{figures.groups:,}, of persons for example, that no split tears"
    for kind, count in figures.findings.items():
        yield kind, f"{findings.count_pictures(count)}, listed below"
    if figures.ferplus is not None:
        votes = figures.ferplus
        yield "no face, says FER+", f"{votes.without_face:,} rows"
        yield (
            "another label, says FER+",
            f"{votes.disagreement:.1%} of the {votes.with_majority:,} rows with a majority",
        )
    yield "sha256", figures.sha256


def _label_rows(figures: AuditFigures) -> Iterator[list[str]]:
    for label in next(iter(figures.splits.values())).classes:
        counts = [(part.classes[label], part.shape[0]) for part in figures.splits.values()]
        yield [label, *(f"{count:,} ({count / max(rows, 1):.1%})" for count, rows in counts)]
    yield ["all", *(f"{part.shape[0]:,}" for part in figures.splits.values())]


def _duplicates_table(figures: AuditFigures) -> str:
    kinds = (figures.exact_duplicates, figures.near_duplicates)
    return html.table(
        ["", "exactly", "nearly, too"],
        [
            ["groups", *(f"{kind.groups:,}" for kind in kinds)],
            ["across splits", *(f"{kind.across_splits:,}" for kind in kinds)],
            ["with different labels", *(f"{kind.with_different_labels:,}" for kind in kinds)],
            ["surplus rows", *(f"{kind.surplus_rows:,}" for kind in kinds)],
        ],
    )


def show(dataset: Dataset, count: int = 40, seed: int | None = None) -> bytes:
    """A PNG grid of `count` labelled pictures: the first rows, or random ones with a seed."""
    rows = np.arange(min(count, len(dataset)))
    if seed is not None:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(len(dataset), len(rows), replace=False))
    return _grid(dataset, rows)


def _split_figures(dataset: Dataset) -> dict[str, UsageFigures]:
    """The figures of each usage that has rows; FER2013's three always, where one of them has."""
    figures = {name: _usage_figures(dataset, usage) for usage, name in enumerate(USAGES)}
    has_kaggle_rows = any(figures[name].shape[0] for name in USAGES[:3])
    shown = USAGES[:3] if has_kaggle_rows else ()
    return {name: part for name, part in figures.items() if name in shown or part.shape[0]}


def _usage_figures(dataset: Dataset, usage: int) -> UsageFigures:
    labels = dataset.labels[dataset.usages == usage]
    names = dataset.label_names
    counts = np.bincount(labels[labels >= 0], minlength=len(names)).tolist()
    return UsageFigures((len(labels), SIZE, SIZE), dict(zip(names, counts, strict=True)))


def _duplicate_figures(dataset: Dataset, groups: Indices) -> DuplicateFigures:
    members = list(_duplicate_groups(groups))
    return DuplicateFigures(
        groups=len(members),
        across_splits=sum(_differ(dataset.usages[rows]) for rows in members),
        with_different_labels=sum(_differ(dataset.labels[rows]) for rows in members),
        surplus_rows=sum(len(rows) - 1 for rows in members),
    )


def _duplicate_groups(groups: Indices) -> Iterator[Indices]:
    """Yield the rows of each group of more than one, in the order of the groups' numbers."""
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups))
    for rows in np.split(order, ends[:-1]):
        if len(rows) > 1:
            yield rows


def _differ(values: Array) -> bool:
    return bool((values != values[0]).any())


def _duplicate_rows(groups: Indices, labels: Labels | None = None) -> Indices:
    """Rows of the first groups of several; with `labels`, only of groups whose labels differ."""
    examples: list[int] = []
    for rows in _duplicate_groups(groups):
        if labels is None or _differ(labels[rows]):
            examples += rows.tolist()
        if len(examples) >= _MAX_EXAMPLES:
            break
    return np.array(examples[:_MAX_EXAMPLES], np.int64)


def _first_rows(groups: Indices) -> Indices:
    """The first row of each group: rows whose pictures all differ."""
    return np.sort(np.unique(groups, return_index=True)[1])


def _vote_figures(dataset: Dataset, votes: Pixels) -> VoteFigures:
    majority = dataset.majority()
    has_majority = majority >= 0
    differs = majority != heads.FER2013.label_indices(dataset)
    return VoteFigures(
        without_face=len(_without_face(votes)),
        with_majority=int(has_majority.sum()),
        disagreement=float(differs[has_majority].mean()),
        agreement_of_all_rows=float((~differs).mean()),
    )


def _vote_examples(dataset: Dataset, votes: Pixels) -> dict[str, Indices]:
    majority = dataset.majority()
    own = heads.FER2013.label_indices(dataset)
    differing = np.flatnonzero((majority >= 0) & (own >= 0) & (majority != own))
    clearest_first = np.argsort(-votes[differing].max(axis=1), kind="stable")
    return {
        "no face, says FER+": _without_face(votes)[:_MAX_EXAMPLES],
        "another label, says FER+": differing[clearest_first][:_MAX_EXAMPLES],
    }


def _without_face(votes: Pixels) -> Indices:
    """Rows that more than half of the people call no face."""
    return np.flatnonzero(votes[:, _NO_FACE] * 2 > votes.sum(axis=1))


def _usage_line(name: str, figures: UsageFigures) -> str:
    shape = "x".join(str(length) for length in figures.shape)
    rows = max(figures.shape[0], 1)
    cells = [f"{label} {count} ({count / rows:.1%})" for label, count in figures.classes.items()]
    return f"{name:<12} {shape:<12} {'  '.join(cells)}"


def _duplicates_line(name: str, figures: DuplicateFigures) -> str:
    return (
        f"{name}: {figures.groups} groups, {figures.across_splits} across splits, "
        f"{figures.with_different_labels} with different labels, {figures.surplus_rows} surplus "
        "rows"
    )


def _grid(dataset: Dataset, rows: Indices) -> bytes:
    titles = [_title(dataset, row) for row in rows]
    return plots.faces(dataset.images[rows], titles)


def _title(dataset: Dataset, row: int) -> str:
    """Row, or file, and label; in a second line FER+'s majority where it is another one."""
    label = dataset.labels[row]
    place = f"row {row}" if dataset.names is None else str(dataset.names[row])
    title = f"{place}: {dataset.label_names[label] if label >= 0 else 'no label'}"
    if dataset.votes is not None:
        majority = int(dataset.take(np.array([row])).majority()[0])
        name = LABELS[majority]
        if majority >= 0 and label >= 0 and name != dataset.label_names[label]:
            title += f"\nFER+ {name}"
    return title
