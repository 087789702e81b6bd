"""A device behind `ssh`: the user's own OpenSSH with its configuration, keys and known hosts."""

import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from mien_edge.errors import DeployError

_SSH_FAILED = 255  # the exit code of ssh itself; every other one is the remote program's
_ERROR_PREFIX = "mien-edge: error: "


class UnreachableError(DeployError):
    """A device that is down, unknown, or does not accept our key; its state is unknown."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that ssh can reach.

    host: as ssh knows it: a name, user@name, or an alias of ~/.ssh/config.
    program: the shell words that call mien-edge on the device.
    options: extra arguments for ssh.
    seconds: how long to wait for a connection.

    ssh never asks a question: a missing key or an unknown host key is an error.
    """

    host: str
    program: str = "mien-edge"
    options: tuple[str, ...] = ()
    seconds: int = 15

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the local command that runs `mien-edge ARGUMENTS` on the device."""
        return self.ssh([], f"{self.program} {shlex.join(arguments)}")

    def ssh(self, arguments: Sequence[str], *words: str) -> list[str]:
        """Return the local command that runs `words` on the device.

        arguments: further options for ssh.
        words: joined by ssh and read by the device's shell; none for a tunnel without a command.
        """
        command = ["ssh"]
        command += ["-o", "BatchMode=yes"]
        command += ["-o", "StrictHostKeyChecking=yes"]
        command += ["-o", "ServerAliveInterval=15"]
        command += self.options
        command += ["-o", f"ConnectTimeout={self.seconds}"]
        command += arguments
        return [*command, "--", self.host, *words]

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes = b"",
        accepted_exit_codes: Sequence[int] = (0,),
    ) -> str:
        """Run `mien-edge ARGUMENTS` on the device and return what it prints.

        Raises as RemoteProcess does.
        """
        return "\n".join(self.stream(arguments, stdin, accepted_exit_codes))

    def stream(
        self,
        arguments: Sequence[str],
        stdin: bytes = b"",
        accepted_exit_codes: Sequence[int] = (0,),
    ) -> "RemoteProcess":
        """Return `mien-edge ARGUMENTS` on the device as an iterable of the lines that it prints.

        stdin: the content of its standard input.
        accepted_exit_codes: the exit codes that are an answer; any other is an error.
        """
        return RemoteProcess(self, arguments, stdin, accepted_exit_codes)


class RemoteProcess:
    """`mien-edge` on a device. Iterate over it, once, to run it: it yields lines as they come.

    Raises DeployError with the device's own reason for an exit code that is not accepted and for a
    lost connection, and UnreachableError if there was no connection.
    """

    def __init__(
        self,
        device: Device,
        arguments: Sequence[str],
        stdin: bytes,
        accepted_exit_codes: Sequence[int],
    ) -> None:
        self.exit_code: int | None = None
        """Of mien-edge; None until the last line was read."""
        self._device = device
        self._command = device.command(arguments)
        self._stdin = stdin
        self._accepted_exit_codes = accepted_exit_codes
        self._has_output = False

    def __iter__(self) -> Iterator[str]:
        """Run the program and yield its lines without their ends."""
        with tempfile.TemporaryFile() as stderr:
            with self._start(stderr) as process:
                yield from self._lines(process)
            stderr.seek(0)
            errors = stderr.read().decode(errors="replace")
        self._check(process.returncode, errors)
        self.exit_code = process.returncode

    def _start(self, stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        except FileNotFoundError:
            raise DeployError("ssh is not installed; sudo apt install openssh-client") from None

    def _lines(self, process: "subprocess.Popen[bytes]") -> Iterator[str]:
        """Yield the lines while a thread writes the standard input; neither waits for the other."""
        assert process.stdin is not None  # noqa: S101 - a pipe was requested
        assert process.stdout is not None  # noqa: S101
        arguments = (process.stdin, self._stdin)
        writer = threading.Thread(target=_write_and_close, args=arguments, daemon=True)
        writer.start()
        try:
            for line in process.stdout:
                self._has_output = True
                yield line.decode(errors="replace").rstrip("\n")
            process.wait()
        finally:
            process.terminate()
            writer.join()

    def _check(self, exit_code: int, errors: str) -> None:
        """Raise the error that an exit code stands for; `errors` is what went to stderr."""
        host = self._device.host
        if exit_code == _SSH_FAILED and self._has_output:
            advice = "the state of the device is unknown; run the command again"
            raise DeployError(f"{host}: the connection was lost; {advice}")
        if exit_code in self._accepted_exit_codes:
            return
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        if exit_code == _SSH_FAILED:
            reason = lines[-1] if lines else "no reason given"
            advice = f"check that 'ssh {host}' works without a question"
            raise UnreachableError(f"{host}: cannot be reached ({reason}); {advice}")
        if not lines:
            raise DeployError(f"{host}: {self._device.program} ended with code {exit_code}")
        raise DeployError(f"{host}: {lines[-1].removeprefix(_ERROR_PREFIX)}")


def _write_and_close(pipe: IO[bytes], content: bytes) -> None:
    try:
        with pipe:
            pipe.write(content)
    except OSError:
        pass  # the program on the device has ended already; its exit code says why
