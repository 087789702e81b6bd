"""A program here that talks to a device: limits, bounds, and what of its text reaches the terminal."""

import os
import subprocess
import sys
import threading

import pytest
from helpers import until
from mien_deploy import process, starts, text
from mien_deploy.process import LimitError, Limits, LocalProcess
from mien_edge.errors import DeployError, RuntimeMissingError


class Clock:
    """Seconds that pass only when it is read: `step` each time."""

    def __init__(self, step):
        self.now = 0.0
        self.step = step

    def __call__(self):
        self.now += self.step
        return self.now


def python(code):
    """The words that run some Python."""
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(start=60), "no answer within 60 s"),
        (Limits(silence=60), "it has said nothing for 60 s"),
        (Limits(total=60), "it has not ended within 60 s"),
    ],
)
def test_a_program_that_hangs_is_ended_at_each_limit(limits, reason):
    local = LocalProcess(["sleep", "1000"], limits=limits, clock=Clock(61))
    with pytest.raises(LimitError, match=reason):
        list(local.lines())
    assert local.exit_code == -15


def test_a_program_that_has_closed_its_output_and_hangs_is_ended_too():
    command = ["sh", "-c", "exec >&- 2>&-; exec sleep 1000"]
    local = LocalProcess(command, limits=Limits(total=60), clock=Clock(1))
    with pytest.raises(LimitError, match="not ended"):
        list(local.lines())


def test_its_children_end_with_it():
    code = (
        "import subprocess as s; p = s.Popen(['sleep', '1000']); print(p.pid, flush=True); p.wait()"
    )
    lines = LocalProcess(python(code)).lines()
    child = int(next(lines))
    lines.close()
    until(lambda: not _runs(child))


def _runs(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_ignores_its_standard_input_and_is_not_waited_for():
    assert list(LocalProcess(["echo", "done"], b"x" * 10_000_000).lines()) == ["done"]


def test_what_it_is_sent_and_what_it_prints_do_not_wait_for_each_other():
    content = b"".join(b"%d\n" % number for number in range(300_000))
    assert len(list(LocalProcess(["cat"], content).lines())) == 300_000


def test_a_line_without_end_and_endless_errors_take_little_memory():
    code = (
        "import os\nfor _ in range(500): os.write(1, b'a' * 100_000); os.write(2, b'b' * 100_000)"
    )
    local = LocalProcess(python(code))
    (line,) = local.lines()
    assert line == "a" * text.MAX_LINE + f" … ({50_000_000 - text.MAX_LINE} bytes more)"
    assert sum(map(len, local.errors)) <= process.MAX_ERRORS


def test_an_answer_that_is_too_long_ends():
    local = LocalProcess(["yes"], limits=Limits(size=1_000_000))
    with pytest.raises(LimitError, match="more than 1 MB"):
        for _ in local.lines():
            pass


def test_stopping_ends_what_runs_and_starts_nothing_else():
    lines = LocalProcess(["sh", "-c", "echo runs; exec sleep 1000"]).lines()
    assert next(lines) == "runs"
    process.stop_all()
    try:
        assert list(lines) == []
        with pytest.raises(DeployError, match="was stopped"):
            list(LocalProcess(["true"]).lines())
        with pytest.raises(DeployError, match="was stopped"):
            process.pause(1000)
    finally:
        process.allow()


def test_a_program_that_is_missing_is_named():
    with pytest.raises(RuntimeMissingError, match="no-such-ssh is not installed"):
        list(LocalProcess(["no-such-ssh"]).lines())


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        (b"a\r\x1b[2K\x1b[1Ab", r"a\x0d\x1b[2K\x1b[1Ab"),
        ("\x9b2J\x85\x90".encode(), r"\x9b2J\x85\x90"),
        (b"\x9b2J\xff", r"\x9b2J\xff"),
        ("a\u202egnp.exe\u2066\u200f\u061c".encode(), r"a\u202egnp.exe\u2066\u200f\u061c"),
        ("a\u2028b\u2029\x0b\x0c\x1c".encode(), r"a\u2028b\u2029\x0b\x0c\x1c"),
        (b"\x00\x7f\x08", r"\x00\x7f\x08"),
        (b"from a terminal\r", "from a terminal"),
        ("廚房\t👨‍👩‍👧 é".encode(), "廚房\t👨‍👩‍👧 é"),
        ("\udc9b", r"\x9b"),  # a byte of a file's name
        ("\ud8ff", r"\ud8ff"),
    ],
)
def test_nothing_that_acts_on_a_terminal_is_left_in_a_line(content, shown):
    assert text.printable(content) == shown


def test_what_an_operating_system_splits_lines_at_stays_one_line():
    command = ["printf", r"one\0342\0200\0250one\013one\ntwo"]
    assert len(list(LocalProcess(command).lines())) == 2


def test_connections_begin_a_few_at_a_time_and_one_that_hangs_gives_its_place_back():
    clock = Clock(0)
    places = starts.Starts(2, clock)
    first = places.begin()
    places.begin()
    begun = threading.Event()

    def begin():
        places.begin()
        begun.set()

    thread = threading.Thread(target=begin)
    thread.start()
    assert not begun.is_set()
    places.end(first)
    thread.join()
    assert begun.is_set()
    places.end(first)  # again: of no effect
    clock.now += 11
    assert places.begin()


@pytest.mark.parametrize(
    ("errors", "again"),
    [
        ("kex_exchange_identification: Connection closed by remote host", True),
        ("kex_exchange_identification: read: Connection reset by peer", True),
        ("Connection closed by 10.0.0.1 port 22", False),  # perhaps after the login
        ("stdio forwarding failed\nkex_exchange_identification: Connection closed", False),
        ("pi@jump: Permission denied (publickey).\nkex_exchange_identification: closed", False),
        ("ssh: Could not resolve hostname jump\nkex_exchange_identification: closed", False),
    ],
)
def test_only_a_connection_that_was_dropped_before_the_login_is_begun_again(errors, again):
    assert starts.is_dropped(errors) == again


def test_the_pauses_between_attempts_grow_and_differ():
    for attempt in range(1, starts.ATTEMPTS):
        pauses = {starts.delay(attempt) for _ in range(50)}
        assert len(pauses) > 1
        assert 2**attempt / 8 <= min(pauses) <= max(pauses) <= 2**attempt


def test_a_signal_ends_the_command_and_what_it_started(tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/number.new\nmv {tmp_path}/number.new {tmp_path}/number\nexec sleep 1000\n"
    )
    ssh.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-P", "-m", "mien_deploy", "status", "pi@camera"]
    with subprocess.Popen(command, env=environment) as called:
        until((tmp_path / "number").exists)
        called.terminate()
    assert called.returncode == 130
    number = int((tmp_path / "number").read_text())
    until(lambda: not _runs(number))
