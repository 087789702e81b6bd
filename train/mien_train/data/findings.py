"""What was noticed about single pictures while a data set was read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

UNREADABLE = "not readable"
NO_FACE = "no face"
SEVERAL_FACES = "several faces"
DOUBTFUL_LABEL = "doubtful label"

LEFT_OUT = (UNREADABLE, NO_FACE)
"""Kinds whose pictures are always left out."""

_MAX_NAMED = 5  # pictures of a kind that a text names


@dataclass(frozen=True)
class Finding:
    """Something about one picture.

    kind: UNREADABLE, NO_FACE, SEVERAL_FACES or DOUBTFUL_LABEL. name: the picture's path from the
    data set's folder. detail: a sentence's worth of what it is about. is_left_out: whether the
    picture is no row of the data set.
    """

    kind: str
    name: str
    detail: str
    is_left_out: bool


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each kind there are."""
    return dict(Counter(finding.kind for finding in findings))


def count_pictures(count: int) -> str:
    """Such as '1 picture' or '1,200 pictures'."""
    return f"{count:,} picture" if count == 1 else f"{count:,} pictures"


def as_text(findings: Iterable[Finding], named: int = _MAX_NAMED) -> list[str]:
    """A line for each kind, with its number and the first pictures by name."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, members in by_kind.items():
        left_out = sum(finding.is_left_out for finding in members)
        lines.append(f"{kind}: {count_pictures(len(members))}, {left_out} left out")
        lines += [f"  {finding.name}: {finding.detail}" for finding in members[:named]]
        if len(members) > named:
            lines.append(f"  and {len(members) - named} more")
    return lines
