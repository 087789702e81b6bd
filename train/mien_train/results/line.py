"""Labelled photographs through the device's whole line: frames that a camera would take of them,
through the chain that a device puts together from its default settings.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from mien_edge.chain.photos import read_photo
from mien_edge.chain.pipeline import Chain
from mien_edge.chain.smooth import Smoother
from mien_edge.errors import DataError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings, SmoothSettings
from mien_edge.values import Box, Face, Frame, Reading

from mien_train.arrays import Pixels
from mien_train.data import camera, label_map, sights
from mien_train.data.camera import View
from mien_train.data.layouts.picture import Picture
from mien_train.data.layouts.recognize import read_layout
from mien_train.progress import Progress
from mien_train.training.ahead import compute_ahead

FPS = Settings().source.fps
"""Frames per second: the rate that a device requests from its camera by default."""

MOTION_SECONDS = 4.0
"""Of one photograph's motion."""

_MOTION_FRAMES = round(MOTION_SECONDS * FPS)
_MIN_OVERLAP = 0.2  # intersection over union of a reading's box and where the face is
_MIN_PARALLEL = 8  # photographs; fewer are through before processes have started
_WITHOUT_SMOOTHING = SmoothSettings(time_constant=0, margin=0, min_frames=1)


@dataclass(frozen=True)
class Observation:
    """What the chain makes of the face in one frame.

    track: the face's number; 0 where it is not found. emotion: the most probable one, by this frame
    alone; None where the face is not good enough for one. single_label: the label that the card's
    threshold leaves of it. label: the one that is shown, after smoothing. quality: 'good', or why
    there is no label; empty where the face is not found.
    """

    track: int = 0
    emotion: str | None = None
    single_label: str | None = None
    label: str | None = None
    quality: str = ""

    @property
    def is_found(self) -> bool:
        """Whether the face is detected where it is."""
        return self.track > 0

    @property
    def shown(self) -> str:
        """What is shown: a label, or why there is none."""
        return self.label or self.quality


@dataclass(frozen=True)
class PhotoObservations:
    """What each bundle's chain makes of one photograph.

    stills: by bundle, an observation of each of `still_views`. motion: by bundle, one of each frame
    of the motion. Both are empty where the photograph as it is shows no face, and `problem` says
    why.
    """

    stills: tuple[tuple[Observation, ...], ...] = ()
    motion: tuple[tuple[Observation, ...], ...] = ()
    problem: str = ""
    is_unreadable: bool = False


def read_pictures(path: Path, mapping_file: Path | None, limit: int) -> list[Picture]:
    """The photographs of a folder or manifest that have a label, each with that label's name; none
    is opened.

    mapping_file: a label map (label_map.read_label_map), or None. limit: how many are drawn, the
    same at each call; 0 for all. Raises DataError where there are none, or no such path.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; name labelled photographs")
    mapping = label_map.read_label_map(mapping_file) if mapping_file else {}
    known = label_map.known_words() | set(mapping)
    pictures = [picture for picture in read_layout(path, known).pictures if picture.label]
    names = label_map.match_labels([picture.label for picture in pictures], mapping, path)
    labelled = [
        dataclasses.replace(picture, label=names[picture.label])
        for picture in pictures
        if names[picture.label] != label_map.LEFT_OUT
    ]
    if not labelled:
        raise DataError(
            f"{path}: no photograph with a label in it; give folders named after labels, or a "
            "manifest with the columns file and label"
        )
    if not 0 < limit < len(labelled):
        return labelled
    rows = np.random.default_rng(0).permutation(len(labelled))[:limit]
    return [labelled[row] for row in sorted(rows)]


def observe(
    bundles: Sequence[Bundle], pictures: Sequence[Picture], skip_bad: bool = False
) -> list[PhotoObservations]:
    """Pass each photograph through the chains of all bundles, in as many processes as there are
    cores.

    skip_bad: go on where a photograph cannot be read. Raises DataError that names it otherwise.
    """
    for picture in pictures:
        if not picture.path.is_file() and not skip_bad:
            raise _bad_picture(picture, "no such file")
    observe_one = partial(_observe, tuple(bundle.folder for bundle in bundles))
    is_parallel = len(pictures) >= _MIN_PARALLEL
    processes = (os.cpu_count() or 1) if is_parallel else 0
    computed = compute_ahead(observe_one, enumerate(pictures), processes)
    results: list[PhotoObservations] = []
    title = "passing photographs through the line"
    with closing(computed), Progress(title, "photographs", len(pictures)) as shown:
        for picture, result in zip(pictures, computed, strict=True):
            if result.is_unreadable and not skip_bad:
                raise _bad_picture(picture, result.problem)
            results.append(result)
            shown.update()
    return results


def _bad_picture(picture: Picture, problem: str) -> DataError:
    advice = "fix the data, or skip what is bad with --skip-bad"
    return DataError(f"{picture.path}: {problem}; {advice}")


def still_views(number: int) -> Iterator[View]:
    """Yield how the photograph of that number is seen: as placed, then each camera corruption at
    each of its strengths, in their order.
    """
    yield View()
    rng = np.random.default_rng(number)
    for corruption in camera.CAMERA_CORRUPTIONS:
        for strength in corruption.strengths:
            yield corruption.view(strength, rng)


class FaceFinder:
    """The first stages of a chain, detect and track, for several chains: they know no model, so
    each frame goes through them once.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._frame: Frame | None = None
        self._faces: tuple[Face, ...] = ()

    def share_with(self, chain: Chain) -> Chain:
        """The chain with these first stages for its own."""
        return dataclasses.replace(chain, detect=self._detect, track=self._track)

    def _detect(self, frame: Frame) -> tuple[Face, ...]:
        if frame is not self._frame:
            self._faces = self._chain.track(frame, self._chain.detect(frame))
            self._frame = frame
        return self._faces

    def _track(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        return faces


class ObservedChain:
    """A bundle's chain that returns, called with a frame, what it makes of one face in it.

    chain: from detection to smoothing. confidence_threshold: the card's.
    """

    def __init__(self, chain: Chain, confidence_threshold: float) -> None:
        self._smooth = chain.smooth
        self._settle_single = Smoother(_WITHOUT_SMOOTHING, confidence_threshold)
        self._single: tuple[Reading, ...] = ()
        self._chain = dataclasses.replace(chain, smooth=self._settle)

    def __call__(self, frame: Frame, face_box: Box) -> Observation:
        """The observation of the face whose place in the frame is known."""
        readings = self._chain(frame)
        overlaps = [reading.box.iou(face_box) for reading in readings]
        if max(overlaps, default=0.0) < _MIN_OVERLAP:
            return Observation()
        index = overlaps.index(max(overlaps))
        single = self._single[index]
        reading = readings[index]
        return Observation(
            track=reading.track,
            emotion=single.emotion.label if single.emotion else None,
            single_label=single.label,
            label=reading.label,
            quality=str(reading.quality),
        )

    def _settle(self, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """The chain's last stage; beside it labels without smoothing."""
        self._single = self._settle_single(readings)
        return self._smooth(readings)


def observed_chains(bundles: Sequence[Bundle]) -> list[ObservedChain]:
    """The chains that a device with default settings puts together for each of the bundles."""
    settings = Settings()
    chains = [build_chain(settings, load_model(settings, bundle)) for bundle in bundles]
    finder = FaceFinder(chains[0])
    return [
        ObservedChain(finder.share_with(chain), bundle.card.calibration.confidence_threshold)
        for bundle, chain in zip(bundles, chains, strict=True)
    ]


@cache
def _loaded_chains(folders: tuple[Path, ...]) -> list[ObservedChain]:
    return observed_chains([load_bundle(folder) for folder in folders])


def _observe(folders: tuple[Path, ...], numbered_picture: tuple[int, Picture]) -> PhotoObservations:
    """What the chains of the bundles in these folders make of a photograph."""
    number, picture = numbered_picture
    sight = sights.look(picture.path, picture.box)
    if sight.problem:
        return PhotoObservations(problem=sight.problem, is_unreadable=True)
    if sight.box is None:
        return PhotoObservations(problem="the detector sees no face in it as it is")
    image = read_photo(picture.path)
    chains = _loaded_chains(folders)
    rng = np.random.default_rng(number)
    stills = []
    for index, view in enumerate(still_views(number)):
        frame = Frame(camera.render(image, sight.box, view, rng), 0, 0.0, f"{number} {index}")
        stills.append(_observations(chains, frame, view.face_box(sight.box)))
    moments = list(_in_motion(chains, image, sight.box, rng, f"{number} in motion"))
    return PhotoObservations(
        stills=tuple(zip(*stills, strict=True)), motion=tuple(zip(*moments, strict=True))
    )


def _in_motion(
    chains: Sequence[ObservedChain],
    image: Pixels,
    box: Box,
    rng: np.random.Generator,
    name: str,
) -> Iterator[list[Observation]]:
    """Yield what the chains make of each frame of a moved photograph, which comes to them as a
    video: by its positions, not by the clock.
    """
    for index, view in enumerate(camera.motion(_MOTION_FRAMES)):
        picture = camera.render(image, box, view, rng)
        frame = Frame(picture, index, 0.0, name, position=index / FPS)
        yield _observations(chains, frame, view.face_box(box))


def _observations(
    chains: Sequence[ObservedChain], frame: Frame, face_box: Box
) -> list[Observation]:
    return [chain(frame, face_box) for chain in chains]
