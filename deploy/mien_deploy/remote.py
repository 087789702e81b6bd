"""A device behind `ssh`: the user's own OpenSSH with its own configuration, keys and pinned host keys."""

import io
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mien_edge.bundle import Bundle
from mien_edge.errors import DeployError

_UNREACHABLE = 255  # what ssh itself exits with


@dataclass(frozen=True, slots=True)
class Device:
    """`host` as ssh knows it (name, user@name, or an alias of ~/.ssh/config); `program` is mien-edge there.

    `options` are extra arguments for ssh. Nothing is ever asked: a missing key or an unknown host key is an error.
    """

    host: str
    program: str = "mien-edge"
    options: tuple[str, ...] = ()
    seconds: int = 15

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The local command that runs `mien-edge ARGUMENTS` on the device."""
        remote = f"{self.program} {shlex.join(arguments)}"
        never_ask = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        return ["ssh", *never_ask, *self.options, "-o", f"ConnectTimeout={self.seconds}", "--", self.host, remote]

    def run(self, arguments: Sequence[str], stdin: bytes = b"") -> str:
        """What `mien-edge ARGUMENTS` prints on the device. Raises DeployError with the device's own reason."""
        try:
            done = subprocess.run(self.command(arguments), input=stdin, capture_output=True, timeout=600)
        except FileNotFoundError:
            raise DeployError("ssh is not installed; sudo apt install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise DeployError(f"{self.host}: no answer within 600 s; look at the device, then run it again") from None
        if done.returncode:
            raise DeployError(self._reason(done.returncode, done.stderr.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    def stream(self, arguments: Sequence[str]) -> Iterator[str]:
        """Lines that `mien-edge ARGUMENTS` prints, as they come. Raises DeployError at the end if it failed."""
        with subprocess.Popen(
            self.command(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            assert process.stderr is not None  # noqa: S101
            try:
                yield from (line.rstrip("\n") for line in process.stdout)
                problem = process.stderr.read()
            finally:
                process.terminate()
        if process.returncode:
            raise DeployError(self._reason(process.returncode, problem))

    def _reason(self, code: int, errors: str) -> str:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        if code == _UNREACHABLE:
            last = lines[-1] if lines else "no reason given"
            return f"{self.host}: cannot be reached ({last}); check that 'ssh {self.host}' works without a question"
        return f"{self.host}: {lines[-1] if lines else f'{self.program} ended with code {code}'}"


def packed(bundle: Bundle) -> bytes:
    """The bundle's files as a tar archive, the same bytes for the same bundle."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("card.json", *sorted(bundle.card.files)):
            _add(archive, bundle.folder / name)
    return out.getvalue()


def _add(archive: tarfile.TarFile, path: Path) -> None:
    content = path.read_bytes()
    entry = tarfile.TarInfo(path.name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def push(bundle: Bundle, device: Device) -> str:
    """Send, verify, replay and activate a bundle on one device; returns what the device says."""
    return device.run(["models", "install", "-"], packed(bundle)).strip()
