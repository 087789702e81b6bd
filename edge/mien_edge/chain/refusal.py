"""Why a network camera does not open: what it answers when it is asked once more, by hand.

FFmpeg does not tell. RTSP (RFC 2326) has HTTP's requests, answers and authentication (RFC 2617).
"""

import base64
import hashlib
import socket
import ssl
from http import HTTPStatus
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_ENCRYPTED = ("https", "rtsps")
_MAX_SECONDS = 5.0
_MAX_BYTES = 16_384  # of an answer's head
_SUCCESS = range(200, 400)

_CHECK = "check the address, and that the camera is on"
_ENCODE = "write / ? # @ : of a password as %2F …, or put it into a file: source.password_file"


def explain_refusal(address: str, timeout: float) -> str:
    """Return why a stream cannot be opened and what to do, such as 'it does not accept the user and
    password (401 Unauthorized); check them'; nothing of user and password.

    address: with its credentials.
    timeout: seconds for each step; at most five are taken.
    """
    url = _parse_address(address)
    if url is None:
        return f"the address is not well-formed; {_ENCODE}"
    if url.scheme.lower() not in _PORTS:
        return f"cannot be opened; {_CHECK}"
    try:
        status = _ask(url, min(timeout, _MAX_SECONDS))
    except socket.gaierror:
        return "no host of that name is known; check the address"
    except TimeoutError:
        return "it does not answer; check that the camera is on, and the address"
    except ConnectionRefusedError:
        return "nothing answers at that port (connection refused); check the address"
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "no answer that can be read"
        return f"cannot be opened ({reason}); {_CHECK}"
    return _explain_status(status, has_user=bool(url.username))


def _parse_address(address: str) -> SplitResult | None:
    """The parts of an address; None where they do not fit together, as with a / in the password."""
    try:
        url = urlsplit(address.strip())
        is_valid = url.port is None or url.port > 0
    except ValueError:
        return None
    return url if is_valid and url.hostname else None


def _explain_status(status: int, has_user: bool) -> str:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "no standard code"
    answer = f"({status} {phrase})"
    if status == HTTPStatus.UNAUTHORIZED and not has_user:
        return f"it wants a user and a password {answer}; see source.password_file"
    if status == HTTPStatus.UNAUTHORIZED:
        return f"it does not accept the user and password {answer}; check them"
    if status == HTTPStatus.FORBIDDEN:
        return f"it does not allow this to that user {answer}; see its settings for users"
    if status == HTTPStatus.NOT_FOUND:
        return f"it has no such path {answer}; see its manual for the stream's address"
    if status in _SUCCESS:
        return f"it answers {answer}, but sends no video that FFmpeg reads; check the address"
    return f"it refuses {answer}; see whether others use it, or start it again"


def _ask(url: SplitResult, timeout: float) -> int:
    """Return the status of the answer to a request for the stream, with the credentials if they are
    asked for. Raises OSError, and ValueError for an answer that is none.
    """
    status, challenge = _request(url, "", timeout)
    if status == HTTPStatus.UNAUTHORIZED and url.username:
        authorization = _authorization(url, challenge)
        if authorization:
            status, _ = _request(url, authorization, timeout)
    return status


def _request(url: SplitResult, authorization: str, timeout: float) -> tuple[int, str]:
    """Return the answer's status and WWW-Authenticate."""
    scheme = url.scheme.lower()
    lines = [f"{_method(url)} {_target(url)} {'RTSP' if _is_rtsp(url) else 'HTTP'}/1.0"]
    lines += ["CSeq: 1"] if _is_rtsp(url) else [f"Host: {url.hostname}"]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    place = (url.hostname, url.port or _PORTS[scheme])
    with socket.create_connection(place, timeout) as plain:
        connection = plain
        if scheme in _ENCRYPTED:
            connection = _unverified_context().wrap_socket(plain, server_hostname=url.hostname)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return _parse(_read_head(connection))


def _unverified_context() -> ssl.SSLContext:
    """As FFmpeg, which verifies nothing: cameras sign their certificates themselves."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read_head(connection: socket.socket) -> str:
    content = b""
    while b"\r\n\r\n" not in content and len(content) < _MAX_BYTES:
        chunk = connection.recv(4096)
        if not chunk:
            break
        content += chunk
    return content.decode(errors="replace")


def _parse(head: str) -> tuple[int, str]:
    status_line, *lines = head.split("\r\n")
    words = status_line.split()
    if len(words) < 2 or not words[0].startswith(("HTTP/", "RTSP/")):
        raise ValueError("no answer of a web or RTSP server")
    fields = [line.partition(":") for line in lines]
    challenges = [value.strip() for name, _, value in fields if name.lower() == "www-authenticate"]
    return int(words[1]), _strongest(challenges)


def _strongest(challenges: list[str]) -> str:
    """The challenge for Digest, else the first; '' for none."""
    digests = [text for text in challenges if text.lower().startswith("digest ")]
    return next(iter(digests + challenges), "")


def _is_rtsp(url: SplitResult) -> bool:
    return url.scheme.lower().startswith("rtsp")


def _method(url: SplitResult) -> str:
    return "DESCRIBE" if _is_rtsp(url) else "GET"


def _target(url: SplitResult) -> str:
    """What the request asks for: RTSP wants the whole address, without user and password."""
    path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{path}" if _is_rtsp(url) else path


def _authorization(url: SplitResult, challenge: str) -> str:
    """The answer to a challenge (RFC 2617, sections 2 and 3.2.2); '' for one of another kind."""
    user = unquote(url.username or "")
    password = unquote(url.password or "")
    kind, _, parameters = challenge.partition(" ")
    if kind.lower() == "basic":
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    if kind.lower() != "digest":
        return ""
    values = parse_keqv_list(parse_http_list(parameters))
    realm = values.get("realm", "")
    nonce = values.get("nonce", "")
    secret = _md5(f"{user}:{realm}:{password}")
    request = _md5(f"{_method(url)}:{_target(url)}")
    fields = {"username": user, "realm": realm, "nonce": nonce, "uri": _target(url)}
    if "qop" in values:
        fields["cnonce"] = "6d69656e"
        fields["response"] = _md5(f"{secret}:{nonce}:00000001:{fields['cnonce']}:auth:{request}")
    else:
        fields["response"] = _md5(f"{secret}:{nonce}:{request}")
    if "opaque" in values:
        fields["opaque"] = values["opaque"]
    text = ", ".join(f'{name}="{value}"' for name, value in fields.items())
    return f"Digest {text}, qop=auth, nc=00000001" if "qop" in values else f"Digest {text}"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
