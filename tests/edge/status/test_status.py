"""What the service tells of itself, and what doctor, init and notice make of a device."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import clean_environment, until
from mien_edge import settings, testing
from mien_edge.chain.pipeline import Timed
from mien_edge.commands import doctor, notice, purpose
from mien_edge.errors import SettingsError, SourceError
from mien_edge.events import EventKind
from mien_edge.formats import reading_record
from mien_edge.log import writer
from mien_edge.service import status_writer
from mien_edge.settings import LogSettings, PublishSettings, Settings, UseSettings
from mien_edge.status import status_file, summary
from mien_edge.status.health import Health
from mien_edge.status.status_file import (
    ModelStatus,
    ProbationStatus,
    PublisherStatus,
    ShadowStatus,
    Status,
    StatusEvent,
    ThrottleStatus,
    UpdateStatus,
)
from mien_edge.status.systemd import Notifier
from mien_edge.values import Frame

NOW = 1_800_000_000.0
FRAME = Frame(np.zeros((2, 2), np.uint8), 0, 0.0)


def status_writer_of(folder):
    stage = Timed(lambda: time.sleep(0.002))
    stage()
    return status_writer.StatusWriter(
        folder, "demo", lambda: ModelStatus("fake-1"), [("detect", stage)]
    )


def test_the_status_is_one_whole_file_with_what_the_service_does(tmp_path):
    watcher = status_writer_of(tmp_path)
    watcher(FRAME, (testing.reading("happy"),))
    status = status_file.read_status(tmp_path)
    assert (status.model, status.camera, status.frames, status.pid) == (
        "fake-1",
        "ok",
        1,
        os.getpid(),
    )
    assert status.faces[0].label == "happy"
    assert status.stage_milliseconds["detect"] >= 2
    assert status.resident_megabytes > 1
    watcher.close()
    with pytest.raises(SourceError, match="does not run here"):
        status_file.read_status(tmp_path)


def test_a_lost_camera_is_told_at_once_and_a_returned_one_too(tmp_path):
    watcher = status_writer_of(tmp_path)
    watcher(FRAME, ())
    watcher.event("camera lost", "no frame for 10 s")
    assert status_file.read_status(tmp_path).camera == "lost"
    assert status_file.read_status(tmp_path).events[0].text == "no frame for 10 s"
    watcher.event("camera back", "")
    assert status_file.read_status(tmp_path).camera == "ok"


def test_a_status_that_cannot_be_written_stops_nothing(tmp_path):
    status_writer_of(tmp_path / "gone")(FRAME, ())


def test_the_rate_is_that_of_the_last_seconds(tmp_path):
    now = [0.0]
    watcher = status_writer.StatusWriter(
        tmp_path, "demo", lambda: ModelStatus("fake-1"), monotonic_clock=lambda: now[0]
    )
    for step in [0.5] * 60 + [0.05] * 400:
        watcher(FRAME, ())
        now[0] += step
    watcher.event("x", "")
    assert status_file.read_status(tmp_path).fps == pytest.approx(20)


def test_problems_are_named_with_what_to_do(tmp_path):
    watcher, now = status_writer_of(tmp_path), time.time()
    watcher(FRAME, ())
    status_summary = summary.collect(tmp_path, tmp_path / "none.db")
    assert status_summary.problems == ()
    assert "no log here" in status_summary.log.why
    assert "none.db" in summary.as_text(status_summary)
    service = status_file.read_status(tmp_path)

    def problems(publisher=None, later=0.0, **changes):
        return summary.find_problems(
            dataclasses.replace(service, **changes), publisher, now + later
        )

    assert "journalctl" in problems(camera="lost")[0]
    assert "no frame for 60 s" in problems(later=60.0)[0]
    assert problems(later=60.0, camera="paused") == []
    assert "under-voltage" in problems(health=Health(throttled_now=("under-voltage",)))[0]
    broker = PublisherStatus(connected=False, broker="b:1883", problem="refused")
    assert problems(broker) == ["the broker b:1883 is not reached: refused"]


def test_the_status_tells_errors_of_the_last_day_from_the_log(tmp_path):
    written = writer.LogWriter(tmp_path / "log.db", LogSettings())
    written((testing.reading("happy", time.time()),))
    written.event("camera lost", "no frame")
    written.event("start", "")
    written.close()
    status_summary = summary.collect(tmp_path, tmp_path / "log.db")
    assert [event.text for event in status_summary.log.errors] == ["no frame"]
    assert status_summary.log.readings == 1
    assert status_summary.problems[0].endswith("sudo systemctl start mien")


FULL_STATUS = Status(
    time=1_800_000_000.0,
    started=1_799_999_000.0,
    pid=42,
    model="small-2",
    bundle="/models/small-2",
    source="v4l2:0",
    camera="ok",
    frames=5,
    fps=14.9,
    faces=(reading_record(testing.reading("happy", NOW)),),
    stage_milliseconds={"detect": 12.3},
    health=Health(61.2, ("throttled",), (), 512.5),
    resident_megabytes=104.5,
    written_per_day=3.2,
    events=(StatusEvent(NOW, EventKind.THROTTLED, "hot"),),
    throttle=ThrottleStatus(target_fps=15.0, idle=False, skipped=7, failed_reads=3),
    update=UpdateStatus(
        ProbationStatus(12.3, 600.0, 3, 200),
        ShadowStatus(
            "small-3",
            60,
            1,
            1.0,
            ((1, 0),),
            (2.1, 3.0),
            labels=("sad",),
            shadow_labels=("sad", "calm"),
        ),
    ),
    labels=("happy", "sad"),
    unreliable_labels=("sad",),
)
FULL_JSON = (
    '{"time": 1800000000.0, "started": 1799999000.0, "pid": 42, "model": "small-2", "bundle": "/models/small-2", '
    '"source": "v4l2:0", "camera": "ok", "frames": 5, "fps": 14.9, "faces": [{"time": "2027-01-15T08:00:00.000Z", '
    '"source": "", "position": null, "frame": 27000000000, "track": 1, "label": "happy", "confidence": 0.9, "quality": "good", '
    '"box": [10, 20, 60, 80], "scores": {"angry": 0.0167, "disgust": 0.0167, "fear": 0.0167, "happy": 0.9, '
    '"sad": 0.0167, "surprise": 0.0167, "neutral": 0.0167}, "model": "fake-1"}], "milliseconds": {"detect": 12.3}, '
    '"temperature": 61.2, "limits": ["throttled"], "had": [], "memory": 512.5, "rss": 104.5, "written_per_day": 3.2, '
    '"events": [{"time": 1800000000.0, "kind": "throttled", "text": "hot"}], '
    '"target_fps": 15.0, "idle": false, "skipped": 7, "failed_reads": 3, '
    '"probation": {"seconds": 12.3, "of_seconds": 600.0, "faces": 3, "of_faces": 200}, '
    '"shadow": {"bundle": "small-3", "seconds": 60, "faces": 1, "agreement": 1.0, "confusion": [[1, 0]], '
    '"milliseconds": [2.1, 3.0], "degrees_warmer": null, "problem": "", "labels": ["sad"], "shadow_labels": ["sad", "calm"]}, '
    '"minutes_only": false, "labels": ["happy", "sad"], "unreliable_labels": ["sad"]}\n'
)


def test_the_status_file_has_the_keys_that_programs_know(tmp_path):
    status_file.write(tmp_path, FULL_STATUS)
    assert (tmp_path / "status.json").read_text() == FULL_JSON
    assert status_file.read_status(tmp_path) == FULL_STATUS


def test_without_throttle_and_update_the_status_file_has_none_of_their_keys(tmp_path):
    status = dataclasses.replace(FULL_STATUS, throttle=None, update=None)
    status_file.write(tmp_path, status)
    content = json.loads((tmp_path / "status.json").read_text())
    assert set(json.loads(FULL_JSON)) - set(content) == {
        "target_fps",
        "idle",
        "skipped",
        "failed_reads",
        "probation",
        "shadow",
    }
    assert status_file.read_status(tmp_path) == status


def test_a_status_of_a_later_version_is_read_as_far_as_it_goes(tmp_path):
    content = json.loads(FULL_JSON) | {"humidity": 0.4}
    content["faces"][0]["age"] = "unknown"
    content["shadow"]["energy"] = {"joules": 3}
    (tmp_path / "status.json").write_text(json.dumps(content))
    assert status_file.read_status(tmp_path) == FULL_STATUS


@pytest.mark.parametrize("key", json.loads(FULL_JSON))
def test_a_status_of_an_earlier_version_may_lack_any_key(tmp_path, key):
    content = json.loads(FULL_JSON)
    del content[key]
    (tmp_path / "status.json").write_text(json.dumps(content))
    summary.as_text(summary.collect(tmp_path, tmp_path / "none.db"))
    status = status_file.read_status(tmp_path)
    assert (status.frames, status.source) == (
        0 if key == "frames" else 5,
        "" if key == "source" else "v4l2:0",
    )


def test_an_empty_status_is_no_reason_to_fail(tmp_path):
    (tmp_path / "status.json").write_text("{}")
    assert status_file.read_status(tmp_path) == Status()
    assert status_file.read_publisher(tmp_path) == PublisherStatus()
    assert (
        "? " not in summary.as_text(summary.collect(tmp_path, tmp_path / "none.db")).splitlines()[0]
    )


@pytest.mark.parametrize(
    "content", ['{"fps": "fast"}', '{"faces": 3}', '{"health": 1, "memory": "much"}', "[1]", "{"]
)
def test_a_status_with_other_values_is_one_clear_error(tmp_path, content):
    (tmp_path / "status.json").write_text(content)
    with pytest.raises(SourceError, match=r"status\.json: "):
        status_file.read_status(tmp_path)


def test_the_publishers_status_has_the_keys_that_programs_know(tmp_path):
    status = PublisherStatus(NOW, "b:1883", True, "", 3, 1, 0, 4, 2, {"happy": 1.0}, 5)
    status_file.write(tmp_path, status)
    assert (tmp_path / "status.json").read_text() == (
        '{"time": 1800000000.0, "broker": "b:1883", "connected": true, "problem": "", "published": 3, "refused": 1, '
        '"reconnects": 0, "waiting": 4, "faces": 2, "shares": {"happy": 1.0}, "set_aside": 5}\n'
    )
    assert status_file.read_publisher(tmp_path) == status


def test_the_summary_has_the_keys_that_programs_know(tmp_path):
    (tmp_path / "run").mkdir()
    log = tmp_path / "log.db"
    absent = summary.collect(tmp_path / "run", log).to_json()
    assert list(absent) == ["service", "log", "publisher", "problems"]
    assert (list(absent["service"]), list(absent["log"])) == (
        ["runs", "why"],
        ["path", "why", "free_megabytes"],
    )
    status_file.write(tmp_path / "run", FULL_STATUS)
    log_writer = writer.LogWriter(log, LogSettings())
    log_writer.event("camera lost", "no frame")
    log_writer.close()
    present = summary.collect(tmp_path / "run", log).to_json()
    assert list(present["service"]) == ["runs", *json.loads(FULL_JSON)]
    keys = ["path", "megabytes", "free_megabytes", "readings", "newest_reading", "errors"]
    assert list(present["log"]) == keys
    assert list(present["log"]["errors"][0]) == ["id", "time", "kind", "text"]


def _frames(folder):
    """How many frames the service in `folder` tells of; 0 before it tells anything."""
    try:
        return status_file.read_status(folder).frames
    except SourceError:
        return 0


def test_a_running_service_has_a_status_of_its_own(tmp_path):
    """The real program, with the folders that systemd would give it."""
    (tmp_path / "run").mkdir()
    variables = {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
    }
    environment = {**clean_environment(), **variables}
    command = [sys.executable, "-m", "mien_edge"]
    with subprocess.Popen([*command, "run", "demo:forever", "--quiet"], env=environment) as process:
        until(lambda: _frames(tmp_path / "run") > 1)
        done = subprocess.run(
            [*command, "status", "--json"], env=environment, capture_output=True, text=True
        )
        text = subprocess.run(
            [*command, "status"], env=environment, capture_output=True, text=True
        ).stdout
        process.terminate()
    printed = json.loads(done.stdout)
    assert (done.returncode, printed["problems"]) == (0, []), done.stderr
    assert set(printed["service"]["milliseconds"]) == {"detect", "track", "classify", "smooth"}
    assert printed["service"]["target_fps"] == 15
    assert printed["service"]["fps"] > 0
    assert "demo:forever: ok" in text
    assert not (tmp_path / "run" / "status.json").exists()


# --- doctor ------------------------------------------------------------------------------------------------------


def pi(tmp_path, **files):
    """A tree that looks like a healthy Raspberry Pi; a text of None removes the file."""
    healthy = {
        "sys/class/thermal/thermal_zone0/temp": "51234",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0",
        "sys/block/mmcblk0/ro": "0",
        "proc/meminfo": "MemAvailable: 900000 kB",
        "etc/systemd/journald.conf": "[Journal]\nStorage=volatile",
        "etc/systemd/journald.conf.d/mien.conf": "[Journal]\nStorage=persistent",
        "run/systemd/timesync/synchronized": "",
        "dev/media0": "",
        "dev/video0": "",
    }
    for name, text in {**healthy, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text + "\n")
    return tmp_path


def findings_of(root, subject, uri="v4l2:0"):
    device_settings = Settings(source=settings.SourceSettings(uri=uri))
    return [
        finding for finding in doctor.examine(device_settings, root) if finding.subject == subject
    ]


def test_a_healthy_device_has_nothing_wrong_that_a_tree_can_tell(tmp_path):
    findings = doctor.examine(Settings(source=settings.SourceSettings(uri="v4l2:0")), pi(tmp_path))
    wrong = {finding.subject for finding in findings if finding.severity in ("warning", "error")}
    assert wrong <= {"user", "disk", "units"}, doctor.as_text(findings)
    assert "edge-" in next(finding.text for finding in findings if finding.subject == "model")


@pytest.mark.parametrize(
    ("subject", "files", "severity", "words"),
    [
        ("heat", {"sys/class/thermal/thermal_zone0/temp": "82000"}, "error", "heat sink"),
        ("heat", {"sys/class/thermal/thermal_zone0/temp": "71000"}, "warning", "fan"),
        (
            "power",
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "1"},
            "error",
            "power supply",
        ),
        (
            "power",
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000"},
            "warning",
            "since the start",
        ),
        ("memory", {"proc/meminfo": "MemAvailable: 90000 kB"}, "error", "more memory"),
        ("wear", {"sys/block/mmcblk0/ro": "1"}, "error", "replace it"),
        ("wear", {"sys/block/mmcblk0/device/life_time": "0x0a 0x02"}, "error", "90 %"),
        ("journal", {"etc/systemd/journald.conf.d/mien.conf": None}, "warning", "volatile"),
        ("camera", {"dev/video0": None}, "error", "plug it in"),
    ],
)
def test_each_trouble_is_found_and_has_a_fix(tmp_path, subject, files, severity, words):
    trouble = findings_of(pi(tmp_path, **files), subject)
    assert any(
        finding.severity == severity and words in finding.text + finding.fix for finding in trouble
    ), trouble
    assert all(finding.fix for finding in trouble if finding.severity in ("warning", "error"))


def test_a_pi_camera_that_the_kernel_does_not_see_is_an_error(tmp_path):
    (trouble,) = findings_of(pi(tmp_path, **{"dev/media0": None}), "camera", uri="picamera")
    assert (trouble.severity, "ribbon cable" in trouble.fix) == ("error", True)


def test_journald_is_read_as_journald_reads_it(tmp_path):
    later = {"etc/systemd/journald.conf.d/zz.conf": "[Journal]\nStorage=none"}
    assert findings_of(pi(tmp_path, **later), "journal")[0].severity == "warning"
    hidden = {
        "usr/lib/systemd/journald.conf.d/mien.conf": "[Journal]\nStorage=volatile",
        **dict.fromkeys(later),
    }
    assert findings_of(pi(tmp_path, **hidden), "journal")[0].severity == "ok", (
        "a file in /etc hides its namesake in /usr/lib"
    )


def test_doctor_tells_whose_bundles_are_taken(tmp_path):
    assert "names nobody" in findings_of(pi(tmp_path), "signers")[0].text
    keys = {
        "etc/mien/allowed_signers": 'me namespaces="mien-bundle" ssh-ed25519 AAAA\n# a remark\n'
    }
    assert (
        "names whose bundles are accepted (lines: 1)"
        in findings_of(pi(tmp_path, **keys), "signers")[0].text
    )


def test_the_exit_code_is_the_worst_finding():
    one, two = doctor.Finding("a", "ok", ""), doctor.Finding("b", "warning", "", "do")
    assert doctor.worst([one]) == "ok"
    assert doctor.worst([two, one]) == "warning"
    assert doctor.as_text([two, one]).splitlines()[-1].strip() == "-> do"


def test_a_broker_that_is_away_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    finding = doctor.broker(PublishSettings(host="127.0.0.1", port=port))
    assert (finding.severity, f"127.0.0.1:{port}" in finding.text) == ("error", True)


@pytest.mark.parametrize("connected", [True, False])
def test_what_is_wrong_with_the_publisher_is_a_problem_with_and_without_the_service(
    tmp_path, connected
):
    status = PublisherStatus(broker="b:1883", connected=connected, problem="log.db: damaged")
    service = dataclasses.replace(FULL_STATUS, camera="ok")
    lines = summary.find_problems(service, status, service.time)
    assert "log.db: damaged" in lines[-1]
    assert summary.publisher_problems(status) == lines[-1:]
    (tmp_path / "run").mkdir()
    (tmp_path / "run-publish").mkdir()
    status_file.write(tmp_path / "run-publish", status)
    assert "log.db: damaged" in summary.collect(tmp_path / "run", tmp_path / "x").problems[-1]


# --- init, notice ------------------------------------------------------------------------------------------------


def settings_of(name, uri="demo"):
    return purpose.new_settings(purpose.stated_use(UseSettings(), name), uri)


def test_the_first_start_asks_explains_the_law_and_writes_settings(tmp_path):
    said = io.StringIO()
    assert purpose.ask_purpose(io.StringIO("nonsense\n9\n2\n"), said) == "research"
    for fact in (
        "as of November 2026",
        "no legal advice",
        "Article 5(1)(f)",
        "2 February 2025",
        "Article 50(3)",
        "2 August 2026",
        "Annex III, 1(c)",
        "2 December 2027",
        "Article 2(12)",
        "Guidelines 3/2019",
        "Article 35",
    ):
        assert fact in said.getvalue(), fact
    use = purpose.ask_use("research", io.StringIO("A lab\n\nconsent\n"), said)
    assert use == UseSettings("research", operator="A lab", legal_basis="consent")
    written = purpose.new_settings(use, "v4l2:0")
    purpose.write_settings(tmp_path / "mien.toml", written)
    assert settings.load_settings(tmp_path / "mien.toml") == written
    assert written.source.uri == "v4l2:0"


@pytest.mark.parametrize("ask", [purpose.ask_use, settings_of])
def test_what_the_law_forbids_is_no_purpose(ask):
    with pytest.raises(SettingsError, match="medical-safety"):
        ask("work-school")


def test_what_the_law_forbids_is_refused_in_a_file_as_well():
    with pytest.raises(SettingsError, match=r"use\.purpose must be one of"):
        settings.parse_settings('[use]\npurpose = "work-school"')


def test_an_existing_file_is_replaced_only_when_told_to(tmp_path):
    (tmp_path / "mien.toml").write_text("mine")
    with pytest.raises(SettingsError, match="--force"):
        purpose.write_settings(tmp_path / "mien.toml", settings_of("private"))
    purpose.write_settings(tmp_path / "mien.toml", settings_of("private"), force=True)
    with pytest.raises(SettingsError, match="nobody answered"):
        purpose.ask_purpose(io.StringIO(""), io.StringIO())


def layers(path):
    """The sign, and the full information."""
    sign, information = path.read_text().split("</style>")[1].split('<section class="second">')
    return sign, information


@pytest.mark.parametrize("language", notice.LANGUAGES)
def test_the_notice_has_two_layers_from_the_settings_and_hides_nothing_in_markup(
    tmp_path, language
):
    use = UseSettings("research", "<b>Museum & Co</b>", "a@b.example", "Art. 6(1)(a)", "the cloud")
    notice.write_notice(tmp_path / "n.html", Settings(use=use), language)
    sign, information = layers(tmp_path / "n.html")
    page = sign + information
    assert f'lang="{language}"' in (tmp_path / "n.html").read_text()
    for text in ("&lt;b&gt;Museum &amp; Co&lt;/b&gt;", "a@b.example", " 30 "):
        assert text in sign
        assert text in information
    assert "Art. 6(1)(a)" in information
    assert "the cloud" in information
    assert "{" not in page
    assert 'class="blank"' not in page


@pytest.mark.parametrize("language", notice.LANGUAGES)
def test_what_nobody_has_set_is_a_marked_blank_in_the_notice(tmp_path, language):
    published = Settings(publish=PublishSettings(host="broker.example"))
    for written, blanks in ((Settings(), 7), (published, 8)):
        notice.write_notice(tmp_path / "n.html", written, language)
        sign, information = layers(tmp_path / "n.html")
        assert (sign + information).count('class="blank"') == blanks


@pytest.mark.parametrize("language", notice.LANGUAGES)
def test_the_notice_of_a_public_place_speaks_of_groups_alone(tmp_path, language):
    notice.write_notice(tmp_path / "n.html", settings_of("public"), language)
    sign, _ = layers(tmp_path / "n.html")
    assert " 5 " in sign
    assert " 30 " not in sign


# --- who takes a reload signal, and the heartbeat ----------------------------------------------------------------


HOLDS_THE_LOCK = """
import signal, sys
from pathlib import Path
from mien_edge.status.status_file import ServiceLock
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
lock = ServiceLock(Path(sys.argv[1]))
print("held", flush=True)
print(signal.sigwait([signal.SIGHUP]) == signal.SIGHUP, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder):
    """Another process that holds the folder's lock; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, folder],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_reload_signal_reaches_the_process_that_holds_the_lock(tmp_path):
    with holder(tmp_path) as process:
        assert status_file.service_pid(tmp_path) == process.pid
        assert status_file.send_reload_signal(tmp_path)
        assert process.stdout.readline() == "True\n"


def test_a_lock_that_a_killed_process_left_behind_is_nobodys(tmp_path):
    with holder(tmp_path):
        pass
    assert (tmp_path / "service.lock").exists()
    assert not status_file.send_reload_signal(tmp_path)


def test_a_second_service_in_a_folder_leaves_the_lock_of_the_first_alone(tmp_path):
    with holder(tmp_path) as process:
        second = status_file.ServiceLock(tmp_path)
        second.close()
        assert status_file.service_pid(tmp_path) == process.pid


def test_only_the_owner_may_open_the_file_of_the_lock(tmp_path):
    lock = status_file.ServiceLock(tmp_path)
    assert (tmp_path / "service.lock").stat().st_mode & 0o777 == 0o600
    lock.close()
    assert not (tmp_path / "service.lock").exists()


def test_where_no_service_ran_nobody_takes_a_reload_signal(tmp_path):
    assert not status_file.send_reload_signal(tmp_path / "none")


def test_a_process_without_a_free_file_descriptor_still_beats(tmp_path, monkeypatch):
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    def no_more_files(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        notifier = Notifier()
        monkeypatch.setattr(socket, "socket", no_more_files)
        notifier.ping_watchdog("listens")
        notifier.close()
        messages = [systemd.recv(1000).decode() for _ in range(3)]
    assert messages == ["READY=1", "WATCHDOG=1\nSTATUS=listens", "STOPPING=1"]


def test_the_status_tells_what_the_model_tells_apart():
    for labels, unreliable, text in (
        (("smile", "eyes-closed"), (), "smile, eyes-closed"),
        (
            ("happy", "sad", "fear"),
            ("sad", "fear"),
            "happy, sad, fear; cannot be told reliably: sad, fear",
        ),
        ((), (), "not reported here"),
    ):
        service = dataclasses.replace(FULL_STATUS, labels=labels, unreliable_labels=unreliable)
        no_log = summary.NoLog("log.db", "no log here", None)
        told = summary.StatusSummary(service, no_log, None, ())
        assert f"labels       {text}" in summary.as_text(told).splitlines()
        assert told.to_json()["service"]["labels"] == list(labels)
        assert told.to_json()["service"]["unreliable_labels"] == list(unreliable)


def test_the_status_tells_a_faces_number_from_the_number_of_faces():
    faces = (
        reading_record(testing.reading("happy", NOW, track=3)),
        reading_record(testing.reading(None, NOW, track=12, quality="blurred")),
    )
    for service, text in (
        (dataclasses.replace(FULL_STATUS, faces=faces), "2 now, happy (face 3), blurred (face 12)"),
        (dataclasses.replace(FULL_STATUS, faces=()), "0 now"),
    ):
        lines = summary.as_text(
            summary.StatusSummary(service, summary.NoLog("log.db", "no log here", None), None, ())
        ).splitlines()
        assert f"faces        {text}" in lines
