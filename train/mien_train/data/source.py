"""The files that a data set is read from, opened once a command and passed down."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mien_edge import files
from mien_edge.errors import DataError

from mien_train.data import balance, imported
from mien_train.data.layouts.manifest import is_manifest
from mien_train.data.mixture import mix
from mien_train.data.read import Dataset, load_dataset, refuse_special

_RENAMED_KEYS = {"plus": "ferplus", "plus_sha256": "ferplus_sha256"}
"""Keys in records of earlier versions, and what they are now."""


@dataclass(frozen=True)
class DataSource:
    """The files of a data set; they are read and hashed when first asked for, once.

    path: Kaggle's fer2013.csv, packed or not; a folder of photographs, or a manifest of them; or a
    file of imported faces. ferplus: FER+'s fer2013new.csv, or None. skip_bad: whether malformed
    rows and pictures are left out and counted, instead of refused. label_map: a CSV that says what
    the words of the photographs' labels are, or None. weight: how much each row counts in training.
    balance: one of balance.BALANCES. others: further data sets that are mixed in; their own balance
    does not matter.
    """

    path: Path
    ferplus: Path | None = None
    skip_bad: bool = False
    label_map: Path | None = None
    weight: float = 1.0
    balance: str = "none"
    others: tuple["DataSource", ...] = ()

    @cached_property
    def dataset(self) -> Dataset:
        """The rows, with votes where there is a FER+ file. Raises DataError for a missing or
        malformed file.
        """
        parts = (self, *self.others)
        weights = [part.weight for part in parts]
        datasets = [part._read() for part in parts]
        is_plain = len(parts) == 1 and weights == [1.0]
        dataset = datasets[0] if is_plain else mix(datasets, weights)
        return _balanced(dataset, self.balance)

    @cached_property
    def ferplus_sha256(self) -> str | None:
        """The hexadecimal SHA-256 of the FER+ file, or None; of several, one of theirs."""
        votes = [part.ferplus for part in (self, *self.others) if part.ferplus]
        digests = [files.sha256(path) for path in votes]
        if len(digests) < 2:
            return digests[0] if digests else None
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @property
    def folder(self) -> Path | None:
        """The folder from which the names of its pictures go; None for several, and other data."""
        if self.others or not is_photographs(self.path):
            return None
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def parts(self) -> "tuple[DataSource, ...]":
        """All data that are mixed, itself first."""
        return (self, *self.others)

    @property
    def may_have_votes(self) -> bool:
        """Whether its rows can have FER+ votes, as far as that is known unread: FER+'s folders and
        imported faces may bring them.
        """
        return any(part.ferplus or not is_table(part.path) for part in self.parts)

    def resolve(self) -> "DataSource":
        """The same files by their absolute paths."""
        return replace(
            self,
            path=self.path.resolve(),
            ferplus=self.ferplus.resolve() if self.ferplus else None,
            label_map=self.label_map.resolve() if self.label_map else None,
            others=tuple(other.resolve() for other in self.others),
        )

    def check(self) -> None:
        """Refuse what can be refused before anything is read or searched. Raises DataError."""
        for part in self.parts:
            _refuse_unfit(part)

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
            **self._further_record(),
        }

    def _further_record(self) -> dict[str, Any]:
        """What runs of FER2013 alone do not have, so that their records stay as they were."""
        record: dict[str, Any] = {}
        if self.label_map:
            record["label_map"] = str(self.label_map.resolve())
        if self.weight != 1:
            record["weight"] = self.weight
        if self.balance != "none":
            record["balance"] = self.balance
        if self.others:
            record["others"] = [_other_record(other) for other in self.others]
        return record

    @staticmethod
    def from_record(record: dict[str, Any]) -> "DataSource":
        """Return the source that `to_record` described, unread.

        Raises KeyError for a missing key.
        """
        label_map = record.get("label_map")
        return DataSource(
            path=Path(record["path"]),
            ferplus=Path(record["ferplus"]) if record["ferplus"] else None,
            skip_bad=record["skip_bad"],
            label_map=Path(label_map) if label_map else None,
            weight=record.get("weight", 1.0),
            balance=record.get("balance", "none"),
            others=tuple(map(DataSource.from_record, record.get("others", []))),
        )

    def _read(self) -> Dataset:
        _refuse_unfit(self)
        if imported.is_imported(self.path):
            return imported.load(self.path)
        if not is_photographs(self.path):
            return load_dataset(self.path, self.ferplus, self.skip_bad)
        from mien_train.data.photographs import load_photographs  # with OpenCV

        return load_photographs(self.path, self.label_map, self.skip_bad)


def _other_record(other: DataSource) -> dict[str, Any]:
    ferplus = str(other.ferplus.resolve()) if other.ferplus else None
    return {
        "path": str(other.path.resolve()),
        "ferplus": ferplus,
        "skip_bad": other.skip_bad,
        **other._further_record(),
    }


def is_photographs(path: Path) -> bool:
    """Whether a path is a folder, or a manifest, of photographs."""
    return path.is_dir() or is_manifest(path)


def is_table(path: Path) -> bool:
    """Whether a path is a file as Kaggle's fer2013.csv, by what it is not."""
    return path.is_file() and not is_photographs(path) and not imported.is_imported(path)


def _refuse_unfit(source: DataSource) -> None:
    """Raise DataError for a source that is not there, or is given with what does not go with it."""
    path = source.path
    if not path.is_dir():
        refuse_special(path)
    if source.ferplus and not is_table(path):
        raise DataError(
            f"{source.ferplus}: the votes follow the rows of Kaggle's fer2013.csv, whose order the "
            f"pictures in {path} do not have; leave --ferplus out, or give fer2013.csv"
        )
    if source.label_map and not is_photographs(path):
        raise DataError(
            f"{source.label_map}: a label map is for photographs, and {path} has labels already; "
            "leave out --label-map"
        )


def _balanced(dataset: Dataset, kind: str) -> Dataset:
    """The data set with all labels made to count the same, in one of balance.BALANCES' ways."""
    if kind == "sampling":
        return replace(dataset, is_sampled=True)
    if kind == "none":
        return dataset
    weights = balance.loss_weights(dataset.labels)
    if dataset.weights is not None:
        weights = weights * dataset.weights
    return replace(dataset, weights=weights)


def rename_keys(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of this or an earlier version with today's keys."""
    return {_RENAMED_KEYS.get(key, key): value for key, value in record.items()}
