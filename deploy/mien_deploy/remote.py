"""A device behind `ssh`: the user's own OpenSSH with its own configuration, keys and pinned host keys."""

import io
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mien_edge.errors import DeployError

_UNREACHABLE = 255  # what ssh itself exits with


class UnreachableError(DeployError):
    """A device that is down, unknown or does not let us in: nothing is known about the rest."""


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
        return self.ssh([], f"{self.program} {shlex.join(arguments)}")

    def ssh(self, arguments: Sequence[str], *words: str) -> list[str]:
        """The local command `ssh` with further arguments, that runs `words` on the device."""
        never_ask = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ServerAliveInterval=15"]
        more = [*self.options, "-o", f"ConnectTimeout={self.seconds}", *arguments]
        return ["ssh", *never_ask, *more, "--", self.host, *words]

    def run(self, arguments: Sequence[str], stdin: bytes = b"", good: Sequence[int] = (0,)) -> str:
        """What `mien-edge ARGUMENTS` prints on the device. Raises DeployError with the device's own reason if its exit
        code is not one of `good`.
        """
        return "\n".join(self.stream(arguments, stdin, good))

    def stream(
        self,
        arguments: Sequence[str],
        stdin: bytes = b"",
        good: Sequence[int] = (0,),
        ended: Callable[[int], None] = lambda _: None,
    ) -> Iterator[str]:
        """Lines that `mien-edge ARGUMENTS` prints, as they come; it may read `stdin`. `ended` is told its exit code;
        raises DeployError if that is not one of `good`.
        """
        begun = False
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self.command(arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
                )
            except FileNotFoundError:
                raise DeployError("ssh is not installed; sudo apt install openssh-client") from None
            with process:
                assert process.stdin is not None  # noqa: S101 - asked for above
                assert process.stdout is not None  # noqa: S101
                giving = threading.Thread(target=_give, args=(process.stdin, stdin), daemon=True)
                giving.start()
                try:
                    for line in process.stdout:
                        begun = True
                        yield line.decode(errors="replace").rstrip("\n")
                    process.wait()
                finally:
                    process.terminate()
                    giving.join()
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if process.returncode == _UNREACHABLE and begun:
            raise DeployError(f"{self.host}: the connection was lost; what became of it is unknown, run it again")
        if process.returncode not in good:
            raise self._failure(process.returncode, said)
        ended(process.returncode)

    def _failure(self, code: int, errors: str) -> DeployError:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        if code == _UNREACHABLE:
            last = lines[-1] if lines else "no reason given"
            return UnreachableError(
                f"{self.host}: cannot be reached ({last}); check that 'ssh {self.host}' works without a question"
            )
        reason = lines[-1].removeprefix("mien-edge: error: ") if lines else f"{self.program} ended with code {code}"
        return DeployError(f"{self.host}: {reason}")


def _give(pipe: io.BufferedWriter, content: bytes) -> None:
    try:
        with pipe:
            pipe.write(content)
    except OSError:
        pass  # the device has ended already, and says why
