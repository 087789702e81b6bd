"""Why a network camera does not open, told by what it answers: a real server, and Digest worked out on its side."""

import hashlib
import re
import socket
import threading
from contextlib import contextmanager

import pytest
from mien_edge.chain import devices
from mien_edge.chain.refusal import explain_refusal
from mien_edge.errors import SourceError
from mien_edge.settings import SourceSettings

DIGEST = 'Digest realm="cam", nonce="n1"'
SECRET = "gehe?im"  # noqa: S105 - of the test's camera


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - what RFC 2617 asks for


def is_digest_right(request, password=SECRET):
    fields = dict(re.findall(r'(\w+)="?([^",\r]+)', request))
    if "response" not in fields:
        return False
    method, uri, _ = request.split(maxsplit=2)
    secret, asked = md5(f"me:cam:{password}"), md5(f"{method}:{uri}")
    middle = f"n1:{fields['nc']}:{fields['cnonce']}:auth" if "qop" in fields else "n1"
    return fields["uri"] == uri and fields["response"] == md5(f"{secret}:{middle}:{asked}")


@contextmanager
def camera(answer):
    """HOST:PORT of a server that gives `answer(request)`, a status and a challenge or None, to each request."""

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(4096).decode()
                protocol = "RTSP" if " RTSP/" in request else "HTTP"
                status, challenge = answer(request)
                field = f"WWW-Authenticate: {challenge}\r\n" if challenge else ""
                connection.sendall(f"{protocol}/1.0 {status} Whatever\r\n{field}\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "it wants a user and a password (401 Unauthorized); see source.password_file"),
        (403, "it does not allow this to that user (403 Forbidden); see its settings for users"),
        (404, "it has no such path (404 Not Found); see its manual for the stream's address"),
        (453, "it refuses (453 no standard code); see whether others use it, or start it again"),
        (503, "it refuses (503 Service Unavailable); see whether others use it, or start it again"),
        (200, "it answers (200 OK), but sends no video that FFmpeg reads; check the address"),
    ],
)
def test_what_a_camera_answers_is_told_as_such(scheme, status, reason):
    with camera(lambda _: (status, None)) as place:
        assert explain_refusal(f"{scheme}://{place}/x", 5.0) == reason


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
@pytest.mark.parametrize("challenge", [DIGEST, f'{DIGEST}, qop="auth", opaque="o"'])
def test_a_right_password_is_not_blamed_and_a_wrong_one_is(scheme, challenge):
    def answer(request):
        return (404, None) if is_digest_right(request) else (401, challenge)

    with camera(answer) as place:
        right = explain_refusal(f"{scheme}://me:gehe%3Fim@{place}/x?y=1", 5.0)
        wrong = explain_refusal(f"{scheme}://me:other@{place}/x?y=1", 5.0)
    assert right.startswith("it has no such path (404 Not Found)")
    assert wrong == "it does not accept the user and password (401 Unauthorized); check them"


def test_a_password_of_basic_authentication_is_not_blamed_either():
    def answer(request):
        is_right = "Authorization: Basic bWU6Z2VoZT9pbQ==" in request
        return (403, None) if is_right else (401, 'Basic realm="cam"')

    with camera(answer) as place:
        assert "(403 Forbidden)" in explain_refusal(f"http://me:gehe%3Fim@{place}/x", 5.0)


def test_a_camera_that_cannot_be_reached_is_told_as_such():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "it does not answer" in explain_refusal(f"rtsp://127.0.0.1:{port}/x", 0.05)
    assert "connection refused" in explain_refusal(f"rtsp://127.0.0.1:{port}/x", 5.0)


@pytest.mark.parametrize("address", ["http://me:ge/he@127.0.0.1/x", "rtsp://me:x@[::1:554/x"])
def test_an_address_that_is_none_says_so_and_not_that_the_camera_is_off(address):
    assert explain_refusal(address, 5.0).startswith("the address is not well-formed; write / ?")


def test_a_stream_names_the_answer_and_no_secret():
    with camera(lambda _: (401, DIGEST)) as place, pytest.raises(SourceError) as refused:
        devices.Stream(SourceSettings(uri=f"http://me:geheim@{place}/x", frame_timeout=5.0))
    reason = "it does not accept the user and password (401 Unauthorized); check them"
    assert str(refused.value) == f"http://{place}/x: {reason}"
