"""`mien-train robustness --photos`: what a bundle is worth in the whole line where a camera sees a
face less well, and while the face moves.

Each figure has a 95 % bootstrap interval over photographs, or over the groups that they belong to.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from mien_edge import schema
from mien_edge.errors import DataError
from mien_edge.model.bundle import Bundle

from mien_train import plots
from mien_train.arrays import Doubles, Indices
from mien_train.data.camera import CAMERA_CORRUPTIONS, FRAME, View
from mien_train.data.layouts.picture import Picture
from mien_train.results import line
from mien_train.results.crossvalidation import Estimate, estimate_ratio
from mien_train.results.line import Observation, PhotoObservations

_Clip = Sequence[Observation]


@dataclass(frozen=True)
class StillFigures:
    """Photographs seen in one way; shares, 0..1.

    found: of the photographs, in which the face is detected. accuracy: of all photographs, whose
    most probable emotion is their label. given: of all, that are given a label. given_accuracy: of
    these, that are right; None where none is given.
    """

    found: Estimate
    accuracy: Estimate
    given: Estimate
    given_accuracy: Estimate | None


@dataclass(frozen=True)
class CameraCorruptionResult:
    """The figures at each strength of one corruption, and the strengths' unit."""

    unit: str
    strengths: tuple[float, ...]
    figures: tuple[StillFigures, ...]


@dataclass(frozen=True)
class MotionFigures:
    """Photographs in motion.

    seconds, fps: of each photograph's motion. label_changes: from one label to another, per minute;
    what lies between two labels without one does not count. unsmoothed_changes: the same without
    smoothing. shown_changes: per minute, of what is shown: a label, why there is none, or no face.
    steady: of the photographs that are given a label, the share that is given no other. found,
    given: shares of the frames, in which the face is detected, and with a label. given_accuracy:
    share of these labels that is right; None where there are none, as is `steady`.
    new_numbers: how often the face is taken for another one, per minute.
    """

    seconds: float
    fps: float
    label_changes: Estimate
    unsmoothed_changes: Estimate
    shown_changes: Estimate
    steady: Estimate | None
    found: Estimate
    given: Estimate
    given_accuracy: Estimate | None
    new_numbers: Estimate


@dataclass(frozen=True)
class FrameResult:
    """One bundle in the whole line.

    model: NAME-VERSION. photographs: how many were measured. without_face: photographs that show
    the detector no face as they are, and were left out. unreadable: also left out. other_labels:
    photographs of labels that the bundle does not have, left out. threshold: the card's, below
    which no label is given. as_placed: a sharp, well-lit, upright face. corruptions: by name.
    """

    model: str
    photographs: int
    without_face: int
    unreadable: int
    other_labels: int
    threshold: float
    as_placed: StillFigures
    corruptions: dict[str, CameraCorruptionResult]
    motion: MotionFigures

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as `--json` prints them."""
        return schema.to_dict(self)

    @classmethod
    def from_json(cls, values: object, where: str) -> "FrameResult":
        """Read back what `to_json` gave. Raises DataError that names `where` and the key that does
        not fit.
        """
        return schema.from_dict(cls, values, where, DataError)

    def as_text(self) -> str:
        """A table of the corruptions, and what happens in motion, for a terminal."""
        return "\n".join([*self._title(), *self._table(), *_motion_lines(self.motion)])

    def _title(self) -> Iterator[str]:
        width, height = FRAME
        yield (
            f"{self.model}: {self.photographs} photographs in frames of {width}x{height}, the face "
            f"{View().face_height:g} pixels high; labels given at {self.threshold:.0%} confidence"
        )
        parts = {
            "without a face for the detector as they are": self.without_face,
            "unreadable": self.unreadable,
            "of labels that it does not have": self.other_labels,
        }
        left_out = [f"{count} {why}" for why, count in parts.items() if count]
        if left_out:
            yield f"left out: {', '.join(left_out)}"

    def _table(self) -> Iterator[str]:
        yield _row("", ("face found", "right, of all", "label given", "right, of these"))
        yield _row("as placed", _cells(self.as_placed))
        for name, corruption in self.corruptions.items():
            yield f"{name}, {corruption.unit}"
            for strength, figures in zip(corruption.strengths, corruption.figures, strict=True):
                yield _row(f"{strength:>6g}", _cells(figures))


def measure(
    bundles: Sequence[Bundle], pictures: Sequence[Picture], skip_bad: bool = False
) -> list[FrameResult]:
    """Measure each bundle on labelled photographs (line.read_pictures).

    skip_bad: leave out photographs that cannot be read. Raises DataError where none is left for a
    bundle, and, without skip_bad, for one that cannot be read.
    """
    for bundle in bundles:
        _require_labels(bundle, pictures)
    observations = line.observe(bundles, pictures, skip_bad)
    pairs = list(zip(pictures, observations, strict=True))
    return [_measure_bundle(bundle, index, pairs) for index, bundle in enumerate(bundles)]


def draw(results: Sequence[FrameResult]) -> bytes:
    """A PNG: accuracy of all photographs under each corruption, and label changes in motion."""
    return plots.frame_robustness([_curves(result) for result in results])


def _require_labels(bundle: Bundle, pictures: Sequence[Picture]) -> None:
    labels = bundle.card.labels
    if not any(picture.label in labels for picture in pictures):
        raise DataError(
            f"{bundle.card.id}: no photograph has one of its labels ({', '.join(labels)}); say "
            "what yours mean with --label-map"
        )


def _measure_bundle(
    bundle: Bundle, index: int, pairs: Sequence[tuple[Picture, PhotoObservations]]
) -> FrameResult:
    """index: the bundle's place among those observed."""
    labels = bundle.card.labels
    usable = [pair for pair in pairs if not pair[1].problem]
    own = [pair for pair in usable if pair[0].label in labels]
    if not own:
        raise DataError(
            f"{bundle.card.id}: the detector sees no face in any of the photographs that have one "
            "of its labels; give others"
        )
    truths = [picture.label for picture, _ in own]
    groups = _groups([picture for picture, _ in own])
    columns = zip(*(photo.stills[index] for _, photo in own), strict=True)
    figures = [still_figures(column, truths, groups) for column in columns]
    clips = [photo.motion[index] for _, photo in own]
    unreadable = sum(photo.is_unreadable for _, photo in pairs)
    return FrameResult(
        model=bundle.card.id,
        photographs=len(own),
        without_face=len(pairs) - len(usable) - unreadable,
        unreadable=unreadable,
        other_labels=len(usable) - len(own),
        threshold=bundle.card.calibration.confidence_threshold,
        as_placed=figures[0],
        corruptions=_by_corruption(figures[1:]),
        motion=motion_figures(clips, truths, groups),
    )


def _groups(pictures: Sequence[Picture]) -> Indices:
    """(n,) numbers; pictures of one named group have the same, all others one of their own."""
    names = [picture.group or f"\0{row}" for row, picture in enumerate(pictures)]
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _by_corruption(figures: Sequence[StillFigures]) -> dict[str, CameraCorruptionResult]:
    """figures: in the order of line.still_views, without the first."""
    remaining = iter(figures)
    return {
        corruption.name: CameraCorruptionResult(
            corruption.unit,
            corruption.strengths,
            tuple(next(remaining) for _ in corruption.strengths),
        )
        for corruption in CAMERA_CORRUPTIONS
    }


def still_figures(
    observations: Sequence[Observation], truths: Sequence[str], groups: Indices
) -> StillFigures:
    """The figures of photographs, all seen in one way.

    observations: one of each photograph. truths: their labels. groups: (n,); photographs of one
    group are drawn together for the intervals.
    """
    pairs = list(zip(observations, truths, strict=True))
    found = np.array([observation.is_found for observation in observations])
    right = np.array([observation.emotion == truth for observation, truth in pairs])
    given = np.array([observation.label is not None for observation in observations])
    given_right = np.array([observation.label == truth for observation, truth in pairs])
    return StillFigures(
        found=_mean(found, groups),
        accuracy=_mean(right, groups),
        given=_mean(given, groups),
        given_accuracy=estimate_ratio(given_right, given, groups),
    )


def motion_figures(clips: Sequence[_Clip], truths: Sequence[str], groups: Indices) -> MotionFigures:
    """The figures of photographs in motion.

    clips: of each photograph an observation of each frame, `line.FPS` of them a second. truths,
    groups: as for `still_figures`.
    """
    pairs = list(zip(clips, truths, strict=True))

    def sums(count: Callable[[_Clip], float]) -> Doubles:
        return np.array([count(clip) for clip in clips], float)

    frames = sums(len)
    minutes = frames / line.FPS / 60
    given = sums(_given)
    right = [sum(each.label == truth for each in clip) for clip, truth in pairs]
    is_labelled = given > 0
    is_steady = is_labelled & (sums(_label_changes) == 0)
    return MotionFigures(
        seconds=line.MOTION_SECONDS,
        fps=line.FPS,
        label_changes=_ratio(sums(_label_changes), minutes, groups),
        unsmoothed_changes=_ratio(sums(_unsmoothed_changes), minutes, groups),
        shown_changes=_ratio(sums(_shown_changes), minutes, groups),
        steady=estimate_ratio(is_steady, is_labelled, groups),
        found=_ratio(sums(_found), frames, groups),
        given=_ratio(given, frames, groups),
        given_accuracy=estimate_ratio(np.array(right), given, groups),
        new_numbers=_ratio(sums(_new_numbers), minutes, groups),
    )


def _mean(values: Any, groups: Indices) -> Estimate:
    return _ratio(values, np.ones(len(values)), groups)


def _ratio(numerators: Any, denominators: Doubles, groups: Indices) -> Estimate:
    """The estimate of a ratio whose denominators are positive."""
    estimate = estimate_ratio(numerators, denominators, groups)
    assert estimate is not None  # noqa: S101 - photographs and frames are always some
    return estimate


def _found(clip: _Clip) -> int:
    return sum(observation.is_found for observation in clip)


def _given(clip: _Clip) -> int:
    return sum(observation.label is not None for observation in clip)


def _label_changes(clip: _Clip) -> int:
    return _changes([each.label for each in clip if each.label is not None])


def _unsmoothed_changes(clip: _Clip) -> int:
    return _changes([each.single_label for each in clip if each.single_label is not None])


def _shown_changes(clip: _Clip) -> int:
    return _changes([observation.shown for observation in clip])


def _new_numbers(clip: _Clip) -> int:
    return _changes([observation.track for observation in clip if observation.is_found])


def _changes(values: Sequence[object]) -> int:
    return sum(before != after for before, after in pairwise(values))


def _row(name: str, cells: Sequence[str]) -> str:
    return "".join([f"  {name:<12}", *(f"{cell:>24}" for cell in cells)]).rstrip()


def _cells(figures: StillFigures) -> tuple[str, str, str, str]:
    return (
        _share(figures.found),
        _share(figures.accuracy),
        _share(figures.given),
        _share(figures.given_accuracy),
    )


def _motion_lines(motion: MotionFigures) -> Iterator[str]:
    yield f"in motion, {motion.seconds:g} s of each photograph at {motion.fps:g} frames a second"
    yield (
        f"  label changes a minute: {_rate(motion.label_changes)}, without smoothing "
        f"{_rate(motion.unsmoothed_changes)}"
    )
    yield (
        f"  changes a minute of what is shown, with 'uncertain', no face and the like: "
        f"{_rate(motion.shown_changes)}"
    )
    yield f"  the face is taken for another one, a minute: {_rate(motion.new_numbers)}"
    yield f"  photographs with a label that keep it: {_share(motion.steady)}"
    yield (
        f"  frames: face found {_share(motion.found)}, label given {_share(motion.given)}, "
        f"right, of these {_share(motion.given_accuracy)}"
    )


def _share(estimate: Estimate | None) -> str:
    """'72.5 % [66.8, 78.2]'."""
    if estimate is None:
        return "none"
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _rate(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _curves(result: FrameResult) -> plots.FrameCurves:
    return plots.FrameCurves(
        model=result.model,
        as_placed=result.as_placed.accuracy.value,
        corruptions={
            name: plots.FrameCorruptionCurve(
                unit=corruption.unit,
                strengths=corruption.strengths,
                accuracy=[figures.accuracy.value for figures in corruption.figures],
                found=[figures.found.value for figures in corruption.figures],
            )
            for name, corruption in result.corruptions.items()
        },
        label_changes=_bounds(result.motion.label_changes),
        unsmoothed_changes=_bounds(result.motion.unsmoothed_changes),
    )


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high
