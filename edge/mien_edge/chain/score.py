"""Accuracy of readings against the labels.csv (columns file, emotion) of a photographs' folder."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TypedDict

import numpy as np

from mien_edge.chain import outcomes
from mien_edge.chain.outcomes import Outcomes
from mien_edge.errors import SourceError
from mien_edge.labels import LABELS, SYNONYMS, is_known, match
from mien_edge.textfiles import Row, Table, open_lines, shorten
from mien_edge.values import Frame, Reading

_COLUMNS = ("file", "emotion")
_MAX_NAMED = 5  # names that a message lists

Confusion = dict[str, dict[str, int]]
"""How often each label was predicted for each true label: confusion[truth][predicted]."""


class ScoreResult(TypedDict):
    """What `mien-edge run --json` prints as `score`.

    photographs: how many were read and have a label; of these
    faces_missed: how many had no face that was detected,
    without_emotion: how many had a face that was not good enough for an emotion,
    uncertain: how many had an emotion, but no settled label.
    accuracy: share of the photographs whose most probable emotion is their label, 0 to 1.
    accuracy_found: the same share, of the photographs with an emotion.
    balanced_accuracy: mean over the labels that occur of the share of their photographs that is
        right, 0 to 1; one without an emotion counts as wrong.
    macro_f1: mean over these labels of their F1 scores, 0 to 1.
    settled: how many were told a label, so that a device shows more than 'uncertain'; of these
    settled_accuracy: share that is right, 0 to 1, and
    settled_confidence: mean probability of the label that was told; 0 where there are none.
    intervals: 95 % confidence intervals of `accuracy`, `balanced_accuracy`, `macro_f1`,
        `settled_accuracy`, and of `coverage`, the share that was told a label; by 2,000 bootstrap
        samples of the photographs (Efron 1979).
    confusion: counts of the photographs with an emotion.
    other_labels: how many were read and have a label that the model has not, by that label; they
        count nowhere else.
    unlabelled: how many were read and have no label; they count nowhere else.
    not_read: the file names of labels.csv under which no photograph was read; they count nowhere
        else.
    """

    photographs: int
    faces_missed: int
    without_emotion: int
    accuracy: float
    accuracy_found: float
    balanced_accuracy: float
    macro_f1: float
    uncertain: int
    settled: int
    settled_accuracy: float
    settled_confidence: float
    intervals: dict[str, tuple[float, float]]
    confusion: Confusion
    other_labels: dict[str, int]
    unlabelled: int
    not_read: list[str]


def read_labels(path: Path, labels: Sequence[str] = LABELS) -> dict[str, str]:
    """The label of each file name.

    path: a CSV with the columns file and emotion.
    labels: the model's; each emotion means one of them (labels.match), or is a label that this
        model has not, but others have (labels.is_known).

    Raises SourceError, which names the line, if the table cannot be read or is malformed, has an
    emotion that is neither, or labels a file twice.
    """
    table: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with path.open("rb") as content:
            for row in Table(open_lines(content), _COLUMNS):
                try:
                    name = _read_name(row, lines)
                    table[name] = _read_label(row, labels)
                except ValueError as problem:
                    raise ValueError(f"line {row.line}: {problem}") from None
                lines[name] = row.line
    except OSError as problem:
        hint = "give a CSV with the columns file and emotion"
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); {hint}") from None
    except ValueError as problem:
        raise SourceError(f"{path}: {problem}; correct it") from None
    return table


def _read_name(row: Row, lines: dict[str, int]) -> str:
    """Raises ValueError for no name, and for one that stands in one of the `lines` before."""
    name = _normal(row["file"])
    if not name:
        raise ValueError("it names no file")
    if name in lines:
        raise ValueError(f"{shorten(name)!r} has a label on line {lines[name]} already")
    return name


def _read_label(row: Row, labels: Sequence[str]) -> str:
    """Raises ValueError for what is neither one of the model's labels nor a known other one."""
    text = row["emotion"]
    label = match(text, labels)
    if label is not None:
        return label
    if is_known(text):
        return text.strip().lower()
    reason = f"the emotion {shorten(text)!r} is none of the model's: {', '.join(labels)}"
    for word in difflib.get_close_matches(text.lower(), [*labels, *SYNONYMS], n=1, cutoff=0.7):
        reason += f" (did you mean {word}?)"
    raise ValueError(reason)


def _normal(name: str) -> str:
    """A file's name in composed letters (Unicode's NFC); Mac files may have decomposed ones."""
    return unicodedata.normalize("NFC", name)


class Score:
    """A watcher that compares the largest face of each photograph with its label.

    truths: the true label of each photograph, by file name (read_labels).
    labels: the model's; a photograph with another one counts only in `other_labels`.

    Every face counts with its most probable emotion, an 'uncertain' one too; a photograph in which
    no face was detected, or none good enough for an emotion, counts as wrong in `accuracy` and is
    left out of `accuracy_found`. What was not read does not count.
    """

    def __init__(self, truths: dict[str, str], labels: Sequence[str] = LABELS) -> None:
        self.truths = truths
        self.labels = tuple(labels)
        self._read: set[str] = set()
        self._unlabelled: set[str] = set()
        self._other_labels: dict[str, str] = {}
        self._readings: dict[str, Reading] = {}

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Remember the photograph, and the first reading of it, which is that of its largest
        face.
        """
        name = _normal(frame.name)
        truth = self.truths.get(name)
        if truth is None:
            self._unlabelled.add(name)
            return
        if truth not in self.labels:
            self._other_labels[name] = truth
            return
        self._read.add(name)
        for reading in readings[:1]:
            self._readings.setdefault(name, reading)

    def result(self) -> ScoreResult:
        """The counts and shares so far."""
        predicted = self._predictions()
        confusion = self._confusion(predicted)
        photographs = self.outcomes()
        shares = outcomes.figures(photographs)
        settled = photographs.settled
        settled_confidence = photographs.confidence[settled].mean() if settled.any() else 0.0
        return {
            "photographs": len(self._read),
            "faces_missed": len(self._read) - len(self._readings),
            "without_emotion": len(self._readings) - len(predicted),
            "accuracy": shares["accuracy"],
            "accuracy_found": int(photographs.is_right.sum()) / max(len(predicted), 1),
            "balanced_accuracy": shares["balanced_accuracy"],
            "macro_f1": shares["macro_f1"],
            "uncertain": len(predicted) - int(settled.sum()),
            "settled": int(settled.sum()),
            "settled_accuracy": shares["settled_accuracy"],
            "settled_confidence": float(settled_confidence),
            "intervals": outcomes.intervals(photographs),
            "confusion": confusion,
            "other_labels": dict(Counter(self._other_labels.values())),
            "unlabelled": len(self._unlabelled),
            "not_read": self._not_read(),
        }

    def _not_read(self) -> list[str]:
        return [
            name
            for name in self.truths
            if name not in self._read and name not in self._other_labels
        ]

    def advice(self) -> str:
        """Name the labels under which no photograph was read, each with the photograph without a
        label whose name is most like it; '' if there are none.
        """
        names = self._not_read()
        if not names:
            return ""
        parts = [_with_nearest(name, sorted(self._unlabelled)) for name in names[:_MAX_NAMED]]
        if len(names) > _MAX_NAMED:
            parts.append(f"and {len(names) - _MAX_NAMED} more")
        return f"labels of photographs that were not read, and do not count: {', '.join(parts)}"

    def _predictions(self) -> dict[str, str]:
        emotions = {name: reading.emotion for name, reading in self._readings.items()}
        return {name: emotion.label for name, emotion in emotions.items() if emotion is not None}

    def outcomes(self) -> Outcomes:
        """What became of each photograph that was read and has a label, in the order of names."""
        names = sorted(self._read)
        truths = [self.truths[name] for name in names]
        return outcomes_of(truths, [self._readings.get(name) for name in names], self.labels)

    def _confusion(self, predicted: dict[str, str]) -> Confusion:
        confusion = {truth: dict.fromkeys(self.labels, 0) for truth in self.labels}
        for name, label in predicted.items():
            row = confusion[self.truths[name]]
            row[label] = row.get(label, 0) + 1  # a model that was exchanged may have other labels
        return confusion


def outcomes_of(
    truths: Sequence[str],
    readings: Sequence[Reading | None],
    labels: Sequence[str],
    groups: Sequence[int] | None = None,
) -> Outcomes:
    """What became of photographs.

    truths: the label of each. readings: of each the reading of its face; None where no face was
    detected. labels: the model's; each truth is one of them. groups: see Outcomes.
    """
    emotions = [reading.emotion if reading else None for reading in readings]
    predicted = [
        labels.index(emotion.label) if emotion and emotion.label in labels else -1
        for emotion in emotions
    ]
    is_settled = [reading is not None and reading.label is not None for reading in readings]
    confidence = [emotion.confidence if emotion else 0.0 for emotion in emotions]
    return Outcomes(
        tuple(labels),
        np.array([labels.index(truth) for truth in truths], int),
        np.array(predicted, int),
        np.array(confidence, float),
        np.array(is_settled, bool),
        None if groups is None else np.array(groups, int),
    )


def _with_nearest(name: str, others: Sequence[str]) -> str:
    """A name that fits none of the others, with the one that it may have been meant for."""
    by_plain_name = {PurePath(other).name.lower(): other for other in others}
    plain = PurePath(name.replace("\\", "/")).name.lower()
    for nearest in difflib.get_close_matches(plain, by_plain_name, n=1, cutoff=0.8):
        return f"{name} (did you mean {by_plain_name[nearest]}?)"
    return name


def as_text(result: ScoreResult) -> str:
    """The result in a few lines, for people; in brackets the 95 % confidence intervals."""
    accuracy = _with_interval(result, "accuracy")
    balanced = _with_interval(result, "balanced_accuracy")
    settled = _with_interval(result, "settled_accuracy")
    text = (
        f"{result['photographs']} labelled photographs: accuracy {accuracy} of all, "
        f"{result['accuracy_found']:.1%} of faces with an emotion, balanced {balanced}, "
        f"macro-F1 {_with_interval(result, 'macro_f1')}\n"
        f"{result['settled']} were told a label: {settled} of these are right, at a mean "
        f"confidence of {result['settled_confidence']:.1%}\n"
        f"{result['faces_missed']} faces missed, {result['without_emotion']} without emotion, "
        f"{result['uncertain']} uncertain"
    )
    others = ", ".join(f"{label} ({count})" for label, count in result["other_labels"].items())
    return f"{text}\nnot counted, for the model has no such label: {others}" if others else text


def _with_interval(result: ScoreResult, name: str) -> str:
    low, high = result["intervals"][name]
    return f"{result[name]:.1%} [{low:.1%}, {high:.1%}]"  # type: ignore[literal-required]
