"""What the service tells of itself, and what doctor, init and notice make of a device."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import clean_environment, until
from mien_edge import settings, testing
from mien_edge.chain.pipeline import Timed
from mien_edge.commands import doctor, purpose
from mien_edge.errors import SettingsError, SourceError
from mien_edge.log import writer
from mien_edge.service import status_writer
from mien_edge.settings import LogSettings, Settings
from mien_edge.status import status_file, summary
from mien_edge.values import Frame

FRAME = Frame(np.zeros((2, 2), np.uint8), 0, 0.0)


def told(folder, **facts):
    stage = Timed(lambda: time.sleep(0.002))
    stage()
    return status_writer.StatusWriter(folder, {"model": "fake-1", "source": "demo", **facts}, [("detect", stage)])


def test_the_status_is_one_whole_file_with_what_the_service_does(tmp_path):
    watcher = told(tmp_path)
    watcher(FRAME, (testing.reading("happy"),))
    found = status_file.read(tmp_path)
    assert (found["model"], found["camera"], found["frames"], found["pid"]) == ("fake-1", "ok", 1, os.getpid())
    assert found["faces"][0]["label"] == "happy"
    assert found["milliseconds"]["detect"] >= 2
    assert found["rss"] > 1
    watcher.close()
    with pytest.raises(SourceError, match="does not run here"):
        status_file.read(tmp_path)


def test_a_lost_camera_is_told_at_once_and_a_returned_one_too(tmp_path):
    watcher = told(tmp_path)
    watcher(FRAME, ())
    watcher.event("camera lost", "no frame for 10 s")
    assert status_file.read(tmp_path)["camera"] == "lost"
    assert status_file.read(tmp_path)["events"][0]["text"] == "no frame for 10 s"
    watcher.event("camera back", "")
    assert status_file.read(tmp_path)["camera"] == "ok"


def test_a_status_that_cannot_be_written_stops_nothing(tmp_path):
    told(tmp_path / "gone")(FRAME, ())


def test_the_rate_is_that_of_the_last_seconds(tmp_path):
    now = [0.0]
    watcher = status_writer.Live(tmp_path, {}, clock=lambda: now[0])
    for step in [0.5] * 60 + [0.05] * 400:
        watcher(FRAME, ())
        now[0] += step
    watcher.event("x", "")
    assert status_file.read(tmp_path)["fps"] == pytest.approx(20)


def test_problems_are_named_with_what_to_do(tmp_path):
    watcher, now = told(tmp_path), time.time()
    watcher(FRAME, ())
    found = summary.collect(tmp_path, tmp_path / "none.db")
    assert found["problems"] == []
    assert "no log here" in found["log"]["why"]
    assert "none.db" in summary.as_text(found)
    service = status_file.read(tmp_path) | {"runs": True}

    def problems(publisher=None, later=0.0, **facts):
        return summary.problems({"service": service | facts, "publisher": publisher}, now + later)

    assert "journalctl" in problems(camera="lost")[0]
    assert "no frame for 60 s" in problems(later=60.0)[0]
    assert problems(later=60.0, camera="paused") == []
    assert "under-voltage" in problems(limits=["under-voltage"])[0]
    broker = {"connected": False, "broker": "b:1883", "problem": "refused"}
    assert problems(broker) == ["the broker b:1883 is not reached: refused"]


def test_the_status_tells_errors_of_the_last_day_from_the_log(tmp_path):
    written = writer.Log(tmp_path / "log.db", LogSettings())
    written((testing.reading("happy", time.time()),))
    written.event("camera lost", "no frame")
    written.event("start", "")
    written.close()
    found = summary.collect(tmp_path, tmp_path / "log.db")
    assert [event["text"] for event in found["log"]["errors"]] == ["no frame"]
    assert found["log"]["readings"] == 1
    assert found["problems"][0].endswith("sudo systemctl start mien")


def _frames(folder):
    """How many frames the service in `folder` tells of; 0 before it tells anything."""
    try:
        return status_file.read(folder)["frames"]
    except SourceError:
        return 0


def test_a_running_service_has_a_status_of_its_own(tmp_path):
    """The real program, with the folders that systemd would give it."""
    (tmp_path / "run").mkdir()
    variables = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    environment = {**clean_environment(), **variables}
    command = [sys.executable, "-m", "mien_edge"]
    with subprocess.Popen([*command, "run", "demo:forever", "--quiet"], env=environment) as process:
        until(lambda: _frames(tmp_path / "run") > 1)
        done = subprocess.run([*command, "status", "--json"], env=environment, capture_output=True, text=True)
        text = subprocess.run([*command, "status"], env=environment, capture_output=True, text=True).stdout
        process.terminate()
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, []), done.stderr
    assert set(found["service"]["milliseconds"]) == {"detect", "track", "classify", "smooth"}
    assert found["service"]["target_fps"] == 15
    assert found["service"]["fps"] > 0
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


def found(root, subject, uri="v4l2:0"):
    chosen = Settings(source=settings.SourceSettings(uri=uri))
    return [each for each in doctor.examine(chosen, root) if each.subject == subject]


def test_a_healthy_device_has_nothing_wrong_that_a_tree_can_tell(tmp_path):
    told = doctor.examine(Settings(source=settings.SourceSettings(uri="v4l2:0")), pi(tmp_path))
    wrong = {each.subject for each in told if each.severity in ("warning", "error")}
    assert wrong <= {"user", "disk", "units"}, doctor.as_text(told)
    assert "edge-" in next(each.text for each in told if each.subject == "model")


@pytest.mark.parametrize(
    ("subject", "files", "severity", "words"),
    [
        ("heat", {"sys/class/thermal/thermal_zone0/temp": "82000"}, "error", "heat sink"),
        ("heat", {"sys/class/thermal/thermal_zone0/temp": "71000"}, "warning", "fan"),
        ("power", {"sys/devices/platform/soc/soc:firmware/get_throttled": "1"}, "error", "power supply"),
        ("power", {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000"}, "warning", "since the start"),
        ("memory", {"proc/meminfo": "MemAvailable: 90000 kB"}, "error", "more memory"),
        ("wear", {"sys/block/mmcblk0/ro": "1"}, "error", "replace it"),
        ("wear", {"sys/block/mmcblk0/device/life_time": "0x0a 0x02"}, "error", "90 %"),
        ("journal", {"etc/systemd/journald.conf.d/mien.conf": None}, "warning", "volatile"),
        ("camera", {"dev/video0": None}, "error", "plug it in"),
    ],
)
def test_each_trouble_is_found_and_has_a_fix(tmp_path, subject, files, severity, words):
    trouble = found(pi(tmp_path, **files), subject)
    assert any(each.severity == severity and words in each.text + each.fix for each in trouble), trouble
    assert all(each.fix for each in trouble if each.severity in ("warning", "error"))


def test_a_pi_camera_that_the_kernel_does_not_see_is_an_error(tmp_path):
    (trouble,) = found(pi(tmp_path, **{"dev/media0": None}), "camera", uri="picamera")
    assert (trouble.severity, "ribbon cable" in trouble.fix) == ("error", True)


def test_journald_is_read_as_journald_reads_it(tmp_path):
    later = {"etc/systemd/journald.conf.d/zz.conf": "[Journal]\nStorage=none"}
    assert found(pi(tmp_path, **later), "journal")[0].severity == "warning"
    hidden = {"usr/lib/systemd/journald.conf.d/mien.conf": "[Journal]\nStorage=volatile", **dict.fromkeys(later)}
    assert found(pi(tmp_path, **hidden), "journal")[0].severity == "ok", "a file in /etc hides its namesake in /usr/lib"


def test_doctor_tells_whose_bundles_are_taken(tmp_path):
    assert "nobody's" in found(pi(tmp_path), "signers")[0].text
    keys = {"etc/mien/allowed_signers": 'me namespaces="mien-bundle" ssh-ed25519 AAAA\n# a remark\n'}
    assert "names whose bundles are taken (lines: 1)" in found(pi(tmp_path, **keys), "signers")[0].text


def test_the_exit_code_is_the_worst_finding():
    one, two = doctor.Finding("a", "ok", ""), doctor.Finding("b", "warning", "", "do")
    assert doctor.worst([one]) == "ok"
    assert doctor.worst([two, one]) == "warning"
    assert doctor.as_text([two, one]).splitlines()[-1].strip() == "-> do"


def test_a_broker_is_reached_or_not():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert doctor.broker("127.0.0.1", port).severity == "ok"
    assert doctor.broker("127.0.0.1", port).severity == "error"


# --- init, notice ------------------------------------------------------------------------------------------------


def test_the_first_start_asks_explains_the_law_and_writes_settings(tmp_path):
    said = io.StringIO()
    assert purpose.ask(io.StringIO("nonsense\n9\n2\n"), said) == "research"
    assert "Article 5(1)(f)" in said.getvalue()
    assert "Article 50(3)" in said.getvalue()
    written = purpose.write(tmp_path / "mien.toml", "research", "v4l2:0")
    assert settings.load_settings(tmp_path / "mien.toml") == written
    assert written.source.uri == "v4l2:0"


def test_what_the_law_forbids_writes_nothing(tmp_path):
    with pytest.raises(SettingsError, match="medical-safety"):
        purpose.write(tmp_path / "mien.toml", "work-school", "demo")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_when_told_to(tmp_path):
    (tmp_path / "mien.toml").write_text("mine")
    with pytest.raises(SettingsError, match="--force"):
        purpose.write(tmp_path / "mien.toml", "private", "demo")
    purpose.write(tmp_path / "mien.toml", "private", "demo", force=True)
    with pytest.raises(SettingsError, match="nobody answered"):
        purpose.ask(io.StringIO(""), io.StringIO())


@pytest.mark.parametrize("language", purpose.LANGUAGES)
def test_the_notice_tells_what_is_kept_and_hides_nothing_in_markup(tmp_path, language):
    purpose.notice(tmp_path / "n.html", Settings(), language, "art", "<b>Museum & Co</b>", "")
    text = (tmp_path / "n.html").read_text()
    assert f'lang="{language}"' in text
    assert " 30 " in text
    assert "&lt;b&gt;Museum &amp; Co&lt;/b&gt;" in text
    assert "{" not in text.split("</style>")[1]
