"""Accuracy of readings against a labels.csv (columns file, emotion) beside the photographs."""

import csv
from pathlib import Path
from typing import Any

from mien_edge.contract import LABELS
from mien_edge.errors import SourceError
from mien_edge.values import Reading


def read_labels(path: Path) -> dict[str, str]:
    """File name to label. Raises SourceError for a malformed table."""
    try:
        with path.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise SourceError(f"{path}: cannot be read ({problem}); give a CSV with the columns file and emotion") from None
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or row.get("emotion") not in LABELS:
            raise SourceError(f"{path}: line {number} needs a file and an emotion of {', '.join(LABELS)}; correct it")
    return {row["file"]: row["emotion"] for row in rows}


class Score:
    """A sink that compares the largest face of each photograph with its label.

    Every face counts with its most probable emotion, an 'uncertain' one too; a photograph in which no face was found,
    or none good enough for an emotion, counts as wrong in `accuracy` and is left out of `accuracy_found`.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self._found: dict[str, Reading] = {}

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Keep the first, largest face of a photograph."""
        for reading in readings:
            if reading.source in self.labels:
                self._found.setdefault(reading.source, reading)

    def close(self) -> None:
        """Nothing to close."""

    def result(self) -> dict[str, Any]:
        """Counts (photographs, faces_missed, without_emotion, uncertain), shares 0..1 (accuracy, accuracy_found,
        macro_f1) and confusion[truth][told].
        """
        told = {name: reading.emotion.label for name, reading in self._found.items() if reading.emotion}
        confusion = {truth: dict.fromkeys(LABELS, 0) for truth in LABELS}
        for name, label in told.items():
            confusion[self.labels[name]][label] += 1
        right = sum(confusion[label][label] for label in LABELS)
        settled = sum(1 for reading in self._found.values() if reading.label)
        return {
            "photographs": len(self.labels),
            "faces_missed": len(self.labels) - len(self._found),
            "without_emotion": len(self._found) - len(told),
            "accuracy": right / max(len(self.labels), 1),
            "accuracy_found": right / max(len(told), 1),
            "macro_f1": sum(_f1(confusion, label) for label in LABELS) / len(LABELS),
            "uncertain": len(told) - settled,
            "confusion": confusion,
        }


def _f1(confusion: dict[str, dict[str, int]], label: str) -> float:
    truths, answers = sum(confusion[label].values()), sum(row[label] for row in confusion.values())
    return 2 * confusion[label][label] / (truths + answers) if truths + answers else 0.0


def as_text(result: dict[str, Any]) -> str:
    """The result in two lines."""
    return (
        f"{result['photographs']} labelled photographs: accuracy {result['accuracy']:.1%} of all, "
        f"{result['accuracy_found']:.1%} of faces with an emotion, macro-F1 {result['macro_f1']:.1%}\n"
        f"{result['faces_missed']} faces missed, {result['without_emotion']} without emotion, "
        f"{result['uncertain']} uncertain"
    )
