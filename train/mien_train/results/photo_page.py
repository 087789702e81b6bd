"""A page about bundles on photographs: confusion, risk against coverage, and the worst mistakes.

It holds the faces of those mistakes, for whoever has the photographs and asked for it.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from mien_edge.chain.photos import read_photo
from mien_edge.values import Box, Reading

from mien_train import html, metrics, plots
from mien_train.arrays import Pixels
from mien_train.results.photo_scores import (
    HEADER,
    PhotoEvaluation,
    Photograph,
    PhotoScores,
    ReadPhotographs,
    risk_coverage,
)

MAX_MISTAKES = 30
"""Mistakes of a bundle that the page shows."""

_SIDE = 112  # pixels of a face on the page
_AROUND = 1.4  # sides of the shown square, in longer sides of the face's box


def as_html(
    read: Sequence[ReadPhotographs], results: Sequence[PhotoEvaluation], command: str
) -> str:
    """The page. read, results: of each bundle. command: that made it."""
    parts = [
        html.note(
            "This page shows faces of your photographs: keep it where these may be. It was made "
            f"by: {command}"
        ),
        html.heading("Summary"),
        html.table(HEADER, [_unbroken(result.scores.row()) for result in results]),
        html.note(
            "In brackets 95 % bootstrap intervals. A photograph in which no face was found counts "
            "as wrong."
        ),
        _risk_coverage(read),
    ]
    for each, result in zip(read, results, strict=True):
        parts += _bundle(each, result)
    return html.page("mien: on photographs", parts)


def worst_mistakes(read: ReadPhotographs) -> list[int]:
    """The numbers of the photographs that were most confidently given a wrong label, the worst
    first.
    """
    photographs = read.outcomes
    is_mistake = (photographs.predicted >= 0) & ~photographs.is_right
    order = np.argsort(-photographs.confidence, kind="stable")
    return [int(row) for row in order if is_mistake[row]][:MAX_MISTAKES]


def _unbroken(cells: Sequence[str]) -> list[str]:
    """The cells with spaces at which no line ends."""
    return [cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells]


def draw(read: Sequence[ReadPhotographs], results: Sequence[PhotoEvaluation]) -> bytes:
    """A PNG without any face: risk against coverage of all bundles, the first one's confusion."""
    first = results[0].scores
    confusion = plots.Confusion(first.model, first.confusion, first.labels)
    return plots.photographs(_curves(read), metrics.TARGET_ACCURACIES, _thresholds(read), confusion)


def _risk_coverage(read: Sequence[ReadPhotographs]) -> str:
    return html.picture(
        plots.coverage(_curves(read), metrics.TARGET_ACCURACIES, _thresholds(read)),
        "Share that is right of the photographs that get a label, surest first; the points are "
        "where each bundle's card says 'uncertain' below",
    )


def _curves(read: Sequence[ReadPhotographs]) -> dict[str, metrics.RiskCoverage]:
    return {each.bundle.card.id: risk_coverage(each) for each in read}


def _thresholds(read: Sequence[ReadPhotographs]) -> dict[str, float]:
    cards = [each.bundle.card for each in read]
    return {card.id: card.calibration.confidence_threshold for card in cards}


def _bundle(read: ReadPhotographs, result: PhotoEvaluation) -> Iterator[str]:
    scores = result.scores
    yield html.heading(scores.model)
    yield html.pre(result.as_text())
    yield _recall(scores)
    drawing = plots.confusion({scores.model: scores.confusion}, scores.labels)
    yield html.picture(drawing, "Confusion of the faces that were classified, rows in per cent")
    rows = worst_mistakes(read)
    title = f"Worst mistakes, {len(rows)}: label → prediction, its confidence; what raters say"
    yield html.subheading(title)
    yield html.gallery((_face(read, row), _caption(read, row)) for row in rows)


def _recall(scores: PhotoScores) -> str:
    header = ["label", "photographs", "right", "where all raters agree", "right"]
    rows = []
    for label, recall in scores.recall.items():
        unanimous = scores.unanimous_recall.get(label)
        cells = [unanimous.photographs, unanimous.right] if unanimous else ["", ""]
        rows.append([label, recall.photographs, recall.right, *cells])
    return html.table(header, rows)


def _face(read: ReadPhotographs, row: int) -> bytes:
    """A PNG of the face that was read, with a little around it."""
    image = read_photo(read.photographs[row].path)
    return plots.face(_square(image, _reading(read, row).box))


def _square(image: Pixels, box: Box) -> Pixels:
    """The square about a box as (_SIDE, _SIDE, 3); beyond the picture its edges repeat."""
    square = box.square(_AROUND)
    scale = _SIDE / square.width
    shift = np.array([[scale, 0, -square.x * scale], [0, scale, -square.y * scale]])
    size = (_SIDE, _SIDE)
    # warpAffine does not average: what is larger is made smaller first
    if scale < 1:
        image = cv2.blur(image, (round(1 / scale),) * 2)  # type: ignore[assignment]
    return cv2.warpAffine(image, shift, size, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _caption(read: ReadPhotographs, row: int) -> str:
    photograph = read.photographs[row]
    emotion = _reading(read, row).emotion
    assert emotion is not None  # noqa: S101 - a mistake has a prediction
    lines = [
        read.labels[row],
        f"→ {emotion.label} {emotion.confidence:.0%}",
        _votes_as_text(photograph),
        photograph.name,
    ]
    return "\n".join(line for line in lines if line)


def _reading(read: ReadPhotographs, row: int) -> Reading:
    reading = read.readings[row]
    assert reading is not None  # noqa: S101 - a mistake has a face
    return reading


def _votes_as_text(photograph: Photograph) -> str:
    """'3 sad, 1 neutral'; empty without votes."""
    words = photograph.votes
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{count} {word}" for word, count in ordered)
