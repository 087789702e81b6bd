"""What bundles are worth on labelled photographs, through the device's whole line: detector, crop,
network, threshold.

The intervals are those of `mien_edge.chain.outcomes`. Two bundles are compared on the same
photographs: with intervals of the same samples, and by McNemar's test.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mien_edge import schema
from mien_edge.chain import outcomes
from mien_edge.chain.outcomes import Outcomes
from mien_edge.chain.photos import read_photo
from mien_edge.chain.score import outcomes_of
from mien_edge.errors import DataError, SourceError
from mien_edge.labels import match
from mien_edge.model.bundle import Bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings
from mien_edge.values import Box, Frame, Reading

from mien_train import metrics
from mien_train.data import rater_votes
from mien_train.data.layouts.picture import TEST
from mien_train.data.photographs import list_photographs
from mien_train.data.rater_votes import RaterVotes
from mien_train.data.source import DataSource, is_photographs
from mien_train.metrics import McNemar
from mien_train.progress import progress
from mien_train.results.crossvalidation import Estimate
from mien_train.results.evaluate import is_own_data, measured_rows

_FEW = 30  # photographs, of which a bootstrap hardly shows what chance could do
_MIN_OVERLAP = 0.2  # intersection over union of a known box and the detector's, as in data.sights
_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "coverage": "told a label",
    "settled_accuracy": "of these right",
}


class Photograph(NamedTuple):
    """A labelled photograph.

    name: its path from the photographs' folder. label: by its name. group: what is drawn together,
    such as a person; empty for what stands for itself. box: where its face is, in pixels, where the
    data say so. split: see layouts.picture. votes: the raters' words.
    """

    path: Path
    name: str
    label: str
    group: str = ""
    box: Box | None = None
    split: str = ""
    votes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReadPhotographs:
    """What a bundle reads of photographs whose label it has.

    photographs: (n,). labels: of each the bundle's name of its label. readings: of each that of its
    face; None where none was detected. left_out: photographs of labels that the bundle has not, by
    label. scope: which photographs these are, where they are not all; or empty.
    """

    bundle: Bundle
    photographs: list[Photograph]
    labels: list[str]
    readings: list[Reading | None]
    left_out: dict[str, int]
    scope: str = ""

    @property
    def outcomes(self) -> Outcomes:
        """What became of each photograph."""
        return outcomes_of(
            self.labels, self.readings, self.bundle.card.labels, _group_numbers(self.photographs)
        )


@dataclass(frozen=True)
class LabelRecall:
    """Of how many photographs of a label it was predicted."""

    photographs: int
    right: int


@dataclass(frozen=True, kw_only=True)
class PhotoScores:
    """A bundle on labelled photographs.

    model: NAME-VERSION. photographs, groups: how many. scope: see ReadPhotographs. faces_found:
    photographs in which a face was detected. without_emotion: of these the ones whose face was too
    small, turned away or blurred. figures: outcomes.FIGURES, with 95 % intervals. settled,
    settled_right: photographs that were told a label, and rightly. threshold: the card's
    confidence for that, 0..1. coverage: the greatest share of the photographs, surest first, of
    which 80 % … are right (metrics.target_coverages). calibration_error: expected calibration error
    over 15 bins, 0..1. recall: by label. unanimous_recall: on those photographs alone of which all
    raters say the same; empty where their votes are not known. confusion: a row of counts for each
    of the labels; row: label, column: prediction. left_out: see ReadPhotographs.
    """

    model: str
    labels: tuple[str, ...]
    photographs: int
    groups: int
    scope: str
    faces_found: int
    without_emotion: int
    figures: dict[str, Estimate]
    settled: int
    settled_right: int
    threshold: float
    coverage: dict[str, float | None]
    calibration_error: float
    recall: dict[str, LabelRecall]
    unanimous_recall: dict[str, LabelRecall] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...]
    left_out: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON's values, under the fields' names."""
        return schema.to_dict(self)

    def as_text(self) -> str:
        """Some lines for a terminal."""
        found = self.faces_found / self.photographs
        lines = [
            f"{self.model} on {self.photographs} photographs{self.scope}, in brackets 95 % "
            f"bootstrap intervals over {self._drawn()}",
            *self._figure_lines("accuracy", "balanced_accuracy", "macro_f1"),
            f"  face found         {self.faces_found} of {self.photographs} ({_share(found)}), "
            f"{self.without_emotion} of them not good enough to classify",
            *self._settled_lines(),
            f"  surest first       {self._coverage()}",
            f"  calibration error  {_share(self.calibration_error)}",
            f"  recall             {_recall_as_text(self.recall)}",
        ]
        if self.unanimous_recall:
            unanimous = _recall_as_text(self.unanimous_recall)
            lines.append(f"  where all raters agree: {unanimous}")
        if self.photographs < _FEW:
            lines.append(f"  fewer than {_FEW} photographs: these intervals are too narrow")
        if self.left_out:
            others = ", ".join(f"{label} ({count})" for label, count in self.left_out.items())
            lines.append(f"  left out, for it has no such label: {others}")
        return "\n".join(lines)

    def row(self) -> list[str]:
        """The cells of a table's row, under HEADER."""
        return [
            self.model,
            *(
                _percent(self.figures[name])
                for name in ("accuracy", "balanced_accuracy", "macro_f1")
            ),
            f"{self.faces_found} of {self.photographs}",
            str(self.settled),
            _percent(self.figures["settled_accuracy"]) if self.settled else "",
            f"{_share(self.calibration_error)}",
        ]

    def _coverage(self) -> str:
        shares = [
            f"{target} right {'never' if share is None else f'of {_share(share)}'}"
            for target, share in self.coverage.items()
        ]
        return ", ".join(shares)

    def _drawn(self) -> str:
        is_grouped = self.groups < self.photographs
        return f"{self.groups} groups" if is_grouped else "photographs"

    def _figure_lines(self, *names: str) -> Iterator[str]:
        for name in names:
            yield f"  {_TITLES[name]:<18} {_percent(self.figures[name])}"

    def _settled_lines(self) -> Iterator[str]:
        coverage = _percent(self.figures["coverage"])
        yield (
            f"  told a label       {self.settled} of {self.photographs}, at a confidence of "
            f"{_share(self.threshold)} or more: {coverage}"
        )
        if self.settled:
            right = _percent(self.figures["settled_accuracy"])
            yield f"  of these right     {self.settled_right} of {self.settled}: {right}"


HEADER = (
    "bundle",
    "accuracy",
    "balanced accuracy",
    "macro-F1",
    "face found",
    "told a label",
    "of these right",
    "calibration error",
)
"""The columns of PhotoScores.row."""


@dataclass(frozen=True)
class PhotoComparison:
    """A bundle against another one, `model` (NAME-VERSION), on photographs whose labels both have.

    photographs: how many. gains: outcomes.FIGURES of the one minus those of the other, -1..1, with
    paired 95 % intervals. mcnemar: of the photographs that only one of them has right.
    """

    model: str
    photographs: int
    gains: dict[str, Estimate]
    mcnemar: McNemar

    def to_json(self) -> dict[str, Any]:
        """JSON's values, under the fields' names."""
        return {**schema.to_dict(self), "mcnemar": self.mcnemar._asdict()}

    def as_text(self) -> str:
        """The differences in points, and McNemar's test."""
        test = self.mcnemar
        lines = [
            f"against {self.model}, on the same {self.photographs} photographs: {test.gained} "
            f"gained, {test.lost} lost, McNemar's p = {test.p:.2g}; in points, with paired "
            "intervals:"
        ]
        lines += [f"  {_TITLES[name]:<18} {_points(gain)}" for name, gain in self.gains.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class PhotoEvaluation:
    """A bundle's scores on photographs, and how it compares with another one, or None."""

    scores: PhotoScores
    comparison: PhotoComparison | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as `mien-train evaluate --json` prints them."""
        values = self.scores.to_json()
        if self.comparison is not None:
            values["against"] = self.comparison.to_json()
        return values

    def as_text(self) -> str:
        """Scores and comparison, for a terminal."""
        parts = [self.scores.as_text()]
        if self.comparison is not None:
            parts.append(self.comparison.as_text())
        return "\n".join(parts)


def holds_photographs(source: DataSource) -> bool:
    """Whether a source is photographs to look for faces in, and not face crops such as FER2013's.

    Raises DataError as `source.dataset` does.
    """
    is_one_folder = not source.others and is_photographs(source.path)
    return is_one_folder and source.dataset.boxes is not None


def labelled_photographs(source: DataSource, votes: Path | None = None) -> list[Photograph]:
    """The photographs of a source that have a label.

    votes: a table of what raters say (data.rater_votes); None for votes.csv beside them, where that
    is. Raises DataError for what is malformed.
    """
    listing = list_photographs(source.path, source.label_map, source.skip_bad)
    table = votes or rater_votes.find(listing.root)
    words: RaterVotes = rater_votes.read(table) if table else {}
    return [
        Photograph(
            path=picture.path,
            name=listing.name(picture),
            label=listing.label(picture),
            group=picture.group,
            box=picture.box,
            split=picture.split,
            votes=words.get(listing.name(picture), ()),
        )
        for picture in listing.pictures
        if listing.label(picture)
    ]


def read_photographs(
    bundles: Sequence[Bundle],
    source: DataSource,
    split_name: str,
    votes: Path | None = None,
) -> list[ReadPhotographs]:
    """What each bundle reads of the photographs of a source, as a device that is shown them.

    Of data that a bundle was trained on, and of data that name test photographs of their own, the
    test photographs are read. split_name: one of splits.SPLITS. votes: see labelled_photographs.

    Raises DataError where a bundle has none of the labels, and BundleError for a damaged bundle.
    """
    photographs = labelled_photographs(source, votes)
    readings = _readings(bundles, photographs)
    read = [photograph for photograph in photographs if photograph in readings]
    return [
        _of_bundle(bundle, source, split_name, read, [readings[each][number] for each in read])
        for number, bundle in enumerate(bundles)
    ]


def evaluate(read: ReadPhotographs, other: ReadPhotographs | None = None) -> PhotoEvaluation:
    """Measure what a bundle reads, and compare it with what another one reads."""
    is_another = other is not None and other.bundle.card.id != read.bundle.card.id
    return PhotoEvaluation(measure(read), compare(read, other) if other and is_another else None)


def measure(read: ReadPhotographs) -> PhotoScores:
    """Measure what a bundle reads."""
    photographs = read.outcomes
    labels = tuple(photographs.labels)
    has_emotion = photographs.predicted >= 0
    settled = photographs.settled
    is_right = photographs.is_right
    truth = photographs.truth[has_emotion]
    confusion = metrics.confusion_matrix(truth, photographs.predicted[has_emotion], len(labels))
    values = outcomes.figures(photographs)
    ends = outcomes.intervals(photographs)
    unanimous = [rater_votes.is_unanimous(each.votes) for each in read.photographs]
    found = sum(reading is not None for reading in read.readings)
    return PhotoScores(
        model=read.bundle.card.id,
        labels=labels,
        photographs=len(photographs),
        groups=len(set(_group_numbers(read.photographs))),
        scope=read.scope,
        faces_found=found,
        without_emotion=found - int(has_emotion.sum()),
        figures={name: Estimate(value, *ends[name]) for name, value in values.items()},
        settled=int(settled.sum()),
        settled_right=int((settled & is_right).sum()),
        threshold=read.bundle.card.calibration.confidence_threshold,
        coverage=metrics.target_coverages(risk_coverage(read)),
        calibration_error=metrics.binned_calibration_error(
            photographs.confidence[has_emotion], is_right[has_emotion]
        ),
        recall=_recall(photographs),
        unanimous_recall=_recall(photographs.take(np.array(unanimous, bool))),
        confusion=tuple(map(tuple, confusion.tolist())),
        left_out=read.left_out,
    )


def risk_coverage(read: ReadPhotographs) -> metrics.RiskCoverage:
    """The risk-coverage curve of the photographs; a missed face is wrong, at no confidence."""
    photographs = read.outcomes
    return metrics.risk_coverage_of(photographs.confidence, photographs.is_right)


def compare(read: ReadPhotographs, other: ReadPhotographs) -> PhotoComparison:
    """What a bundle gains over another one, on the photographs that both are measured on.

    Raises DataError where there are none.
    """
    shared = {each.name for each in read.photographs} & {each.name for each in other.photographs}
    if not shared:
        raise DataError(
            f"{read.bundle.card.id} and {other.bundle.card.id} have no label in common; compare "
            "bundles that do"
        )
    own = _outcomes_named(read, shared)
    others = _outcomes_named(other, shared)
    values = outcomes.figures(own)
    other_values = outcomes.figures(others)
    samples = outcomes.sampled_figures(own)
    other_samples = outcomes.sampled_figures(others)
    gains = {
        name: Estimate(
            values[name] - other_values[name],
            *outcomes.interval(samples[name] - other_samples[name]),
        )
        for name in outcomes.FIGURES
    }
    test = metrics.mcnemar(own.is_right, others.is_right)
    return PhotoComparison(other.bundle.card.id, len(own), gains, test)


def table(scores: Sequence[PhotoScores]) -> str:
    """The bundles' figures as a table in Markdown."""
    rows = [list(HEADER), ["---"] * len(HEADER), *(each.row() for each in scores)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _readings(
    bundles: Sequence[Bundle], photographs: Sequence[Photograph]
) -> dict[Photograph, list[Reading | None]]:
    """Each bundle's reading of each photograph that can be read."""
    settings = Settings()
    models = [load_model(settings, bundle) for bundle in bundles]
    chain = build_chain(settings, models[0])
    readings: dict[Photograph, list[Reading | None]] = {}
    for index, photograph in enumerate(progress(photographs, "reading", "photographs")):
        try:
            image = read_photo(photograph.path)
        except SourceError:
            continue  # refused by the data set already, unless bad ones are skipped
        # a name of its own, so that no stage takes two faces of one file for one that moved
        frame = Frame(image, index, time.time(), f"{index} {photograph.name}")
        faces = chain.track(frame, chain.detect(frame))
        readings[photograph] = [
            _of_face(model.smooth(model.classify(frame, faces)), photograph.box) for model in models
        ]
    return readings


def _of_face(readings: Sequence[Reading], box: Box | None) -> Reading | None:
    """The reading of the face that the box marks, or of the largest; None where there is none."""
    if box is None:
        return readings[0] if readings else None
    best = max(readings, key=lambda reading: reading.box.iou(box), default=None)
    return best if best and best.box.iou(box) >= _MIN_OVERLAP else None


def _of_bundle(
    bundle: Bundle,
    source: DataSource,
    split_name: str,
    photographs: Sequence[Photograph],
    readings: Sequence[Reading | None],
) -> ReadPhotographs:
    """The photographs that a bundle is measured on, with its readings."""
    names, scope = _measured_names(bundle, source, split_name, photographs)
    labels = {each.label: match(each.label, bundle.card.labels) for each in photographs}
    left_out: Counter[str] = Counter()
    read = ReadPhotographs(bundle, [], [], [], left_out, scope)
    for photograph, reading in zip(photographs, readings, strict=True):
        if photograph.name not in names:
            continue
        label = labels[photograph.label]
        if label is None:
            left_out[photograph.label] += 1
            continue
        read.photographs.append(photograph)
        read.labels.append(label)
        read.readings.append(reading)
    if not read.photographs:
        raise DataError(
            f"{bundle.card.id} tells apart {', '.join(bundle.card.labels)}; the photographs' "
            f"labels are {', '.join(labels)}; name photographs with labels that it has"
        )
    return read


def _measured_names(
    bundle: Bundle, source: DataSource, split_name: str, photographs: Sequence[Photograph]
) -> tuple[set[str], str]:
    """The names of the photographs that a bundle is measured on, and which these are; see
    read_photographs.
    """
    dataset = source.dataset
    if is_own_data(bundle, dataset) and dataset.names is not None:
        rows = measured_rows(bundle, dataset, split_name)
        others = np.delete(dataset.names, rows.rows)
        names = set(map(str, dataset.names[rows.rows])) - set(map(str, others))
        return names, f" that it was not trained on ({rows.name}, a face in each)"
    test = {each.name for each in photographs if each.split == TEST}
    if test:
        return test, " (the data's own test part)"
    return {each.name for each in photographs}, ""


def _outcomes_named(read: ReadPhotographs, names: set[str]) -> Outcomes:
    rows = [row for row, each in enumerate(read.photographs) if each.name in names]
    return read.outcomes.take(np.array(rows, int))


def _group_numbers(photographs: Sequence[Photograph]) -> list[int]:
    """A number for each group; one of its own for each photograph of none."""
    keys = [each.group or f"\0{row}" for row, each in enumerate(photographs)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _recall(photographs: Outcomes) -> dict[str, LabelRecall]:
    """By each label that occurs."""
    return {
        label: LabelRecall(int(rows.sum()), int(photographs.is_right[rows].sum()))
        for index, label in enumerate(photographs.labels)
        if (rows := photographs.truth == index).any()
    }


def _recall_as_text(recall: dict[str, LabelRecall]) -> str:
    return ", ".join(
        f"{label} {each.right} of {each.photographs} ({100 * each.right / each.photographs:.0f} %)"
        for label, each in recall.items()
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _percent(estimate: Estimate) -> str:
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _points(estimate: Estimate) -> str:
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
