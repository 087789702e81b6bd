"""CPU time of a frame: mien, a former mien, and two packages of others, in turn on the same frames.

    python tests/system/others/compare.py [--before REVISION] [--rounds 5] [--frames 60]

The others are the npm package @vladmandic/human and the PyPI package fer, as they install from
their registries into a folder that is kept (`--folder`); what cannot be installed is named and left
out. mien runs with its built-in settings in the environment of mien.service. All see a face that
moves, one that stands and an empty room (mien_edge.service.scenes), 15 frames of 640 x 480 a
second, as pictures in memory. Each program is a process of its own; the programs take turns, and a
figure is the median of the rounds. It asserts nothing.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mien_edge.commands.unit import SERVICE_VARIABLES
from mien_edge.service.scenes import scenes

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SCENES = ("moving face", "still face", "empty room")
FPS = 15.0
NPM_PACKAGES = (
    "@vladmandic/human@3.3.6",
    "@tensorflow/tfjs@4.22.0",
    "@tensorflow/tfjs-backend-wasm@4.22.0",
)
PYPI_PACKAGE = "fer==25.10.3"
INSTALL_SECONDS = 1200
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as mien-edge sets them
NOW = "mien"
BEFORE = "mien before"


@dataclass
class Program:
    """A process that reads expressions (frames.Program), and what it took in each round."""

    name: str
    command: list[str]
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    faces: dict[str, float] = field(default_factory=dict)

    def start(self) -> str:
        """Start it; return '' once it is ready, else what it said last."""
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open while the process runs
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=os.environ | self.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        for line in self.process.stdout:
            if line.strip() == "ready":
                return ""
        self.errors.seek(0)
        return last_line(self.errors.read())

    def round(self, scene: str, counts: bool) -> None:
        """Pass a scene; counts: whether it is more than a warm-up."""
        self.process.stdin.write(f"{scene}\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())
        if counts:
            self.milliseconds.setdefault(scene, []).append(result["milliseconds"])
            self.faces[scene] = result["faces"]

    def stop(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait(10)


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201


def write_frames(folder: Path, count: int) -> None:
    """Write SCENE.bgr for each scene: `count` frames that can be repeated without a cut."""
    for name in SCENES:
        scene = scenes()[name]
        half = [scene(index / FPS) for index in range(count // 2)]
        np.stack([*half, *reversed(half)]).tofile(folder / f"{name}.bgr")


def installed(command: list[str], folder: Path) -> str:
    """Run an installer in `folder`; return '' or why it failed."""
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return last_line(result.stderr + result.stdout) if result.returncode else ""


def human(folder: Path, frames: Path) -> Program:
    """The npm package. Raises RuntimeError where it cannot be installed."""
    home = folder / "npm"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "node_modules/@vladmandic/human").is_dir():
        (home / "package.json").write_text('{"private": true}\n')
        problem = installed(["npm", "install", "--no-audit", "--no-fund", *NPM_PACKAGES], home)
        if problem:
            raise RuntimeError(f"npm install {' '.join(NPM_PACKAGES)}: {problem}")
    command = ["node", str(HERE / "human_frames.cjs"), str(frames)]
    return Program("human 3.3.6", command, home)


def fer(folder: Path, frames: Path) -> Program:
    """The PyPI package. Raises RuntimeError where it cannot be installed."""
    home = folder / "fer"
    python = home / "bin/python"
    mark = home / "ready"
    if not mark.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        install = [str(python), "-m", "pip", "install", "--quiet", PYPI_PACKAGE]
        for command in ([sys.executable, "-m", "venv", str(home)], install):
            problem = installed(command, folder)
            if problem:
                raise RuntimeError(f"pip install {PYPI_PACKAGE}: {problem}")
        mark.touch()
    command = [str(python), str(HERE / "fer_frames.py"), str(frames)]
    return Program("fer 25.10.3", command, HERE, {"TF_CPP_MIN_LOG_LEVEL": "3"})


def mien(name: str, edge: Path, frames: Path) -> Program:
    """mien from the folder of its packages `edge`."""
    variables = SERVICE_VARIABLES | ONE_THREAD | {"PYTHONPATH": str(edge)}
    command = [sys.executable, str(HERE / "mien_frames.py"), str(frames)]
    return Program(name, command, HERE, variables)


@contextlib.contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A work tree of a former revision."""
    tree = folder / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def ready_programs(options: argparse.Namespace, frames: Path, before: Path | None) -> list[Program]:
    """All programs that can be installed and started, started."""
    programs = [mien(NOW, ROOT / "edge", frames)]
    if before:
        programs.insert(0, mien(BEFORE, before / "edge", frames))
    for other in (human, fer):
        try:
            programs.append(other(options.folder, frames))
        except RuntimeError as problem:
            say(f"missing: {other.__name__} cannot be installed ({problem}); it is left out")
    ready = []
    for program in programs:
        problem = program.start()
        if problem:
            say(f"missing: {program.name} does not start ({problem}); it is left out")
        else:
            ready.append(program)
    return ready


def table(programs: list[Program]) -> str:
    """CPU milliseconds a frame, with how many times as much as mien takes."""
    ours = next(program for program in programs if program.name == NOW)
    lines = [f"{'CPU ms a frame':<16}" + "".join(f"{scene:>28}" for scene in SCENES)]
    for program in programs:
        cells = []
        for scene in SCENES:
            milliseconds = statistics.median(program.milliseconds[scene])
            ratio = milliseconds / statistics.median(ours.milliseconds[scene])
            cells.append(f"{milliseconds:>8.2f} x {ratio:>5.1f} ({program.faces[scene]:.1f} faces)")
        lines.append(f"{program.name:<16}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Install, measure in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--before", help="a git revision of mien to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60, help="frames of a scene and round")
    cache = Path.home() / ".cache/mien/others"
    parser.add_argument("--folder", type=Path, default=cache, help=f"of the packages ({cache})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        frames = Path(name)
        write_frames(frames, options.frames)
        before = None
        if options.before:
            before = stack.enter_context(checkout(options.before, frames))
        programs = ready_programs(options, frames, before)
        for number in range(options.rounds + 1):  # the first warms up
            for scene in SCENES:
                for program in programs:
                    program.round(scene, counts=number > 0)
            say(f"round {number} of {options.rounds}")
        for program in programs:
            program.stop()
        say(table(programs))


if __name__ == "__main__":
    main()
