"""Which layout a folder has."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mien_train.data.layouts import (
    affectnet,
    ck_plus,
    expw,
    ferplus,
    folders,
    jaffe,
    kdef,
    manifest,
    raf_db,
)
from mien_train.data.layouts.picture import Picture

READERS = {
    "RAF-DB": raf_db.read,
    "AffectNet": affectnet.read,
    "ExpW": expw.read,
    "CK+": ck_plus.read,
    "FER+ folders": ferplus.read,
    "KDEF": kdef.read,
    "JAFFE": jaffe.read,
}
"""The research data sets, each with what reads it, or returns None for another one."""

FOLDERS = "folders of labels"
"""The name of the layout that is none of these, and no manifest."""


@dataclass(frozen=True)
class Layout:
    """What a folder or manifest holds: the layout's name for people, and its pictures."""

    name: str
    pictures: list[Picture]


def read_layout(path: Path, known: Iterable[str]) -> Layout:
    """The pictures of a folder, or of a manifest, none of which is opened.

    A manifest is asked first, then each of READERS, then folders named after labels. known: words
    that are labels, see folders.read. Raises DataError for what is malformed.
    """
    if path.is_file():
        return Layout(path.name, manifest.read(path))
    table = manifest.find(path)
    if table is not None:
        return Layout(table.name, manifest.read(table))
    for name, read in READERS.items():
        pictures = read(path)
        if pictures is not None:
            return Layout(name, pictures)
    return Layout(FOLDERS, folders.read(path, known))
