"""Names of labels: which are allowed, how they are matched, ordered and coloured.

Nothing here needs NumPy, so that a process that only reads the log can use it. The labels of a
bundle are in its card, those of a reading in its `emotion`."""

import re
from collections.abc import Iterable, Sequence

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The labels of FER2013 in its order (Goodfellow et al. 2013): those of every bundle of contract
version 1, and the recipes' default."""

NONE = "none"
"""What stands for a face without a label."""

RESERVED = (NONE, "uncertain")
"""Words that mien says itself of a face, which are no labels."""

MIN_COUNT = 2
MAX_COUNT = 16
"""How many labels a bundle has at least and at most."""

MAX_LENGTH = 32
"""Characters of a label at most."""

RULE = (
    f"a label is 1 to {MAX_LENGTH} of a-z, 0-9, '-' and '_', begins with a letter or digit, and is "
    f"not '{RESERVED[0]}' or '{RESERVED[1]}'"
)
"""What `is_label` checks, as messages say it."""

SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": "contempt",
}
"""Words of other data sets, FER+'s among them, and the label that each stands for."""

_PATTERN = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_LENGTH - 1}}}")

_COLOURS = {
    "angry": "#e63c3c",
    "disgust": "#3c963c",
    "fear": "#aa50c8",
    "happy": "#fabe28",
    "sad": "#328cdc",
    "surprise": "#3cc8c8",
    "neutral": "#bebebe",
    "contempt": "#96005a",
}

_PALETTE = (
    "#5a2db4", "#87b478", "#786996", "#c3000f", "#96d2ff", "#6969f0", "#d278b4", "#c396ff",
    "#f0a51e", "#783c87", "#a54b5a", "#a58769", "#e1c3a5", "#e16900", "#00690f", "#b478ff",
)  # fmt: skip
"""Colours of labels without an own one. Each is as far as possible in OKLab from those before it
and from the own ones, as people with and without a colour vision deficiency see them (Machado et
al. 2009, severity 1), and stands out from white and from a dark page."""


def is_label(name: object) -> bool:
    """Whether `name` may be a label of a bundle: see RULE."""
    return isinstance(name, str) and bool(_PATTERN.fullmatch(name)) and name not in RESERVED


def check_labels(names: Sequence[str]) -> None:
    """Check that `names` may be the labels of one bundle.

    Raises ValueError, which says what is wrong, unless they are MIN_COUNT to MAX_COUNT distinct
    names that are labels.
    """
    if not MIN_COUNT <= len(names) <= MAX_COUNT:
        raise ValueError(f"labels must be {MIN_COUNT} to {MAX_COUNT} names, not {len(names)}")
    for index, name in enumerate(names):
        if not is_label(name):
            raise ValueError(f"labels has {_shown(name)}, but {RULE}")
        if name in names[:index]:
            raise ValueError(f"labels has {name!r} twice")


def _shown(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= MAX_LENGTH + 2 else f"{text[:MAX_LENGTH]}… ({len(text)} characters)"


def match(word: str, labels: Iterable[str]) -> str | None:
    """The one of `labels` that `word` means, or None if it means none or several of them.

    It is the label itself in any case, else one that SYNONYMS knows as the same: 'Happiness' and
    'joy' mean happy, and happy means happiness where that is the label.
    """
    name = word.strip().lower()
    names = tuple(labels)
    if name in names:
        return name
    same = [label for label in names if _canonical(label) == _canonical(name)]
    return same[0] if len(same) == 1 else None


def is_known(word: str) -> bool:
    """Whether `word` means one of LABELS or contempt, whatever labels a bundle has."""
    return match(word, _COLOURS) is not None


def _canonical(name: str) -> str:
    return SYNONYMS.get(name, name)


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """`labels` without repetition in the order of files and charts: those of LABELS in its order,
    then the others as they come.
    """
    names = tuple(dict.fromkeys(labels))
    first = tuple(label for label in LABELS if label in names)
    return first + tuple(name for name in names if name not in LABELS)


def change_as_text(before: Sequence[str], after: Sequence[str]) -> str:
    """How the labels `after` differ from those `before`, for people; '' for the same in any order.

    All of them if none is shared: 'all new: a, b'; else 'also c' and 'no more d'.
    """
    if set(before) == set(after):
        return ""
    if not set(before) & set(after):
        return f"all new: {', '.join(after)}"
    added = ", ".join(label for label in after if label not in before)
    removed = ", ".join(label for label in before if label not in after)
    parts = (("also ", added), ("no more ", removed))
    return "; ".join(f"{text}{names}" for text, names in parts if names)


def title(label: str) -> str:
    """`label` as people read it: 'eyes-closed' is 'eyes closed'."""
    return label.replace("-", " ").replace("_", " ").strip()


def colours(labels: Iterable[str]) -> dict[str, str]:
    """The colour of each of `labels`, as '#rrggbb'.

    The labels of LABELS and contempt have their own, all others one of a fixed palette by their
    place in the alphabet among `labels`: the same set has the same colours in any order, and all
    differ as long as at most MAX_COUNT have none of their own.
    """
    names = tuple(dict.fromkeys(labels))
    others = sorted(name for name in names if name not in _COLOURS)
    palette = {name: _PALETTE[index % len(_PALETTE)] for index, name in enumerate(others)}
    return {name: _COLOURS.get(name) or palette[name] for name in names}
