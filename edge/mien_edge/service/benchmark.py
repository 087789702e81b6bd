"""Measure the service's chain on this device: what a frame costs, and which part of it."""

import dataclasses
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien_edge.chain import detect, pipeline, reach, sources
from mien_edge.chain.follow import Follower
from mien_edge.errors import RuntimeMissingError
from mien_edge.model import boards, estimates, profile, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.progress import ProgressLines
from mien_edge.service.run import build_chain, load_model
from mien_edge.service.scenes import Scene, scenes
from mien_edge.service.throttle import Governor, ThrottledSource
from mien_edge.settings import Settings
from mien_edge.status import health
from mien_edge.values import Frame, Pixels

ROUNDS = 5
"""The scenes take turns so many times; each figure is the median of the rounds."""

PARTS = ("detector", "following", "classifier", "rest")
"""What a frame's time is divided into: looks of the detector at whole pictures, following faces
between them, crop and network, and all else.
"""

_LOOKS = 20  # of the detector at one picture
_STRIPE_WIDTH = 80  # pixels
_STRIPE_SPEED = 100  # pixels per second
_IMMEDIATELY = 0.001  # seconds until a source without motion idles
_GRAY = 90  # of a scene with nobody in it
_BUSY_LOAD = 0.5  # processes a core
_BUSY_RATIO = 1.15  # of the wall clock to processor time
_START_UP_TIMEOUT = 120.0  # seconds
_PACKAGES = ("mien", "numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime")


def measure(settings: Settings, bundle: Bundle, frames: int = 210) -> dict[str, Any]:
    """Measure the chain at full speed, its share of a core at the source's rate, and its start-up.

    frames: number of frames to measure in each scene, after a tenth as many to warm up.

    Returns what `measure_scenes` does, and start_up_seconds (until the first reading and the end,
    by the wall clock), start_up_cpu_seconds and cpu_share.

    Raises BundleError, and RuntimeMissingError without the demo's photograph.
    """
    result = measure_scenes(settings, bundle, frames)
    wall_seconds, cpu_seconds = _start_up(bundle.folder)
    start_up = {
        "start_up_seconds": round(wall_seconds, 2),
        "start_up_cpu_seconds": round(cpu_seconds, 2),
    }
    return result | start_up | {"cpu_share": cpu_shares(settings, bundle)}


def measure_scenes(settings: Settings, bundle: Bundle, frames: int = 210) -> dict[str, Any]:
    """Measure what a frame of each scene costs at full speed.

    frames: as in `measure`.

    Returns model, frames, rate (frames per second of the source), detector_size, machine, scenes,
    look_milliseconds (one look of the detector at a picture of its size),
    reference_look_milliseconds (the same at boards.REFERENCE_SIZE), network_milliseconds (one
    face), fps by the wall clock with one moving face, busy (why the wall clock is not to be
    trusted, or ''), rss_megabytes, peak_rss_megabytes, estimates and line_estimates.

    A scene has milliseconds (CPU time a frame, of `total` and of each of PARTS: the median of
    ROUNDS means), p95 (of a frame's total), wall_milliseconds (the mean), faces and looks (a
    frame, the mean).

    Raises BundleError, and RuntimeMissingError without the demo's photograph.
    """
    load = _load()
    measured = _measure_scenes(settings, bundle, frames)
    moving = measured["moving face"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    result = {
        "model": bundle.card.id,
        "frames": frames,
        "rate": settings.source.fps,
        "detector_size": reach.detector_size(settings),
        "machine": machine(),
        "scenes": measured,
        "look_milliseconds": _look_milliseconds(settings, reach.detector_size(settings)),
        "reference_look_milliseconds": _look_milliseconds(settings, boards.REFERENCE_SIZE),
        "network_milliseconds": _network_milliseconds(bundle.model),
        "fps": round(1000 / moving["wall_milliseconds"], 1),
        "busy": _busy(load, moving["wall_milliseconds"], moving["milliseconds"]["total"]),
        "rss_megabytes": health.resident_megabytes(),
        "peak_rss_megabytes": round(peak, 1),
    }
    return result | _estimates(settings, bundle.model, result)


def machine() -> dict[str, str]:
    """What the figures depend on: processor, Python, and the packages that compute."""
    versions = {"processor": _processor(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in values.items()}
    return names.get("model name") or names.get("Model") or platform.machine()


class _Meter:
    """A chain that is measured while one scene passes through it."""

    def __init__(self, settings: Settings, bundle: Bundle, scene: Scene) -> None:
        chain = build_chain(settings, load_model(settings, bundle))
        self._looks = _time_looks(chain)
        self._chain, self._stages = pipeline.timed(chain, time.process_time)
        self._scene = scene
        self._fps = settings.source.fps
        self._index = 0
        self._rounds: list[dict[str, float]] = []
        self._totals: list[float] = []
        self._wall: list[float] = []
        self._faces = 0

    def warm_up(self, frames: int) -> None:
        """Pass frames that do not count."""
        for _ in range(frames):
            self._chain(self._next_frame())
        self._looks.reset()

    def measure(self, frames: int) -> None:
        """Pass one round of frames."""
        seconds = dict.fromkeys(("total", *PARTS), 0.0)
        for _ in range(frames):
            frame = self._next_frame()
            self._looks.frame_seconds = 0.0
            wall_start = time.perf_counter()
            start = time.process_time()
            readings = self._chain(frame)
            total = time.process_time() - start
            self._wall.append(time.perf_counter() - wall_start)
            self._totals.append(total)
            self._faces += len(readings)
            for part, value in self._parts(total).items():
                seconds[part] += value
        self._rounds.append({name: value / frames for name, value in seconds.items()})

    def _next_frame(self) -> Frame:
        moment = self._index / self._fps
        frame = Frame(self._scene(moment), self._index, moment)
        self._index += 1
        return frame

    def _parts(self, total: float) -> dict[str, float]:
        """What the last frame's seconds were spent on."""
        stages = {name: stage.last for name, stage in self._stages}
        detector = self._looks.frame_seconds
        following = stages["detect"] - detector
        classifier = stages["classify"]
        rest = total - detector - following - classifier
        return {
            "total": total,
            "detector": detector,
            "following": following,
            "classifier": classifier,
            "rest": rest,
        }

    def result(self) -> dict[str, Any]:
        """What was measured, in milliseconds: see `measure`."""
        medians = {
            name: round(1000 * float(np.median([row[name] for row in self._rounds])), 3)
            for name in self._rounds[0]
        }
        frames = len(self._totals)
        return {
            "milliseconds": medians,
            "p95": round(1000 * float(np.percentile(self._totals, 95)), 3),
            "wall_milliseconds": round(1000 * float(np.mean(self._wall)), 3),
            "faces": round(self._faces / frames, 2),
            "looks": round(self._looks.count / frames, 3),
        }


class _TimedLooks:
    """A detector whose looks at whole pictures are counted and timed.

    count: looks. frame_seconds: CPU time of looks; set it to 0 before a frame.
    """

    def __init__(self, look: detect.Detector) -> None:
        self._look = look
        self.frame_seconds = 0.0
        self.count = 0

    def __call__(self, frame: Frame) -> Any:
        self.count += 1
        start = time.process_time()
        faces = self._look(frame)
        self.frame_seconds += time.process_time() - start
        return faces

    def reset(self) -> None:
        """Count from 0."""
        self.count = 0
        self.frame_seconds = 0.0


def _time_looks(chain: pipeline.Chain) -> _TimedLooks:
    """Time the looks of the detector within a chain."""
    stage = chain.detect
    if isinstance(stage, Follower):
        looks = _TimedLooks(stage.detect)
        stage.detect = looks
        return looks
    looks = _TimedLooks(stage)
    object.__setattr__(chain, "detect", looks)
    return looks


def _measure_scenes(settings: Settings, bundle: Bundle, frames: int) -> dict[str, dict[str, Any]]:
    meters = {name: _Meter(settings, bundle, scene) for name, scene in scenes().items()}
    warm_up = max(frames // 10, 1)
    frames_per_round = max(frames // ROUNDS, 1)
    progress = ProgressLines("bench", "rounds", ROUNDS * len(meters))
    for meter in meters.values():
        meter.warm_up(warm_up)
    for _ in range(ROUNDS):
        for meter in meters.values():
            meter.measure(frames_per_round)
            progress.update()
    return {name: meter.result() for name, meter in meters.items()}


def _look_milliseconds(settings: Settings, size: int) -> float:
    """Median CPU time of one look of the detector at a picture of that size with one face.

    size: pixels of the longer side; the picture needs no reduction.
    """
    look = detect.detector(dataclasses.replace(settings.detect, size=size))
    picture = scenes()["still face"](0.0)
    height = round(size * picture.shape[0] / picture.shape[1])
    frame = Frame(cv2.resize(picture, (size, height)), 0, 0.0)  # type: ignore[arg-type]
    seconds = []
    for _ in range(_LOOKS):
        start = time.process_time()
        look(frame)
        seconds.append(time.process_time() - start)
    return round(1000 * float(np.median(seconds)), 3)


def _network_milliseconds(model: Path) -> float | None:
    """The network alone, a face; None without an interpreter."""
    try:
        return round(profile.invoke_milliseconds(model), 3)
    except RuntimeMissingError:
        return None


def _load() -> float:
    """How many processes wanted to run in the last minute, for each core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _busy(load: float, wall_seconds: float, cpu_seconds: float) -> str:
    """Say why the wall clock is not to be trusted; '' where it is."""
    reasons = []
    if load > _BUSY_LOAD:
        reasons.append(f"{load:.1f} processes a core wanted to run in the minute before")
    if wall_seconds > _BUSY_RATIO * cpu_seconds:
        waited = 1 - cpu_seconds / wall_seconds
        reasons.append(f"the chain waited for the processor {waited:.0%} of the time")
    return "; ".join(reasons)


def cpu_shares(settings: Settings, bundle: Bundle, seconds: float = 3.0) -> dict[str, float]:
    """Measure the share of one core that the chain takes at the source's rate: 1 is a whole core.

    Returns it for 'one face' that moves, 'no face' while something else moves, and 'idle', where
    nothing moves; the camera's own work is left out. Each is measured for `seconds`.
    """
    demo = sources.Demo(settings.source.fps)
    empty = np.full((*demo.size, 3), _GRAY, np.uint8)
    stripe = empty.copy()
    stripe[:, :_STRIPE_WIDTH] = 255

    def moving_stripe(moment: float) -> Pixels:
        return np.roll(stripe, int(moment * _STRIPE_SPEED), axis=1)

    def nothing(moment: float) -> Pixels:
        return empty

    never_idle = _with_idle_after(settings, 0.0)
    soon_idle = _with_idle_after(settings, _IMMEDIATELY)
    return {
        "one face": _cpu_share(never_idle, bundle, demo.picture, seconds),
        "no face": _cpu_share(never_idle, bundle, moving_stripe, seconds),
        "idle": _cpu_share(soon_idle, bundle, nothing, seconds),
    }


def _with_idle_after(settings: Settings, seconds: float) -> Settings:
    throttle = dataclasses.replace(settings.throttle, idle_after=seconds)
    return dataclasses.replace(settings, throttle=throttle)


def _cpu_share(
    settings: Settings,
    bundle: Bundle,
    scene: Callable[[float], Pixels],
    seconds: float,
) -> float:
    """Measure one scene: `scene` returns its picture at a moment in seconds."""
    fps = settings.source.fps
    count = max(round(seconds * fps), 2)
    pictures = [scene(index / fps) for index in range(count)]
    chain = build_chain(settings, load_model(settings, bundle))
    governor = Governor(settings.throttle, fps)
    throttled = ThrottledSource(_RealTimeSource(pictures, fps), settings.throttle, governor)
    start = time.monotonic()
    cpu_start = time.process_time()
    for frame in throttled:
        chain(frame)
    cpu_seconds = time.process_time() - cpu_start
    return round(cpu_seconds / (time.monotonic() - start), 4)


class _RealTimeSource:
    """Pictures as a live source, `fps` of them a second."""

    paths = ()
    live = True
    skipped = 0

    def __init__(self, pictures: Sequence[Pixels], fps: float) -> None:
        self.pictures = pictures
        self.fps = fps

    def __iter__(self) -> Iterator[Frame]:
        start = time.time()
        for index, picture in enumerate(self.pictures):
            time.sleep(max(start + index / self.fps - time.time(), 0))
            yield Frame(picture, index, time.time())


def _estimates(settings: Settings, model: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return estimates for Raspberry Pis: of the network alone, and of the whole line in each
    scene; empty without an interpreter, and of the line without YuNet.

    result: what `measure` has measured.
    """
    network = result["network_milliseconds"]
    if network is None:
        return {"estimates": {}, "line_estimates": []}
    operators = tflite.operators(model.read_bytes())
    lines = []
    if settings.detect.method == "yunet":
        for scene, values in result["scenes"].items():
            load = _scene_load(values, result)
            for board in boards.BOARDS.values():
                line = boards.estimate_line(operators, load, board)
                lines.append({"scene": scene, **dataclasses.asdict(line)})
    networks = estimates.to_json(estimates.estimate(operators))
    return {"estimates": networks, "line_estimates": lines}


def _scene_load(values: Mapping[str, Any], result: Mapping[str, Any]) -> boards.Load:
    """What a scene costs, as estimates take it. values: of the scene."""
    network = values["faces"] * result["network_milliseconds"]
    looks = values["looks"] * result["look_milliseconds"]
    other = values["milliseconds"]["total"] - looks - network
    return boards.Load(
        size=result["detector_size"],
        fps=result["rate"],
        faces=values["faces"],
        looks=values["looks"] * result["rate"],
        reference_look=result["reference_look_milliseconds"],
        other=max(other, 0.0),
    )


def _start_up(folder: Path) -> tuple[float, float]:
    """Measure from the start of a new process to its first reading and its exit: seconds by the
    wall clock, and of CPU time.
    """
    photograph = str(sources.astronaut())
    command = [sys.executable, "-P", "-m", "mien_edge", "run", photograph]
    command += ["--model", str(folder), "--quiet"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=_START_UP_TIMEOUT)
    wall_seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_seconds, cpu_seconds
