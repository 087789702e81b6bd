"""Measure the service's chain on this device, with the demo's pictures."""

import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien_edge.chain import pipeline, sources
from mien_edge.errors import RuntimeMissingError
from mien_edge.model import estimates, tflite
from mien_edge.model.bundle import Bundle
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
_START_UP_TIMEOUT = 120.0  # seconds


def measure(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Measure the chain at full speed, its share of a core at the source's rate, and its start-up.

    frames: number of frames to measure, after a tenth as many to warm up.

    Returns model, frames, rate (frames per second of the source), faces, milliseconds (median and
    p95 of each stage and of `total`), fps, rss_megabytes, peak_rss_megabytes, start_up_seconds,
    cpu_share and estimates.

    Raises BundleError, and RuntimeMissingError without the demo's photograph.
    """
    seconds, faces = _stage_seconds(settings, bundle, frames)
    total = np.sum(list(seconds.values()), axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    milliseconds = {name: _percentiles(values) for name, values in seconds.items()}
    return {
        "model": bundle.card.id,
        "frames": frames,
        "rate": settings.source.fps,
        "faces": faces,
        "milliseconds": {**milliseconds, "total": _percentiles(total)},
        "fps": round(frames / float(total.sum()), 1),
        "rss_megabytes": health.resident_megabytes(),
        "peak_rss_megabytes": round(peak, 1),
        "start_up_seconds": round(_start_up_seconds(bundle.folder), 2),
        "cpu_share": cpu_shares(settings, bundle),
        "estimates": _estimates(bundle.model),
    }


def _stage_seconds(settings: Settings, bundle: Bundle, frames: int) -> tuple[_StageSeconds, int]:
    """Return seconds per frame for each stage, and the number of faces in all frames."""
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(index / 2) for index in range(_PICTURES)]
    model = load_model(settings, bundle)
    chain, stages = pipeline.timed(build_chain(settings, model))
    warm_up = max(frames // 10, 1)
    seconds: dict[str, list[float]] = {name: [] for name, _ in stages}
    faces = 0
    for index in range(warm_up + frames):
        picture = pictures[index % len(pictures)]
        readings = chain(Frame(picture, index, index / settings.source.fps))
        if index >= warm_up:
            faces += len(readings)
            for name, stage in stages:
                seconds[name].append(stage.last)
    return {name: np.array(values) for name, values in seconds.items()}, faces


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


def _estimates(model: Path) -> dict[str, Any]:
    """Return estimates for a Raspberry Pi's cores; empty without an interpreter."""
    try:
        operators = tflite.operators(model.read_bytes())
        return estimates.to_json(estimates.estimate(operators))
    except RuntimeMissingError:
        return {}


def _start_up_seconds(folder: Path) -> float:
    """Measure from the start of a new process to its first reading and its exit."""
    photograph = str(sources.astronaut())
    command = [sys.executable, "-P", "-m", "mien_edge", "run", photograph]
    command += ["--model", str(folder), "--quiet"]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=_START_UP_TIMEOUT)
    return time.monotonic() - start
