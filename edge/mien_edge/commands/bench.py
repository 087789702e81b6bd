"""`mien-edge bench`: milliseconds per stage, frames per second, memory and start-up, on the demo's pictures."""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge.chain import pipeline, sources
from mien_edge.commands.common import add_command, json_option, load_settings, model_option, settings_option
from mien_edge.errors import RuntimeMissingError
from mien_edge.model import estimates, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.service import run, throttle
from mien_edge.settings import Settings
from mien_edge.status import health
from mien_edge.values import Frame, Pixels


def bench(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Run `frames` pictures of the demo, after a tenth as many to warm up, as fast as they go."""
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(i / 2) for i in range(16)]
    chain, stages = pipeline.timed(run.chain(settings, run.load_model(settings, bundle), still=False))
    warm = max(frames // 10, 1)
    seconds: dict[str, list[float]] = {name: [] for name, _ in stages}
    faces = 0
    for index in range(warm + frames):
        found = len(chain(Frame(pictures[index % len(pictures)], index, index / settings.source.fps)))
        if index >= warm:
            faces += found
            for name, stage in stages:
                seconds[name].append(stage.last)
    total = np.sum(list(seconds.values()), axis=0)
    return {
        "model": bundle.card.id,
        "frames": frames,
        "rate": settings.source.fps,
        "faces": faces,
        "milliseconds": {name: _figures(np.array(spent)) for name, spent in seconds.items()}
        | {"total": _figures(total)},
        "fps": round(frames / float(total.sum()), 1),
        "rss_megabytes": health.resident_megabytes(),
        "peak_rss_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "start_up_seconds": round(_start_up(bundle.folder), 2),
        "cpu_share": cpu_shares(settings, bundle),
        "estimates": _estimates(bundle.model),
    }


def cpu_shares(settings: Settings, bundle: Bundle, seconds: float = 3.0) -> dict[str, float]:
    """The share of one core that the chain takes at the source's rate, without the camera's own part: 'one face' that
    moves, 'no face' while something else moves, and 'idle' where nothing does.
    """
    demo = sources.Demo(settings.source.fps)
    empty = np.full((*demo.size, 3), 90, np.uint8)
    scenes: dict[str, Callable[[float], Pixels]] = {
        "one face": demo.picture,
        "no face": lambda moment: np.roll(_STRIPE | empty, int(moment * 100), axis=1),
        "idle": lambda moment: empty,
    }
    return {name: _share(settings, bundle, scene, seconds, name == "idle") for name, scene in scenes.items()}


_STRIPE = np.zeros((480, 640, 3), np.uint8)
_STRIPE[:, :80] = 255


def _share(settings: Settings, bundle: Bundle, scene: Callable[[float], Pixels], seconds: float, rests: bool) -> float:
    fps = settings.source.fps
    pictures = [scene(index / fps) for index in range(max(round(seconds * fps), 2))]
    chain = run.chain(settings, run.load_model(settings, bundle), still=False)
    chosen = dataclasses.replace(settings.throttle, idle_after=0.001 if rests else 0.0)
    paced = throttle.ThrottledSource(_InTime(pictures, fps), chosen, throttle.Governor(chosen, fps))
    start, spent = time.monotonic(), time.process_time()
    for frame in paced:
        chain(frame)
    return round((time.process_time() - spent) / (time.monotonic() - start), 4)


class _InTime:
    """Pictures as a live source, each when its time has come."""

    still, live, skipped = False, True, 0

    def __init__(self, pictures: Sequence[Pixels], fps: float) -> None:
        self.pictures, self.fps = pictures, fps

    def __iter__(self) -> Iterator[Frame]:
        start = time.time()
        for index, picture in enumerate(self.pictures):
            time.sleep(max(start + index / self.fps - time.time(), 0))
            yield Frame(picture, index, time.time())


def _estimates(model: Path) -> dict[str, Any]:
    try:
        return estimates.to_json(estimates.estimate(tflite.operators(model.read_bytes())))
    except RuntimeMissingError:
        return {}


def _figures(seconds: Any) -> dict[str, float]:
    median, p95 = np.percentile(seconds * 1000, [50, 95])
    return {"median": round(float(median), 3), "p95": round(float(p95), 3)}


def _start_up(folder: Path) -> float:
    """Seconds from the start of a new process to its first reading and exit."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "mien_edge",
        "run",
        str(sources.astronaut()),
        "--model",
        str(folder),
        "--quiet",
    ]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return time.monotonic() - start


def as_text(result: dict[str, Any]) -> str:
    """The result as a table."""
    lines = [f"{'stage':<10}{'median ms':>10}{'p95 ms':>10}"]
    lines += [f"{name:<10}{row['median']:>10.2f}{row['p95']:>10.2f}" for name, row in result["milliseconds"].items()]
    lines.append(
        f"{result['fps']} frames per second over {result['frames']} frames with {result['faces']} faces; "
        f"memory {result['rss_megabytes']} MB, at most {result['peak_rss_megabytes']} MB; "
        f"start-up {result['start_up_seconds']} s; model {result['model']}"
    )
    shares = ", ".join(f"{name} {share:.1%}" for name, share in result["cpu_share"].items())
    lines.append(f"share of one core at {result['rate']:g} frames per second: {shares}")
    lines += [each.as_text() for each in estimates.from_json(result["estimates"])]
    return "\n".join(lines)


def add_bench(commands: Any) -> None:
    bench = add_command(
        commands, "bench", "measure milliseconds per stage, memory and start-up time on this device", _bench
    )
    settings_option(bench)
    model_option(bench)
    json_option(bench)
    bench.add_argument("--layers", action="store_true", help="measure each layer of the network instead of the stages")
    bench.add_argument(
        "--frames", type=int, default=200, metavar="N", help="number of frames to measure (default: 200)"
    )


def _bench(options: argparse.Namespace) -> None:
    from mien_edge.commands import bench
    from mien_edge.model import profile
    from mien_edge.model.bundle import find_bundle, load_bundle

    settings = load_settings(options)
    found = load_bundle(find_bundle(settings.model.bundle))
    if options.layers:
        layers = profile.profile_layers(found.model)
        content = [layer.to_json() for layer in layers]
        print(json.dumps(content) if options.json else profile.layers_as_text(layers))  # noqa: T201
        return
    result = bench.bench(settings, found, max(options.frames, 1))
    print(json.dumps(result) if options.json else bench.as_text(result))  # noqa: T201
