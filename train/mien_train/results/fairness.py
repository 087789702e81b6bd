"""`mien-train fairness`: how a network does for each of the groups of people that a user's table
names, and whether for any of them worse or better than for the others.

The groups come from the user (Mitchell et al. 2019, Model Cards, 4.3); nothing here guesses
anybody's age, gender or skin tone. `group_tests` holds the statistics.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mien_edge import files, schema
from mien_edge.contract import softmax
from mien_edge.errors import DataError, RunError
from mien_edge.model.bundle import Bundle
from mien_edge.update.signing import SIGNATURE

from mien_train import html, plots
from mien_train.arrays import Array, Indices
from mien_train.data.read import Dataset
from mien_train.data.splits import is_fer2013, split_dataset
from mien_train.results import group_tests
from mien_train.results.evaluate import bundle_crops, int8_logits, is_own_data
from mien_train.results.evaluation import labels_as_text
from mien_train.results.group_table import GroupTable
from mien_train.results.group_tests import Gap, GroupFigures, GroupGaps, Interval, Outcomes
from mien_train.results.result_file import read_result

CARD_KEY = "fairness"
"""Where a card's metrics hold the result."""

_HEADER = (
    "group", "pictures", "people", "accuracy", "balanced accuracy", "confidence − accuracy",
    "calibration error", "of a random group", "right, against the others",
    "confidence − accuracy, against the others",
)  # fmt: skip


@dataclass(frozen=True)
class GroupResult:
    """One group of a column.

    rows, people: how many pictures, and of how many people, None where that is not known. figures:
    None where these are too few to say anything. gaps: against all others of the column, None where
    these, or the group, are too few.
    """

    group: str
    rows: int
    people: int | None
    figures: GroupFigures | None
    gaps: GroupGaps | None


class Claim(NamedTuple):
    """A gap that the tests found: of what (a name of GroupGaps' fields), for which group."""

    column: str
    group: str
    measure: str
    gap: Gap


@dataclass(frozen=True, kw_only=True)
class FairnessResult:
    """A bundle's int8 network by groups of people.

    model: NAME-VERSION. head: by whose labels. test_name: which rows. data, groups: the sha256 of
    the data and of the user's table. rows, people, figures: of all that was measured. columns: the
    groups of each column. without_group: rows without a group, by column. tests: how many p values
    were corrected together.
    """

    model: str = ""
    head: str = ""
    test_name: str = ""
    data: str = ""
    groups: str = ""
    rows: int
    people: int | None
    figures: GroupFigures
    columns: dict[str, tuple[GroupResult, ...]]
    without_group: dict[str, int] = field(default_factory=dict)
    tests: int

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as fairness.json, a card and `--json` hold them."""
        return schema.to_dict(self)

    @classmethod
    def from_json(cls, values: object, where: str) -> "FairnessResult":
        """Read back what `to_json` gave. Raises RunError that names `where` and the key that does
        not fit.
        """
        return schema.from_dict(cls, values, where, RunError)

    def each_group(self) -> Iterator[tuple[str, GroupResult]]:
        """Yield each group with the name of its column."""
        for column, groups in self.columns.items():
            for group in groups:
                yield column, group

    def claims(self) -> list[Claim]:
        """The gaps that are significant after correction, the widest first; of two groups that are
        each other's others, that of the one which fares worse.
        """
        claims = [
            Claim(column, group.group, measure, gap)
            for column, group in self.each_group()
            if group.gaps is not None
            for measure, gap in group.gaps.by_measure()
            if gap.is_significant and (len(self.columns[column]) != 2 or _is_worse(measure, gap))
        ]
        return sorted(claims, key=lambda claim: -abs(claim.gap.difference))

    def verdict(self) -> Iterator[str]:
        """Yield what the tests say, a sentence each, and what cannot be said."""
        claims = self.claims()
        yield from (self._claim_as_text(claim) for claim in claims)
        if not claims:
            yield self._no_claim_as_text()
        small = [
            f"{column} '{group.group}' ({group.rows})"
            for column, group in self.each_group()
            if group.figures is None
        ]
        if small:
            yield (
                f"Too few to say anything of (under {group_tests.MIN_ROWS} pictures or "
                f"{group_tests.MIN_PEOPLE} people): {', '.join(small)}."
            )
        for column, rows in self.without_group.items():
            yield f"{rows:,} pictures have no {column}; they count in none of its groups."

    def _claim_as_text(self, claim: Claim) -> str:
        points = 100 * claim.gap.difference
        if claim.measure == "accuracy":
            direction = "fewer" if points < 0 else "more"
            what = f"{abs(points):.1f} points {direction} are right than"
        else:
            direction = "higher" if points > 0 else "lower"
            what = f"confidence minus accuracy is {abs(points):.1f} points {direction} than"
        return (
            f"{claim.column} '{claim.group}': {what} for the others at equal labels "
            f"{_points(claim.gap.interval)}, p = {claim.gap.corrected_p:.2g} after Holm's "
            f"correction for {self.tests} tests."
        )

    def _no_claim_as_text(self) -> str:
        intervals = [
            (group.gaps.accuracy.interval, column, group.group)
            for column, group in self.each_group()
            if group.gaps is not None
        ]
        if not intervals:
            return "No group is large enough to be compared with the others."
        interval, column, group = max(intervals, key=lambda entry: max(map(abs, entry[0])))
        return (
            f"No gap can be told from chance ({self.tests} tests with Holm's correction). The "
            f"widest interval by itself: {column} '{group}', {_points(interval)} points of "
            "accuracy against the others."
        )

    @property
    def title(self) -> str:
        """What was measured, in a line."""
        return (
            f"{self.model} by {labels_as_text(self.head)} on {_count(self.rows, self.people)} "
            f"({self.test_name})"
        )

    def as_text(self) -> str:
        """Everything, for a terminal."""
        lines = [self.title, *self.verdict(), f"all: {_figures_as_text(self.figures)}"]
        for column, groups in self.columns.items():
            lines.append(f"{column}:")
            for group in groups:
                figures = _figures_as_text(group.figures)
                lines.append(f"    {group.group}, {_count(group.rows, group.people)}: {figures}")
        return "\n".join(lines)


def measure(bundle: Bundle, dataset: Dataset, split_name: str, table: GroupTable) -> FairnessResult:
    """Measure a bundle by the groups of a table.

    Rows: of data that the bundle was trained on, and of FER2013, the test rows, or the validation
    rows where the split has none; of other data all. split_name: one of splits.SPLITS.

    Raises DataError where no row that is measured has a group and a label that the bundle has.
    """
    rows, test_name = _measured_rows(bundle, dataset, split_name)
    samples = bundle_crops(bundle, dataset, rows)
    head = samples.reference_head.name
    has_label, labels = samples.labelled(head)
    rows = rows[has_label]
    columns = {name: groups[rows] for name, groups in table.columns.items()}
    if not any((groups != "").any() for groups in columns.values()):
        raise DataError(
            f"{table.name} names none of the {len(rows):,} pictures that are measured "
            f"({test_name}); name groups of those"
        )
    logits = int8_logits(bundle.model, samples.crops[has_label])
    probabilities = softmax(logits, bundle.card.calibration.temperature)
    outcomes = Outcomes(
        labels=labels,
        predicted=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
        people=_people(dataset, rows),
    )
    return dataclasses.replace(
        compare(outcomes, columns),
        model=bundle.card.id,
        head=head,
        test_name=test_name,
        data=dataset.sha256,
        groups=table.sha256,
    )


def compare(
    outcomes: Outcomes,
    columns: Mapping[str, Array],
    permutations: int = group_tests.PERMUTATIONS,
) -> FairnessResult:
    """Compare the groups of each column, whose (n,) values are names of groups, '' for none.

    The result names neither model nor data.
    """
    gaps = find_gaps(outcomes, columns, permutations)
    rng = np.random.default_rng(0)
    results = {
        column: tuple(
            _group_result(outcomes, names, group, gaps.get((column, group)), rng)
            for group in _groups(names)
        )
        for column, names in columns.items()
    }
    return FairnessResult(
        rows=len(outcomes),
        people=outcomes.count_people(),
        figures=group_tests.figures(outcomes, rng),
        columns={column: _with_mirrored(groups) for column, groups in results.items()},
        without_group={
            column: int((names == "").sum())
            for column, names in columns.items()
            if (names == "").any()
        },
        tests=2 * len(gaps),
    )


def find_gaps(
    outcomes: Outcomes,
    columns: Mapping[str, Array],
    permutations: int = group_tests.PERMUTATIONS,
) -> dict[tuple[str, str], GroupGaps]:
    """The gaps of the groups that are large enough, by column and group, p corrected for all of
    them. Of two groups the first only: the second's is the same.
    """
    rng = np.random.default_rng(0)
    gaps = {
        (column, group): group_gaps
        for column, names in columns.items()
        for group, group_gaps in _column_gaps(outcomes, names, permutations, rng).items()
    }
    return group_tests.correct(gaps)


def write_fairness(folder: Path, results: Sequence[FairnessResult]) -> None:
    """Write fairness.json, which the report shows, into a run's folder."""
    text = json.dumps([result.to_json() for result in results], indent=1)
    files.write_text(_path(folder), text + "\n")


def read_fairness(folder: Path) -> list[FairnessResult]:
    """The results in fairness.json of a run's folder; empty where there is no such file.

    Raises RunError where it is damaged.
    """
    path = _path(folder)
    values = read_result(path) or []
    return [FairnessResult.from_json(value, str(path)) for value in values]


def require_unsigned(bundle: Bundle) -> None:
    """Raise RunError for a signed bundle, whose card is what is signed."""
    if (bundle.folder / SIGNATURE).exists():
        raise RunError(
            f"{bundle.folder} is signed, and another card needs another signature; remove its "
            f"{SIGNATURE}, run this again, and then: mien-deploy sign {bundle.folder}"
        )


def write_into_card(bundle: Bundle, result: FairnessResult) -> None:
    """Put the result into the metrics of an unsigned bundle's card. Raises RunError for a signed
    one.
    """
    require_unsigned(bundle)
    metrics = {**bundle.card.metrics, CARD_KEY: result.to_json()}
    card = dataclasses.replace(bundle.card, metrics=metrics)
    files.write_text(bundle.folder.resolve() / "card.json", card.to_json())


def draw(results: Sequence[FairnessResult]) -> bytes:
    """A PNG of the groups' accuracies, and of confidence minus accuracy, with intervals; one result
    below the other.
    """
    return plots.groups([_panel(result) for result in results])


def _panel(result: FairnessResult) -> plots.GroupPanel:
    claimed = {(claim.column, claim.group, claim.measure) for claim in result.claims()}
    points = []
    for column, group in result.each_group():
        name = f"{column}: {group.group} ({group.rows:,})"
        if group.figures is None:
            points.append(plots.GroupPoint(f"{name}, too few", None, None))
            continue
        bars = [
            plots.GroupBar(*bar, is_claimed=(column, group.group, measure) in claimed)
            for measure, bar in group.figures.bars().items()
        ]
        points.append(plots.GroupPoint(name, *bars))
    figures = result.figures
    return plots.GroupPanel(result.model, points, figures.accuracy, figures.overconfidence)


def as_parts(result: FairnessResult) -> Iterator[str]:
    """Yield the parts of a page about one result."""
    yield html.note(result.title)
    yield html.bullets(result.verdict())
    yield html.picture(
        draw([result]),
        "Groups of people: share that is right, and confidence minus that share, with 95 % "
        "intervals; the line is all pictures, red what the tests claim",
    )
    for column, groups in result.columns.items():
        yield html.subheading(column)
        yield html.table(_HEADER, [_cells(group) for group in groups])
    yield html.note(
        "In brackets 95 % intervals, each by itself. 'Against the others' is at equal labels: from "
        "each picture's value the mean of all pictures with its label is taken, so that a group "
        "with other expressions is no gap. Tested by shuffling groups among people, with Holm's "
        "correction of all p. The calibration error grows as a group shrinks; beside it stands "
        "that of random groups as large."
    )


def as_html(results: Sequence[FairnessResult]) -> str:
    """A page of its own."""
    parts: list[str] = []
    for result in results:
        parts += [html.heading(result.model), *as_parts(result)]
    return html.page("mien: by groups of people", parts)


def _measured_rows(bundle: Bundle, dataset: Dataset, split_name: str) -> tuple[Indices, str]:
    if not is_own_data(bundle, dataset) and not is_fer2013(dataset):
        return np.arange(len(dataset)), "all rows"
    split = split_dataset(dataset, split_name)
    if len(split.test):
        return split.test, split.test_name
    return split.validation, "validation"


def _people(dataset: Dataset, rows: Indices) -> Array | None:
    """(n,) which of the rows belong together; None where none do."""
    if dataset.groups is None:
        return None
    people = dataset.groups[rows]
    return people if len(np.unique(people)) < len(people) else None


def _groups(names: Array) -> list[str]:
    return sorted(set(names.tolist()) - {""})


def _column_gaps(
    outcomes: Outcomes, names: Array, permutations: int, rng: np.random.Generator
) -> dict[str, GroupGaps]:
    """The gaps of one column, p not corrected yet."""
    rows = names != ""
    outcomes = outcomes.take(rows)
    names = names[rows]
    groups = _groups(names)
    codes = np.array([groups.index(name) for name in names], np.int64)
    tested = [
        code
        for code in range(len(groups))
        if outcomes.take(codes == code).are_enough and outcomes.take(codes != code).are_enough
    ]
    if len(groups) == 2:
        tested = tested[:1]
    gaps = group_tests.gaps(outcomes, codes, tested, rng, permutations)
    return {groups[code]: group_gaps for code, group_gaps in gaps.items()}


def _group_result(
    outcomes: Outcomes,
    names: Array,
    group: str,
    gaps: GroupGaps | None,
    rng: np.random.Generator,
) -> GroupResult:
    members = names == group
    own = outcomes.take(members)
    figures = None
    if own.are_enough:
        of_size = group_tests.calibration_error_of_size(outcomes, members, rng)
        figures = group_tests.figures(own, rng, of_size)
    return GroupResult(group, len(own), own.count_people(), figures, gaps)


def _with_mirrored(groups: tuple[GroupResult, ...]) -> tuple[GroupResult, ...]:
    """Of two groups that were tested against each other, give the second the first's gaps with the
    other sign.
    """
    gaps = groups[0].gaps if len(groups) == 2 else None
    if gaps is None:
        return groups
    return groups[0], dataclasses.replace(groups[1], gaps=gaps.mirrored())


def _is_worse(measure: str, gap: Gap) -> bool:
    """Whether the group fares worse than the others: less is right, or confidence is higher."""
    return gap.difference < 0 if measure == "accuracy" else gap.difference > 0


def _path(folder: Path) -> Path:
    return folder / "fairness.json"


def _count(rows: int, people: int | None) -> str:
    return f"{rows:,} pictures" if people is None else f"{rows:,} pictures of {people:,} people"


def _points(interval: Interval) -> str:
    low, high = interval
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _share(value: float, interval: Interval) -> str:
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _figures_as_text(figures: GroupFigures | None) -> str:
    if figures is None:
        return "too few to say anything"
    return (
        f"accuracy {_share(figures.accuracy, figures.accuracy_interval)}, balanced "
        f"{_share(figures.balanced_accuracy, figures.balanced_accuracy_interval)}, confidence − "
        f"accuracy {100 * figures.overconfidence:+.1f} {_points(figures.overconfidence_interval)} "
        f"points, calibration error {figures.calibration_error:.1%}"
        f"{_of_size_as_text(figures)}"
    )


def _of_size_as_text(figures: GroupFigures) -> str:
    of_size = figures.calibration_error_of_size
    return "" if of_size is None else f" (a random group's {of_size:.1%})"


def _cells(group: GroupResult) -> list[str]:
    people = "" if group.people is None else f"{group.people:,}"
    cells = [group.group, f"{group.rows:,}", people]
    figures = group.figures
    if figures is None:
        return [*cells, "too few", *[""] * (len(_HEADER) - len(cells) - 1)]
    of_size = figures.calibration_error_of_size
    cells += [
        _share(figures.accuracy, figures.accuracy_interval),
        _share(figures.balanced_accuracy, figures.balanced_accuracy_interval),
        f"{100 * figures.overconfidence:+.1f} {_points(figures.overconfidence_interval)}",
        f"{figures.calibration_error:.1%}",
        "" if of_size is None else f"{of_size:.1%}",
    ]
    if group.gaps is None:
        return [*cells, "", ""]
    return [*cells, *(_gap_cell(gap) for _, gap in group.gaps.by_measure())]


def _gap_cell(gap: Gap) -> str:
    return f"{100 * gap.difference:+.1f} {_points(gap.interval)}, p = {gap.corrected_p:.2g}"
