"""Imported faces: the crops of a data set's photographs in one file, which needs none of them.

An .npz file of arrays, and of JSON where there are words; nothing in it is unpickled.
"""

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files, labels
from mien_edge.errors import DataError

from mien_train.data.findings import Finding
from mien_train.data.read import SIZE, Dataset

_SUFFIX = ".npz"
_FORMAT = 1
_ARRAYS = ("labels", "usages", "row_numbers", "votes", "groups", "boxes", "names")
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


def is_imported(path: Path) -> bool:
    """Whether a path is named as files of imported faces are."""
    return path.suffix.lower() == _SUFFIX and path.is_file()


def check_writable(path: Path) -> None:
    """Refuse a name that `save` should not write, before minutes of work. Raises DataError."""
    if path.suffix.lower() != _SUFFIX:
        raise DataError(f"{path}: the name of a file of faces ends in {_SUFFIX}; choose another")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file with --into")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(f"{folder}: nothing can be written there; name another file with --into")


def save(dataset: Dataset, path: Path) -> None:
    """Write a data set's rows and findings to `path`, whole or not at all. Raises OSError."""
    about = {
        "format": _FORMAT,
        "sha256": dataset.sha256,
        "label_names": dataset.label_names,
        "skipped": dataset.skipped,
        "findings": [asdict(finding) for finding in dataset.findings],
    }
    arrays: dict[str, Any] = {name: getattr(dataset, name) for name in _ARRAYS}
    has_surroundings = dataset.surroundings is not None
    arrays["pictures"] = dataset.surroundings if has_surroundings else dataset.images
    present = {name: array for name, array in arrays.items() if array is not None}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, about=np.array(json.dumps(about)), **present)


def load(path: Path) -> Dataset:
    """Read what `save` wrote. Raises DataError for another or a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about["format"] != _FORMAT:
                raise DataError(f"{path}: of another version of mien; import the photographs again")
            return _dataset(about, {name: stored[name] for name in stored.files})
    except DataError:
        raise
    except _DAMAGE as problem:
        reason = problem if str(problem) else type(problem).__name__
        raise DataError(
            f"{path}: no file of imported faces, or a damaged one ({reason}); make it with: "
            "mien-train data import FOLDER"
        ) from None


def _dataset(about: dict[str, Any], arrays: dict[str, Any]) -> Dataset:
    """Raises ValueError where the arrays do not fit together."""
    pictures = arrays["pictures"]
    start = (pictures.shape[-1] - SIZE) // 2
    middle = slice(start, start + SIZE)
    has_surroundings = start > 0
    dataset = Dataset(
        images=np.ascontiguousarray(pictures[:, middle, middle]),
        surroundings=pictures if has_surroundings else None,
        sha256=about["sha256"],
        label_names=tuple(about["label_names"]),
        skipped=about["skipped"],
        findings=tuple(Finding(**finding) for finding in about["findings"]),
        **{name: arrays.get(name) for name in _ARRAYS},  # type: ignore[arg-type]
    )
    lengths = {len(arrays[name]) for name in arrays if name != "about"}
    is_named = all(map(labels.is_label, dataset.label_names))
    is_labelled = dataset.labels.max(initial=-1) < len(dataset.label_names)
    if len(lengths) != 1 or not is_named or not is_labelled or pictures.dtype != np.uint8:
        raise ValueError("its arrays do not fit together")
    return dataset
