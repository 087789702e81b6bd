"""`mien-edge run --view`: the page beside a run by hand."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clean_environment, until
from mien_edge.service.file_show import FileShow
from mien_edge.values import Frame

TOKEN = "0123456789abcdef"  # noqa: S105 - of a test


@pytest.fixture
def tmp_path():
    """A folder with a short name: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        yield Path(folder)


@contextlib.contextmanager
def viewed(tmp_path, *words, **variables):
    """A run with its page; yields the process and the page's address."""
    environment = clean_environment()
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        environment.pop(name, None)
    environment |= {"TMPDIR": str(tmp_path), **variables}
    command = [sys.executable, "-m", "mien_edge", "run", *map(str, words), "--view", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stderr.readline()
            assert "look at http://127.0.0.1:" in line
            yield process, re.search(r"http://\S+:\d+/", line)[0]
        finally:
            process.terminate()


def get(address, **headers):
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def first_event(address):
    """The first status of the page's stream."""
    with urllib.request.urlopen(f"{address}api/live", timeout=60) as stream:
        return json.loads(stream.readline().removeprefix(b"data: "))


def test_a_run_by_hand_is_watched_on_a_free_port_until_it_ends(tmp_path):
    with viewed(tmp_path, "demo:forever") as (process, page):
        until(lambda: first_event(page)["runs"])
        assert first_event(page)["beside"]
        with urllib.request.urlopen(f"{page}picture", timeout=60) as stream:
            assert b"Faces: [" in stream.read(300)
        (folder,) = tmp_path.glob("mien-view-*")
        assert folder.stat().st_mode & 0o077 == 0, "only this user may look at the socket"
        process.send_signal(2)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert "summary" in output.splitlines()[-1], "standard output holds JSON alone"
        assert "look at" not in output
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(page, timeout=10)
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("runs", [False, True], ids=["at its start", "while it runs"])
def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path, number, runs):
    with viewed(tmp_path, "demo:forever") as (process, page):
        if runs:
            until(lambda: first_event(page)["runs"])
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 0 or not runs, "in the midst of an import it is an error"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_ends_its_page(tmp_path):
    with viewed(tmp_path, "demo:forever") as (process, page):
        process.kill()

        def is_refused():
            try:
                return get(page)[0] == 0
            except OSError:
                return True

        until(is_refused)


def test_the_page_beside_a_run_needs_the_token_of_the_services_page(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    settings = tmp_path / "mien.toml"
    settings.write_text(f'[view]\nhost = "0.0.0.0"\ntoken_file = "{tmp_path}/token"\n')
    with viewed(tmp_path, "demo:forever", "--settings", settings) as (_, page):
        assert get(page)[0] == 401
        assert get(page, Cookie=f"mien-token={TOKEN}")[0] == 200


def test_a_forbidden_picture_is_forbidden_beside_a_run_too(tmp_path):
    settings = tmp_path / "mien.toml"
    settings.write_text("[view]\nshow_picture = false\n")
    with viewed(tmp_path, "demo:forever", "--settings", settings) as (_, page):
        assert not first_event(page)["picture"]
        assert get(f"{page}picture")[0] == 503
        assert list(tmp_path.glob("mien-view-*/run-preview")) == []


def test_where_there_is_a_desktop_the_page_is_opened_in_the_browser(tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/opened.new\nmv {tmp_path}/opened.new {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    desktop = {"DISPLAY": ":99", "BROWSER": f"{browser} %s"}
    with viewed(tmp_path, "demo:forever", **desktop) as (_, page):
        until((tmp_path / "opened").exists)
        assert (tmp_path / "opened").read_text().strip() == page


def test_a_service_does_not_take_the_option(tmp_path):
    environment = {**clean_environment(), "RUNTIME_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-m", "mien_edge", "run", "demo", "--view"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "mien-edge: error: --view is for runs by hand" in answer.stderr


def test_a_long_name_of_the_temporary_folder_leaves_room_for_the_pictures_socket(tmp_path):
    place = tmp_path / ("long" * 20)
    place.mkdir()
    with viewed(tmp_path, "demo:forever", TMPDIR=str(place)) as (_, page):
        until(lambda: first_event(page)["runs"])
        assert get_part(page)


def get_part(page):
    """The beginning of the stream of pictures."""
    with urllib.request.urlopen(f"{page}picture", timeout=60) as stream:
        return stream.read(100)


# --- a file --------------------------------------------------------------------------------------


class Clock:
    """A clock that waiting moves on, and a stop that nobody sets."""

    def __init__(self):
        self.now = 0.0
        self.stopped = False

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        return self.stopped


class Preview:
    """Who looks, by time, and what was shown when."""

    def __init__(self, clock, looks):
        self.clock = clock
        self.looks = looks
        self.shown = []

    @property
    def clients(self):
        return int(self.looks(self.clock.now))

    def __call__(self, frame, readings):
        self.shown.append((round(self.clock.now, 3), frame.index))


def show(frames, looks):
    """Each frame's first time on the page, and when the show ended."""
    clock = Clock()
    preview = Preview(clock, looks)
    ends = []
    file_show = FileShow(preview, lambda: ends.append(clock.now), clock, clock)
    for frame in frames:
        file_show(frame, ())
    file_show.end()
    first_shown = {}
    for seconds, index in preview.shown:
        first_shown.setdefault(index, seconds)
    return list(first_shown.values()), ends[0], clock.now


def frame(index, position=None, name=""):
    return Frame(np.zeros((8, 8, 3), np.uint8), index, 0.0, name, position)


def test_a_video_waits_for_who_opens_the_page_and_keeps_its_own_pace():
    frames = [frame(0, 0.0), frame(1, 0.5), frame(2, 4.5)]
    times, end, closed = show(frames, lambda now: 3 <= now < 20)
    assert times[0] == 0.0, "it is there when the page opens"
    assert times[1:] == pytest.approx([3.5, 7.5], abs=0.11)
    assert end == pytest.approx(times[2])
    assert closed == pytest.approx(20, abs=0.11), "the last picture stays while somebody looks"


def test_each_video_of_a_folder_begins_anew_and_photographs_stand_between():
    frames = [
        frame(0, 0.0, "a"),
        frame(1, 5.0, "a"),
        frame(2),
        frame(3, 0.0, "b"),
        frame(4, 1.0, "b"),
    ]
    times, end, _ = show(frames, lambda now: now < 12)
    assert times == pytest.approx([0, 5, 5, 7, 8], abs=0.21)
    assert end == pytest.approx(times[-1])


def test_photographs_stay_for_two_seconds_each_and_a_page_that_nobody_opens_holds_up_nothing_for_long():
    times, end, closed = show([frame(0), frame(1)], lambda now: False)
    assert times == pytest.approx([0, 32], abs=0.21)
    assert end == closed == pytest.approx(34, abs=0.31)


def test_a_photograph_is_shown_to_who_looks(tmp_path):
    cv2.imwrite(str(tmp_path / "one.jpg"), np.full((120, 160, 3), 90, np.uint8))
    with viewed(tmp_path, tmp_path / "one.jpg") as (process, page):
        until(lambda: first_event(page)["runs"])
        with urllib.request.urlopen(f"{page}picture", timeout=60) as stream:
            assert b"Content-Type: image/jpeg" in stream.read(200)
        assert process.wait(60) == 0, "it ends when nobody looks any more"
