"""Addresses are shown without their secrets, whatever is in them."""

import random
from urllib.parse import quote

import pytest
from mien_edge.addresses import (
    has_credentials,
    host_of,
    is_network_address,
    mask_address,
    mask_text,
    with_credentials,
)

HOSTS = ("cam", "cam.local:554", "192.168.7.31", "192.168.7.31:18396", "[fe80::7]:8554")
PATHS = ("", "/", "/live/main.sdp", "/h264Preview_01_main")
PUNCTUATION = "/?#@:% \n&;=+'\"<>[]\\"
NAMES = (
    *("user", "usr", "username", "login", "password", "passwd", "pwd", "pass", "passphrase"),
    *("token", "access_token", "auth", "key", "apikey", "api_key", "secret", "sig", "signature"),
    *("session", "sessionid", "PWD", "p%77d", "%70assword", "loginpas", "X-Amz-Signature"),
)


def secret(choose, characters):
    """A secret of recognisable words, with the characters between them."""
    words = [f"geheim{choose.randrange(1000, 9999)}" for _ in range(3)]
    between = [choose.choice(characters) for _ in range(2)]
    return f"{words[0]}{between[0]}{words[1]}{between[1]}{words[2]}", words


def generated_addresses(count):
    """Pairs of an address and the words of it that may not be shown."""
    choose = random.Random(13)  # noqa: S311 - for test data
    for _ in range(count):
        scheme = choose.choice(("rtsp", "http", "https", "RTSP", "rtmp", "srt"))
        host = choose.choice(HOSTS)
        path = choose.choice(PATHS)
        kind = choose.choice(("user info", "encoded", "query", "fragment", "path", "both"))
        user = f"geheim{choose.randrange(1000, 9999)}"
        password, words = secret(choose, PUNCTUATION)
        value, more = secret(choose, "/:@% '\\+")
        name = choose.choice(NAMES)
        separator = choose.choice("&;")
        if kind == "user info":
            yield f"{scheme}://{user}:{password}@{host}{path}", [user, *words]
        elif kind == "encoded":
            yield f"{scheme}://{user}:{quote(password, safe='')}@{host}{path}", [user, *words]
        elif kind == "query":
            tail = f"?channel=1{separator}{name}={quote(value, safe='/@')}{separator}width=9"
            yield f"{scheme}://{host}{path}{tail}", more
        elif kind == "fragment":
            yield f"{scheme}://{host}{path}#{name}={quote(value)}", more
        elif kind == "path":
            tail = f"/user={user}{separator}{name}={quote(value)}{separator}channel=1"
            yield f"{scheme}://{host}{tail}", [user, *more]
        else:
            tail = f"?{name}={quote(value, safe='/@')}"
            yield f"{scheme}://{user}:{password}@{host}{path}{tail}", [user, *words, *more]


def shown_secrets(text, words):
    return [word for word in words if word in text]


def test_no_part_of_a_secret_outlives_the_mask_of_thousands_of_addresses():
    leaks = [
        (address, mask_address(address))
        for address, words in generated_addresses(5000)
        if shown_secrets(mask_address(address), words)
    ]
    assert leaks == []


def test_no_part_of_a_secret_outlives_the_mask_of_a_message_with_a_known_address():
    for address, words in generated_addresses(2000):
        message = f"cannot open {address}: 401 Unauthorized; see the camera"
        assert shown_secrets(mask_text(message, address), words) == [], address


def test_a_message_of_others_is_masked_without_knowing_the_address():
    for address, words in generated_addresses(2000):
        if " " in address or "\n" in address or "'" in address:
            continue
        for message in (f"failed: {address}", f"open('{address}') failed", f"a\n{address}\nb"):
            assert shown_secrets(mask_text(message), words) == [], message


def test_masking_twice_is_masking_once():
    for address, _ in generated_addresses(2000):
        masked = mask_address(address)
        assert mask_address(masked) == masked
        assert not has_credentials(masked)


@pytest.mark.parametrize(
    "address",
    [
        *("photos/a@b.jpg", "v4l2:0", "v4l2:/dev/v4l/by-id/cam@1", "picamera", "picamera:1"),
        *("demo", "demo:forever", "clip.mp4", "data/user=1/clip.mp4", "C:\\photos\\a@b.jpg", ""),
        *("rtsp://cam/a@b", "rtsp://cam:554/a@b", "rtsp://cam:8123/x", "rtsp://[::1:554/x"),
        *("http://cam/video.mjpg?width=640&fps=15", "rtsp://192.168.7.31:18396/a@b?channel=1"),
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(address):
    assert mask_address(address) == address
    assert not has_credentials(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@cam:554/a@b", "rtsp://cam:554/a@b"),
        ("rtsp://me:se/c?r#e@t@cam/x", "rtsp://cam/x"),
        ("rtsp://me:12/34@cam/x", "rtsp://cam/x"),
        ("rtsp//me:secret@cam/x", "rtsp//cam/x"),
        ("//me:secret@cam/x", "//cam/x"),
        ("rtsp\uff1a//me:secret@cam/x", "rtsp\uff1a//cam/x"),
        ("rtsp ://me:secret@cam/x", "rtsp ://cam/x"),
        ("demo:rtsp://me:secret@cam", "cam"),
        (
            "http://cam/x?pin_code=1&code=2&密码=3&w=9",
            "http://cam/x?pin_code=***&code=***&密码=***&w=9",
        ),
        ("http://cam:81/v.cgi?user=me&pwd=x&w=9", "http://cam:81/v.cgi?user=***&pwd=***&w=9"),
        ("rtsp://cam/user=me&password=x&channel=1", "rtsp://cam/user=***&password=***&channel=1"),
        ("rtsp://cam/user=me_password=x_channel=1.sdp", "rtsp://cam/user=***"),
        ("http://cam/?pwd=a&b&w=9", "http://cam/?pwd=***&w=9"),
        ("http://cam/x?url=rtsp%253A%252F%252Fme%253Ax%2540h&w=9", "http://cam/x?url=***&w=9"),
        ("http://cam/x?url=rtsp://me:x@other/y", "http://cam/x?url=rtsp://other/y"),
        ("http://cam:8123/x?user=me&pwd=s@x", "http://cam:8123/x?user=***&pwd=***"),
        ("http://me:s@cam/x?token=s@x", "http://cam/x?token=***"),
        ("me:secret@cam/x", "cam/x"),
        ("rtsp:/me:secret@cam/x", "rtsp:/cam/x"),
        ("rtsp://me:secret@[::1:554/x", "rtsp://[::1:554/x"),
        (" rtsp://me:s\n@cam/x", " rtsp://cam/x"),
        ("rtsp://me:s/x\uff20cam/x", "rtsp://cam/x"),
        ("rtsp://me:secret", "rtsp://***"),
        ("rtsp://me:secret/x", "rtsp://***/x"),
    ],
)
def test_host_port_and_path_stay_recognisable(address, shown):
    assert mask_address(address) == shown


def test_a_message_keeps_its_words_around_an_address():
    message = "[rtsp @ 0x5] rtsp://me:x@cam:8123/v?pwd=y: failed [tcp @ 0x6]; look"
    shown = "[rtsp @ 0x5] rtsp://cam:8123/v?pwd=***: failed [tcp @ 0x6]; look"
    assert mask_text(message) == shown
    assert mask_text(shown) == shown


def test_no_text_makes_it_raise():
    choose = random.Random(1)  # noqa: S311 - for test data
    alphabet = "rtsp:/\\@?#[]&;=% \n\0\udcff%3d廚:user1"
    for length in range(400):
        text = "".join(choose.choices(alphabet, k=length))
        for candidate in (text, f"rtsp://{text}", f"{text}://{text}"):
            mask_address(candidate)
            mask_text(candidate)
            has_credentials(candidate)
            host_of(candidate)
            is_network_address(candidate)


def test_a_network_address_is_known_by_its_scheme():
    assert is_network_address("rtsp://cam/x")
    assert is_network_address("http://127.0.0.1/x")
    assert not is_network_address("file:///x.mp4")
    assert not is_network_address("v4l2:0")
    assert host_of("rtsp://me:p/w@[::1]:554/x") == "::1"
    assert host_of("rtsp://me@Cam:554") == "cam"


def test_credentials_are_inserted_percent_encoded():
    assert (
        with_credentials("rtsp://cam:1/x?a", "me:p@s/#% ")
        == "rtsp://me:p%40s%2F%23%25%20@cam:1/x?a"
    )
    assert with_credentials("rtsp://me@cam", "p:w") == "rtsp://me:p%3Aw@cam"
    assert with_credentials("rtsp://m%65:old@[::1]:2?q", "new") == "rtsp://me:new@[::1]:2?q"
    with pytest.raises(ValueError, match="no user"):
        with_credentials("rtsp://cam/x", "password")
