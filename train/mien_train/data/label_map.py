"""From the words that data sets label pictures with to the names of labels."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mien_edge import labels
from mien_edge.errors import DataError
from mien_edge.textfiles import Table, open_lines, shorten

LEFT_OUT = ""
"""What a word stands for whose pictures are left out."""

_COLUMNS = ("word", "label")
_CONTEMPT = "contempt"
_MAX_NAMED = 10  # unknown words that a message lists


def known_words() -> frozenset[str]:
    """The words, in lower case, that are matched without a map: the labels that mien knows, and
    labels.SYNONYMS.
    """
    return frozenset([*labels.LABELS, _CONTEMPT, *labels.SYNONYMS])


def read_label_map(path: Path) -> dict[str, str]:
    """Read a CSV with the columns word and label: for each word, in lower case, its label, or
    LEFT_OUT where the cell is empty.

    Raises DataError that names the line for what is no label, and for a word that stands twice.
    """
    mapping: dict[str, str] = {}
    try:
        with path.open("rb") as content:
            for row in Table(open_lines(content), _COLUMNS):
                word = row["word"].lower()
                if word in mapping:
                    raise ValueError(f"line {row.line}: {shorten(word)!r} stands there twice")
                mapping[word] = check_label(row["label"], row.line)
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}); name a CSV with the columns word and "
            "label"
        ) from None
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; correct it") from None
    return mapping


def check_label(text: str, line: int) -> str:
    """The label that a cell of a label map, on that line, names, or LEFT_OUT. Raises ValueError."""
    label = _canonical(text)
    if label != LEFT_OUT and not labels.is_label(label):
        raise ValueError(f"line {line}: {shorten(text)!r} cannot be a label: {labels.RULE}")
    return label


def match_labels(
    words: Iterable[str],
    mapping: Mapping[str, str],
    where: Path,
) -> dict[str, str]:
    """Return the label of each word.

    One that `mapping` has is what that says, another is matched by labels.SYNONYMS. Where no word
    at all is known, the words are the labels: 'tired' and 'Wide Awake' are tired and wide-awake.

    mapping: see read_label_map. where: what the words are of, for messages. Raises DataError for
    words that are unknown beside known ones, and for one that cannot be a label.
    """
    distinct = list(dict.fromkeys(words))
    unknown = unknown_words(distinct, mapping)
    if unknown and len(unknown) < len(distinct):
        raise DataError(
            f"{where}: unknown labels {_listed(unknown)}; say what they are in a CSV with the "
            "columns word and label, such as 'bored,bored' (a label of its own), 'bored,neutral' "
            "or 'bored,' (left out), and name it with --label-map"
        )
    for word in unknown:
        if not labels.is_label(_canonical(word)):
            raise DataError(
                f"{where}: {shorten(word)!r} cannot be a label: {labels.RULE}; rename it with "
                "--label-map"
            )
    return {word: mapping.get(word.lower(), _canonical(word)) for word in distinct}


def unknown_words(words: Iterable[str], mapping: Mapping[str, str]) -> list[str]:
    """Those of the words, sorted, that neither the mapping nor known_words has."""
    known = known_words()
    return sorted(
        {word for word in words if word.lower() not in known and word.lower() not in mapping}
    )


def order_labels(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the order of a bundle's labels: the seven, contempt, then others by the
    alphabet.
    """
    others = sorted(set(names), key=lambda name: (name != _CONTEMPT, name))
    return labels.ordered(others)


def _canonical(word: str) -> str:
    name = "-".join(word.lower().split())
    return labels.SYNONYMS.get(name, name)


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(repr(shorten(word)) for word in words[:_MAX_NAMED])
    more = len(words) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
