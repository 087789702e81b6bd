"""Addresses of cameras as they may be shown: without user, password and token.

A camera's address commonly holds its credentials: as user info (`rtsp://user:password@host/x`), in
the query (`?user=admin&pwd=x`), and with many cameras in the path
(`/user=admin&password=x&channel=1`). Everything that prints, logs or publishes an address goes
through `mask_address`; a message of somebody else in which an address stands through `mask_text`.

A password ought to be percent-encoded (RFC 3986, 3.2.1), and is commonly not. So where the user
info could end at several places, the last one is taken: rather too little of an address is shown
than a part of its password.
"""

import re
from urllib.parse import quote, unquote

MASK = "***"
"""What stands in the place of a secret value."""

_LOCAL = ("v4l2", "picamera", "demo")
_MAX_DECODINGS = 5  # a value that is still encoded after these is masked as a whole
_STREAM_PORTS = "80|81|88|443|554|1935|7447|8000|8080|8081|8443|8554|8888"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SCHEME = re.compile(
    r"\s*[a-z][a-z0-9+.-]*\s*[:\uff1a][/\\]+|\s*(?:rtsps?|https?|rtmps?)(?:[:\uff1a]|//)|\s*//",
    re.I,
)
_SCHEME_IN_TEXT = re.compile(
    r"(?<![a-z0-9+.-])(?:[a-z][a-z0-9+.-]*[:\uff1a][/\\]{2,}"
    r"|(?:rtsps?|https?|rtmps?)(?:[:\uff1a][/\\]|//))",
    re.I,
)
"""With a full-width colon, or none at all, as a typing error makes it."""

_PLAIN_HOST = re.compile(r"\[[^\]@]*\](?::\d*)?|[^:@\[\]]*")
"""An authority without user info that can hold no password."""

_CERTAIN_HOST = re.compile(
    r"(?:\[[0-9a-f:.]+\]|localhost|\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?"
    rf"|[\w.-]+:(?:{_STREAM_PORTS})",
    re.I,
)
"""An authority that is a host beyond doubt, and no beginning of a password."""

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+")
"""An authority that may be a host, or a user and the beginning of a password."""

_HOST_IN_TEXT = re.compile(rf"{_HOST_AND_PORT.pattern}[:,;.]?")
"""The same in a sentence."""

_PARAMETER = (
    r"(?P<start>^|[/?&;#:])(?P<name>\s*[^/?&;#=:\s]{1,100}\s*)(?P<equals>=|%3d)(?P<value>.*?)"
)
_PARAMETER_NAME = re.compile(r"[/?&;#](?P<name>[^/?&;#=:@\s]{1,100})(?:=|%3d)", re.I)
_NEXT = r"[&;?#]\s*[^&;?#=\s]{1,100}\s*="
_PARAMETERS = re.compile(rf"{_PARAMETER}(?={_NEXT}|\Z)", re.I | re.S)
_PARAMETERS_IN_TEXT = re.compile(rf"{_PARAMETER}(?={_NEXT}|:?[\s\"'<>),|\]]|:?\Z)", re.I | re.S)

_SECRET_NAME = re.compile(
    r"usr|user|uname|log(in|on)|acc(oun)?t|pass|pwd|pas$|psw|otp$|token|auth|secret|hash|hmac"
    r"|sig(n|$)|sess|cred|jwt|bearer|cookie|ticket|nonce|access|apikey|[a-z]key$"
    r"|pincode|^code$|密[碼码]|口令|contrase|senha|kennwort|^mima$"
    r"|^(key|u|p|pw|pin|sid|uid|ak|sk)$"
)
"""Names of parameters whose values are not shown: in small letters, without - _ and the like."""


def mask_address(text: str) -> str:
    """Return an address as it may be shown; it never raises.

    text: the whole address, well-formed or not: a URL, or another value of source.uri.

    User info is left out, the values of parameters that name a user or a secret become `***`, and
    control characters become spaces. What holds no secret (photos/a@b.jpg, v4l2:0, demo) is
    returned as it is.
    """
    shown = _CONTROL.sub(" ", text)
    if shown.strip().partition(":")[0].lower() in _LOCAL and "//" not in shown:
        return shown
    scheme = _SCHEME.match(shown)
    if scheme:
        return scheme.group() + _mask_rest(shown[scheme.end() :])
    first_segment = re.split(r"[/\\]", shown, maxsplit=1)[0]
    if ":" in first_segment and "@" in shown:  # USER:PASSWORD@HOST without a scheme
        shown = shown.rpartition("@")[2]
    elif not re.search("[?&]", shown):  # a path
        return shown
    return _mask_parameters(shown)


def mask_text(text: str, address: str = "") -> str:
    """Return a message with every address in it masked; it never raises.

    text: what another program or library says, of any number of lines.
    address: one that may stand in it; without it an address is thought to end where a blank or a
        quotation mark does, unless it has an @ later.
    """
    if address:
        text = text.replace(address, mask_address(address))
    schemes = list(_SCHEME_IN_TEXT.finditer(text))
    if not schemes:
        return text
    ends = [*(scheme.start() for scheme in schemes[1:]), len(text)]
    parts = [text[: schemes[0].start()]]
    for scheme, end in zip(schemes, ends, strict=True):
        parts.append(scheme.group() + _mask_rest_in_text(text[scheme.end() : end]))
    return "".join(parts)


def is_network_address(text: str) -> bool:
    """Whether a value of source.uri names a stream that comes over a network."""
    scheme, separator, _ = text.strip().partition("://")
    return bool(separator) and scheme.lower() != "file"


def has_credentials(text: str) -> bool:
    """Whether an address holds a user, a password or a token."""
    return mask_address(text) != _CONTROL.sub(" ", text)


def host_of(text: str) -> str:
    """Return the host of a URL in small letters, without port and brackets; '' if it has none."""
    rest = mask_address(text).partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def with_credentials(address: str, credentials: str) -> str:
    """Return a URL with user and password, percent-encoded, as its user info.

    credentials: USER:PASSWORD, or the password alone where the address names the user.

    Raises ValueError if neither names a user. The result is for opening the stream, and is never
    to be shown.
    """
    scheme, _, rest = address.partition("://")
    authority, end, _ = re.split(r"([/?#]|$)", rest, maxsplit=1)
    tail = rest[len(authority) :] if end else ""
    user_info, _, host = authority.rpartition("@")
    user = unquote(user_info.partition(":")[0])
    password = credentials
    if not user:
        user, colon, password = credentials.partition(":")
        if not colon:
            raise ValueError("no user")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}{tail}"


def _mask_rest(rest: str) -> str:
    """Mask what follows the scheme of an address."""
    rest = _with_plain_at(rest)
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    end = _end_of_user_info(rest, authority, "@")
    return _mask_parameters(_without_hostless_password(rest[end + 1 :]))


def _mask_rest_in_text(rest: str) -> str:
    """Mask what follows the scheme of an address, and more than the address may follow."""
    rest = _with_plain_at(rest)
    authority = re.split(r"[/?#\s\"'<>]", rest, maxsplit=1)[0]
    end = -1
    if not _HOST_IN_TEXT.fullmatch(authority) or "@" in rest.split(maxsplit=1)[0]:
        end = _end_of_user_info(rest, authority, r"@(?!\s)")  # FFmpeg's messages have ' @ '
    rest = _without_hostless_password(rest[end + 1 :])
    return _PARAMETERS_IN_TEXT.sub(_mask_parameter, rest)


def _with_plain_at(text: str) -> str:
    """Return an address with the full-width @ that an input method may have typed as an @."""
    return text.replace("\uff20", "@")


def _without_hostless_password(rest: str) -> str:
    """Mask an authority that is none, for it has a colon and no port behind it, as in
    rtsp://user:password where the host was forgotten.
    """
    authority = re.split(r"[/?#\\\s\"'<>]", rest, maxsplit=1)[0]
    plain = authority.rstrip(":,;.)]")
    is_host = _PLAIN_HOST.fullmatch(plain) or _HOST_AND_PORT.fullmatch(plain)
    if is_host or authority.startswith("["):
        return rest
    return f"{MASK}{rest[len(authority) :]}"


def _end_of_user_info(rest: str, authority: str, at_pattern: str) -> int:
    """Return where the @ stands in `rest` that ends the user info; -1 for none.

    authority: up to the first / ? or #, where a URL that is well-formed has its user info.
    at_pattern: a regular expression for an @.
    """
    before, at, host = authority.rpartition("@")
    if at and _CERTAIN_HOST.fullmatch(host):
        return len(before)
    if not at and (_PLAIN_HOST.fullmatch(authority) or _CERTAIN_HOST.fullmatch(authority)):
        return -1
    positions = [match.start() for match in re.finditer(at_pattern, rest)]
    first_secret = _first_secret_parameter(rest)
    earlier = [position for position in positions if position < first_secret]
    if earlier:
        return earlier[-1]
    if not at and first_secret < len(rest) and _HOST_AND_PORT.fullmatch(authority):
        return -1
    return positions[-1] if positions else -1


def _first_secret_parameter(rest: str) -> int:
    """Return where the first parameter with a secret begins in `rest`, or its length."""
    parameters = _PARAMETER_NAME.finditer(rest)
    starts = (match.start() for match in parameters if _is_secret_name(match["name"]))
    return next(starts, len(rest))


def _mask_parameters(text: str) -> str:
    """Mask an address behind its user info."""
    scheme, separator, inner = text.partition("://")  # of an address in its query
    if separator:
        text = f"{scheme}://{inner.rpartition('@')[2]}"
    return _PARAMETERS.sub(_mask_parameter, text)


def _mask_parameter(match: re.Match[str]) -> str:
    name = match["name"]
    value = match["value"]
    if value and (_is_secret_name(name) or _holds_address(value)):
        value = MASK
    return f"{match['start']}{name}{match['equals']}{value}"


def _is_secret_name(name: str) -> bool:
    plain = re.sub(r"[-_.+\[\]{}$\s]", "", _decoded(name)[0].lower())
    return bool(_SECRET_NAME.search(plain))


def _holds_address(value: str) -> bool:
    """Whether a percent-encoded value is an address with credentials, or may be one."""
    decoded, is_whole = _decoded(value)
    if not is_whole:
        return True
    if decoded == value:
        return False
    return "@" in decoded or bool(re.search(r"[?&;/][^=&]*=", decoded))


def _decoded(text: str) -> tuple[str, bool]:
    """Decode percent-encoding until nothing is left of it; also whether that was possible."""
    for _ in range(_MAX_DECODINGS):
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return text, True
        text = decoded
    return text, False
