"""What a frame costs with more faces and more pixels, and what a start costs: a table for each.

    python tests/system/growth.py

CPU time is of the chain alone; page faults, which the kernel answers with memory (minor ones), are those of the
frame's own memory, too: medians of the frames. Each row is measured in a process of its own. To
compare two versions, run it with each one's folder `edge` in PYTHONPATH, on an idle machine.
"""

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
from mien_edge.chain import sources
from mien_edge.chain.photos import read_photo
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings
from mien_edge.status import health
from mien_edge.values import Box, Face, Frame, Pixels

FACES = (1, 2, 5, 10, 20, 50, 100, 200)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
COMMANDS = (["--help"], ["settings"], ["run", str(sources.astronaut()), "--quiet"])
FRAMES = 40
WARM_UP = 10
SIDE = 60  # pixels of a face among many
BLAS_THREADS = {"OPENBLAS_NUM_THREADS": "1"}  # as the command line sets it


def measure(frames: Iterator[Frame], run: Callable[[Frame], object]) -> tuple[float, int]:
    """Milliseconds of CPU and page faults of `run`, a frame; the medians."""
    seconds = []
    faults = []
    for frame in frames:
        start = time.process_time()
        run(frame)
        seconds.append(time.process_time() - start)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    milliseconds = statistics.median(seconds[WARM_UP:]) * 1000
    return milliseconds, round(statistics.median(np.diff(faults)[WARM_UP:]))


def with_faces(count: int) -> str:
    """A row: tracking, then everything behind it, for so many faces in a Full HD frame."""
    settings = Settings()
    chain = build_chain(settings, load_model(settings, load_bundle(shipped_bundle())))
    picture = np.tile(read_photo(sources.astronaut()), (3, 4, 1))[:1080, :1920]
    rng = np.random.default_rng(count)
    places = rng.uniform(0, (1920 - SIDE, 1080 - SIDE), (count, 2))
    scenes = {}
    for index in range(FRAMES + WARM_UP):
        places += rng.normal(0, 2, places.shape)
        scenes[index] = tuple(Face(Box(x, y, SIDE, SIDE), 0.9) for x, y in places.tolist())

    def track(frame: Frame) -> None:
        scenes[frame.index] = chain.track(frame, scenes[frame.index])

    def read(frame: Frame) -> None:
        chain.smooth(chain.classify(frame, scenes[frame.index]))

    images = [picture] * len(scenes)
    track_milliseconds, _ = measure(as_frames(images), track)
    read_milliseconds, faults = measure(as_frames(images), read)
    return f"{count:>9}{track_milliseconds:>10.2f}{read_milliseconds:>10.2f}{faults:>14}"


def with_size(size: tuple[int, int]) -> str:
    """A row: the whole chain for one face, a third of the frame high, that moves."""
    width, height = size
    settings = Settings()
    chain = build_chain(settings, load_model(settings, load_bundle(shipped_bundle())))
    photo = cv2.resize(read_photo(sources.astronaut()), (height, height))
    border = (width - height) // 2
    still = cv2.copyMakeBorder(photo, 0, 0, border, width - height - border, cv2.BORDER_REPLICATE)
    step = max(width // 160, 2)
    moved = [np.roll(still, index % 8 * step, axis=1) for index in range(8)]
    images = [moved[index % 8] for index in range(FRAMES + WARM_UP)]
    milliseconds, faults = measure(as_frames(images), chain)
    name = f"{width}x{height}"
    return f"{name:>9}{milliseconds:>10.2f}{faults:>14}{health.resident_megabytes():>9}"


def as_frames(images: list[Pixels]) -> Iterator[Frame]:
    """As of a camera at 15 frames a second: each in memory of its own."""
    for index, image in enumerate(images):
        yield Frame(image.copy(), index, index / 15)


def start_up(arguments: list[str]) -> str:
    """A row: milliseconds of CPU of a command, the median of seven."""
    seconds = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-P", "-m", "mien_edge", *arguments]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user = after.ru_utime - before.ru_utime
        seconds.append(user + after.ru_stime - before.ru_stime)
    name = " ".join(arguments[:1])
    return f"{name:>9}{statistics.median(seconds) * 1000:>10.0f}"


def show(line: str) -> None:
    """Print a line of a table at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Print the three tables."""
    os.environ.update(BLAS_THREADS)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as processes:
        show(f"{'faces':>9}{'track ms':>10}{'read ms':>10}{'page faults':>14}")
        for row in processes.map(with_faces, FACES):
            show(row)
        show(f"\n{'frame':>9}{'ms':>10}{'page faults':>14}{'RSS MB':>9}")
        for row in processes.map(with_size, SIZES):
            show(row)
    show(f"\n{'start':>9}{'ms':>10}")
    for arguments in COMMANDS:
        show(start_up(arguments))


if __name__ == "__main__":
    main()
