"""How far something long is: a bar on a terminal, else a line now and then."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from mien_edge.progress import ProgressLines
from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], title: str, unit: str) -> Iterator[T]:
    """Yield the items, and show on standard error how far it is; `unit` is in the plural."""
    total = len(items) if isinstance(items, Sized) else None
    with Progress(title, unit, total) as shown:
        for item in items:
            yield item
            shown.update()


class Progress:
    """A bar on a terminal, which goes when it is closed; else lines, see ProgressLines.

    title, unit, total, done: as for ProgressLines.
    shown: False to show nothing, for a process that works for another.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        shown: bool = True,
    ) -> None:
        self._lines: ProgressLines | None = None
        self._bar: tqdm[None] | None = None
        if shown and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=title, unit=f" {unit}", leave=False)
        elif shown:
            self._lines = ProgressLines(title, unit, total, done)

    def update(self, count: int = 1, note: str = "") -> None:
        """Count steps that are done; `note` is shown beside them."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        if self._lines is not None:
            self._lines.update(count, note)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(line: str) -> None:
    """Print a line at once, above a bar if there is one."""
    tqdm.write(line)
    sys.stdout.flush()
