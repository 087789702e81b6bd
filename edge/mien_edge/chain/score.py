"""Accuracy of readings against the labels.csv (columns file, emotion) of a photographs' folder."""

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TypedDict

from mien_edge.contract import LABELS
from mien_edge.errors import SourceError
from mien_edge.textfiles import Row, Table, open_lines, shorten
from mien_edge.values import Frame, Reading

_COLUMNS = ("file", "emotion")
_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Words of other data sets, FER+'s among them, and the label that each stands for."""

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
    macro_f1: mean of the labels' F1 scores over the photographs with an emotion, 0 to 1.
    confusion: counts of the photographs with an emotion.
    unlabelled: how many were read and have no label; they count nowhere else.
    not_read: the file names of labels.csv under which no photograph was read; they count nowhere
        else.
    """

    photographs: int
    faces_missed: int
    without_emotion: int
    accuracy: float
    accuracy_found: float
    macro_f1: float
    uncertain: int
    confusion: Confusion
    unlabelled: int
    not_read: list[str]


def read_labels(path: Path) -> dict[str, str]:
    """The label of each file name.

    path: a CSV with the columns file and emotion; each emotion is one of LABELS, in any case.

    Raises SourceError, which names the line, if the table cannot be read or is malformed, or labels
    a file twice.
    """
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with path.open("rb") as content:
            for row in Table(open_lines(content), _COLUMNS):
                try:
                    name = _read_name(row, lines)
                    labels[name] = _read_label(row)
                except ValueError as problem:
                    raise ValueError(f"line {row.line}: {problem}") from None
                lines[name] = row.line
    except OSError as problem:
        hint = "give a CSV with the columns file and emotion"
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); {hint}") from None
    except ValueError as problem:
        raise SourceError(f"{path}: {problem}; correct it") from None
    return labels


def _read_name(row: Row, lines: dict[str, int]) -> str:
    """Raises ValueError for no name, and for one that stands in one of the `lines` before."""
    name = _normal(row["file"])
    if not name:
        raise ValueError("it names no file")
    if name in lines:
        raise ValueError(f"{shorten(name)!r} has a label on line {lines[name]} already")
    return name


def _read_label(row: Row) -> str:
    """Raises ValueError for what is none of LABELS."""
    text = row["emotion"]
    label = text.lower()
    if label in LABELS:
        return label
    reason = f"the emotion {shorten(text)!r} is none of {', '.join(LABELS)}"
    if label in _SYNONYMS:
        reason += f": write {_SYNONYMS[label]}"
    raise ValueError(reason)


def _normal(name: str) -> str:
    """A file's name in composed letters (Unicode's NFC); Mac files may have decomposed ones."""
    return unicodedata.normalize("NFC", name)


class Score:
    """A watcher that compares the largest face of each photograph with its label.

    labels: the true label of each photograph, by file name (read_labels).

    Every face counts with its most probable emotion, an 'uncertain' one too; a photograph in which
    no face was detected, or none good enough for an emotion, counts as wrong in `accuracy` and is
    left out of `accuracy_found`. What was not read does not count.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self._read: set[str] = set()
        self._unlabelled: set[str] = set()
        self._readings: dict[str, Reading] = {}

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Remember the photograph, and the first reading of it, which is that of its largest
        face.
        """
        name = _normal(frame.name)
        if name not in self.labels:
            self._unlabelled.add(name)
            return
        self._read.add(name)
        for reading in readings[:1]:
            self._readings.setdefault(name, reading)

    def result(self) -> ScoreResult:
        """The counts and shares so far."""
        predicted = self._predictions()
        confusion = self._confusion(predicted)
        correct = sum(confusion[label][label] for label in LABELS)
        settled = sum(1 for reading in self._readings.values() if reading.label)
        return {
            "photographs": len(self._read),
            "faces_missed": len(self._read) - len(self._readings),
            "without_emotion": len(self._readings) - len(predicted),
            "accuracy": correct / max(len(self._read), 1),
            "accuracy_found": correct / max(len(predicted), 1),
            "macro_f1": sum(_f1(confusion, label) for label in LABELS) / len(LABELS),
            "uncertain": len(predicted) - settled,
            "confusion": confusion,
            "unlabelled": len(self._unlabelled),
            "not_read": [name for name in self.labels if name not in self._read],
        }

    def advice(self) -> str:
        """Name the labels under which no photograph was read, each with the photograph without a
        label whose name is most like it; '' if there are none.
        """
        names = [name for name in self.labels if name not in self._read]
        if not names:
            return ""
        parts = [_with_nearest(name, sorted(self._unlabelled)) for name in names[:_MAX_NAMED]]
        if len(names) > _MAX_NAMED:
            parts.append(f"and {len(names) - _MAX_NAMED} more")
        return f"labels of photographs that were not read, and do not count: {', '.join(parts)}"

    def _predictions(self) -> dict[str, str]:
        emotions = {name: reading.emotion for name, reading in self._readings.items()}
        return {name: emotion.label for name, emotion in emotions.items() if emotion is not None}

    def _confusion(self, predicted: dict[str, str]) -> Confusion:
        confusion = {truth: dict.fromkeys(LABELS, 0) for truth in LABELS}
        for name, label in predicted.items():
            confusion[self.labels[name]][label] += 1
        return confusion


def _with_nearest(name: str, others: Sequence[str]) -> str:
    """A name that fits none of the others, with the one that it may have been meant for."""
    by_plain_name = {PurePath(other).name.lower(): other for other in others}
    plain = PurePath(name.replace("\\", "/")).name.lower()
    for match in difflib.get_close_matches(plain, by_plain_name, n=1, cutoff=0.8):
        return f"{name} (did you mean {by_plain_name[match]}?)"
    return name


def _f1(confusion: Confusion, label: str) -> float:
    truths = sum(confusion[label].values())
    predictions = sum(row[label] for row in confusion.values())
    if truths + predictions == 0:
        return 0.0
    return 2 * confusion[label][label] / (truths + predictions)


def as_text(result: ScoreResult) -> str:
    """The result in two lines, for people."""
    return (
        f"{result['photographs']} labelled photographs: accuracy {result['accuracy']:.1%} of all, "
        f"{result['accuracy_found']:.1%} of faces with an emotion, "
        f"macro-F1 {result['macro_f1']:.1%}\n"
        f"{result['faces_missed']} faces missed, {result['without_emotion']} without emotion, "
        f"{result['uncertain']} uncertain"
    )
