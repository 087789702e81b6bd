"""A program here that talks to a device: its lines as they come, within limits of time and size.

It runs in a process group of its own, which ends with it: at a limit, at an error and at Ctrl-C.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from mien_edge.errors import DeployError, RuntimeMissingError

from mien_deploy.text import MAX_LINE, shortened

MAX_ERRORS = 65536
"""How many bytes of standard error are kept: the last ones."""

_CHUNK = 65536  # bytes
_PIPE_CHUNKS = 2  # what a pipe can still hold when the program has ended
_POLL_SECONDS = 0.05
_MAX_WAIT = 65536.0  # seconds for which nothing has to be looked at
_TERMINATE_SECONDS = 2.0


_Handler = Callable[[selectors.BaseSelector, IO[bytes]], Iterable[str]]
"""Reads or writes a pipe that is ready; returns lines of standard output."""


class LimitError(DeployError):
    """A program that took too long; its message is a reason without advice."""

    @classmethod
    def of_silence(cls, seconds: float) -> "LimitError":
        """Nothing was said for so many seconds."""
        return cls(f"it has said nothing for {seconds:g} s")


class SizeError(LimitError):
    """A program that printed too much."""

    @classmethod
    def of_bytes(cls, limit: int) -> "SizeError":
        """More was printed than `limit` bytes."""
        return cls(f"it has printed more than {limit / 1e6:g} MB")


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a program; None for no limit.

    start: seconds until the first line.
    silence: seconds in which nothing is read from it or written to it.
    total: seconds in all.
    size: bytes of its standard output.
    """

    start: float | None = None
    silence: float | None = None
    total: float | None = None
    size: int | None = None


class LocalProcess:
    """A program. Iterate over `lines`, once, to run it.

    command: its words.
    stdin: the content of its standard input.
    limits: what ends it.
    keep_stdin: whether its standard input stays open after `stdin`, until it is ended.
    clock: returns seconds that only grow.
    """

    def __init__(
        self,
        command: Sequence[str],
        stdin: bytes = b"",
        limits: Limits = Limits(),
        keep_stdin: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exit_code: int | None = None
        """None until the last line was read."""
        self.has_output = False
        """Whether anything was read from its standard output."""
        self._command = list(command)
        self._unsent = memoryview(stdin)
        self._limits = limits
        self._keep_stdin = keep_stdin
        self._clock = clock
        self._line = bytearray()
        self._cut = 0
        self._size = 0
        self._end_time: float | None = None
        self._errors = bytearray()

    def end_within(self, seconds: float) -> None:
        """Let `lines` end after some seconds, without an error, if the program has not by then."""
        if self._end_time is None:
            self._end_time = self._clock() + seconds

    @property
    def is_sent(self) -> bool:
        """Whether the program has taken the whole content of its standard input."""
        return not self._unsent

    @property
    def errors(self) -> list[str]:
        """The last lines of its standard error that hold anything."""
        lines = (shortened(line).strip() for line in bytes(self._errors).split(b"\n"))
        return [line for line in lines if line]

    def lines(self) -> Iterator[str]:
        """Run the program and yield the lines of its standard output, escaped, without their ends.

        Raises LimitError at a limit, and DeployError for a program that is not installed. The
        program and its children have ended when this ends, however it ends.
        """
        process = _running.start(self._command)
        try:
            yield from self._read(process)
        finally:
            _running.end(process)
            self.exit_code = process.returncode

    def _read(self, process: "subprocess.Popen[bytes]") -> Iterator[str]:
        start = self._clock()
        last_activity = start
        output = _requested(process.stdout)
        errors = _requested(process.stderr)
        with selectors.DefaultSelector() as selector:
            _register(selector, _requested(process.stdin), selectors.EVENT_WRITE, self._write)
            _register(selector, output, selectors.EVENT_READ, self._read_output)
            _register(selector, errors, selectors.EVENT_READ, self._read_errors)
            while not self._is_over() and (output in selector.get_map() or process.poll() is None):
                seconds = self._seconds_left(start, last_activity)
                if output not in selector.get_map():
                    seconds = min(seconds, _POLL_SECONDS)
                for key, _ in selector.select(seconds):
                    last_activity = self._clock()
                    yield from key.data(selector, key.fileobj)
            for _ in range(_PIPE_CHUNKS):
                self._read_errors(selector, errors)
        if self._line or self._cut:
            yield self._end_line()

    def _seconds_left(self, start: float, last_activity: float) -> float:
        """Return the seconds until the next limit. Raises LimitError if one is over."""
        now = self._clock()
        limits = self._limits
        left = _MAX_WAIT
        if self._end_time is not None:
            return max(0.0, self._end_time - now)
        if limits.start is not None and not self.has_output:
            left = min(left, start + limits.start - now)
            if left <= 0:
                raise LimitError(f"no answer within {limits.start:g} s")
        if limits.silence is not None:
            left = min(left, last_activity + limits.silence - now)
            if left <= 0:
                raise LimitError.of_silence(limits.silence)
        if limits.total is not None:
            left = min(left, start + limits.total - now)
            if left <= 0:
                raise LimitError(f"it has not ended within {limits.total:g} s")
        return left

    def _is_over(self) -> bool:
        return self._end_time is not None and self._clock() >= self._end_time

    def _write(self, selector: selectors.BaseSelector, pipe: IO[bytes]) -> Sequence[str]:
        """Write some of its standard input. A _Handler."""
        try:
            if self._unsent:
                count = os.write(pipe.fileno(), self._unsent[:_CHUNK])
                self._unsent = self._unsent[count:]
        except BlockingIOError:
            return ()
        except OSError:
            # The program has ended already; its exit code says why.
            selector.unregister(pipe)
            return ()
        if not self._unsent:
            selector.unregister(pipe)
            if not self._keep_stdin:
                pipe.close()
        return ()

    def _read_errors(self, selector: selectors.BaseSelector, pipe: IO[bytes]) -> Sequence[str]:
        """Keep the end of its standard error. A _Handler."""
        content = _read_available(pipe)
        if content:
            self._errors += content
            del self._errors[:-MAX_ERRORS]
        elif content == b"" and pipe in selector.get_map():
            selector.unregister(pipe)
        return ()

    def _read_output(self, selector: selectors.BaseSelector, pipe: IO[bytes]) -> Iterator[str]:
        """Yield the lines of its standard output that have ended. A _Handler."""
        content = _read_available(pipe)
        if content is None:
            return
        if content == b"":
            selector.unregister(pipe)
        yield from self._split(content)

    def _split(self, content: bytes) -> Iterator[str]:
        self.has_output = self.has_output or bool(content)
        self._size += len(content)
        *whole_lines, rest = content.split(b"\n")
        for part in whole_lines:
            self._add_to_line(part)
            yield self._end_line()
        self._add_to_line(rest)
        if self._limits.size is not None and self._size > self._limits.size:
            raise SizeError.of_bytes(self._limits.size)

    def _add_to_line(self, part: bytes) -> None:
        space = MAX_LINE - len(self._line)
        self._line += part[:space]
        self._cut += max(0, len(part) - space)

    def _end_line(self) -> str:
        line = shortened(bytes(self._line), self._cut)
        self._line.clear()
        self._cut = 0
        return line


def _requested(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - all three pipes are requested
    return pipe


def _register(
    selector: selectors.BaseSelector, pipe: IO[bytes], event: int, handler: _Handler
) -> None:
    os.set_blocking(pipe.fileno(), False)
    selector.register(pipe, event, handler)


def _read_available(pipe: IO[bytes]) -> bytes | None:
    """Return what can be read now: b'' at the end, None if there is nothing yet."""
    try:
        return os.read(pipe.fileno(), _CHUNK)
    except BlockingIOError:
        return None


class _Running:
    """The programs that run now, so that Ctrl-C can end all of them at once."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def start(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a program in a process group of its own.

        Raises DeployError, and RuntimeMissingError for a program that is not installed.
        """
        with self._lock:
            if self.stopping.is_set():
                raise DeployError("it was stopped; run the command again")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    bufsize=0,
                )
            except FileNotFoundError:
                advice = "sudo apt install openssh-client"
                raise RuntimeMissingError(f"{command[0]} is not installed; {advice}") from None
            self._processes.add(process)
            return process

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """End a program that may run, with its children, and close its pipes."""
        _kill_group(process, signal.SIGTERM)
        try:
            process.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(process, signal.SIGKILL)
            process.wait()
        with self._lock:
            self._processes.discard(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def kill_all(self) -> None:
        with self._lock:
            for process in self._processes:
                _kill_group(process, signal.SIGKILL)


_running = _Running()


def _kill_group(process: "subprocess.Popen[bytes]", signal_number: int) -> None:
    # A process that was waited for has given its number back.
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, PermissionError):  # where it has ended by itself
        os.killpg(process.pid, signal_number)


def stop_all() -> None:
    """End all programs, and start none until `allow` is called."""
    _running.stopping.set()
    _running.kill_all()


def allow() -> None:
    """Let programs start again after `stop_all`."""
    _running.stopping.clear()


def pause(seconds: float) -> None:
    """Wait. Raises DeployError at once if all programs are stopped."""
    if _running.stopping.wait(seconds):
        raise DeployError("it was stopped; run the command again")
