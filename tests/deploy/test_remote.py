"""Devices that hang, chat, ask or lie, behind a real sshd on loopback."""

import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile

import pytest
from devices import Devices, needs_sshd
from mien_deploy import cli, fleet, remote, starts, view
from mien_deploy.process import Limits
from mien_deploy.remote import Device, UnreachableError
from mien_edge.errors import DeployError

PLAIN, HUNG, CHATTY, ODD, ASKING, LOSSY, HOLDING = (f"127.0.0.{number}" for number in range(1, 8))
CHATTER = 'echo Welcome; echo warning: locale >&2; printf "last login: now"; sh -c "$SSH_ORIGINAL_COMMAND"; code=$?; echo Bye; exit $code'
SUDO = """#!/bin/sh
echo 'sudo: a terminal is required to read the password; use the -S option' >&2
echo 'sudo: a password is required' >&2
exit 1
"""
EVIL = r"""#!/bin/sh
printf 'service \033]52;c;ZXZpbA==\007\033[1A\n'
printf 'mien-edge: error: \033]0;owned\007bad\n' >&2
exit ${1:-0}
"""


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    needs_sshd()
    folder = tmp_path_factory.mktemp("devices")
    (folder / "banner").write_text("ALL ACTIVITY IS LOGGED\n")
    behaviours = {
        HUNG: "ForceCommand exec sleep 300",
        CHATTY: f"Banner {folder}/banner\nForceCommand {CHATTER}",
        ODD: "ForceCommand echo 'This account is not available.'",
        ASKING: f'ForceCommand PATH={folder}/bin:$PATH sh -c "$SSH_ORIGINAL_COMMAND"',
    }
    behaviours[LOSSY] = 'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"; true'
    behaviours[HOLDING] = 'ForceCommand sleep 60 & sh -c "$SSH_ORIGINAL_COMMAND"'
    (folder / "bin").mkdir()
    executable(folder / "bin" / "sudo", SUDO)
    executable(folder / "bin" / "systemctl", "#!/bin/sh\n")
    executable(folder / "evil", EVIL)
    with Devices(folder, 7, behaviours) as seven_devices:
        yield seven_devices


def executable(path, content):
    path.write_text(content)
    path.chmod(0o755)


def device(devices, host, program="echo"):
    """A device of the fixture."""
    options = tuple(word for option in devices.options() for word in ("-o", option))
    return Device(host, program, options)


def test_the_answers_of_others_come_while_one_device_hangs_and_ctrl_c_works(devices):
    options = [word for option in devices.options() for word in ("-o", option)]
    hosts = [HUNG, PLAIN, CHATTY]
    status = ["status", *hosts, "--program", "echo", "--timeout", "3600"]
    # Where the tests run in a shell's background, programs ignore Ctrl-C unless told otherwise.
    command = ["env", "--default-signal=INT", sys.executable, "-P", "-m", "mien_deploy", *status]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as called:
        answers = {called.stdout.readline().strip() for _ in range(2)}
        called.send_signal(signal.SIGINT)
    assert answers == {f"{PLAIN}  status", f"{CHATTY}  status"}
    assert called.returncode == 130


def test_a_device_that_hangs_is_named_and_what_to_do(devices, capsys):
    code = cli.main(["status", HUNG, "--timeout", "0.5", *devices.arguments()])
    assert code == 1
    error = capsys.readouterr().err
    line = f"mien-deploy: error: {HUNG}: no answer within 0.5 s; see: ssh {HUNG}; or allow it more with --timeout\n"
    assert error == line


def test_a_program_that_hangs_on_the_device_is_a_failure_with_its_name(devices):
    program = device(devices, PLAIN, "echo begun; exec sleep 300; :")
    with pytest.raises(DeployError, match=f"{PLAIN}: it has said nothing for 4 s") as error:
        list(program.stream([], Limits(silence=4)))
    assert not isinstance(error.value, UnreachableError)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_that_is_none_is_a_usage_error(seconds):
    with pytest.raises(SystemExit):
        cli.main(["status", "pi", f"--timeout={seconds}"])


def test_what_a_login_shell_prints_is_no_part_of_the_answer(devices):
    assert device(devices, CHATTY).run(["status", "two words"]) == "status two words"
    assert device(devices, CHATTY, "printf a%.0s").run(["1"]) == "a", "also without a line's end"


def test_an_exit_code_comes_through_a_login_shell_that_prints(devices):
    program = device(devices, CHATTY, "(echo done; exit 3)")
    stream = program.stream([], Limits(), accepted_exit_codes=(3,))
    assert list(stream) == ["done"]
    assert stream.exit_code == 3


def test_an_exit_code_comes_through_a_login_shell_that_loses_it(devices):
    with pytest.raises(DeployError, match="no camera"):
        device(devices, LOSSY, "(echo no camera >&2; exit 3)").run([])


def test_an_answer_counts_though_a_login_shell_has_left_something_running(devices, monkeypatch):
    monkeypatch.setattr(remote, "_LAST_SECONDS", 0.1)
    assert device(devices, HOLDING).run(["status"], seconds=30) == "status"


def test_an_answer_that_is_cut_is_none_though_the_exit_code_is_0(devices):
    with pytest.raises(DeployError, match="the connection was lost; the state"):
        device(devices, PLAIN, "exec echo").run(["status"])


def test_a_users_configuration_for_other_uses_of_ssh_does_no_harm(devices, tmp_path, monkeypatch):
    config = tmp_path / "config"
    forward = f"LocalForward 127.0.0.1:{devices.port} 127.0.0.1:1"
    config.write_text(
        f"Host *\nRemoteCommand htop\nRequestTTY force\nExitOnForwardFailure yes\n{forward}\n"
    )
    ssh = shutil.which("ssh")
    executable(tmp_path / "ssh", f'#!/bin/sh\nexec {ssh} -F {config} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert device(devices, PLAIN).run(["status"]) == "status"


def test_output_that_nobody_reads_any_more_is_no_failure(tmp_path, monkeypatch):
    fake_ssh(tmp_path, monkeypatch, "")
    command = [sys.executable, "-P", "-m", "mien_deploy", "logs", "pi", "--program", "seq 99999; :"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as called:
        assert called.stdout.readline() == "pi  1\n"
        called.stdout.close()
        assert called.stderr.read() == ""
    assert called.returncode == 0


def test_what_a_terminals_alphabet_has_not_is_escaped(tmp_path, monkeypatch):
    fake_ssh(tmp_path, monkeypatch, "")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = [
        sys.executable,
        "-P",
        "-m",
        "mien_deploy",
        "status",
        "pi",
        "--program",
        "echo 廚房",
    ]
    assert subprocess.check_output(command, text=True) == "pi  \\u5eda\\u623f status\n"


def test_a_banner_and_a_login_shells_warning_are_never_the_reason(devices):
    with pytest.raises(DeployError) as error:
        device(devices, CHATTY, "false").run([])
    assert str(error.value) == f"{CHATTY}: false ended with code 1"


def test_an_answer_without_marks_is_refused_by_name(devices):
    with pytest.raises(DeployError, match=f"{ODD}: its login shell does not run"):
        device(devices, ODD).run(["status"])


def test_only_a_push_may_meet_a_key_that_runs_its_own_command(devices):
    stream = device(devices, ODD).stream([], Limits(), accept_unmarked=True)
    assert list(stream) == ["This account is not available."]


def test_an_exit_code_255_of_the_program_is_not_sshs(devices):
    with pytest.raises(DeployError, match="ended with code 255"):
        device(devices, PLAIN, "(exit 255)").run([])


def test_sudo_that_asks_for_a_password_says_what_to_do(devices, capsys):
    for command in ("status", "check"):
        assert cli.main([command, ASKING, *devices.arguments(), "--program", "sudo mien-edge"]) == 1
        assert f"{ASKING}: sudo asks for a password there; allow" in capsys.readouterr().err


def test_nothing_that_a_device_prints_acts_on_the_terminal(devices, capsys):
    evil = ["--program", f"{devices.folder}/evil 0"]
    assert cli.main(["status", PLAIN, *devices.arguments(), *evil]) == 0
    evil = ["--program", f"{devices.folder}/evil 9"]
    assert cli.main(["logs", PLAIN, *devices.arguments(), *evil]) == 1
    output = capsys.readouterr()
    assert output.out.splitlines()[0] == rf"{PLAIN}  service \x1b]52;c;ZXZpbA==\x07\x1b[1A"
    assert rf"{PLAIN}: \x1b]0;owned\x07bad" in output.err
    assert output.out.isascii()
    assert "\x1b" not in output.out + output.err


def test_an_endless_answer_ends(devices):
    with pytest.raises(DeployError, match=r"printed more than 1 MB; see: ssh [^;]+$"):
        device(devices, PLAIN, "yes").run([])


def test_a_dropped_connection_is_begun_again_and_its_answer_comes_once(tmp_path, monkeypatch):
    dropped = "kex_exchange_identification: Connection closed by remote host"
    count = tmp_path / "count"
    fake_ssh(
        tmp_path,
        monkeypatch,
        f"""
echo again >> {count}
[ $(wc -l < {count}) -lt 4 ] && {{ echo '{dropped}' >&2; exit 255; }}
""",
    )
    assert Device("pi", "echo").run(["status"]) == "status"
    assert count.read_text().count("again") == 4


def test_a_connection_that_is_always_dropped_is_unreachable(tmp_path, monkeypatch):
    fake_ssh(tmp_path, monkeypatch, "echo kex_exchange_identification: closed >&2; exit 255")
    with pytest.raises(UnreachableError, match=r"pi: cannot be reached \(kex_exchange"):
        Device("pi").run(["status"])


def fake_ssh(folder, monkeypatch, script):
    """An ssh that runs a script, and then the command here."""
    executable(folder / "ssh", f'#!/bin/sh\n{script}\nfor last in "$@"; do :; done\neval "$last"\n')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(starts, "delay", lambda attempt: 0)


def test_every_device_is_followed_at_the_same_time(monkeypatch):
    hosts = [f"pi@camera-{number}" for number in range(60)]
    barrier = threading.Barrier(len(hosts))

    def stream(self, arguments, limits):
        barrier.wait(60)
        yield "an entry"

    monkeypatch.setattr(Device, "stream", stream)
    assert cli.main(["logs", "--follow", *hosts]) == 0


def test_more_devices_than_can_be_followed_are_refused_with_the_number(capsys):
    hosts = [f"pi@camera-{number}" for number in range(fleet.MAX_FOLLOWED + 1)]
    assert cli.main(["logs", "--follow", *hosts]) == 1
    assert "201 devices are more than the 200" in capsys.readouterr().err


# --- setup ------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "mien-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("mien-1.dist-info/METADATA", "Name: mien\n\n")
    return path


def dry_setup(devices, host, wheel, capsys, *options):
    """The exit code and the output of a setup that changes nothing."""
    words = [
        "setup",
        host,
        "--dry-run",
        "--purpose",
        "private",
        "--wheel",
        str(wheel),
        *options,
        *devices.arguments(),
    ]
    code = cli.main(words)
    return code, capsys.readouterr().out.replace(host, "HOST")


def test_what_a_login_shell_prints_is_no_fact_for_pyinfra(devices, capsys):
    """Text that is taken for facts says that every file and user is there."""
    outputs = {}
    for host in (PLAIN, CHATTY):
        words = ["remove", host, "--purge", "--dry-run", "--no-sudo", *devices.arguments()]
        assert cli.main(words) == 0
        outputs[host] = re.sub(r"[\d.]+", "", capsys.readouterr().out)
    assert outputs[CHATTY] == outputs[PLAIN]


def test_a_setup_of_a_device_that_does_not_do_what_it_is_asked_is_refused(devices, wheel, capsys):
    code, output = dry_setup(devices, ODD, wheel, capsys, "--no-sudo")
    assert code == 1
    assert "its login shell does not run what it is asked to" in output


def test_a_setup_whose_sudo_asks_says_what_to_do(devices, wheel, capsys):
    code, output = dry_setup(devices, ASKING, wheel, capsys)
    assert code == 1
    assert "sudo asks for a password there; allow" in output
    assert "EOFError" not in output


def test_a_setup_of_a_device_that_hangs_ends(devices, wheel, capsys):
    code, output = dry_setup(devices, HUNG, wheel, capsys, "--no-sudo", "--timeout", "3")
    assert code == 1
    assert "it has said nothing for 3 s" in output


# --- view -------------------------------------------------------------------------------------------------------


class Page(http.server.BaseHTTPRequestHandler):
    """A page with the text of its server."""

    def do_GET(self):
        content = self.server.text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def page(monkeypatch):
    """A web server on a free port, which is the device's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        monkeypatch.setattr(view, "_DEVICE_PORT", server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def opened(monkeypatch):
    """The addresses that a browser opens; then Ctrl-C comes."""
    addresses = []

    def open_address(address):
        addresses.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr(view.webbrowser, "open", open_address)
    return addresses


@pytest.mark.parametrize("text", ["<title>mien</title>", "open /?token=… with the device's token"])
def test_the_devices_page_is_opened_on_a_free_port(devices, page, text, monkeypatch):
    page.text = text
    addresses = opened(monkeypatch)
    lines = []
    assert view.view_page(viewed(devices), 0, True, lines.append) == 0
    assert lines == [f"{ASKING}: {addresses[0]} until you press Ctrl-C\n"]
    assert ":8765/" not in addresses[0]


def viewed(devices):
    """A device whose systemctl does nothing, and well."""
    return device(devices, ASKING)


def test_a_page_of_somebody_else_is_never_opened(devices, page, monkeypatch):
    page.text = "<title>another</title>"
    addresses = opened(monkeypatch)
    with pytest.raises(DeployError, match="is not mien's page"):
        view.view_page(viewed(devices), 0, True, [].append)
    assert addresses == []


@pytest.mark.parametrize("port", ["-1", "65536", "9" * 5000, "x"])
def test_a_port_that_is_none_is_a_usage_error(port):
    with pytest.raises(SystemExit):
        cli.main(["view", "pi", f"--port={port}"])


def test_a_port_that_somebody_has_is_refused(devices, page, monkeypatch):
    page.text = "<title>mien</title>"
    addresses = opened(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeployError, match=r"cannot be opened .*choose another with --port"):
            view.view_page(viewed(devices), port, True, [].append)
    assert addresses == []
