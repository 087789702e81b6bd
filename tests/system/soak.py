"""soak.py MINUTES OUT.png: the service on `demo:faults` at full speed, its camera failing each minute,
with a broker, a publisher and a client that looks at the picture now and then. Draws memory, file
handles, threads and the log's size, and exits 1 unless they stay flat after the first minute.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from brokers import Broker
from helpers import ROOT, clean_environment
from matplotlib import pyplot as plt
from tqdm import tqdm

EDGE = [sys.executable, "-m", "mien_edge"]
SAMPLE_INTERVAL = 2.0  # seconds
VIEW_EVERY = 30  # samples; the client looks during the first VIEW_SAMPLES of them
VIEW_SAMPLES = 5
FOLDERS = ("run", "run-publish", "state", "cursor")
SETTINGS = """
[source]
uri = "demo:faults"
fps = 120.0
frame_timeout = 2.0
max_retry_delay = 1.0
[log]
heartbeat_interval = 0.0
commit_interval = 1.0
max_megabytes = 1.0
[publish]
host = "127.0.0.1"
port = {port}
state_interval = 1.0
"""
ALLOWED = {
    "memory of the service, MB": 4.0,
    "memory of the publisher, MB": 3.0,
    "file handles": 4,
    "threads": 2,
    "log, MB": 1.5,
}
"""By how much the mean of the last minute may lie above that of the second minute."""

Samples = dict[str, list[float]]


def main(minutes: float, out: Path) -> int:
    """Run the soak test, print and draw the rises; return 1 if one is larger than allowed."""
    with tempfile.TemporaryDirectory() as name:
        samples, summary = _run(Path(name), minutes)
    _draw(samples, out)
    seconds = np.array(samples["seconds"])
    rises = {key: _rise(np.array(samples[key]), seconds) for key in ALLOWED}
    for key, rise in rises.items():
        print(f"{key:<30} {rise:+.2f} over {minutes:g} minutes (allowed {ALLOWED[key]:+g})")  # noqa: T201
    print(summary, f"drawn: {out}", sep="\n")  # noqa: T201
    return int(any(rise > ALLOWED[key] for key, rise in rises.items()))


def _run(folder: Path, minutes: float) -> tuple[Samples, str]:
    """Sample the processes for so many minutes; return the samples and a sentence on the service."""
    broker = Broker(folder / "broker").start()
    (folder / "mien.toml").write_text(SETTINGS.format(port=broker.port))
    for name in FOLDERS:
        (folder / name).mkdir()
    errors = folder / "stderr"
    log = folder / "state" / "readings.db"
    publish = ["publish", "--log", str(log)]
    with (
        _process(folder, errors, ["run", "--quiet"], "state", "run") as service,
        _process(folder, errors, publish, "cursor", "run-publish") as publisher,
    ):
        samples: Samples = {}
        for number, seconds in enumerate(_ticks(minutes * 60)):
            if service.poll() is not None or publisher.poll() is not None:
                raise SystemExit(f"soak: error: a process has ended: {errors.read_text()[-500:]}")
            if number % VIEW_EVERY < VIEW_SAMPLES:
                _view(folder / "run-preview" / "preview.sock")
            sample = _sample(service.pid, publisher.pid, log)
            for key, value in {"seconds": seconds, **sample}.items():
                samples.setdefault(key, []).append(value)
        status = json.loads((folder / "run" / "status.json").read_text())
        service.terminate()
        publisher.terminate()
    broker.stop()
    lost = errors.read_text().count("camera lost")
    rate = f"{status['frames']} frames, {status['fps']:g} a second"
    return samples, f"{rate}; the camera was lost {lost} times"


def _process(
    folder: Path,
    errors: Path,
    arguments: list[str],
    state: str,
    runtime: str,
) -> "subprocess.Popen[str]":
    """Start a unit's command, with folders as systemd would give it."""
    environment = {
        **clean_environment(),
        **_unit_environment(),
        "STATE_DIRECTORY": str(folder / state),
        "RUNTIME_DIRECTORY": str(folder / runtime),
    }
    command = [*EDGE, *arguments, "--settings", str(folder / "mien.toml")]
    with errors.open("a") as stderr:
        return subprocess.Popen(command, env=environment, stderr=stderr, text=True)


def _unit_environment() -> dict[str, str]:
    """Return the variables that the unit sets: malloc does with them what it does on a device."""
    prefix = "Environment="
    lines = (ROOT / "systemd" / "mien.service").read_text().splitlines()
    settings = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return dict(setting.split("=", 1) for setting in settings)


def _ticks(duration: float) -> Iterator[float]:
    """Yield the seconds since the start, every SAMPLE_INTERVAL seconds until `duration` is over."""
    start = time.monotonic()
    with tqdm(total=round(duration), unit=" s", desc="soak", disable=None) as bar:
        while time.monotonic() - start < duration:
            time.sleep(SAMPLE_INTERVAL)
            seconds = time.monotonic() - start
            yield seconds
            bar.update(round(seconds) - bar.n)


def _view(path: Path) -> None:
    """Take a picture or two, as the page does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.5)
        connection.connect(str(path))
        connection.recv(65536)


def _sample(service: int, publisher: int, log: Path) -> dict[str, float]:
    """Return a value for each key of ALLOWED; the processes are named by their ids."""
    log_bytes = sum(file.stat().st_size for file in log.parent.glob("readings.db*"))
    return {
        "memory of the service, MB": _resident_megabytes(service),
        "memory of the publisher, MB": _resident_megabytes(publisher),
        "file handles": len(os.listdir(f"/proc/{service}/fd")),
        "threads": len(os.listdir(f"/proc/{service}/task")),
        "log, MB": log_bytes / 1e6,
    }


def _resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _rise(values: "np.ndarray", seconds: "np.ndarray") -> float:
    """Return the mean of the last minute less that of the second one."""
    second_minute = (seconds > 60) & (seconds <= 120)
    last_minute = seconds > seconds[-1] - 60
    return float(values[last_minute].mean() - values[second_minute].mean())


def _draw(samples: Samples, out: Path) -> None:
    minutes = np.array(samples["seconds"]) / 60
    figure, axes = plt.subplots(len(ALLOWED), 1, figsize=(9, 9), sharex=True)
    for axis, key in zip(axes, ALLOWED, strict=True):
        axis.plot(minutes, samples[key], lw=1.2)
        axis.set_ylim(0, max(samples[key]) * 1.2)
        axis.set_title(key, loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2])))
