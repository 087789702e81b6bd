"""Accuracy of readings against the labels.csv (columns file, emotion) of a photographs' folder."""

import csv
from pathlib import Path
from typing import TypedDict

from mien_edge.contract import LABELS
from mien_edge.errors import SourceError
from mien_edge.values import Reading

Confusion = dict[str, dict[str, int]]
"""How often each label was predicted for each true label: confusion[truth][predicted]."""


class ScoreResult(TypedDict):
    """What `mien-edge run --json` prints as `score`.

    photographs: how many have a label; of these
    faces_missed: how many had no face that was detected,
    without_emotion: how many had a face that was not good enough for an emotion,
    uncertain: how many had an emotion, but no settled label.
    accuracy: share of the photographs whose most probable emotion is their label, 0 to 1.
    accuracy_found: the same share, of the photographs with an emotion.
    macro_f1: mean of the labels' F1 scores over the photographs with an emotion, 0 to 1.
    confusion: counts of the photographs with an emotion.
    """

    photographs: int
    faces_missed: int
    without_emotion: int
    accuracy: float
    accuracy_found: float
    macro_f1: float
    uncertain: int
    confusion: Confusion


def read_labels(path: Path) -> dict[str, str]:
    """The label of each file name.

    path: a CSV with the columns file and emotion; each emotion is one of LABELS.

    Raises SourceError if the table cannot be read or is malformed.
    """
    try:
        with path.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        hint = "give a CSV with the columns file and emotion"
        raise SourceError(f"{path}: cannot be read ({problem}); {hint}") from None
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or row.get("emotion") not in LABELS:
            needs = f"needs a file and an emotion of {', '.join(LABELS)}"
            raise SourceError(f"{path}: line {number} {needs}; correct it")
    return {row["file"]: row["emotion"] for row in rows}


class Score:
    """A sink that compares the largest face of each photograph with its label.

    labels: the true label of each photograph, by file name.

    Every face counts with its most probable emotion, an 'uncertain' one too; a photograph in which
    no face was detected, or none good enough for an emotion, counts as wrong in `accuracy` and is
    left out of `accuracy_found`.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self._readings: dict[str, Reading] = {}

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Remember the first reading of a photograph, which is that of its largest face."""
        for reading in readings:
            if reading.source in self.labels:
                self._readings.setdefault(reading.source, reading)

    def close(self) -> None:
        """Do nothing: a score holds no file."""

    def result(self) -> ScoreResult:
        """The counts and shares so far."""
        predicted = self._predictions()
        confusion = self._confusion(predicted)
        correct = sum(confusion[label][label] for label in LABELS)
        settled = sum(1 for reading in self._readings.values() if reading.label)
        return {
            "photographs": len(self.labels),
            "faces_missed": len(self.labels) - len(self._readings),
            "without_emotion": len(self._readings) - len(predicted),
            "accuracy": correct / max(len(self.labels), 1),
            "accuracy_found": correct / max(len(predicted), 1),
            "macro_f1": sum(_f1(confusion, label) for label in LABELS) / len(LABELS),
            "uncertain": len(predicted) - settled,
            "confusion": confusion,
        }

    def _predictions(self) -> dict[str, str]:
        emotions = {name: reading.emotion for name, reading in self._readings.items()}
        return {name: emotion.label for name, emotion in emotions.items() if emotion is not None}

    def _confusion(self, predicted: dict[str, str]) -> Confusion:
        confusion = {truth: dict.fromkeys(LABELS, 0) for truth in LABELS}
        for name, label in predicted.items():
            confusion[self.labels[name]][label] += 1
        return confusion


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
