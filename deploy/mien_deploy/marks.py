"""Paramiko's connection under pyinfra, which knows a command's output from a login shell's.

pyinfra takes whatever comes for a fact. So each of its commands runs between marks (remote.marked),
and only what stands between them is handed on; a limit or a missing mark is a problem that `check`
raises, for pyinfra itself would go on with half an answer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mien_edge.errors import DeployError
from paramiko import Channel, SSHClient

from mien_deploy.process import LimitError, SizeError
from mien_deploy.remote import UNMARKED, MarkedText, marked

MAX_BYTES = 8_000_000
"""How much one command may print."""

_MAX_LINE = 1_000_000  # bytes


class MarkedConnection:
    """A connection whose `exec_command` is replaced by one with marks and limits.

    client: is connected.
    seconds: how long the device may say nothing.
    """

    def __init__(self, client: SSHClient, seconds: float) -> None:
        self.seconds = seconds
        self.problem = ""
        """What went wrong first; '' if nothing has."""
        self._exec_command = client.exec_command
        client.exec_command = self._run_marked  # type: ignore[method-assign,assignment]
        transport = client.get_transport()
        assert transport is not None  # noqa: S101 - it is connected
        transport.set_keepalive(15)
        self._open_session = transport.open_session
        transport.open_session = self._open_limited  # type: ignore[method-assign]

    def check(self) -> None:
        """Raise DeployError if an answer was not whole."""
        if self.problem:
            raise DeployError(self.problem)

    def run(self, command: str) -> tuple[int, Sequence[str]]:
        """Run a command; returns its exit code and the lines of its stderr. Raises DeployError."""
        stdin, stdout, stderr = self._run_marked(command)
        stdin.close()
        list(stdout)
        lines = list(stderr)
        self.check()
        return stdout.channel.recv_exit_status(), lines

    def _open_limited(self, *arguments: Any, **options: Any) -> Channel:
        """Open a channel that waits no longer than `seconds`, also one of SFTP."""
        options["timeout"] = self.seconds
        channel = self._open_session(*arguments, **options)
        channel.settimeout(self.seconds)
        return channel

    def _run_marked(self, command: str, **options: Any) -> tuple[Any, "_Marked", "_Marked"]:
        self.check()  # what follows a problem would meet it again, and wait again
        stdin, stdout, _ = self._exec_command(marked(command), **options)
        channel = stdout.channel
        output = _Marked(self, channel, channel.makefile("rb"), has_end=True)
        errors = _Marked(self, channel, channel.makefile_stderr("rb"), has_end=False)
        return stdin, output, errors


class _Marked:
    """The lines of one of a command's streams that stand between the marks."""

    def __init__(
        self, connection: MarkedConnection, channel: Channel, file: Any, has_end: bool
    ) -> None:
        self.channel = channel
        self._connection = connection
        self._file = file
        self._has_end = has_end

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._between_marks()
        except TimeoutError:
            self._fail(LimitError.of_silence(self._connection.seconds))

    def _between_marks(self) -> Iterator[str]:
        text = MarkedText()
        size = 0
        while content := self._file.readline(_MAX_LINE):
            size += len(content)
            if size > MAX_BYTES:
                self._fail(SizeError.of_bytes(MAX_BYTES))
                return
            line = content.decode(errors="replace").rstrip("\r\n")
            had_ended = text.exit_code is not None
            part = text.part(line)
            if text.exit_code is not None and not had_ended:
                self._set_exit_code(text.exit_code)
            if part is not None:
                yield part
        if not text.has_begun or (self._has_end and text.exit_code is None):
            self._fail(UNMARKED)

    def _set_exit_code(self, exit_code: int) -> None:
        # What the channel says may be a login shell's.
        self.channel.recv_exit_status = lambda: exit_code  # type: ignore[method-assign]

    def _fail(self, problem: object) -> None:
        advice = "see that an ordinary command works there over ssh, then run this again"
        self._connection.problem = self._connection.problem or f"{problem}; {advice}"
        self.channel.close()
