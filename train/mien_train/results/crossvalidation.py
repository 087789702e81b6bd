"""Two classifiers on the same rows: how much better one is, with intervals; and what a
cross-validation of a fine-tuned network has found.

The intervals are percentiles of a paired bootstrap over groups (Efron & Tibshirani 1993; Field &
Welsh 2007): groups are drawn with replacement, each with all of its rows and what both classifiers
say of them. They tell how far other faces of this kind could change a figure, not how far another
training would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mien_edge import schema
from mien_edge.errors import DataError, RunError

from mien_train import plots
from mien_train.arrays import Array, Doubles, Indices, Labels, Mask

MIN_PICTURES = 40
"""Fewer are refused: a fold would have too few to learn from and to measure on."""

_FEW_OF_LABEL = 10
_MOSTLY_SINGLE = 0.9  # groups a picture
_FEW_GROUPS = 20
_TOO_FEW_GROUPS = 8  # for an interval that could be believed
_RESAMPLES = 10_000
_RATIO_RESAMPLES = 2_000  # a ratio is one of hundreds that are estimated at once
_CHUNK = 500  # resamples at once, so that thousands of groups fit into memory
_CONFIDENCE = 95  # per cent


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; accuracies are 0..1, differences of them -1..1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Accuracy of two classifiers on the same rows, `before` and `after`, and their difference.

    rows, groups: how many.
    """

    rows: int
    groups: int
    before: Estimate
    after: Estimate
    gain: Estimate

    def as_text(self) -> str:
        """'61.3 % to 73.0 %, +7.1 to +16.4 points by 95 % bootstrap'."""
        gain = self.gain
        return (
            f"{_percent(self.before.value)} to {_percent(self.after.value)}, "
            f"{_points(gain.low)} to {_points(gain.high)} points by {_CONFIDENCE} % bootstrap"
        )

    @property
    def verdict(self) -> str:
        """'better', 'worse', 'no difference is shown' where the interval holds zero, or 'too few to
        say'.
        """
        if self.groups < _TOO_FEW_GROUPS:
            return "too few to say"
        if self.gain.low > 0:
            return "better"
        return "worse" if self.gain.high < 0 else "no difference is shown"


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """What fine-tuning is worth on the user's own faces, each predicted by a network that has seen
    no picture of its group; and what the final network has forgotten.

    start: NAME-VERSION of the bundle before. folds: their number. own: on all rows. known: on the
    rows whose label the start predicts, too; None where these are all. by_label: on the rows of
    each label; what is compared is recall. earlier: the final network against the start on the data
    that the start was trained on, or None where that is not at hand; earlier_name: what these are.
    notes: what limits the figures, a sentence each.
    """

    start: str
    folds: int
    own: Comparison
    by_label: dict[str, Comparison]
    known: Comparison | None = None
    earlier: Comparison | None = None
    earlier_name: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as crossvalidation.json and cards hold them."""
        return schema.to_dict(self)

    @classmethod
    def from_json(cls, values: object, where: str) -> "CrossValidation":
        """Read back what `to_json` gave. Raises RunError that names `where` and the key that does
        not fit.
        """
        return schema.from_dict(cls, values, where, RunError)

    def comparisons(self) -> Iterator[tuple[str, Comparison]]:
        """Yield what is compared, and the comparison: on all rows first, then label by label, then
        on earlier data.
        """
        yield "your faces", self.own
        if self.known is not None:
            yield f"of these, labels that {self.start} has", self.known
        yield from self.by_label.items()
        if self.earlier is not None:
            yield self.earlier_name, self.earlier

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table of all comparisons."""
        header = ["", "pictures", "groups", self.start, "fine-tuned", "difference", "95 %", ""]
        return header, [_cells(name, entry) for name, entry in self.comparisons()]

    def summary(self) -> str:
        """The figures on all rows in a sentence."""
        return (
            f"Fine-tuned from {self.start}: {self.own.as_text()}, on faces that it had not seen "
            f"({self.folds}-fold cross-validation by group, {self.own.rows:,} pictures in "
            f"{self.own.groups:,} groups)."
        )

    def as_text(self) -> str:
        """The summary, the table and the notes, for a terminal."""
        header, rows = self.table()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [self.summary(), *(_line(cells, widths) for cells in (header, *rows))]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def picture(self) -> bytes:
        """The comparisons drawn, as PNG: before and after, with their intervals."""
        rows = [
            plots.BeforeAfter(
                f"{name} ({entry.rows})", _interval(entry.before), _interval(entry.after)
            )
            for name, entry in self.comparisons()
        ]
        return plots.before_after(rows, self.start, "fine-tuned")


def compare(
    before: Mask,
    after: Mask,
    groups: Indices,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> Comparison:
    """Compare two classifiers on the same rows, at least one.

    before, after: (n,) whether each is right. groups: (n,); rows of one group are drawn together.
    seed, resamples: of the bootstrap.
    """
    names, members = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), 3))
    np.add.at(sums, members.reshape(-1), np.stack([before, after, np.ones(len(before))], axis=1))
    drawn = _resampled_sums(sums, seed, resamples)
    resampled = drawn[:, :2] / drawn[:, 2:]
    accuracies = sums[:, :2].sum(axis=0) / len(before)
    return Comparison(
        rows=len(before),
        groups=len(names),
        before=_estimate(float(accuracies[0]), resampled[:, 0]),
        after=_estimate(float(accuracies[1]), resampled[:, 1]),
        gain=_estimate(float(accuracies[1] - accuracies[0]), resampled[:, 1] - resampled[:, 0]),
    )


def estimate_ratio(
    numerators: Array, denominators: Array, groups: Indices | None = None
) -> Estimate | None:
    """Estimate the sum of the numerators over that of the denominators: with ones, a mean.

    numerators, denominators: (n,). groups: (n,); rows of one group are drawn together; by default
    each row is one. None where the denominators' sum is zero.
    """
    total = float(np.sum(denominators))
    if not total:
        return None
    values = np.stack([numerators, denominators], axis=1).astype(np.float64)
    members = np.arange(len(values)) if groups is None else groups
    _, members = np.unique(members, return_inverse=True)
    sums = np.zeros((int(members.max()) + 1, 2))
    np.add.at(sums, members.reshape(-1), values)
    drawn = _resampled_sums(sums, 0, _RATIO_RESAMPLES)
    drawn = drawn[drawn[:, 1] > 0]
    return _estimate(float(np.sum(numerators)) / total, drawn[:, 0] / drawn[:, 1])


def check_enough(labels: Labels, label_names: Sequence[str], groups: Indices) -> tuple[str, ...]:
    """Return what limits figures of such rows, a sentence each.

    labels: (n,) indices of label_names. groups: (n,). Raises DataError, which says what to add,
    where there is too little to learn from or to measure.
    """
    counts = {name: int((labels == index).sum()) for index, name in enumerate(label_names)}
    counts = {name: count for name, count in counts.items() if count}
    if len(labels) < MIN_PICTURES:
        raise DataError(
            f"{len(labels)} pictures with a face and a label are too few; "
            f"{MIN_PICTURES} are needed, a few hundred are better"
        )
    if len(counts) < 2:
        raise DataError(
            f"all pictures are labelled '{next(iter(counts))}'; add pictures of other labels"
        )
    for name, count in counts.items():
        if count < 2:
            raise DataError(
                f"there is one picture of '{name}', which cannot be learnt and measured at once; "
                "add more of it, or leave it out"
            )
    return tuple(_notes(labels, label_names, groups, counts))


def _notes(
    labels: Labels,
    label_names: Sequence[str],
    groups: Indices,
    counts: dict[str, int],
) -> Iterator[str]:
    people = len(np.unique(groups))
    if people > _MOSTLY_SINGLE * len(labels):
        yield (
            "nearly every picture is a group of its own: where they show the same people, the "
            "figures are better than on people that it has not seen; name the people in a "
            "manifest's column `group`"
        )
    if people == 1:
        yield (
            "all pictures are of one group, such as one person: the figures are for that person "
            "and say nothing of other people"
        )
    elif people < _FEW_GROUPS:
        yield (
            f"the pictures are of {people} groups, such as persons: how it does on other people is "
            "known roughly at best"
        )
    rare = {name: count for name, count in counts.items() if count < _FEW_OF_LABEL}
    if rare:
        listed = ", ".join(f"{count} of '{name}'" for name, count in rare.items())
        yield f"few pictures: {listed}; what is said of these labels is hardly more than chance"
    if people == 1:
        return
    for name in counts:
        if len(np.unique(groups[labels == list(label_names).index(name)])) == 1:
            yield (
                f"all pictures of '{name}' are of one group, so that whenever they are measured "
                "the network has seen none; add pictures of others"
            )


def _resampled_sums(sums: Doubles, seed: int, resamples: int) -> Doubles:
    """(resamples, k) sums over groups drawn with replacement from (groups, k)."""
    rng = np.random.default_rng(seed)
    groups = len(sums)
    chances = np.full(groups, 1 / groups)
    totals = [
        rng.multinomial(groups, chances, min(_CHUNK, resamples - start)) @ sums
        for start in range(0, resamples, _CHUNK)
    ]
    return np.concatenate(totals)


def _estimate(value: float, resampled: Doubles) -> Estimate:
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _cells(name: str, entry: Comparison) -> list[str]:
    gain = entry.gain
    return [
        name,
        f"{entry.rows:,}",
        f"{entry.groups:,}",
        _percent(entry.before.value),
        _percent(entry.after.value),
        _points(gain.value),
        f"{_points(gain.low)} to {_points(gain.high)}",
        entry.verdict,
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A line of a table: the first and the last cell as text, the others as numbers."""
    first, *middle, last = cells
    numbers = [f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1], strict=True)]
    return "  ".join([f"{first:<{widths[0]}}", *numbers, last]).rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high
