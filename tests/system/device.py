"""The kit installed on a Debian with its own systemd, camera `demo:forever`. Run by device_test.sh beside a box; prints
a transcript. Watchdogs and the time before a retry are shortened by drop-ins, nothing else is changed.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers import ROOT, collapsed, pin_again
from mien_edge.model.bundle import load_bundle
from mien_edge.update import signing

BOX = shlex.split(os.environ["BOX"])
EDGE = "/opt/mien/venv/bin/mien-edge"
# max_latency_ratio has its highest value, min_fps_ratio its lowest: a busy machine rolls no model back.
SETTINGS = """
[use]
purpose = "research"
[source]
uri = "demo:forever"
[log]
heartbeat_interval = 1.0
commit_interval = 1.0
max_megabytes = 20.0
[update]
probation = 5.0
min_faces = 20
max_latency_ratio = 100.0
min_fps_ratio = 0.0
[publish]
host = "127.0.0.1"
device = "pi"
state_interval = 1.0
"""
HOST = "pi@127.0.0.1"
KEYS = Path(tempfile.mkdtemp(prefix="mien-keys-"))
SSH = (
    f"IdentityFile={KEYS}/pi",
    "IdentitiesOnly=yes",
    f"UserKnownHostsFile={KEYS}/known",
    "GlobalKnownHostsFile=none",
)
NETWORK = [*BOX[: BOX.index("-t") + 2], "-n"]  # the box's network, with this machine's files


def inside(*words, check=True, data=None):
    """What a command prints in the box."""
    result = subprocess.run([*BOX, *words], input=data, capture_output=True, timeout=300)
    if check and result.returncode:
        output = result.stdout[-2000:].decode()
        errors = result.stderr[-2000:].decode()
        raise AssertionError(f"{words}\n{output}\n{errors}\n{journal()}")
    return result.stdout.decode()


def shell(text, **more):
    return inside("sh", "-c", text, **more)


def put(place, content):
    shell(f"mkdir -p $(dirname {place}) && cat > {place}", data=content)


def say(*lines):
    print("   ", *lines, sep="\n    ", flush=True)  # noqa: T201 - the transcript


def until(condition, seconds=60.0):
    """Seconds until the condition holds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, journal()
        time.sleep(0.1)
    return time.monotonic() - start


def journal(unit="mien*", lines=12):
    return shell(f"journalctl --no-pager -o cat -u '{unit}' -n {lines}", check=False)


def status():
    text = inside(EDGE, "status", "--json", check=False)
    return (
        json.loads(text)
        if text.startswith("{")
        else {"service": {"runs": False}, "problems": ["no answer"]}
    )


def show(unit, name):
    return shell(f"systemctl show {unit} -P {name}").strip()


def process(unit="mien"):
    return int(show(unit, "MainPID"))


def frames():
    """Frames that the running service has seen; 0 while it does not run."""
    service = status()["service"]
    return service["frames"] if service["runs"] else 0


def deploy(command, *words, key="pi", host=HOST, check=True):
    """What mien-deploy prints, called on this machine within the box's network."""
    called = [
        *NETWORK,
        sys.executable,
        "-P",
        "-m",
        "mien_deploy",
        command,
        *words,
        host,
        *ssh_options(key),
    ]
    result = subprocess.run(called, capture_output=True, text=True, timeout=600)
    if check and result.returncode:
        raise AssertionError(
            f"{words}\n{result.stdout[-3000:]}\n{result.stderr[-2000:]}\n{journal()}"
        )
    return result.stdout + result.stderr


def ssh_options(key="pi"):
    """The arguments of ssh that lead to the box with a key."""
    return [word.replace("/pi", f"/{key}") for option in SSH for word in ("-o", option)]


def setup():
    (KEYS / "mien.toml").write_text(SETTINGS)
    kit = ["--wheel", os.environ["MIEN_WHEEL"], "--offline", "--settings", str(KEYS / "mien.toml")]
    return deploy(
        "setup", *kit, "--signers", str(KEYS / "allowed"), "--submit-key", str(KEYS / "submit.pub")
    )


@pytest.fixture(scope="session", autouse=True)
def installed():
    """By mien-deploy, over SSH, from nothing."""
    for name in ("pi", "submit", "signer", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", KEYS / name],
            check=True,
        )
    (KEYS / "allowed").write_text(signing.allowed_signers_line("tester", KEYS / "signer.pub"))
    put("/home/pi/.ssh/authorized_keys", (KEYS / "pi.pub").read_bytes())
    shell("chown -R pi:pi /home/pi/.ssh && chmod 700 /home/pi/.ssh && systemctl start ssh")
    until(lambda: shell("ss -ltnH 'sport = 22'"))
    (KEYS / "known").write_text(f"127.0.0.1 {shell('cat /etc/ssh/ssh_host_ed25519_key.pub')}")
    start = time.monotonic()
    output = setup()
    say(
        f"mien-deploy setup --offline, from nothing, in {time.monotonic() - start:.1f} s:",
        *output.splitlines(),
    )
    for unit in ("mien", "mien-publish"):
        put(
            f"/etc/systemd/system/{unit}.service.d/test.conf",
            b"[Service]\nWatchdogSec=6\nRestartSec=1\n",
        )
        put(
            f"/etc/systemd/system/{unit}-retry.timer.d/test.conf",
            b"[Timer]\nOnActiveSec=\nOnActiveSec=3\n",
        )
    put("/etc/mosquitto/conf.d/box.conf", b"listener 1883 127.0.0.1\nallow_anonymous true\n")
    shell("systemctl daemon-reload && systemctl start mosquitto")
    start = time.monotonic()
    shell("systemctl restart mien && systemctl enable --now mien-publish")
    say(
        f"mien.service is ready after {time.monotonic() - start:.1f} s: its first frame has gone through the chain"
    )
    yield
    shutil.rmtree(KEYS)


def test_a_second_setup_changes_nothing():
    before = process()
    output = setup()
    say("mien-deploy setup again:", *output.splitlines())
    assert "nothing to change" in output
    assert process() == before


def test_it_runs_as_its_own_user_and_publishes_what_it_sees():
    until(lambda: frames() > 60)
    assert show("mien", "ActiveState") == "active"
    assert shell(f"stat -c %U /proc/{process()}").strip() == "mien"
    assert shell(f"stat -c %U /proc/{process('mien-publish')}").strip() == "mien-publish"
    until(lambda: status()["publisher"] and status()["publisher"]["published"] > 3)
    say("mien-edge status:", *inside(EDGE, "status", check=False).splitlines())
    assert status()["problems"] == []


def test_the_kernel_confirms_what_the_units_promise():
    for unit in ("mien", "mien-publish"):
        facts = dict(
            re.findall(r"^(\w+):\s+(.*)$", shell(f"cat /proc/{process(unit)}/status"), re.M)
        )
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapBnd"]) == ("1", "2", "0" * 16), (
            unit
        )
    own = shell(f"readlink /proc/{process()}/ns/net")
    assert own != shell("readlink /proc/1/ns/net")
    devices = shell(f"nsenter -t {process()} -n ip -brief link")
    say("network devices of the process that sees pictures:", *devices.splitlines())
    assert [line.split()[0] for line in devices.splitlines()] == ["lo"]


def test_the_publisher_can_read_the_log_and_not_write_it():
    run = "setpriv --reuid mien-publish --regid mien --clear-groups"
    assert (
        int(shell(f"{run} {EDGE} logs --log /var/lib/mien/readings.db --kind reading | wc -l")) > 0
    )
    assert shell(f"{run} touch /var/lib/mien/x", check=False) == ""
    assert shell("ls /var/lib/mien").split() == [
        "models",
        "readings.db",
        "readings.db-shm",
        "readings.db-wal",
    ]
    messages = shell("timeout 5 mosquitto_sub -h 127.0.0.1 -t 'mien/pi/#' -C 3 -v || :")
    say("on the broker:", *(line[:150] for line in messages.splitlines()))
    assert "mien/pi/" in messages


@pytest.mark.parametrize("unit", ["mien", "mien-publish"])
def test_a_killed_process_is_back_at_work(unit):
    killed = process(unit)
    published = status()["publisher"]["published"]

    def is_back():
        is_restarted = process(unit) not in (0, killed)
        return is_restarted and (unit != "mien" or frames()) and _publishes_again(published)

    shell(f"kill -9 {killed}")
    seconds = until(is_back)
    say(f"SIGKILL of {unit}: work goes on after {seconds:.1f} s", *journal(unit, 4).splitlines())


def _publishes_again(before):
    publisher = status()["publisher"]
    return publisher is not None and publisher["connected"] and publisher["published"] != before


def test_a_process_that_hangs_is_restarted_by_the_watchdog():
    stopped = process()
    shell(f"kill -STOP {stopped}")
    seconds = until(lambda: process() not in (0, stopped) and frames())
    output = journal("mien", 12)
    say(
        f"SIGSTOP: readings again after {seconds:.1f} s (WatchdogSec=6 here)",
        *output.splitlines()[-5:],
    )
    assert "Watchdog timeout" in output


def test_a_stopped_broker_costs_nothing():
    sent = status()["publisher"]["published"]
    shell("systemctl stop mosquitto")
    until(lambda: not status()["publisher"]["connected"])
    assert any("is not reached" in problem for problem in status()["problems"])
    time.sleep(6)
    waiting = status()["publisher"]["waiting"]
    shell("systemctl start mosquitto")
    seconds = until(
        lambda: status()["publisher"]["connected"] and status()["publisher"]["waiting"] < 3
    )
    text = f"broker away: {waiting} entries waited, published {seconds:.1f} s after it was back"
    say(text, *journal("mien-publish", 2).splitlines())
    assert waiting > 3
    assert status()["publisher"]["published"] >= sent + waiting


def test_a_program_that_cannot_start_is_tried_again_later():
    put("/etc/mien/mien.toml", b"[source]\nuri = 'demo:never'\n")
    shell("systemctl restart mien", check=False)
    until(lambda: journal("mien-retry.service", 99).count("Finished") >= 2, 120)
    until(lambda: show("mien-retry.timer", "SubState") == "waiting")
    output = journal("mien", 30)
    put("/etc/mien/mien.toml", SETTINGS.encode())
    seconds = until(lambda: frames() > 0)
    text = f"a wrong setting: given up and tried again, three times; at work {seconds:.1f} s after it was corrected"
    say(text, *output.splitlines()[-4:])
    assert "demo:never: no such source" in output


def test_a_full_disk_is_said_and_heals():
    shell(
        "systemctl stop mien mien-publish && mount -t tmpfs -o size=1200k,mode=755 none /var/lib/mien"
    )
    shell("chown mien:mien /var/lib/mien && systemctl reset-failed mien; systemctl start mien")
    until(lambda: frames() > 10)
    shell("dd if=/dev/zero of=/var/lib/mien/ballast bs=1k count=2000 2>/dev/null || :")
    until(lambda: "cannot be written" in journal("mien", 40))
    before = frames()
    until(lambda: frames() > before)
    shell("rm /var/lib/mien/ballast")
    until(lambda: "log back" in inside(EDGE, "logs", "--kind", "event"))
    events = inside(EDGE, "logs", "--kind", "event").splitlines()
    output = [line for line in journal("mien", 40).splitlines() if "written" in line]
    say("disk full: readings go on, the log comes back", *output, *events[-2:])
    shell("systemctl stop mien && umount /var/lib/mien && systemctl start mien mien-publish")
    until(lambda: frames() > 10)


def test_the_page_is_for_this_device_alone():
    shell("systemctl start mien-view")
    page = "http://127.0.0.1:8765"
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read(700))"
    assert '"runs": true' in inside("/opt/mien/venv/bin/python", "-c", code, f"{page}/api/live")
    assert "JFIF" in inside("/opt/mien/venv/bin/python", "-c", code, f"{page}/picture"), (
        "from the service's socket"
    )
    address = shell("ss -ltnH 'sport = 8765'").split()[3]
    say(f"mien-view.service listens on {address}, and has live status and picture")
    assert address == "127.0.0.1:8765"
    assert shell(f"stat -c %U /proc/{process('mien-view')}").strip() == "mien-view"


GRAB = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
try:
    client.connect("/run/mien-preview/preview.sock")
except OSError as problem:
    sys.exit(problem.strerror)
with client.makefile("rb") as stream:
    readings, picture = (stream.read(int.from_bytes(stream.read(4), "big")) for _ in range(2))
    print(picture[:3])
"""


def grab(credentials):
    """What a process with these credentials (options of setpriv) gets of the picture's socket."""
    command = ["setpriv", *credentials, "/opt/mien/venv/bin/python", "-c", GRAB]
    return shell(f"{shlex.join(command)} 2>&1", check=False).strip()


def credentials_of(unit):
    """Those that the kernel has of the unit's process, as options of setpriv."""
    text = shell(f"cat /proc/{process(unit)}/status")
    values = dict(re.findall(r"^(Uid|Gid|Groups):\s+(.*?)\s*$", text, re.M))
    groups = values["Groups"].split()
    return [
        f"--reuid={values['Uid'].split()[0]}",
        f"--regid={values['Gid'].split()[0]}",
        f"--groups={','.join(groups)}" if groups else "--clear-groups",
    ]


def test_only_the_page_may_take_a_picture_and_nobody_where_it_is_forbidden():
    credentials = {unit: credentials_of(unit) for unit in ("mien-view", "mien-publish")}
    credentials["pi"] = ["--reuid=pi", "--regid=pi", "--init-groups"]
    credentials["nobody"] = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    results = {name: grab(options) for name, options in credentials.items()}
    say("the picture's socket, by who asks:", *(f"{n}: {r}" for n, r in results.items()))
    say(*shell("ls -la /run/mien-preview /run/mien").splitlines())
    assert results.pop("mien-view").startswith("b'\\xff\\xd8")
    assert set(results.values()) == {"Permission denied"}
    assert shell("getent group mien-preview").strip().rpartition(":")[2] == "mien-view"
    put("/etc/mien/mien.toml", (SETTINGS + "[view]\nshow_picture = false\n").encode())
    shell("systemctl restart mien")
    until(lambda: frames() > 0)
    assert shell("ls -A /run/mien-preview") == ""
    assert shell("ls -A /run/mien").split() == ["service.lock", "status.json"]
    put("/etc/mien/mien.toml", SETTINGS.encode())
    shell("systemctl restart mien")
    until(lambda: frames() > 0)


CURRENT = load_bundle(ROOT / "models" / "current").card


def signed_bundle(version, signer="signer", spoil=None):
    """The shipped bundle as a higher version, signed."""
    folder = KEYS / f"{CURRENT.name}-{version}-{signer}"
    shutil.copytree(ROOT / "models" / "current", folder)
    if spoil:
        spoil(folder)
    pin_again(folder, version=version)
    if signer:
        signing.sign(folder, KEYS / signer)
    return str(folder)


def runs(version):
    return status()["service"].get("model") == f"{CURRENT.name}-{version}"


def lines_of(text, count=8):
    return text.replace(f"{KEYS}/", "").splitlines()[-count:]


def test_a_pushed_bundle_is_swapped_in_proves_itself_and_stays():
    frames_before = frames()
    process_before = process()
    output = deploy("push", signed_bundle(11))
    say("mien-deploy push of a good bundle:", *lines_of(output))
    assert f"{CURRENT.name}-11 is committed" in output
    assert process() == process_before, "swapped, not restarted"
    assert frames() > frames_before
    assert runs(11)


def test_a_bad_bundle_goes_by_itself():
    output = deploy(
        "push", signed_bundle(12, spoil=lambda folder: collapsed(folder, "disgust")), check=False
    )
    say("mien-deploy push of a network that sees disgust everywhere:", *lines_of(output))
    assert "was rolled back" in output
    until(lambda: runs(11))
    say("its log:", *inside(EDGE, "logs", "--kind", "event").splitlines()[-4:])
    until(
        lambda: (
            f"{CURRENT.name}-11"
            in shell("timeout 5 mosquitto_sub -h 127.0.0.1 -t mien/pi/state -C 1 || :")
        )
    )


@pytest.mark.parametrize(
    ("signer", "reason"),
    [("stranger", "a key that is not in /etc/mien/allowed_signers"), ("", "is not signed")],
)
def test_a_bundle_that_nobody_vouches_for_is_refused(signer, reason):
    output = deploy("push", signed_bundle(13, signer), check=False)
    say(f"mien-deploy push, signed by {signer or 'nobody'}:", *lines_of(output, 1))
    assert reason in output
    assert runs(11)


def test_the_restricted_key_can_submit_a_bundle_and_nothing_else():
    command = [*NETWORK, "ssh", "-T", *ssh_options("submit"), "mien@127.0.0.1", "cat /etc/passwd"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert "root:" not in result.stdout
    assert "archive is cut off" in result.stderr
    output = deploy("push", signed_bundle(14), key="submit", host="mien@127.0.0.1")
    say("with a key restricted to mien-edge receive:", *lines_of(output, 2))
    assert runs(14)


def test_a_device_of_an_earlier_version_is_refused_or_renewed_and_never_stopped():
    before = process()
    settings = shell("cat /etc/mien/mien.toml")
    put("/etc/mien/mien.toml", b"[load]\nhot = 70.0\n")
    shell("sed -i 's/--timeout/--wait/' /etc/mien/submit_keys")
    again = ["setup", "--purpose", "research", "--wheel", os.environ["MIEN_WHEEL"], "--offline"]
    output = deploy(*again, check=False)
    say("mien-deploy setup on settings of an earlier version:", *lines_of(output, 2))
    assert "[load] is now [throttle]" in output
    assert process() == before
    put("/etc/mien/mien.toml", settings.encode())
    put("/usr/lib/sysusers.d/mien.conf", b"# of before\n")
    shell("rm -rf /run/mien-preview && groupdel mien-preview && systemctl restart mien")
    view_before = process("mien-view")
    output = deploy(*again)
    say("and with correct ones, on a device without the group mien-preview:", *lines_of(output))
    assert "users and folders" in output
    assert "receive --timeout 300" in shell("cat /etc/mien/submit_keys")
    assert process("mien-view") not in (0, view_before)
    until(lambda: frames() > 0)
    assert grab(credentials_of("mien-view")).startswith("b'\\xff\\xd8")
    assert grab(credentials_of("mien-publish")) == "Permission denied"


def test_a_crash_on_probation_leads_back():
    put("/etc/mien/mien.toml", SETTINGS.replace("probation = 5.0", "probation = 600.0").encode())
    shell("systemctl restart mien")
    until(lambda: frames() > 0)
    deploy("push", signed_bundle(15), "--timeout", "2", check=False)
    assert runs(15)
    shell(f"kill -9 {process()}")
    until(lambda: runs(14))
    output = inside(EDGE, "models", "list")
    say("SIGKILL on probation:", *output.splitlines())
    assert "had proved itself" in output
    put("/etc/mien/mien.toml", SETTINGS.encode())
    shell("systemctl restart mien")


def test_one_can_go_back_by_hand_and_compare():
    until(lambda: frames() > 0)
    say("mien-deploy rollback:", *deploy("rollback").splitlines())
    until(lambda: runs(11))
    inside(EDGE, "models", "shadow", f"{CURRENT.name}-14")
    until(lambda: ((status()["service"].get("shadow") or {}).get("faces") or 0) > 20)
    output = inside(EDGE, "models", "shadow")
    say("mien-edge models shadow:", *output.splitlines())
    assert "agrees on 100.0 %" in output
    inside(EDGE, "models", "shadow", "--stop")


def test_the_page_comes_through_an_ssh_tunnel():
    words = ["view", HOST, "--no-browser", "--port", "8799", *ssh_options()]
    command = [*NETWORK, sys.executable, "-P", "-m", "mien_deploy", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tunnel:
        try:
            line = tunnel.stdout.readline()
            say("mien-deploy view:", line.strip())
            code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8799/api/live').read(300))"
            assert '"runs": true' in inside("/opt/mien/venv/bin/python", "-c", code)
        finally:
            tunnel.send_signal(signal.SIGINT)
            tunnel.wait(10)


def test_summary_and_doctor_speak_on_the_device():
    text = inside(EDGE, "logs", "--summary", "--log", "/var/lib/mien/readings.db")
    say("mien-edge logs --summary:", *text.splitlines())
    assert "face-minutes" in text
    text = inside(EDGE, "doctor", "--settings", "/etc/mien/mien.toml", check=False)
    say("mien-edge doctor:", *text.splitlines())
    assert "mien.service" in text
    assert "kept over a reboot" in text
    assert "127.0.0.1:1883 lets this device in" in text


def test_memory_time_and_what_is_written():
    """Figures, not limits but for memory: this machine is no Pi."""
    megabytes = {}
    before = {}
    for unit in ("mien", "mien-publish", "mien-view"):
        pid = process(unit)
        before[unit] = (pid, _bytes_written(pid), _ticks(pid))
    time.sleep(20)
    for unit, (pid, bytes_before, ticks_before) in before.items():
        share = (_ticks(pid) - ticks_before) / 100 / 20
        per_day = (_bytes_written(pid) - bytes_before) / 20 * 86400 / 1e6
        megabytes[unit] = (
            int(re.search(r"VmRSS:\s+(\d+)", shell(f"cat /proc/{pid}/status"))[1]) / 1000
        )
        say(
            f"{unit}: {megabytes[unit]:.0f} MB, {100 * share:.0f} % of a core, {per_day:.0f} MB a day written"
        )
    assert megabytes["mien-publish"] <= 35


def _bytes_written(pid):
    return int(re.search(r"\bwrite_bytes: (\d+)", shell(f"cat /proc/{pid}/io"))[1])


def _ticks(pid):
    return sum(map(int, shell(f"cat /proc/{pid}/stat").rpartition(")")[2].split()[11:13]))


def test_it_stops_cleanly():
    start = time.monotonic()
    shell("systemctl stop mien mien-publish mien-view")
    say(f"stopped in {time.monotonic() - start:.1f} s", *journal("mien", 2).splitlines())
    assert show("mien", "Result") == "success"
    assert "stop: " in inside(EDGE, "logs", "--kind", "stop")
    assert shell("ls /run/mien /run/mien-publish /run/mien-preview", check=False).split() == [
        "/run/mien-preview:"
    ]


def test_it_can_be_taken_off_again():
    output = deploy("remove")
    say("mien-deploy remove:", *output.splitlines()[:3])
    assert shell("ls /var/lib/mien/readings.db /etc/mien/mien.toml").split(), (
        "what was seen and set stays"
    )
    assert shell("ls /opt/mien /etc/systemd/system/mien.service 2>/dev/null", check=False) == ""
    deploy("remove", "--purge")
    assert shell("ls -d /var/lib/mien /etc/mien 2>/dev/null; getent passwd mien", check=False) == ""
    output = deploy("remove", "--purge")
    assert "nothing to change" in output
