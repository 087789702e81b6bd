"""`mien-edge bench`: milliseconds per stage, frames per second, memory and start-up, on the demo's pictures."""

import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge import app, graph, health, interpreter, load, pipeline, sources
from mien_edge.bundle import Bundle
from mien_edge.errors import RuntimeMissingError
from mien_edge.settings import Settings
from mien_edge.values import Frame, Pixels


def bench(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Run `frames` pictures of the demo, after a tenth as many to warm up, as fast as they go."""
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(i / 2) for i in range(16)]
    chain, stages = pipeline.timed(app.chain(settings, app.tenant(settings, bundle), still=False))
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
    chain = app.chain(settings, app.tenant(settings, bundle), still=False)
    chosen = dataclasses.replace(settings.load, idle_after=0.001 if rests else 0.0)
    paced = load.Paced(_InTime(pictures, fps), chosen, load.Governor(chosen, fps))
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
        return graph.estimates(graph.operators(model.read_bytes()))
    except RuntimeMissingError:
        return {}


def layers(model: Path, repeats: int = 200) -> list[dict[str, Any]]:
    """Each operator of a .tflite with its multiply-accumulates and milliseconds on this machine, one thread.

    The time of an operator is that of the network ended after it less that of the network ended before it; each is
    the least of `repeats`, taken in turns, so that a busy moment does not fall on one layer. Small layers can come out
    as 0.
    """
    content = model.read_bytes()
    found = graph.operators(content)
    with tempfile.TemporaryDirectory() as folder:
        networks, runtime = [], interpreter.runtime()
        for count in range(1, len(found) + 1):
            part = Path(folder) / f"{count}.tflite"
            part.write_bytes(graph.prefix(content, count))
            networks.append(runtime.load(part))
        least = np.full(len(networks), np.inf)
        for _ in range(repeats):
            for i, network in enumerate(networks):
                least[i] = min(least[i], _seconds(network))
    spent = np.diff(np.maximum.accumulate(least), prepend=0.0) * 1000
    return [
        {"operator": each.name, "output": list(each.shape[1:]), "macs": each.macs, "milliseconds": round(float(ms), 4)}
        for each, ms in zip(found, spent, strict=True)
    ]


def invoke_milliseconds(model: Path, repeats: int = 200) -> float:
    """The least time that the network takes on this machine, one thread."""
    network = interpreter.runtime().load(model)
    return 1000 * min(_seconds(network) for _ in range(repeats))


def _seconds(network: Any) -> float:
    start = time.perf_counter()
    network.invoke()
    return time.perf_counter() - start


def layers_as_text(found: list[dict[str, Any]]) -> str:
    """The layers as a table."""
    lines = [f"{'operator':<18}{'output':<14}{'M MACs':>8}{'ms':>9}"]
    lines += [
        f"{each['operator']:<18}{'x'.join(map(str, each['output'])):<14}{each['macs'] / 1e6:>8.2f}"
        f"{each['milliseconds']:>9.4f}"
        for each in found
    ]
    total = sum(each["milliseconds"] for each in found)
    return "\n".join([*lines, f"{'all':<32}{sum(each['macs'] for each in found) / 1e6:>8.2f}{total:>9.4f}"])


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
    lines += [graph.estimate_as_text(core, each) for core, each in result["estimates"].items()]
    return "\n".join(lines)
