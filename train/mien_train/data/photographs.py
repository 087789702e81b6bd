"""Photographs of any size and colour as a data set, each face cropped as the device would.

A picture without a face, one that cannot be read and one whose label is doubtful is left out and
listed; of several faces the largest is taken, which is listed, too.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from mien_edge import labels
from mien_edge.errors import DataError
from mien_edge.values import Box
from numpy.typing import NDArray

from mien_train.arrays import Doubles, Pixels
from mien_train.data import label_map, sights
from mien_train.data.duplicates import cached_near_groups
from mien_train.data.findings import (
    DOUBTFUL_LABEL,
    NO_FACE,
    SEVERAL_FACES,
    UNREADABLE,
    Finding,
)
from mien_train.data.layouts.picture import PRIVATE_TEST, TEST, TRAIN, VALIDATION, Picture
from mien_train.data.layouts.recognize import FOLDERS, read_layout
from mien_train.data.read import UNASSIGNED, USAGES, VOTES, Dataset
from mien_train.data.sight_cache import SightCache, sight_key
from mien_train.data.sights import Sight
from mien_train.progress import Progress

_USAGE_OF_SPLIT = {
    TRAIN: USAGES.index("Training"),
    TEST: USAGES.index("PublicTest"),
    PRIVATE_TEST: USAGES.index("PrivateTest"),
    VALIDATION: USAGES.index("Validation"),
    "": UNASSIGNED,
}
_MAX_NAMED = 5  # pictures that a message names
_BATCH = 256  # pictures whose faces are cached at once
_MIN_PARALLEL = 200  # pictures; fewer are searched faster than processes start


@dataclass(frozen=True)
class _Face:
    """A picture with its name, its label's final name, and what was seen in it."""

    picture: Picture
    name: str
    label: str
    sight: Sight


@dataclass(frozen=True)
class PhotographListing:
    """What a folder of photographs or a manifest names.

    layout: its name, see layouts.recognize. root: the folder from which pictures are named.
    pictures: those that teach something. labels: the name of each label word. bad: pictures that
    are missing. doubtful: those that are left out for their labels.
    """

    layout: str
    root: Path
    pictures: list[Picture]
    labels: dict[str, str]
    bad: list[Finding]
    doubtful: list[Finding]

    def name(self, picture: Picture) -> str:
        """A picture's path from the root."""
        return _name(picture.path, self.root)

    def label(self, picture: Picture) -> str:
        """A picture's label by its name; empty for none."""
        return self.labels.get(picture.label, label_map.LEFT_OUT)


def load_photographs(
    path: Path,
    mapping_file: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read a folder of photographs or a manifest, in any layout that layouts.recognize knows.

    mapping_file: a label map (label_map.read_label_map), or None. skip_bad: leave out pictures that
    are missing or cannot be read, instead of refusing the data.

    Everything that can be refused without opening a picture is refused first. Raises DataError,
    which names the files.
    """
    listing = list_photographs(path, mapping_file, skip_bad)
    seen, digest = _see(listing.pictures, listing.root)
    faces = [
        _Face(picture, listing.name(picture), listing.label(picture), sight)
        for picture, sight in zip(listing.pictures, seen, strict=True)
    ]
    unreadable = [_unreadable(face) for face in faces if face.sight.problem]
    _refuse_bad(path, unreadable, skip_bad)
    findings = (*listing.bad, *unreadable, *listing.doubtful, *_face_findings(faces))
    usable = [face for face in faces if face.sight.picture is not None]
    if not usable:
        raise DataError(
            f"{path}: no face in any of its {len(faces)} pictures; look at some of them"
        )
    is_plain = listing.layout == FOLDERS and not mapping_file
    if not is_plain or any(face.sight.box for face in usable):
        digest = _extended_digest(digest, usable)
    dataset = _dataset(usable, digest)
    findings += tuple(_differing_labels(dataset))
    return replace(dataset, findings=findings, skipped=len(listing.bad) + len(unreadable))


def list_photographs(
    path: Path,
    mapping_file: Path | None = None,
    skip_bad: bool = False,
) -> PhotographListing:
    """What a folder of photographs or a manifest names, none of which is opened.

    Parameters and errors are those of `load_photographs`.
    """
    mapping = label_map.read_label_map(mapping_file) if mapping_file else {}
    known = label_map.known_words() | set(mapping)
    layout = read_layout(path, known)
    root = path if path.is_dir() else path.parent
    pictures = layout.pictures
    if not pictures:
        raise DataError(f"{path}: no picture in it; give folders named after labels, or a manifest")
    words = [picture.label for picture in pictures if picture.label]
    names = label_map.match_labels(words, mapping, path)
    bad = _missing(pictures, root)
    _refuse_bad(path, bad, skip_bad)
    here = [picture for picture in pictures if picture.path.is_file()]
    doubtful = [_doubt(picture, root) for picture in here if picture.doubt]
    wanted = [picture for picture in here if _is_wanted(picture, names)]
    _refuse_few_labels(path, [names.get(picture.label, "") for picture in wanted])
    return PhotographListing(layout.name, root, wanted, names, bad, doubtful)


def _is_wanted(picture: Picture, names: dict[str, str]) -> bool:
    """Whether the picture teaches something: it has a label that is not left out, or votes."""
    if picture.doubt:
        return False
    return bool(picture.votes) or names.get(picture.label, label_map.LEFT_OUT) != label_map.LEFT_OUT


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _missing(pictures: Sequence[Picture], root: Path) -> list[Finding]:
    return [
        Finding(UNREADABLE, _name(picture.path, root), "no such file", True)
        for picture in pictures
        if not picture.path.is_file()
    ]


def _doubt(picture: Picture, root: Path) -> Finding:
    return Finding(DOUBTFUL_LABEL, _name(picture.path, root), picture.doubt, True)


def _unreadable(face: _Face) -> Finding:
    return Finding(UNREADABLE, face.name, face.sight.problem, True)


def _face_findings(faces: Sequence[_Face]) -> Iterator[Finding]:
    for face in faces:
        marked = " where the box is" if face.picture.box else ""
        if face.sight.faces == 0 and not face.sight.problem:
            yield Finding(NO_FACE, face.name, f"the detector sees none{marked}", True)
        if face.sight.faces > 1:
            detail = f"{face.sight.faces} faces; the largest is taken"
            yield Finding(SEVERAL_FACES, face.name, detail, False)


def _refuse_bad(path: Path, bad: Sequence[Finding], skip_bad: bool) -> None:
    if skip_bad or not bad:
        return
    parts = [f"{finding.name}: {finding.detail}" for finding in bad[:_MAX_NAMED]]
    if len(bad) > _MAX_NAMED:
        parts.append(f"and {len(bad) - _MAX_NAMED} more")
    advice = "fix the data, or skip what is bad with --skip-bad"
    raise DataError(f"{path}: {'; '.join(parts)}; {advice}")


def _refuse_few_labels(path: Path, names: Sequence[str]) -> None:
    """Raise DataError unless the labels could be those of a bundle."""
    distinct = label_map.order_labels(name for name in names if name)
    if set(distinct) <= set(labels.LABELS):
        return
    try:
        labels.check_labels(distinct)
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; merge or rename labels with --label-map") from None


def _see(pictures: Sequence[Picture], root: Path) -> tuple[list[Sight], str]:
    """What is seen in each picture, and a digest of their names and contents."""
    with SightCache() as cache:
        try:
            digests = cache.sha256([picture.path for picture in pictures])
        except OSError as problem:
            file = problem.filename or root
            raise DataError(
                f"{file}: cannot be read ({problem.strerror}); check the file"
            ) from None
        setup = sights.setup()
        keys = [
            sight_key(digest, picture.box, setup)
            for digest, picture in zip(digests, pictures, strict=True)
        ]
        _look_at_missing(cache, keys, pictures)
        seen = [cache.find(key) or Sight(problem="not searched; run this again") for key in keys]
    names = [os.fsencode(_name(picture.path, root)) for picture in pictures]
    whole = hashlib.sha256()
    for name, digest in dict(zip(names, digests, strict=True)).items():
        whole.update(name + f"\0{digest}\n".encode())
    return seen, whole.hexdigest()


def _look_at_missing(cache: SightCache, keys: Sequence[str], pictures: Sequence[Picture]) -> None:
    """Search the pictures that the cache does not know, several processes at a time."""
    cached = cache.keys()
    missing = {
        key: picture for key, picture in zip(keys, pictures, strict=True) if key not in cached
    }
    if not missing:
        return
    with Progress("finding faces", "pictures", len(missing)) as shown:
        sights_in_order = _sights(missing)
        while batch := list(islice(sights_in_order, _BATCH)):
            cache.add(batch)
            shown.update(len(batch))


def _sights(pictures: dict[str, Picture]) -> Iterator[tuple[str, Sight]]:
    """Yield each key with what is seen in its picture."""
    paths = [picture.path for picture in pictures.values()]
    boxes = [picture.box for picture in pictures.values()]
    if len(pictures) < _MIN_PARALLEL or (os.cpu_count() or 1) == 1:
        yield from zip(pictures, map(sights.look, paths, boxes), strict=True)
        return
    # Not forked: TensorFlow's threads, once begun, do not survive that.
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(mp_context=context) as pool:
            seen = pool.map(sights.look, paths, boxes, chunksize=16)
            yield from zip(pictures, seen, strict=True)
    except BrokenProcessPool:
        raise DataError(
            "a process that searched for faces was ended, perhaps for want of memory; what it had "
            "found is kept: run this again"
        ) from None


def _dataset(faces: Sequence[_Face], digest: str) -> Dataset:
    label_names = _label_names(faces)
    index = {name: number for number, name in enumerate(label_names)} | {"": -1}
    has_surroundings = any(face.sight.box for face in faces)
    pictures = [_padded(face.sight) if has_surroundings else _crop(face.sight) for face in faces]
    stacked = np.stack(pictures)
    middle = sights.MIDDLE
    return Dataset(
        images=np.ascontiguousarray(stacked[:, middle, middle]) if has_surroundings else stacked,
        labels=np.array([index[face.label] for face in faces], np.int8),
        usages=np.array([_USAGE_OF_SPLIT[face.picture.split] for face in faces], np.int8),
        row_numbers=np.arange(len(faces), dtype=np.int32),
        sha256=digest,
        votes=_votes(faces),
        label_names=label_names,
        groups=_groups(faces),
        surroundings=stacked if has_surroundings else None,
        boxes=_boxes(faces) if has_surroundings else None,
        names=np.array([face.name.encode(errors="replace").decode() for face in faces]),
    )


def _differing_labels(dataset: Dataset) -> Iterator[Finding]:
    """A finding for each photograph that nearly equals another one with another label."""
    if dataset.surroundings is None or dataset.names is None:
        return
    groups = cached_near_groups(dataset)
    for group in np.flatnonzero(np.bincount(groups) > 1):
        rows = np.flatnonzero(groups == group)
        for row in rows:
            other = rows[dataset.labels[rows] != dataset.labels[row]]
            if len(other) and dataset.labels[row] >= 0:
                word = dataset.label_names[dataset.labels[other[0]]]
                detail = f"nearly equals {dataset.names[other[0]]}, which is labelled {word}"
                yield Finding(DOUBTFUL_LABEL, str(dataset.names[row]), detail, False)


def _label_names(faces: Sequence[_Face]) -> tuple[str, ...]:
    """The labels that occur; of pictures that are all crops already, as FER2013's, the seven."""
    names = label_map.order_labels(face.label for face in faces if face.label)
    are_crops = all(face.sight.box is None for face in faces)
    if are_crops and set(names) <= set(labels.LABELS):
        return labels.LABELS
    return names


def _crop(sight: Sight) -> Pixels:
    assert sight.picture is not None  # noqa: S101 - only taken faces come here
    return sight.picture


def _padded(sight: Sight) -> Pixels:
    picture = _crop(sight)
    return picture if len(picture) == sights.SIDE else sights.around_crop(picture)


def _boxes(faces: Sequence[_Face]) -> Doubles:
    """(n, 4) boxes as shares of the crop's side, as faces.detect_boxes gives them; NaN where the
    picture was a crop already.
    """
    boxes = np.full((len(faces), 4), np.nan)
    for row, face in enumerate(faces):
        if face.sight.box is not None:
            boxes[row] = _shares(face.sight.box)
    return boxes


def _shares(box: Box) -> tuple[float, float, float, float]:
    square = box.square(1 + sights.CROP.margin)
    side = square.width
    return (box.x - square.x) / side, (box.y - square.y) / side, box.width / side, box.height / side


def _votes(faces: Sequence[_Face]) -> Pixels | None:
    if not any(face.picture.votes for face in faces):
        return None
    none = (0,) * len(VOTES)
    return np.array([face.picture.votes or none for face in faces], np.uint8)


def _groups(faces: Sequence[_Face]) -> NDArray[np.int32] | None:
    """Numbers of the groups that the data set names; one of its own for each other row. None for
    pictures that are crops already and of which no group is named: FER2013's.
    """
    if all(face.sight.box is None and not face.picture.group for face in faces):
        return None
    keys = [face.picture.group or f"\0{row}" for row, face in enumerate(faces)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int32)


def _extended_digest(pictures_digest: str, faces: Sequence[_Face]) -> str:
    """The digest of a data set of which the pictures' names and contents do not tell everything, as
    they do of FER2013's folders: with labels, splits, groups and boxes, and what the detector was.
    """
    whole = hashlib.sha256(f"{pictures_digest} {sights.setup()}\n".encode())
    for face in faces:
        picture = face.picture
        known = (face.name, face.label, picture.split, picture.group, picture.box, picture.votes)
        whole.update(ascii(known).encode() + b"\n")
    return whole.hexdigest()
