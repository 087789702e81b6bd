"""Network cameras, through the real FFmpeg: bad frames, snapshots, credentials, and no network."""

import base64
import itertools
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from helpers import clean_environment
from mien_edge.chain import devices, sources
from mien_edge.cli import main
from mien_edge.errors import FrameError, SourceError
from mien_edge.settings import SourceSettings

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
USER = "me & you"
PASSWORD = "ge/he?i#m:@ 1%"  # noqa: S105 - of the test's camera


class Handler(BaseHTTPRequestHandler):
    """A camera: /snapshot.jpg, /mjpeg (for ever, every other part no picture), /three, /locked."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/refused") or (path == "/locked" and not self._is_authorized()):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "/snapshot.jpg":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(JPEG)))
            self.end_headers()
            self.wfile.write(JPEG)
        else:
            self._stream([JPEG] * 3 if path == "/three" else itertools.cycle([JPEG, b"busy"]))

    def _is_authorized(self):
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _stream(self, parts):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        self.end_headers()
        try:
            for part in parts:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
                self.wfile.write(head.encode() + part + b"\r\n")
        except OSError:
            pass

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def camera():
    """HOST:PORT of the camera."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_stream_with_every_other_frame_broken_goes_on(camera):
    kinds = []
    settings = SourceSettings(uri=f"http://{camera}/mjpeg")
    source = sources.open_source(settings, threading.Event(), lambda kind, _: kinds.append(kind))
    frames = list(itertools.islice(source, 12))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert source.failed_reads > 0
    assert kinds == []


def test_the_address_of_a_snapshot_is_refused_by_name(camera):
    uri = f"http://me:geheim@{camera}/snapshot.jpg"
    with pytest.raises(SourceError, match=r"one picture .* MJPEG or RTSP stream") as refused:
        devices.Stream(SourceSettings(uri=uri))
    assert str(refused.value).startswith(f"http://{camera}/snapshot.jpg: ")


def test_a_stream_that_ends_says_so_without_waiting_for_the_time(camera, monkeypatch):
    monkeypatch.setattr(devices, "_MAX_FAILURES", 5)
    stream = devices.Stream(SourceSettings(uri=f"http://{camera}/three", frame_timeout=600))
    problems = []
    while len(problems) < 5:
        try:
            stream.read()
        except SourceError as problem:
            problems.append(problem)
    stream.close()
    assert all(isinstance(problem, FrameError) for problem in problems[:-1])
    assert not isinstance(problems[-1], FrameError)
    assert "the stream has ended" in str(problems[-1])


@pytest.mark.parametrize(
    ("user", "content"),
    [("", f"{USER}:{PASSWORD}\n"), ("me%20%26%20you@", PASSWORD)],
    ids=["user and password", "password alone"],
)
@pytest.mark.parametrize("way", ["file", "credential"])
def test_a_cameras_credentials_come_from_a_file_unencoded(
    camera, tmp_path, monkeypatch, user, content, way
):
    path = tmp_path / "camera-password"
    path.write_text(content)
    if way == "credential":
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    setting = str(path) if way == "file" else ""
    settings = SourceSettings(uri=f"http://{user}{camera}/locked", password_file=setting)
    stream = devices.Stream(settings)
    assert stream.read().shape == (48, 64, 3)
    stream.close()


def test_an_empty_credential_leaves_the_address_as_it_is(camera, tmp_path, monkeypatch):
    (tmp_path / "camera-password").touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    devices.Stream(SourceSettings(uri=f"http://{camera}/mjpeg")).close()


def test_a_password_without_its_user_is_refused_by_name(camera, tmp_path):
    (tmp_path / "pw").write_text("geheim")
    settings = SourceSettings(uri=f"http://{camera}/locked", password_file=str(tmp_path / "pw"))
    with pytest.raises(SourceError, match="pw: a password without its user") as refused:
        devices.Stream(settings)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://geheim0:geheim1@{}/refused",
        "http://{}/refused?user=geheim0&pwd=geheim2",
        "http://{}/user=geheim0&password=geheim2&channel=1/refused",
        "http://geheim0:gehe/im3@{}/refused",
        "http://geheim0:gehe#im4@{}/refused",
        "http://geheim0:gehe?im5@{}/refused",
        "http://geheim0:gehe im6\n@{}/refused",
        "http://{}/refused#token=geheim7",
        "rtsp://geheim0:geheim8@[::1:554/x",
        "rtsp:/geheim0:geheim9@{}/x",
        "geheim0:geheim9@{}/x",
    ],
)
def test_no_secret_of_an_address_is_printed_or_kept_and_the_error_is_one_line(
    camera, tmp_path, monkeypatch, capfd, address
):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    uri = address.format(camera)
    log = tmp_path / "log.db"
    assert main(["run", uri, "--json", "--log", str(log)]) == 1
    printed = capfd.readouterr()
    errors = [line for line in printed.err.splitlines() if "XNNPACK" not in line]
    assert len(errors) == 1
    assert errors[0].startswith("mien-edge: error: ")
    assert main(["logs", "--log", str(log)]) == 0
    kept = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    shown = f"{printed}{capfd.readouterr()}{kept}"
    for secret in ("geheim", "gehe", "im3", "im4", "im5", "im6"):
        assert secret not in shown


def test_a_stream_shows_no_secret_in_status_log_and_summary(camera, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    statuses = []

    def remember(folder, status):
        statuses.append(json.dumps(status.to_json()))

    monkeypatch.setattr("mien_edge.status.status_file.write", remember)
    uri = f"http://geheim0:geheim1@{camera}/mjpeg?pwd=geheim2"
    arguments = ["run", uri, "--json", "--max-frames", "9", "--log", str(tmp_path / "log.db")]
    assert main(arguments) == 0
    assert main(["logs", "--json", "--log", str(tmp_path / "log.db")]) == 0
    shown = f"{capfd.readouterr()}{statuses}{(tmp_path / 'log.db').read_bytes()}"
    assert f"http://{camera}/mjpeg?pwd=***" in shown
    assert "geheim" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://me:geheim@127.0.0.1/x"],
        ["run", "demo", "--frames", "http://me:geheim@127.0.0.1/x", "-q"],
        ["run", "--max-frames", "http://127.0.0.1/x?pwd=geheim"],
        ["run", "--source=http://me:geheim@127.0.0.1/x"],
    ],
)
def test_a_usage_error_shows_no_secret_of_what_was_typed(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert "127.0.0.1/x" in error
    assert "geheim" not in error


def test_a_traceback_shows_no_secret():
    code = (
        "import sys, threading; from mien_edge.cli import main; "
        "sys.argv[1:] = ['settings', '--settings', '/dev/null/rtsp://me:geheim@cam/x']; "
        "thread = threading.Thread(target=lambda: open('rtsp://me:geheim@cam/y')); "
        "main(['settings']); thread.start(); thread.join(); main()"
    )
    environment = {**clean_environment(), "MIEN_DEBUG": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert answer.stderr.count("Traceback") >= 2
    assert "rtsp://cam/y" in answer.stderr
    assert "geheim" not in answer.stderr


# --- without a network -----------------------------------------------------------------------------------------


def test_a_process_without_an_interface_refuses_a_network_address_by_name(monkeypatch):
    monkeypatch.setattr(devices.socket, "if_nameindex", lambda: [(1, "lo")])
    uri = "rtsp://me:geheim@192.0.2.7/stream"
    with pytest.raises(SourceError, match=r"mien\.service has none") as refused:
        devices.Stream(SourceSettings(uri=uri))
    assert str(refused.value).startswith("rtsp://192.0.2.7/stream: this process has no network")


def test_an_address_on_this_machine_needs_no_interface(camera, monkeypatch):
    monkeypatch.setattr(devices.socket, "if_nameindex", lambda: [(1, "lo")])
    devices.Stream(SourceSettings(uri=f"http://{camera}/mjpeg")).close()


def test_where_internet_sockets_are_forbidden_no_network_address_works(camera, monkeypatch):
    def refuse(*_):
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(devices.socket, "socket", refuse)
    with pytest.raises(SourceError, match="this process has no network"):
        devices.Stream(SourceSettings(uri=f"http://{camera}/mjpeg"))


def test_in_a_network_namespace_of_its_own_a_run_ends_at_once_and_says_why():
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    answer = subprocess.run(
        [*unshare, sys.executable, "-m", "mien_edge", "run", "rtsp://me:geheim@192.0.2.7/x"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert answer.returncode == 1
    assert "mien-edge: error: rtsp://192.0.2.7/x: this process has no network" in answer.stderr
