"""The page beside a run that was started by hand: `mien-edge run --view`."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mien_edge import paths
from mien_edge.errors import SettingsError

_END_SECONDS = 10.0
_MAX_PLACE = 60  # bytes; 107 are the longest path of a socket
_ANNOUNCEMENT = "look at "


@dataclass(frozen=True, slots=True)
class PageFolders:
    """What run and page share.

    runtime: folder for the status and, beside it, the preview's socket.
    log: the log that the page shows; it is removed with the page unless the run has one of its own.
    """

    runtime: Path
    log: Path


@contextmanager
def page_beside(settings_file: Path | None, log: Path | None) -> Iterator[PageFolders]:
    """Serve the page while inside, in a process of its own that loads no code for pictures.

    settings_file: of the run; None for built-in settings.
    log: of the run; None for one that lasts as long as the page.

    The address is printed on stderr, and opened in the browser where there is a desktop. Status,
    preview and a log of its own lie in a temporary folder that only this user can enter.

    Raises SettingsError if there can be no page.
    """
    if paths.systemd_directory("RUNTIME_DIRECTORY"):
        raise SettingsError("--view is for runs by hand; sudo systemctl start mien-view shows this")
    with (
        _ended_in_order(),
        tempfile.TemporaryDirectory(prefix="mien-view-", dir=_place()) as folder,
    ):
        runtime = Path(folder) / "run"
        runtime.mkdir(mode=0o700)
        folders = PageFolders(runtime, log or Path(folder) / paths.LOG_NAME)
        with subprocess.Popen(
            _command(settings_file, folders),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is the run's, which then ends the page
        ) as process:
            try:
                _announce(process)
                yield folders
            finally:
                _end(process)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, leave nothing in the temporary folder.

    While frames pass, the service answers SIGTERM itself.
    """
    previous = signal.signal(signal.SIGTERM, _exit)
    previous_hangup = signal.signal(signal.SIGHUP, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGHUP, previous_hangup)


def _exit(*_: object) -> None:
    raise SystemExit(0)


def _terminate(*_: object) -> None:
    signal.raise_signal(signal.SIGTERM)


def _place() -> str:
    """Where temporary folders are made; /tmp where a socket's path would be too long (unix(7))."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _MAX_PLACE else "/tmp"  # noqa: S108 - a new folder


def _command(settings_file: Path | None, folders: PageFolders) -> list[str]:
    command = [sys.executable, "-m", "mien_edge", "view", "--beside-run"]
    command += ["--runtime", str(folders.runtime), "--log", str(folders.log)]
    if settings_file is not None:
        command += ["--settings", str(settings_file)]
    return command


def _announce(process: "subprocess.Popen[str]") -> None:
    """Wait until the page answers; print its address, and open it where there is a desktop."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline().strip()
    if not line.startswith(_ANNOUNCEMENT):
        raise SettingsError("the page did not start, for the reason above; run it without --view")
    sys.stderr.write(f"mien-edge: {line}\n")
    address = line.removeprefix(_ANNOUNCEMENT).partition("?")[0]
    if _has_desktop():
        _open_browser(address)


def _has_desktop() -> bool:
    """Whether a browser would have a screen to open on."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_browser(address: str) -> None:
    """Open an address in the desktop's browser, whose own words do not come into the readings."""
    opener = shutil.which("xdg-open")
    if opener is None or os.environ.get("BROWSER"):
        webbrowser.open(address)
        return
    subprocess.Popen(
        [opener, address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    """Close the page's standard input, which ends it."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
