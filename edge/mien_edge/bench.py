"""`mien-edge bench`: milliseconds per stage, frames per second, memory and start-up, on the demo's pictures."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge import app, graph, health, interpreter, pipeline, sources
from mien_edge.bundle import Bundle
from mien_edge.errors import RuntimeMissingError
from mien_edge.settings import Settings
from mien_edge.values import Frame


def bench(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Run `frames` pictures of the demo, after a tenth as many to warm up, as fast as they go."""
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(i / 2) for i in range(16)]
    chain, stages = pipeline.timed(app.chain(settings, bundle, still=False))
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
        "faces": faces,
        "milliseconds": {name: _figures(np.array(spent)) for name, spent in seconds.items()}
        | {"total": _figures(total)},
        "fps": round(frames / float(total.sum()), 1),
        "rss_megabytes": health.resident_megabytes(),
        "peak_rss_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "start_up_seconds": round(_start_up(bundle.folder), 2),
        "estimates": _estimates(bundle.model),
    }


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
    lines += [graph.estimate_as_text(core, each) for core, each in result["estimates"].items()]
    return "\n".join(lines)
