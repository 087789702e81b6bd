"""Measure the service's chain on this device, with the demo's pictures."""

import dataclasses
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien_edge.chain import pipeline, sources
from mien_edge.errors import RuntimeMissingError
from mien_edge.model import estimates, profile, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.progress import ProgressLines
from mien_edge.service.run import build_chain, load_model
from mien_edge.service.throttle import Governor, ThrottledSource
from mien_edge.settings import Settings
from mien_edge.status import health
from mien_edge.values import Frame, Pixels

_PICTURES = 16  # of the demo, half a second apart
_STRIPE_WIDTH = 80  # pixels
_STRIPE_SPEED = 100  # pixels per second
_IMMEDIATELY = 0.001  # seconds until a source without motion idles
_GRAY = 90  # of a scene with nobody in it
_StageSeconds: TypeAlias = dict[str, NDArray[np.float64]]
_ESTIMATED_SIZE = 320  # of the detector, pixels; the ratio of all else to it is taken there
_BUSY_LOAD = 0.5  # processes a core
_BUSY_RATIO = 1.15  # of the wall clock to processor time
_START_UP_TIMEOUT = 120.0  # seconds


def measure(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Measure the chain at full speed, its share of a core at the source's rate, and its start-up.

    frames: number of frames to measure, after a tenth as many to warm up.

    Returns model, frames, rate (frames per second of the source), faces, milliseconds (median and
    p95 of the CPU time of each stage and of `total`), wall_milliseconds (the same of the wall
    clock, a frame), fps by the wall clock, busy (why the wall clock is not to be trusted, or ''),
    rss_megabytes, peak_rss_megabytes, start_up_seconds, cpu_share, estimates and line_estimates.

    Raises BundleError, and RuntimeMissingError without the demo's photograph.
    """
    load = _load()
    times = _measure_stages(settings, bundle, frames)
    seconds = times.cpu
    total = np.sum(list(seconds.values()), axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    milliseconds = {name: _percentiles(values) for name, values in seconds.items()}
    return {
        "model": bundle.card.id,
        "frames": frames,
        "rate": settings.source.fps,
        "faces": times.faces,
        "milliseconds": {**milliseconds, "total": _percentiles(total)},
        "wall_milliseconds": _percentiles(times.wall),
        "fps": round(frames / float(times.wall.sum()), 1),
        "busy": _busy(load, float(times.wall.sum()), float(total.sum())),
        "rss_megabytes": health.resident_megabytes(),
        "peak_rss_megabytes": round(peak, 1),
        "start_up_seconds": round(_start_up_seconds(bundle.folder), 2),
        "cpu_share": cpu_shares(settings, bundle),
        **_estimates(settings, bundle.model, milliseconds),
    }


@dataclass(frozen=True, slots=True)
class _Times:
    """What the frames took.

    cpu: seconds of processor time a frame, by stage. wall: (frames,) seconds a frame by the wall
    clock. faces: in all frames.
    """

    cpu: _StageSeconds
    wall: NDArray[np.float64]
    faces: int


def _measure_stages(settings: Settings, bundle: Bundle, frames: int) -> _Times:
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(index / 2) for index in range(_PICTURES)]
    model = load_model(settings, bundle)
    chain, stages = pipeline.timed(build_chain(settings, model), time.process_time)
    warm_up = max(frames // 10, 1)
    cpu: dict[str, list[float]] = {name: [] for name, _ in stages}
    wall: list[float] = []
    faces = 0
    progress = ProgressLines("bench", "frames", warm_up + frames)
    for index in range(warm_up + frames):
        picture = pictures[index % len(pictures)]
        start = time.perf_counter()
        readings = chain(Frame(picture, index, index / settings.source.fps))
        progress.update()
        if index >= warm_up:
            wall.append(time.perf_counter() - start)
            faces += len(readings)
            for name, stage in stages:
                cpu[name].append(stage.last)
    arrays = {name: np.array(values) for name, values in cpu.items()}
    return _Times(arrays, np.array(wall), faces)


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


def _percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    median, p95 = np.percentile(seconds * 1000, [50, 95])
    return {"median": round(float(median), 3), "p95": round(float(p95), 3)}


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


def _estimates(
    settings: Settings, model: Path, milliseconds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Return estimates for Raspberry Pis: of the network alone, and of the whole line where this
    measurement was made with the detector and the size that they are for; empty without an
    interpreter.
    """
    try:
        operators = tflite.operators(model.read_bytes())
        network = profile.invoke_milliseconds(model)
    except RuntimeMissingError:
        return {"estimates": {}, "line_estimates": []}
    result: dict[str, Any] = {
        "estimates": estimates.to_json(estimates.estimate(operators)),
        "line_estimates": [],
    }
    if settings.detect.method == "yunet" and settings.detect.size == _ESTIMATED_SIZE:
        detector = milliseconds["detect"]["median"]
        whole = sum(values["median"] for values in milliseconds.values())
        rest_ratio = max(whole - detector - network, 0.0) / detector
        lines = estimates.estimate_lines(operators, rest_ratio)
        result["line_estimates"] = [dataclasses.asdict(line) for line in lines]
    return result


def _start_up_seconds(folder: Path) -> float:
    """Measure from the start of a new process to its first reading and its exit."""
    photograph = str(sources.astronaut())
    command = [sys.executable, "-P", "-m", "mien_edge", "run", photograph]
    command += ["--model", str(folder), "--quiet"]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=_START_UP_TIMEOUT)
    return time.monotonic() - start
