"""The page: what it answers, whom it refuses, and how it is in a real browser."""

import contextlib
import dataclasses
import json
import os
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from helpers import clean_environment, until

sys.path.insert(0, str(Path(__file__).parent))
from brokers import free_port
from mien_edge import labels, paths, testing
from mien_edge.chain.pipeline import Timed
from mien_edge.errors import SettingsError
from mien_edge.events import EventKind
from mien_edge.log import distributions
from mien_edge.log.writer import LogWriter
from mien_edge.service.preview import PreviewServer
from mien_edge.service.status_writer import StatusWriter
from mien_edge.settings import LogSettings, ViewSettings
from mien_edge.status.status_file import ModelStatus
from mien_edge.values import Frame
from mien_edge.view.access import read_token

LABELS = ["happy", "sad", None]
SEVEN = labels.LABELS
THREE = ("smile", "neutral", "eyes-closed")
EIGHT = (*SEVEN, "contempt")
SIXTEEN = tuple(f"a-label-of-thirty-two-letters-{index:02}" for index in range(16))
SCRIPTS = ("texts.js", "place.js", "picture.js", "history.js", "page.js")


class Service:
    """What a camera's service keeps in its folder, driven by the test: `see` is one frame with these labels."""

    def __init__(self, folder, bundle):
        folder.mkdir()
        self.model = ModelStatus(bundle.card.id, str(bundle.folder), labels=bundle.card.labels)
        stages = [("detect", Timed(lambda: None))]
        self.folder = folder
        self.frames = 0
        self.log = LogWriter(folder / "log.db", LogSettings(commit_interval=0.1))
        self.status = StatusWriter(folder, "fake", lambda: self.model, stages)
        self.preview = PreviewServer(paths.preview(folder))
        self.log.event("start", "<b>fake</b> & co")

    def see(self, *labels):
        now = time.time()
        faces = enumerate(labels, start=1)
        model_labels = self.model.labels
        readings = tuple(read_face(label, now, track, model_labels) for track, label in faces)
        frame = Frame(np.full((240, 320, 3), 90, np.uint8), self.frames, now)
        self.frames += 1
        self.log(readings)
        self.status(frame, readings)
        self.preview(frame, readings)

    def swap(self, labels):
        """Another model, which has these labels."""
        self.model = dataclasses.replace(self.model, model=f"of-{len(labels)}", labels=labels)

    def past(self, ages, labels):
        """Half a minute with each label, so many seconds ago, of a model with these labels."""
        with contextlib.closing(sqlite3.connect(self.folder / "log.db")) as log, log:
            distributions.insert_sets(log, [labels])
            for label, age in ages.items():
                minute = int((time.time() - age) // 60) * 60
                log.execute(
                    "INSERT INTO minutes (minute, label, run, seconds, faces) "
                    "VALUES (?, ?, 1, 30, 1)",
                    (minute, label),
                )

    def close(self):
        self.status.close()
        self.preview.close()
        self.log.close()


def read_face(label, seconds, track, labels):
    """A reading, which is uncertain where there is no label."""
    quality = "good" if label else "uncertain"
    return testing.reading(label, seconds, track, quality=quality, labels=labels)


@pytest.fixture
def service(tmp_path, bundle):
    service = Service(tmp_path / "run", bundle)
    yield service
    service.close()


@contextlib.contextmanager
def served(service, settings="", **options_of_process):
    """The real process; yields the page's address."""
    port = free_port()
    path = service.folder / "mien.toml"
    path.write_text(f"[view]\nport = {port}\n{settings}")
    options = ["--settings", path, "--log", service.folder / "log.db", "--runtime", service.folder]
    command = [sys.executable, "-m", "mien_edge", "view", *map(str, options)]
    with subprocess.Popen(
        command,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        **options_of_process,
    ) as process:
        assert "look at" in process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Answer(NamedTuple):
    """What the server answered; of a stream only the beginning of the body."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(address, **headers):
    """GET with these headers, '_' for '-' in their names; a refusal is an answer, too."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as refusal:
        return Answer(refusal.code, dict(refusal.headers), refusal.read())


def page_file(name):
    """The text of a file of the page, as it is installed."""
    return resources.files("mien_edge.view").joinpath(name).read_text(encoding="utf-8")


def test_who_calls_by_another_name_or_from_another_page_is_refused(service):
    service.see("happy")
    with served(service) as page:
        assert get(page).status == 200
        assert get(page, Host="localhost:1234").status == 200, (
            "through a tunnel the port may be another"
        )
        for path in ("/", "/api/live", "/api/history", "/picture"):
            for headers in (
                {"Host": "evil.example"},
                {"Host": "127.0.0.1.evil.example"},
                {"Origin": "http://evil.example"},
                {"Origin": "null"},
                {"Sec_Fetch_Site": "cross-site"},
                {"Sec_Fetch_Site": "same-site"},
            ):
                assert get(page + path, **headers).status == 403, (path, headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(
                urllib.request.Request(page, data=b"x", method="POST"), timeout=10
            )


def test_every_answer_carries_a_strict_policy(service):
    service.see("happy")
    with served(service) as page:
        for path in ("/", "/page.js", "/api/history", "/api/model", "/none"):
            headers = get(page + path).headers
            policy = dict(
                part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; ")
            )
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == (
                "nosniff",
                "no-store",
            )


def test_no_asset_comes_from_elsewhere():
    for name in ("page.html", "page.css", *SCRIPTS):
        addresses = re.findall(r"https?://[^\s\"']+", page_file(name))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name


def test_the_picture_is_made_only_while_somebody_looks_and_never_holds_up_the_chain(service):
    service.see("happy")
    assert service.preview.clients == 0
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(paths.preview(service.folder)))
        until(lambda: service.see("happy") or service.preview.clients == 1)
        for _ in range(20):
            service.see("happy")  # nobody reads, and it comes back all the same
        assert service.preview.clients == 1
    until(lambda: service.see("happy") or service.preview.clients == 0)


def test_a_looker_who_takes_nothing_is_let_go(tmp_path):
    now = [0.0]
    path = paths.preview(tmp_path / "run")
    shown = PreviewServer(path, lambda: now[0])
    frame = Frame(np.random.default_rng(0).integers(0, 255, (720, 960, 3), dtype=np.uint8), 0, 0.0)
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        for _ in range(100):
            now[0] += 0.2
            shown(frame, ())
        assert shown.clients == 0
    shown.close()
    assert not path.parent.exists()


def test_the_stream_is_whole_pictures_each_with_what_was_read_in_it(service):
    with served(service) as page:
        service.see("happy")
        looked = threading.Event()
        thread = threading.Thread(
            target=lambda: until(lambda: service.see("happy") or looked.is_set())
        )
        thread.start()
        with urllib.request.urlopen(page + "/picture", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            data = answer.read(60000)
        looked.set()
        thread.join()
    headers, _, rest = data.partition(b"\r\n\r\n")
    jpeg = rest[: int(re.search(rb"Content-Length: (\d+)", headers)[1])]
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)
    (face,) = json.loads(re.search(rb"Faces: (.*)", headers)[1])
    assert (face["track"], face["label"], face["scores"]["happy"]) == (
        1,
        "happy",
        face["confidence"],
    )
    assert all(0 <= value <= 1 for value in face["box"]), "shares of the picture"


MALFORMED = [
    (b"/", [b"Origin: http://[::1"]),
    (b"/", [b"Origin: http://[x]:99999"]),
    (b"/", [b"Origin: \xff\xfe"]),
    (b"/", [b"Origin: http://127.0.0.1:PORT@evil.example"]),
    (b"/", [b"Origin: "]),
    (b"/", [b"Cookie: mien-token=\xff\xfe"]),
    (b"/", [b'Cookie: mien-token="\\777"; \xed\xa0\x80=;;=']),
    (b"/", [b"Cookie: " + b"a" * 9000]),
    (b"/?token=%ff%fe", []),
    (b"/?token=\xff\xfe", []),
    (b"/?token=" + b"9" * 9000, []),
    (b"/?token=NaN&token=1e999&token[]=%00", []),
    (b"/%ff%00", []),
    (b"//[::1/", []),
    (b"/", [b"Host: [::1"]),
    (b"/", [b"Host: \xff:8765"]),
    (b"/", [b"Host: 127.0.0.1:PORT", b"Sec-Fetch-Site: \xff"]),
    (b"/", [b"Content-Length: NaN"]),
    (b"/", [b"Content-Length: 99999999999999999999999"]),
    (b"/", [b"Transfer-Encoding: \xff"]),
    (b"/", [b"Expect: \xec"]),
    (b"/none", [b"Expect: \xec"]),
]


def status_of(port, target, lines):
    """The status that a request of these bytes gets."""
    headers = [line.replace(b"PORT", b"%d" % port) for line in lines]
    if not any(header.startswith(b"Host:") for header in headers):
        headers.append(b"Host: 127.0.0.1:%d" % port)
    request = b"\r\n".join([b"GET " + target + b" HTTP/1.1", *headers, b"Connection: close"])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request + b"\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def test_a_malformed_request_is_refused_and_never_an_error_of_the_page(service):
    service.see("happy")
    (service.folder / "token").write_text("0123456789abcdef\n")
    with served(service, f'token_file = "{service.folder}/token"\n') as page:
        port = int(page.rpartition(":")[2])
        statuses = [status_of(port, target, lines) for target, lines in MALFORMED]
        assert [status for status in statuses if not 400 <= status < 500] == []
        assert get(page, Cookie="mien-token=0123456789abcdef").status == 200


def test_a_flood_of_connections_ends_neither_the_heartbeat_nor_the_page(
    service, tmp_path, monkeypatch
):
    service.see("happy")
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        limits = {"preexec_fn": _few_files}
        with served(service, **limits) as page, contextlib.ExitStack() as flood:
            port = int(page.rpartition(":")[2])
            for _ in range(2 * _FILES):
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                flood.enter_context(connection)
            _drain(systemd)
            assert b"WATCHDOG=1" in systemd.recv(1000)
            assert get(page + "/api/history").status == 200


_FILES = 220


def _few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))


def _drain(channel):
    """Take what has come until now."""
    channel.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while channel.recv(1000):
            pass
    channel.settimeout(60)


def test_more_pages_than_there_are_places_for_are_told_so(service):
    service.see("happy")
    with served(service) as page, contextlib.ExitStack() as pages:
        for _ in range(16):
            pages.enter_context(urllib.request.urlopen(page + "/api/live", timeout=60))
        assert get(page + "/api/live").status == 503
        assert get(page).status == 200


def test_where_the_picture_is_not_allowed_there_is_none(service):
    service.see("happy")
    with served(service, "show_picture = false\n") as page:
        answer = get(page + "/picture")
        assert answer.status == 503
        assert "turned off" in json.loads(answer.body)["problem"]


def test_without_a_service_or_a_log_the_page_says_so(service, tmp_path):
    with served(service) as page:
        service.status.close()
        answer = get(page + "/api/model")
        assert answer.status == 503
        assert "does not run here" in json.loads(answer.body)["problem"]
        (service.folder / "log.db").unlink()
        assert "no log here" in json.loads(get(page + "/api/history").body)["problem"]


def test_the_accuracy_of_a_card_is_told_with_the_rows_that_it_is_of_and_none_is_made_up(service):
    card = json.loads((Path(service.model.bundle) / "card.json").read_text())
    head = card["figures"]["head"]
    measured = card["figures"]["networks"]["int8"]
    own_data = {"limits": ["It predicts what the labels of its training data call an expression."]}
    validation = {"head": "labels", "test": "test", "networks": {"int8": {"validation": {}}}}
    validation["networks"]["int8"]["validation"] = {"labels": {"accuracy": 0.5}}
    told = ("accuracy", "judged_by", "test")
    expected = [
        ({}, (measured["test"][head]["accuracy"], head, "PublicTest")),
        (own_data, (measured["test"][head]["accuracy"], head, "own")),
        ({"figures": validation, **own_data}, (0.5, "labels", "own")),
        ({"figures": {}}, (None, None, None)),
    ]
    folder = service.folder / "bundle"
    folder.mkdir()
    service.model = dataclasses.replace(service.model, bundle=str(folder))
    service.see("happy")
    with served(service) as address:
        for changes, values in expected:
            (folder / "card.json").write_text(json.dumps({**card, **changes, "labels": THREE}))
            answer = json.loads(get(f"{address}/api/model").body)
            assert tuple(answer.get(key) for key in told) == values
            assert answer["labels"] == list(THREE)
        (folder / "card.json").write_text(json.dumps({**card, "figures": 3}))
        assert get(f"{address}/api/model").status == 503


def told_unreliable(service, *labels):
    """The service's model, with a card that says that these labels cannot be told reliably."""
    card = json.loads((Path(service.model.bundle) / "card.json").read_text())
    card["figures"]["calibration"] = {"unreliable": list(labels)}
    folder = service.folder / "bundle"
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card))
    service.model = dataclasses.replace(service.model, bundle=str(folder))


def test_a_card_of_before_names_no_label_that_cannot_be_told_reliably(service):
    earlier = Path(service.model.bundle).resolve().parent / "edge-ferplus-4"
    service.model = dataclasses.replace(service.model, bundle=str(earlier))
    service.see("happy")
    with served(service) as address:
        assert json.loads(get(f"{address}/api/model").body)["unreliable"] == []


def test_only_labels_of_the_model_are_called_unreliable(service):
    told_unreliable(service, "fear", "disgust", "<b>")
    service.see("happy")
    with served(service) as address:
        answer = json.loads(get(f"{address}/api/model").body)
        assert answer["unreliable"] == ["disgust", "fear"]


def test_another_address_needs_a_token(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="whoever is in that network could look"):
        read_token(ViewSettings(host="0.0.0.0"))  # noqa: S104 - it is refused
    (tmp_path / "view-token").write_text("short\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingsError, match="can be guessed"):
        read_token(ViewSettings(host="0.0.0.0"))  # noqa: S104
    for token in ("0123456789 abcdef", "權杖權杖權杖權杖權杖權杖權杖權杖"):
        (tmp_path / "view-token").write_text(token)
        with pytest.raises(SettingsError, match="one word of ASCII"):
            read_token(ViewSettings())
    (tmp_path / "view-token").write_bytes(b"\xff" * 20)
    with pytest.raises(SettingsError, match="line 1 is not UTF-8"):
        read_token(ViewSettings())
    (tmp_path / "view-token").write_text("")
    assert read_token(ViewSettings()) == ""
    (tmp_path / "view-token").write_text("0123456789abcdef\n")
    assert read_token(ViewSettings(host="0.0.0.0")) == "0123456789abcdef"  # noqa: S104


def test_with_a_token_only_who_has_it_may_look(service):
    service.see("happy")
    (service.folder / "token").write_text("0123456789abcdef\n")
    with served(service, f'token_file = "{service.folder}/token"\n') as page:
        assert get(page).status == 401
        assert get(page + "/api/history", Cookie="mien-token=wrong").status == 401
        assert get(page + "/?token=wrong").status == 401
        assert get(page + "/api/history", Cookie="mien-token=0123456789abcdef").status == 200
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(page + "/?token=0123456789abcdef", timeout=10).url == page + "/", (
            "the token leaves the address"
        )
        linked = page + "/?token=0123456789abcdef&lang="
        assert opener.open(linked + "zh-TW", timeout=10).url == page + "/?lang=zh-TW"
        assert opener.open(linked + "%0d%0aX:", timeout=10).url == page + "/"


# --- a real browser ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(chromium, address, width=1280, **options):
    """A page without a single complaint in its console."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    yield page
    assert complaints == []
    context.close()


def test_a_label_appears_while_somebody_looks(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("text=Face 1: happy")
        while not page.query_selector("#faces strong:text('surprise')"):
            service.see("surprise")
            page.wait_for_timeout(30)
        assert page.inner_text("#announcement") == "Face 1: surprise"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_a_desk_and_a_phone(service, chromium, width, scheme):
    service.see(*LABELS)
    service.log.commit()
    with served(service) as address, opened(chromium, address, width, color_scheme=scheme) as page:
        page.wait_for_selector("#model strong")
        page.wait_for_selector("#events li")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            "nothing sticks out"
        )
        assert "<b>fake</b> & co" in page.inner_text("#events"), (
            "what the log says is text, never markup"
        )
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(244, 244, 242)"
        )
        assert dark == (scheme == "dark")
        buttons = "[...document.querySelectorAll('button:not([hidden])')]"
        sizes = page.evaluate(f"{buttons}.map(button => button.getBoundingClientRect().height)")
        assert min(sizes) >= 44, "large enough for a thumb"


def test_a_camera_that_is_lost_is_called_lost(service, chromium):
    service.see("happy")
    service.status.event(EventKind.CAMERA_LOST, "no frame")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#health dd")
        assert page.inner_text("#health dd >> nth=0") == "lost"
        assert "the camera is lost" in page.inner_text("#problems")
        page.click("text=中文")
        assert page.inner_text("#health dd >> nth=0") == "已斷線"


def test_the_page_speaks_traditional_chinese_to_who_does(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address, locale="zh-TW") as page:
        page.wait_for_selector("text=快樂")
        assert page.get_attribute("html", "lang") == "zh-TW"
        page.click("text=English")
        page.wait_for_selector("#faces strong:text('happy')")
        page.reload()
        page.wait_for_selector("#faces strong:text('happy')")


def test_the_page_can_be_used_without_a_mouse_and_without_eyes(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#faces li")
        focused = []
        for _ in range(10):
            page.keyboard.press("Tab")
            focused.append(
                page.evaluate(
                    "document.activeElement.id || document.activeElement.textContent.trim()"
                )
            )
        assert focused[:5] == ["Skip to content", "English", "中文", "toggle", "Last hour"]
        assert "As a table" in focused
        assert page.get_attribute("#announcement", "aria-live") == "polite"
        assert page.get_attribute("#timeline", "aria-label")
        titled = "section => document.getElementById(section.getAttribute('aria-labelledby'))"
        assert page.evaluate(f"[...document.querySelectorAll('section')].every({titled})")
        assert page.get_attribute("html", "lang") == "en"


def test_the_picture_comes_when_asked_for_and_goes_when_not(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#faces li")
        assert page.is_hidden("#picture")
        page.click("#toggle")
        while page.is_hidden("#picture"):
            service.see("happy")
            page.wait_for_timeout(30)
        assert page.evaluate("document.getElementById('picture').width") >= 320
        assert page.get_attribute("#picture", "aria-label")
        assert service.preview.clients == 1
        page.click("#toggle")
        while service.preview.clients:
            service.see("happy")
            page.wait_for_timeout(30)
        assert page.is_hidden("#picture")


def test_the_place_of_the_picture_says_why_there_is_none(service, chromium):
    service.status.event(EventKind.START, "fake")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("text=press “Show the picture”")
        assert page.inner_text("#faces") == "", "nobody has looked yet"
        page.click("#toggle")
        assert "Waits for the first picture" in page.inner_text("#no-picture")
        service.status.event(EventKind.CAMERA_LOST, "no frame")
        page.wait_for_selector("text=No picture: the camera is lost")
        service.status.close()
        page.wait_for_selector("text=No picture: mien.service does not run")
        ground = "getComputedStyle(document.querySelector('.stage')).backgroundColor"
        assert page.evaluate(ground) == "rgb(244, 244, 242)", "no black box"


def test_a_picture_that_the_settings_forbid_is_called_forbidden(service, chromium):
    service.see("happy")
    forbidden = "show_picture = false\n"
    with served(service, forbidden) as address, opened(chromium, address) as page:
        page.wait_for_selector("text=this device's settings forbid it")
        assert page.is_hidden("#toggle")


def test_the_past_has_a_scale_of_times_and_shares_in_each_span(service, chromium):
    ages = {"happy": 20 * 60, "sad": 5 * 3600, "fear": 3 * 86400, "angry": 20 * 86400}
    service.past(ages, SEVEN)
    with served(service) as address, opened(chromium, address) as page:
        for span, labels in {
            "hour": ["happy"],
            "day": ["happy", "sad"],
            "week": ["fear", "happy", "sad"],
            "month": ["angry", "fear", "happy", "sad"],
        }.items():
            page.click(f"[data-span={span}]")
            share = f"{100 / len(labels):.0f}%"
            page.wait_for_selector(f"#key li:has-text('happy {share}')")
            assert sorted(stacked(page)) == labels
            ticks = page.evaluate(
                "[...document.querySelectorAll('#timeline text')].map(t => t.textContent)"
            )
            assert len(ticks) >= 3 + 3, "three of the scale at the left, the others are times"
            assert ticks[0] == "0"


def stacked(page):
    """The labels of the chart's bars."""
    shapes = "[...document.querySelectorAll('#timeline g rect')]"
    return page.evaluate(f"{shapes}.map(shape => shape.dataset.label)")


def rows_of(page, selector):
    """The texts of the first cells of a table or list."""
    return page.evaluate(f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)")


FACE_LABELS = "#faces li .bars span:nth-child(3n+1)"
SHARE_LABELS = "#shares tbody th"
# names of things that the page has too, of CSS, of JavaScript's objects, and numbers
CLASHING = ("show", "track", "none-of-it", "constructor", "good", "10", "2")


@pytest.mark.parametrize("labels", [THREE, EIGHT, CLASHING, SIXTEEN])
def test_the_page_has_a_row_and_a_colour_for_each_label_of_the_model(service, chromium, labels):
    service.swap(labels)
    service.past({label: 600 + 180 * index for index, label in enumerate(labels)}, labels)
    service.see(labels[0], None)
    service.log.commit()
    with served(service) as address:
        for width, scheme in ((1280, "light"), (390, "dark")):
            with opened(chromium, address, width, color_scheme=scheme) as page:
                _check_rows_and_colours(page, labels)
                page.click("#toggle")
                while page.is_hidden("#picture"):
                    service.see(labels[0], None)
                    page.wait_for_timeout(30)
                _save_picture(page, f"{len(labels)}-{width}")


def _check_rows_and_colours(page, labels):
    page.wait_for_selector("#faces .bars")
    page.wait_for_selector("#shares tbody tr")
    assert rows_of(page, FACE_LABELS) == list(labels)
    assert rows_of(page, SHARE_LABELS) == [*distributions.ordered(labels), "no label"]
    assert sorted(stacked(page)) == sorted(labels)
    fills = "[...document.querySelectorAll('#key rect')].map(r => getComputedStyle(r).fill)"
    assert len(set(page.evaluate(fills))) == len(labels) + 1
    assert page.inner_text("#faces strong >> nth=0") == labels[0]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "nothing sticks out"
    )


def test_the_past_of_a_device_that_changed_its_labels_and_back_has_all_of_them(service, chromium):
    service.past({"happy": 20 * 60, "neutral": 5 * 3600}, SEVEN)
    service.past({"smile": 10 * 60, "eyes-closed": 15 * 60}, THREE)
    service.past({"a-grin": 30 * 60}, ("a-grin", "no-grin"))
    service.swap(THREE)
    service.see("smile")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#shares tbody tr")
        own = ["smile", "eyes-closed", "a-grin", "no-grin"]
        page.wait_for_selector("#faces .bars")
        assert rows_of(page, SHARE_LABELS) == [*SEVEN, *own, "no label"]
        assert sorted(stacked(page)) == ["a-grin", "eyes-closed", "happy", "smile"]
        key = "[...document.querySelectorAll('#key rect')].map(r => getComputedStyle(r).fill)"
        assert len(set(page.evaluate(key))) == 7 + 4 + 1
        colours = "[...document.querySelectorAll('[data-label=smile]')]"
        fills = page.evaluate(f"{colours}.map(shape => getComputedStyle(shape).fill)")
        assert len(set(fills)) == 1, "the same in faces, chart, key and shares"
        page.click("text=中文")
        assert "快樂" in rows_of(page, SHARE_LABELS)
        assert "smile" in rows_of(page, SHARE_LABELS), "it has no other name"
        _save_picture(page, "mixed")
        service.swap(SEVEN)
        service.see("happy")
        page.wait_for_selector("#faces strong:text('快樂')")
        assert len(rows_of(page, FACE_LABELS)) == 7


def test_a_new_model_has_its_rows_at_once(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#shares tbody tr")
        assert rows_of(page, SHARE_LABELS) == [*SEVEN, "no label"]
        service.swap(THREE)
        service.status.event("model changed", "of-3")
        service.see("smile")
        page.wait_for_selector("#shares th:text('eyes-closed')")
        rows = rows_of(page, SHARE_LABELS)
        # If a minute ended meanwhile, those of the model before stay: they are of the past then.
        assert [row for row in rows if row in THREE] == ["neutral", "smile", "eyes-closed"]
        assert rows[-1] == "no label"


def test_a_service_of_an_earlier_version_does_not_name_its_labels_and_has_its_rows_all_the_same(
    service, chromium
):
    service.past({"happy": 600}, SEVEN)
    service.see("happy")
    service.model = dataclasses.replace(service.model, labels=())
    service.status.event("start", "an earlier version")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#shares tbody tr")
        assert rows_of(page, SHARE_LABELS) == [*SEVEN, "no label"]


def test_the_ink_on_a_colour_can_be_read(service, chromium):
    colours = [*labels.colours(SIXTEEN).values(), *labels.colours(EIGHT).values()]
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#state.good, #state.bad")
        inks = page.evaluate("colours => colours.map(inkOn)", colours)
    assert set(inks) == {"#fff", "#000"}
    for colour, ink in zip(colours, inks, strict=True):
        assert contrast(colour, ink + ink[1:]) >= 4.5, colour


def contrast(first, second):
    """The contrast of two colours, '#rrggbb' (WCAG 2.2)."""
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _save_picture(page, name):
    """Where MIEN_PICTURES names a folder: the whole page, to be looked at."""
    folder = os.environ.get("MIEN_PICTURES")
    if folder:
        page.screenshot(path=f"{folder}/page-{name}.png", full_page=True)


def test_a_link_chooses_the_language(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, f"{address}/?lang=zh-TW") as page:
        page.wait_for_selector("#faces strong:text('快樂')")
        page.wait_for_selector(
            "#model :text('小型裝置上臉部表情辨識的研究與教學。')", state="attached"
        )
        page.wait_for_selector("#events :text('開始')")


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("en", "It cannot tell reliably: disgust, fear."), ("zh-TW", "無法可靠辨識：厭惡、恐懼。")],
)
def test_labels_that_cannot_be_told_reliably_are_named_on_the_page(
    service, chromium, language, sentence
):
    told_unreliable(service, "disgust", "fear")
    service.see("happy")
    with served(service) as address, opened(chromium, f"{address}/?lang={language}") as page:
        page.wait_for_selector("#model strong")
        assert sentence in page.inner_text("#model")


def test_a_service_that_ends_is_seen(service, chromium):
    service.see("happy")
    with served(service) as address, opened(chromium, address) as page:
        page.wait_for_selector("#state.good")
        page.wait_for_selector("#model strong")
        service.status.close()
        page.wait_for_selector("#state.bad")
        assert "does not run here" in page.inner_text("#problems")
