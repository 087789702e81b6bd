"""`mien-edge bench`: milliseconds per stage, frames per second, memory and start-up, on the demo's pictures."""

import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge import app, sources
from mien_edge.bundle import Bundle
from mien_edge.settings import Settings
from mien_edge.values import Frame

STAGES = ("detect", "track", "classify", "smooth")


def bench(settings: Settings, bundle: Bundle, frames: int = 200) -> dict[str, Any]:
    """Run `frames` pictures of the demo, after a tenth as many to warm up, as fast as they go."""
    demo = sources.Demo(settings.source.fps, paced=False)
    pictures = [demo.picture(i / 2) for i in range(16)]
    chain = app.chain(settings, bundle, still=False)
    warm = max(frames // 10, 1)
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    faces = 0
    for index in range(warm + frames):
        frame = Frame(pictures[index % len(pictures)], index, index / settings.source.fps)
        spent, found = _timed(chain, frame)
        if index >= warm:
            faces += found
            for stage, value in zip(STAGES, spent, strict=True):
                seconds[stage].append(value)
    total = np.sum([seconds[stage] for stage in STAGES], axis=0)
    return {
        "model": bundle.card.id,
        "frames": frames,
        "faces": faces,
        "milliseconds": {stage: _figures(np.array(seconds[stage])) for stage in STAGES} | {"total": _figures(total)},
        "fps": round(frames / float(total.sum()), 1),
        "rss_megabytes": round(_rss() / 1e6, 1),
        "peak_rss_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "start_up_seconds": round(_start_up(bundle.folder), 2),
    }


def _timed(chain: Any, frame: Frame) -> tuple[list[float], int]:
    ticks = [time.perf_counter()]
    found = chain.detect(frame)
    ticks.append(time.perf_counter())
    tracked = chain.track(frame, found)
    ticks.append(time.perf_counter())
    readings = chain.classify(frame, tracked)
    ticks.append(time.perf_counter())
    chain.smooth(readings)
    ticks.append(time.perf_counter())
    return [b - a for a, b in itertools.pairwise(ticks)], len(readings)


def _figures(seconds: Any) -> dict[str, float]:
    median, p95 = np.percentile(seconds * 1000, [50, 95])
    return {"median": round(float(median), 3), "p95": round(float(p95), 3)}


def _rss() -> float:
    """Bytes of memory in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


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
    return "\n".join(lines)
