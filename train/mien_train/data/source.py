"""The files that a data set is read from, opened once a command and passed down."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mien_edge import files

from mien_train.data.read import Dataset, load_dataset

_RENAMED_KEYS = {"plus": "ferplus", "plus_sha256": "ferplus_sha256"}
"""Keys in records of earlier versions, and what they are now."""


@dataclass(frozen=True)
class DataSource:
    """The files of a data set; they are read and hashed when first asked for, once.

    path: Kaggle's fer2013.csv, packed or not, or its image folders. ferplus: FER+'s fer2013new.csv,
    or None. skip_bad: whether malformed rows are left out and counted, instead of refused.
    """

    path: Path
    ferplus: Path | None = None
    skip_bad: bool = False

    @cached_property
    def dataset(self) -> Dataset:
        """The rows, with votes where there is a FER+ file. Raises DataError for a missing or
        malformed file.
        """
        return load_dataset(self.path, self.ferplus, self.skip_bad)

    @cached_property
    def ferplus_sha256(self) -> str | None:
        """The hexadecimal SHA-256 of the FER+ file, or None."""
        return files.sha256(self.ferplus) if self.ferplus else None

    def resolve(self) -> "DataSource":
        """The same files by their absolute paths."""
        ferplus = self.ferplus.resolve() if self.ferplus else None
        return DataSource(self.path.resolve(), ferplus, self.skip_bad)

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON: the files' absolute paths and SHA-256, and how many rows they
        hold.

        Raises DataError as `dataset` does.
        """
        return {
            "path": str(self.path.resolve()),
            "ferplus": str(self.ferplus.resolve()) if self.ferplus else None,
            "ferplus_sha256": self.ferplus_sha256,
            "sha256": self.dataset.sha256,
            "rows": len(self.dataset),
            "skipped": self.dataset.skipped,
            "skip_bad": self.skip_bad,
        }

    @staticmethod
    def from_record(record: dict[str, Any]) -> "DataSource":
        """Return the source that `to_record` described, unread. Raises KeyError for a missing key."""
        ferplus = Path(record["ferplus"]) if record["ferplus"] else None
        return DataSource(Path(record["path"]), ferplus, record["skip_bad"])


def rename_keys(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of this or an earlier version with today's keys."""
    return {_RENAMED_KEYS.get(key, key): value for key, value in record.items()}
