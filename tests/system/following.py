"""following.py [DATA] [--faces 4] [--seconds 2.4] [--path FILE.png]: how well faces are followed.

Faces of photographs (DATA/photos, DATA/wild) are moved, turned, brought nearer, covered and crowded
in frames of 640 x 480 at 5 to 30 a second. The whole chain reads them in several ways, in one run:

    every frame   the detector in each frame: what all else is compared with
    noise         the same, on frames with other noise of one gray level: how far it agrees with itself
    follow        as the settings have it (detect.interval)
    window        between two searches the detector again, on a window of 128 pixels about each face

Printed is how far they agree, how often a face changes its number, and the processor time. Without
DATA the demo's photograph takes the place of the others: --path draws how it is followed, otherwise
what more and more faces cost at 15 frames a second is printed. Nothing is asserted.
"""

import argparse
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from mien_edge.chain import detect, follow, photos, pipeline, smooth, sources
from mien_edge.model.bundle import find_bundle, load_bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings
from mien_edge.update.updater import LoadedModel
from mien_edge.values import Box, Face, Frame, Pixels, Reading

WIDTH, HEIGHT = 640, 480
RATES = (5, 15, 30)  # frames per second
NOISE = 4.0  # gray levels; standard deviation of a sensor's noise
MARGIN = 64  # pixels that noise may be shifted


# --- Scenes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pose:
    """Where a face is: its centre and height in pixels, roll and yaw in degrees."""

    x: float
    y: float
    height: float = 130.0
    roll: float = 0.0
    yaw: float = 0.0


Motion = Callable[[float], Pose | None]
"""The pose at a moment in seconds; None while the face is not there."""


def wave(moment: float, period: float, phase: float = 0.0) -> float:
    return math.sin(2 * math.pi * (moment / period + phase))


def still(t: float) -> Pose:
    return Pose(320, 240)


def sway(t: float) -> Pose:
    return Pose(320 + 90 * wave(t, 2.4), 240 + 15 * wave(t, 1.2), roll=6 * wave(t, 2.4))


def walk(t: float) -> Pose:
    return Pose(-40 + 180 * t, 230 + 8 * wave(t, 0.6), height=110)


def dart(t: float) -> Pose:
    """A face's width aside within a quarter of a second, each second."""
    share = min(t % 1.0 / 0.25, 1.0)
    start, end = (250, 370) if int(t) % 2 == 0 else (370, 250)
    return Pose(start + (end - start) * share, 240, height=120)


def roll(t: float) -> Pose:
    return Pose(320, 240, roll=28 * wave(t, 2.0))


def yaw(t: float) -> Pose:
    return Pose(320 + 20 * wave(t, 2.0), 240, yaw=35 * wave(t, 2.0))


def approach(t: float) -> Pose:
    return Pose(320, 240 + 10 * wave(t, 0.7), height=70 * math.exp(0.4 * t))


def far(t: float) -> Pose:
    return Pose(320 + 60 * wave(t, 2.0), 240, height=60)


def walk_back(t: float) -> Pose:
    return replace(walk(3.6 - t), y=270, height=125)


def sway_in_crowd(place: int, t: float) -> Pose:
    pose = sway(t + 0.6 * place)
    row = 70 if place % 2 == 0 else -70
    return replace(pose, x=pose.x - 210 + 140 * place, y=pose.y + row, height=100)


def come_and_go(t: float) -> Pose | None:
    return sway(t) if 0.85 <= t < 2.4 else None


def sway_aside(t: float) -> Pose:
    pose = sway(t)
    return replace(pose, x=pose.x + 180, height=95)


@dataclass(frozen=True)
class Scene:
    """Faces before a room.

    actors: pictures that a face fills, (height, width) uint8, and how each moves; who comes later
        is nearer.
    cover: what hides part of it at a moment: left, top, width and height in pixels.
    pan: pixels that the camera sways to each side.
    light: share by which the light changes.
    """

    actors: tuple[tuple[Pixels, Motion], ...]
    seed: int
    cover: Callable[[float], Sequence[float]] | None = None
    pan: float = 0.0
    light: float = 0.0

    def frames(self, fps: float, seconds: float) -> Iterator[Frame]:
        """Frames of a camera."""
        rng = np.random.default_rng(self.seed)
        for index in range(round(fps * seconds)):
            picture = self.picture(index / fps)
            noisy = _with_noise(picture, rng)
            image = cv2.cvtColor(noisy, cv2.COLOR_GRAY2BGR)
            yield Frame(image, index, 1_000_000 + index / fps)

    def pose(self, actor: int, t: float) -> Pose | None:
        """Where a face truly is."""
        pose = self.actors[actor][1](t)
        return pose and replace(pose, x=pose.x + self._shift(t))

    def _shift(self, t: float) -> float:
        return self.pan * wave(t, 2.0)

    def picture(self, t: float) -> Pixels:
        """What is seen at a moment, (HEIGHT, WIDTH) uint8, without noise."""
        picture = np.roll(room(self.seed), round(self._shift(t)), axis=1)
        for index, (image, _) in enumerate(self.actors):
            pose = self.pose(index, t)
            if pose is not None:
                paste(picture, image, pose)
        if self.cover:
            left, top, width, height = (round(value) for value in self.cover(t))
            cv2.rectangle(picture, (left, top), (left + width, top + height), 112, -1)
            stripe = left + width // 3
            cv2.rectangle(picture, (stripe, top), (stripe + width // 6, top + height), 75, -1)
        return cv2.convertScaleAbs(picture, alpha=1 + self.light * wave(t, 1.5))


def scenes(images: Sequence[Pixels]) -> Iterator[tuple[str, Scene]]:
    """Each kind of motion, with each face."""
    alone = (still, sway, walk, dart, roll, yaw, approach, far)
    for seed, image in enumerate(images):
        following = [images[(seed + step) % len(images)] for step in range(1, 4)]
        for motion in alone:
            yield motion.__name__, Scene(((image, motion),), seed)
        yield "pan", Scene(((image, sway),), seed, pan=40)
        yield "light", Scene(((image, sway),), seed, light=0.3)
        yield "covered", Scene(((image, still),), seed, cover=passing)
        yield "chin covered", Scene(((image, sway),), seed, cover=rising)
        crowd = [
            (each, partial(sway_in_crowd, place)) for place, each in enumerate([image, *following])
        ]
        yield "four", Scene(tuple(crowd), seed)
        yield "crossing", Scene(((image, walk), (following[0], walk_back)), seed)
        yield "one comes", Scene(((image, come_and_go), (following[0], sway_aside)), seed)


def crowd(image: Pixels, count: int) -> Scene:
    """Up to ten faces that sway, each in a place of its own."""
    return Scene(tuple((image, partial(sway_in_rows, place)) for place in range(count)), 0)


def sway_in_rows(place: int, t: float) -> Pose:
    x = 70 + 125 * (place % 5) + 20 * wave(t, 2.4, place / 10)
    y = 130 + 220 * (place // 5) + 12 * wave(t, 1.2, place / 10)
    return Pose(x, y, height=105, roll=6 * wave(t, 2.4, place / 10))


def passing(t: float) -> Sequence[float]:
    return (-100 + 220 * t, 150, 70, 200)


def rising(t: float) -> Sequence[float]:
    return (220, 480 - 230 * max(wave(t, 3.0), 0), 200, 300)


@cache
def room(seed: int) -> Pixels:
    """(HEIGHT, WIDTH) uint8: something to move in."""
    rng = np.random.default_rng(seed)
    picture = np.full((HEIGHT, WIDTH), rng.uniform(80, 150), np.float32)
    for size, strength in ((4, 30), (16, 15), (64, 8)):
        coarse = rng.normal(0, strength, (size * 3 // 4, size)).astype(np.float32)
        picture += cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        left, top = (int(value) for value in rng.integers(0, (WIDTH, HEIGHT)))
        width, height = (int(value) for value in rng.integers(30, 200, 2))
        tone = float(rng.uniform(30, 200))
        cv2.rectangle(picture, (left, top), (left + width, top + height), tone, -1)
    return picture.clip(0, 255).astype(np.uint8)


def paste(picture: Pixels, image: Pixels, pose: Pose) -> None:
    """Show an oval of `image` in `picture`."""
    scale = pose.height / image.shape[0]
    source = turned(image, pose.yaw)
    reduction = min(1.0, 1.2 * scale)
    if reduction < 1:
        source = cv2.resize(source, None, fx=reduction, fy=reduction, interpolation=cv2.INTER_AREA)
    height, width = source.shape
    half = round(max(height, width) * scale / reduction)
    left = round(pose.x) - half
    top = round(pose.y) - half
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), pose.roll, scale / reduction)
    matrix[:, 2] += (pose.x - width / 2 - left, pose.y - height / 2 - top)
    side = (2 * half, 2 * half)
    face = cv2.warpAffine(source, matrix, side, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(oval(height, width), matrix, side)
    rows = slice(max(top, 0), min(top + 2 * half, HEIGHT))
    columns = slice(max(left, 0), min(left + 2 * half, WIDTH))
    here = picture[rows, columns]
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    if here.size:
        here[:] = np.rint(here + (face[inside].astype(np.float32) - here) * mask[inside])


def turned(image: Pixels, degrees: float) -> Pixels:
    """A picture on an upright cylinder that turns: its middle moves against its sides."""
    height, width = image.shape
    columns = ((np.arange(width) + 0.5) / width * 2 - 1) * 0.9
    angles = np.arcsin(columns) - math.radians(degrees)
    sources = (np.sin(angles.clip(-math.pi / 2, math.pi / 2)) / 0.9 + 1) / 2 * width - 0.5
    xs = np.tile(sources.astype(np.float32), (height, 1))
    ys = np.tile(np.arange(height, dtype=np.float32)[:, None], (1, width))
    return cv2.remap(image, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def oval(height: int, width: int) -> np.ndarray:
    """(height, width) float32: 1 inside, 0 outside, soft between."""
    rows = (np.arange(height) + 0.5) / height * 2 - 1
    columns = (np.arange(width) + 0.5) / width * 2 - 1
    radius = np.hypot(rows[:, None], columns)
    return ((1.02 - radius) / 0.06).clip(0, 1).astype(np.float32)


@cache
def noise(deviation: float) -> tuple[Pixels, Pixels]:
    """What noise adds to a picture, and what it takes away."""
    shape = (HEIGHT + MARGIN, WIDTH + MARGIN)
    values = np.random.default_rng(0).normal(0, deviation, shape).round()
    return values.clip(0, 255).astype(np.uint8), (-values).clip(0, 255).astype(np.uint8)


def _with_noise(picture: Pixels, rng: np.random.Generator, deviation: float = NOISE) -> Pixels:
    """A gray picture with noise that is another one each time."""
    top, left = rng.integers(0, MARGIN, 2)
    part = (slice(top, top + HEIGHT), slice(left, left + WIDTH))
    more, less = noise(deviation)
    return cv2.subtract(cv2.add(picture, more[part]), less[part])


def faces_of(folder: Path, pattern: str, count: int) -> list[Pixels]:
    """Gray pictures, evenly chosen."""
    names = sorted(folder.glob(pattern))
    step = max(len(names) // max(count, 1), 1)
    chosen = names[step // 2 :: step][:count]
    return [detect.gray(photos.read_photo(name)) for name in chosen]


# --- Ways to find faces -----------------------------------------------------------------------


class Counted:
    """A detector whose calls are counted."""

    def __init__(self, look: detect.Detector) -> None:
        self.look = look
        self.calls = 0

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        self.calls += 1
        return self.look(frame)


class NoisyFrames:
    """The detector on frames with other noise of one gray level."""

    def __init__(self, look: detect.Detector) -> None:
        self.look = look
        self.rng = np.random.default_rng(1)

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        noisy = _with_noise(frame.image[..., 0], self.rng, 1.0)
        return self.look(replace(frame, image=cv2.cvtColor(noisy, cv2.COLOR_GRAY2BGR)))


class Window:
    """Between two searches, the detector on a square of twice each face's size.

    The window is scaled down to 128 pixels, never up. A face that is not in it is searched for at
    once in the whole picture.
    """

    def __init__(self, settings: Settings, look: detect.Detector) -> None:
        self.look = look
        self.interval = settings.detect.interval
        self.near = detect.YuNet(replace(settings.detect, size=128))
        self.faces: tuple[Face, ...] = ()
        self.searched_at = -math.inf
        self.time = 0.0

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        now = frame.source_time
        step = now - self.time
        self.time = now
        faces = [self._near(frame, face) for face in self.faces]
        is_due = now + step > self.searched_at + self.interval
        if is_due or None in faces:
            self.searched_at = now
            self.faces = self.look(frame)
        else:
            self.faces = detect.largest_first(face for face in faces if face)
        return self.faces

    def _near(self, frame: Frame, face: Face) -> Face | None:
        height, width = frame.image.shape[:2]
        square = face.box.square(2.0).intersection(Box(0, 0, width, height))
        left, top, right, bottom = (
            int(value)
            for value in (square.x, square.y, square.x + square.width, square.y + square.height)
        )
        part = replace(frame, image=frame.image[top:bottom, left:right])
        candidates = [_shifted(each, left, top) for each in self.near(part)]
        best = max(candidates, key=lambda each: each.box.iou(face.box), default=None)
        return best if best and best.box.iou(face.box) > 0.1 else None


def _shifted(face: Face, dx: float, dy: float) -> Face:
    box = face.box._replace(x=face.box.x + dx, y=face.box.y + dy)
    landmarks = tuple((x + dx, y + dy) for x, y in face.landmarks)
    return replace(face, box=box, landmarks=landmarks)


REFERENCE = "every frame"


def ways(settings: Settings) -> dict[str, Callable[[detect.Detector], detect.Detector]]:
    """How each way is made of the detector."""
    return {
        REFERENCE: lambda look: look,
        "noise": NoisyFrames,
        "follow": partial(follow.Follower, settings.detect.interval),
        "window": partial(Window, settings),
    }


# --- Comparison -------------------------------------------------------------------------------


@dataclass
class Tally:
    """What one way did, against the detector on every frame.

    overlaps: IoU of each face that both found. labels: faces to which both gave a label, and it
    was another. unsettled: faces to which only one gave a label. missed, extra: faces that only
    the reference or only this way found. switches: how often a face got another number.
    """

    overlaps: list[float] = field(default_factory=list)
    labels: int = 0
    unsettled: int = 0
    missed: int = 0
    extra: int = 0
    switches: int = 0
    frames: int = 0
    searches: int = 0
    find_seconds: list[float] = field(default_factory=list)
    frame_seconds: list[float] = field(default_factory=list)

    def add(self, reference: Sequence[Reading], readings: Sequence[Reading]) -> None:
        """Count one frame."""
        pairs = matches(reference, readings)
        for overlap, first, second in pairs:
            self.overlaps.append(overlap)
            if first.label and second.label:
                self.labels += first.label != second.label
            else:
                self.unsettled += first.label != second.label
        self.missed += len(reference) - len(pairs)
        self.extra += len(readings) - len(pairs)
        self.frames += 1

    def row(self, name: str) -> str:
        """A line under HEADER."""
        median, low = np.percentile(self.overlaps or [math.nan], (50, 5))
        count = max(len(self.overlaps), 1)
        shares = [self.labels, self.unsettled, self.missed, self.extra]
        percentages = "".join(f"{100 * share / count:>10.2f}" for share in shares)
        find = 1000 * np.mean(self.find_seconds)
        frame = 1000 * np.mean(self.frame_seconds)
        searches = 100 * self.searches / self.frames
        return (
            f"{name:<26}{median:>7.3f}{low:>7.3f}{percentages}{self.switches:>9}{searches:>10.0f}"
            f"{find:>8.2f}{frame:>8.2f}"
        )


HEADER = (
    f"{'':<26}{'IoU':>7}{'5 %':>7}{'label %':>10}{'unsettl. %':>10}{'missed %':>10}{'extra %':>10}"
    f"{'switches':>9}{'search %':>10}{'find ms':>8}{'all ms':>8}"
)


def matches(
    reference: Sequence[Reading], readings: Sequence[Reading]
) -> list[tuple[float, Reading, Reading]]:
    """Pairs of readings of one face, by their boxes."""
    every_pair = [
        (first.box.iou(second.box), first, second) for first in reference for second in readings
    ]
    pairs: list[tuple[float, Reading, Reading]] = []
    used: set[int] = set()
    for overlap, first, second in sorted(every_pair, key=lambda pair: -pair[0]):
        if overlap > 0.3 and not used & {id(first), id(second)}:
            used |= {id(first), id(second)}
            pairs.append((overlap, first, second))
    return pairs


def switches(scene: Scene, fps: float, frames: Iterable[Sequence[Reading]]) -> int:
    """How often the reading at a face's true place has another number than before."""
    numbers: dict[int, int] = {}
    count = 0
    for index, readings in enumerate(frames):
        for actor in range(len(scene.actors)):
            pose = scene.pose(actor, index / fps)
            if pose is None or not readings:
                continue
            half = pose.height / 2
            place = Box(pose.x - half, pose.y - half, pose.height, pose.height)
            nearest = max(readings, key=lambda reading: reading.box.iou(place))
            if nearest.box.iou(place) > 0.2:
                count += numbers.setdefault(actor, nearest.track) != nearest.track
                numbers[actor] = nearest.track
    return count


def fresh_chain(settings: Settings, model: LoadedModel, find: detect.Detector) -> pipeline.Chain:
    """The service's chain with another first stage, and with no face in memory."""
    threshold = model.bundle.card.calibration.confidence_threshold
    smoother = smooth.Smoother(settings.smooth, threshold)
    return replace(build_chain(settings, model), detect=find, smooth=smoother)


class Comparison:
    """Scenes read in each way, and what came of it by way and group of scenes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = load_model(settings, load_bundle(find_bundle("")))
        self.look = detect.detector(settings.detect)
        self.tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)

    def read(self, kind: str, scene: Scene, fps: float, seconds: float) -> None:
        """Read one scene in all ways, frame by frame."""
        chains = {name: self._chain(make) for name, make in ways(self.settings).items()}
        readings: dict[str, list[tuple[Reading, ...]]] = defaultdict(list)
        groups = ("all", kind, f"{fps} fps")
        for frame in scene.frames(fps, seconds):
            for name, (chain, find, _) in chains.items():
                start = time.process_time()
                readings[name].append(chain(frame))
                elapsed = time.process_time() - start
                for group in groups:
                    tally = self.tallies[group, name]
                    tally.find_seconds.append(find.last)
                    tally.frame_seconds.append(elapsed)
                    tally.add(readings[REFERENCE][-1], readings[name][-1])
        for name, (_, _, look) in chains.items():
            for group in groups:
                tally = self.tallies[group, name]
                tally.switches += switches(scene, fps, readings[name])
                tally.searches += look.calls

    def _chain(
        self, make: Callable[[detect.Detector], detect.Detector]
    ) -> tuple[pipeline.Chain, pipeline.Timed, Counted]:
        """A chain of its own, its first stage, and the detector in it."""
        look = Counted(self.look)
        chain = fresh_chain(self.settings, self.model, make(look))
        timed, stages = pipeline.timed(chain, time.process_time)
        return timed, dict(stages)["detect"], look

    def table(self) -> str:
        """Everything that was counted."""
        groups = list(dict.fromkeys(group for group, _ in self.tallies))
        groups.sort(key=lambda group: (group != "all", group.endswith("fps")))
        lines = [HEADER]
        for group in groups:
            for name in ways(self.settings):
                lines.append(self.tallies[group, name].row(f"{group:<14}{name}"))
        return "\n".join(lines)


def growth(image: Pixels, settings: Settings) -> Iterator[str]:
    """What frames with more and more faces cost: medians of five rounds, all ways in turn."""
    look = detect.detector(settings.detect)
    model = load_model(settings, load_bundle(find_bundle("")))
    yield f"{'faces':>5}{REFERENCE:>14}{'follow':>10}{'of a core at 15 fps':>22}"
    for count in (0, 1, 2, 5, 10):
        frames = list(crowd(image, count).frames(15, 2.0))
        milliseconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(5):
            for name, make in ways(settings).items():
                chain = fresh_chain(settings, model, make(look))
                start = time.process_time()
                readings = [chain(frame) for frame in frames]
                elapsed = time.process_time() - start
                milliseconds[name].append(1000 * elapsed / len(frames))
        seen = np.median([len(each) for each in readings])
        every, following = (np.median(milliseconds[name]) for name in (REFERENCE, "follow"))
        yield f"{seen:>5.0f}{every:>11.2f} ms{following:>7.2f} ms{following * 0.015:>21.1%}"


# --- A picture of a path ----------------------------------------------------------------------


def draw_path(image: Pixels, settings: Settings, target: Path) -> None:
    """Draw where a face was searched for and followed on its way through the picture.

    The frame at the end of the way is written, twice as large and faded.
    """
    scene = Scene(((image, stroll),), 3)
    find = follow.Follower(settings.detect.interval, Counted(detect.detector(settings.detect)))
    every_frame = detect.detector(settings.detect)
    colours = {"searched": (0, 120, 255), "followed": (80, 220, 80), REFERENCE: (255, 170, 70)}
    boxes: list[tuple[str, Face]] = []
    for frame in scene.frames(15, 3.2):
        calls = find.detect.calls
        faces = find(frame)
        how = "followed" if find.detect.calls == calls else "searched"
        boxes += [(REFERENCE, face) for face in every_frame(frame)]
        boxes += [(how, face) for face in faces]
    size = (2 * WIDTH, 2 * HEIGHT)
    end = cv2.cvtColor(scene.picture(3.2), cv2.COLOR_GRAY2BGR)
    canvas = cv2.resize(end, size, interpolation=cv2.INTER_CUBIC) // 8 * 4 + 20
    for how, face in boxes:
        if how == "searched":
            left, top, width, height = (round(2 * value) for value in face.box)
            cv2.rectangle(canvas, (left, top), (left + width, top + height), colours[how], 1)
        for point in (face.box.centre, *face.landmarks):
            x, y = (round(2 * value) for value in point)
            radius, thickness = (5, 1) if how == REFERENCE else (3, -1)
            cv2.circle(canvas, (x, y), radius, colours[how], thickness, cv2.LINE_AA)
    for line, (text, colour) in enumerate(colours.items()):
        place = (24, 44 + 34 * line)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, colour, 2, cv2.LINE_AA)
    cv2.imwrite(str(target), canvas, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def stroll(t: float) -> Pose:
    return Pose(90 + 145 * t, 250 + 40 * wave(t, 2.1), 110 + 25 * t, roll=10 * wave(t, 1.6))


def demo_face() -> Pixels:
    """The face of the demo's photograph, gray."""
    return detect.gray(photos.read_photo(sources.astronaut()))[40:205, 160:290]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.4)
    parser.add_argument("--path", type=Path)
    arguments = parser.parse_args()
    settings = Settings()
    if arguments.path:
        draw_path(demo_face(), settings, arguments.path)
    elif arguments.data is None:
        for line in growth(demo_face(), settings):
            print(line)  # noqa: T201
    else:
        half = arguments.faces // 2
        images = faces_of(arguments.data / "photos", "*.jpg", arguments.faces - half)
        images += faces_of(arguments.data / "wild", "*/*.jpg", half)
        comparison = Comparison(settings)
        try:
            for (kind, scene), fps in itertools.product(scenes(images), RATES):
                comparison.read(kind, scene, fps, arguments.seconds)
        finally:  # also of what was read before Ctrl+C
            print(comparison.table())  # noqa: T201


if __name__ == "__main__":
    main()
