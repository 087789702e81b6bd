"""A device behind `ssh`: the user's own OpenSSH with its configuration, keys and known hosts."""

import re
import secrets
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mien_edge.errors import DeployError

from mien_deploy import process, starts
from mien_deploy.process import LimitError, Limits, LocalProcess, SizeError
from mien_deploy.text import brief

ANSWER_SECONDS = 60.0
ANSWER_BYTES = 1_000_000
"""How long a device may take for an answer, and how long the answer may be."""

_SSH_FAILED = 255  # the exit code of ssh itself; every other one is the remote program's
_ERROR_PREFIX = "mien-edge: error: "
_TOKEN = secrets.token_hex(4)
BEGIN = f"--- mien {_TOKEN} begin ---"
END = f"--- mien {_TOKEN} end"
"""They begin the lines around what a command prints; whatever else comes is of a login shell."""

_END_LINE = re.compile(rf"{END} (\d+) ---$")
_LAST_SECONDS = 2.0  # for what comes after the end, such as the last lines of stderr

_SUDO_ASKS = re.compile(
    r"sudo(-rs)?: .*(password is required|terminal is required|authentication is required)"
)
SUDO_ADVICE = (
    "sudo asks for a password there; allow this user to call it without one "
    "(NOPASSWD in /etc/sudoers.d), or log in as root"
)
_NOISE = ("sudo: unable to resolve", "Connection closed by UNKNOWN port")


UNMARKED = "its login shell does not run what it is asked to"
"""Why an answer without marks is none."""


class UnreachableError(DeployError):
    """A device that is down, unknown, or does not accept our key; its state is unknown."""


def marked(command: str) -> str:
    """Return a command for any login shell that prints BEGIN and END around a shell command's
    output, BEGIN also to stderr, END with its exit code, and ends with that.
    """
    begin = f"echo '{BEGIN}'; echo '{BEGIN}' >&2"
    script = f'{begin}; {command}; code=$?; echo "{END} $code ---"; exit $code'
    return f"sh -c {shlex.quote(script)}"


class MarkedText:
    """What stands between BEGIN and END in the lines of one stream.

    accept_unmarked: whether lines without a BEGIN before them count, too.

    `has_begun` is whether BEGIN was read; `exit_code` is the one in END, None until that was read.
    """

    def __init__(self, accept_unmarked: bool = False) -> None:
        self.has_begun = False
        self.exit_code: int | None = None
        self._accept_unmarked = accept_unmarked

    def part(self, line: str) -> str | None:
        """Take the next line; return the program's part of it, None if there is none."""
        if line.endswith(BEGIN) and not self.has_begun:
            self.has_begun = True
            return None
        if self.exit_code is not None:
            return None
        if self.has_begun and (end := _END_LINE.search(line)):
            self.exit_code = int(end[1])
            return line[: end.start()] or None
        return line if self.has_begun or self._accept_unmarked else None


def without_noise(lines: Sequence[str]) -> list[str]:
    """Return the lines of a program's stderr, after BEGIN where that is, that may be a reason."""
    begins = [number for number, line in enumerate(lines) if line.endswith(BEGIN)]
    program_lines = lines[begins[-1] + 1 :] if begins else lines
    return [line for line in program_lines if not line.startswith(_NOISE)]


def sudo_asks(lines: Sequence[str]) -> bool:
    """Return whether sudo asks for a password in these lines of stderr."""
    return any(_SUDO_ASKS.search(line) for line in lines)


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

    def without_name(self, problem: object) -> str:
        """Return the text of an error without the device's name at its beginning."""
        return str(problem).removeprefix(f"{self.host}: ")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the local command that runs `mien-edge ARGUMENTS` on the device."""
        # A forwarding of the user's configuration may fail; it is of no use here.
        options = ["-o", "ClearAllForwardings=yes"]
        return self.ssh(options, marked(f"{self.program} {shlex.join(arguments)}"))

    def ssh(self, arguments: Sequence[str], *words: str) -> list[str]:
        """Return the local command that runs `words` on the device.

        arguments: further options for ssh.
        words: joined by ssh and read by the device's shell.
        """
        command = ["ssh", "-T"]
        command += ["-o", "BatchMode=yes"]
        command += ["-o", "StrictHostKeyChecking=yes"]
        command += ["-o", "RemoteCommand=none"]
        command += ["-o", "LogLevel=ERROR"]  # errors alone: no banner is taken for one
        command += ["-o", "ServerAliveInterval=15"]
        command += ["-o", "ServerAliveCountMax=3"]
        command += self.options
        command += ["-o", f"ConnectTimeout={self.seconds}"]
        command += arguments
        return [*command, "--", self.host, *words]

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes = b"",
        accepted_exit_codes: Sequence[int] = (0,),
        seconds: float = ANSWER_SECONDS,
    ) -> str:
        """Run `mien-edge ARGUMENTS` on the device and return what it prints, escaped.

        seconds: until its first line, and for all of it. Raises as RemoteProcess does.
        """
        limits = Limits(start=seconds, total=seconds, size=ANSWER_BYTES)
        return "\n".join(self.stream(arguments, limits, stdin, accepted_exit_codes))

    def stream(
        self,
        arguments: Sequence[str],
        limits: Limits,
        stdin: bytes = b"",
        accepted_exit_codes: Sequence[int] = (0,),
        accept_unmarked: bool = False,
    ) -> "RemoteProcess":
        """Return `mien-edge ARGUMENTS` on the device as an iterable of the lines that it prints.

        limits: what ends it.
        stdin: the content of its standard input.
        accepted_exit_codes: the exit codes that are an answer; any other is an error.
        accept_unmarked: whether it may be a key's own command (sshd's `command=`) that runs
        instead, which prints no marks.
        """
        command = self.command(arguments)
        return RemoteProcess(self, command, limits, stdin, accepted_exit_codes, accept_unmarked)


class RemoteProcess:
    """A marked command on a device. Iterate over it, once, to run it: it yields lines as they come.

    They are escaped; what a login shell prints around them is left out. A connection that sshd
    drops before the login is begun again.

    command: of `Device.ssh`, with words of `marked`. Other parameters: as for `Device.stream`.
    keep_stdin: whether its standard input stays open until the iteration ends.

    Raises DeployError with the device's own reason for an exit code that is not accepted, for a
    limit, an answer without marks and a lost connection, and UnreachableError if there was no
    connection.
    """

    def __init__(
        self,
        device: Device,
        command: Sequence[str],
        limits: Limits,
        stdin: bytes = b"",
        accepted_exit_codes: Sequence[int] = (0,),
        accept_unmarked: bool = False,
        keep_stdin: bool = False,
    ) -> None:
        self.exit_code: int | None = None
        """Of mien-edge; None until the last line was read."""
        self._device = device
        self._command = command
        self._limits = limits
        self._stdin = stdin
        self._accepted_exit_codes = accepted_exit_codes
        self._accept_unmarked = accept_unmarked
        self._keep_stdin = keep_stdin
        self._text = MarkedText(accept_unmarked)
        self._has_lines = False

    def __iter__(self) -> Iterator[str]:
        """Run the program and yield its lines without their ends."""
        for attempt in range(1, starts.ATTEMPTS + 1):
            local = LocalProcess(self._command, self._stdin, self._limits, self._keep_stdin)
            yield from self._lines(local)
            is_dropped = local.exit_code == _SSH_FAILED and not local.has_output
            if not is_dropped or not starts.is_dropped("\n".join(local.errors)):
                break
            if attempt < starts.ATTEMPTS:
                process.pause(starts.delay(attempt))
        # ssh's own code may be that of a login shell.
        exit_code = local.exit_code if self._text.exit_code is None else self._text.exit_code
        self._check(local, exit_code)
        self.exit_code = exit_code

    def _lines(self, local: LocalProcess) -> Iterator[str]:
        place = starts.STARTS.begin()
        try:
            for line in local.lines():
                starts.STARTS.end(place)
                program_line = self._text.part(line)
                if program_line is not None:
                    self._has_lines = True
                    yield program_line
                if self._text.exit_code is not None:
                    # What a login shell has left running there may hold the connection.
                    local.end_within(_LAST_SECONDS)
        except LimitError as problem:
            raise self._limit_error(local, problem) from None
        finally:
            starts.STARTS.end(place)

    def _limit_error(self, local: LocalProcess, problem: LimitError) -> DeployError:
        host = self._device.host
        more = "" if isinstance(problem, SizeError) else "; or allow it more with --timeout"
        text = f"{host}: {problem}; see: ssh {host}{more}"
        is_begun = local.has_output or (self._stdin and local.is_sent)
        return DeployError(text) if is_begun else UnreachableError(text)

    def _check(self, local: LocalProcess, exit_code: int | None) -> None:
        """Raise the error that an exit code stands for."""
        host = self._device.host
        has_ended = self._text.exit_code is not None
        is_cut = exit_code == 0 and self._text.has_begun
        if not has_ended and (is_cut or (exit_code == _SSH_FAILED and local.has_output)):
            advice = "the state of the device is unknown; run the command again"
            raise DeployError(f"{host}: the connection was lost; {advice}")
        lines = without_noise(local.errors)
        if exit_code == _SSH_FAILED and not has_ended:
            reason = lines[-1] if lines else "no reason given"
            advice = f"check that 'ssh {host}' works without a question"
            raise UnreachableError(f"{host}: cannot be reached ({brief(reason)}); {advice}")
        is_answer = exit_code in self._accepted_exit_codes and (exit_code == 0 or self._has_lines)
        if not is_answer:
            raise DeployError(f"{host}: {self._reason(lines, exit_code)}")
        if not self._text.has_begun and not self._accept_unmarked:
            raise DeployError(f"{host}: {UNMARKED}; log in as a user with an ordinary shell")

    def _reason(self, lines: Sequence[str], exit_code: int | None) -> str:
        """Return why mien-edge failed, from its lines on stderr."""
        if sudo_asks(lines):
            return SUDO_ADVICE
        reasons = [line for line in lines if line.startswith(_ERROR_PREFIX)] or lines
        if not reasons:
            return f"{self._device.program} ended with code {exit_code}"
        return brief(reasons[-1].removeprefix(_ERROR_PREFIX))
