"""Who may look at the page.

Browsers must call the device by a known name (else a page from elsewhere could be made to point
here: DNS rebinding), requests must come from the page itself, and on any other address than a
loopback address they need a token.
"""

import hmac
import ipaddress
import re
from contextlib import suppress

from aiohttp import web

from mien_edge.credentials import PAGE, read_secret
from mien_edge.errors import SettingsError
from mien_edge.settings import ViewSettings
from mien_edge.view.connections import Handler

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_MIN_TOKEN_LENGTH = 16  # characters
_VISIBLE_ASCII = re.compile("[!-~]*")
_LANGUAGE = re.compile("[A-Za-z]{2}(-[A-Za-z]{2})?")
_NEW_TOKEN = "make one: openssl rand -hex 16"  # noqa: S105 - not a token
_COOKIE = "mien-token"
_COOKIE_SECONDS = 30 * 86400
_FROM_ANOTHER_PAGE = "a request from another page"


class Guard:
    """Refuses requests by host, origin, method and token.

    settings: of the page.
    token: what a request needs, empty for none; see `read_token`.
    """

    def __init__(self, settings: ViewSettings, token: str) -> None:
        self.token = token
        self.allowed_hosts = {*_LOOPBACK_HOSTS, *settings.allowed_hosts.split()}
        if not _is_loopback(settings.host):
            self.allowed_hosts.add(settings.host)

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with the handler, or with status 403 or 401. A middleware of aiohttp."""
        refusal = self._refusal(request)
        if refusal:
            return web.Response(status=403, text=f"{refusal}\n")
        if self.token and self._has_parameter(request):
            return self._set_cookie(request.query.get("lang", ""))
        if not self.token or self._has_cookie(request):
            return await handler(request)
        return web.Response(status=401, text="open /?token=… with the device's token\n")

    def _refusal(self, request: web.Request) -> str:
        """Why a request is refused; empty if it isn't."""
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        fetch_site = request.headers.get("Sec-Fetch-Site", "none")
        if _without_port(host) not in self.allowed_hosts:
            return f"this device is not {host!r}; add the name to view.allowed_hosts"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _FROM_ANOTHER_PAGE
        if fetch_site not in ("none", "same-origin"):
            return _FROM_ANOTHER_PAGE
        if request.method not in ("GET", "HEAD"):
            return "nothing can be changed here"
        return ""

    def _has_cookie(self, request: web.Request) -> bool:
        return self._is_token(request.cookies.get(_COOKIE, ""))

    def _has_parameter(self, request: web.Request) -> bool:
        return self._is_token(request.query.get("token", ""))

    def _is_token(self, text: str) -> bool:
        # A browser may send what no UTF-8 is; a token is ASCII, so nothing else can equal it.
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def _set_cookie(self, language: str) -> web.Response:
        """Keep the token in a cookie, and take it out of the browser's address bar."""
        place = f"/?lang={language}" if _LANGUAGE.fullmatch(language) else "/"
        response = web.Response(status=303, headers={"Location": place})
        response.set_cookie(
            _COOKIE,
            self.token,
            httponly=True,
            samesite="Strict",
            max_age=_COOKIE_SECONDS,
        )
        return response


def read_token(settings: ViewSettings) -> str:
    """Return the token of view.token_file, else of the credential view-token; empty if none.

    Raises SettingsError for a token that can't be read, is short or is more than a word of ASCII
    characters, and where the address needs one and there is none.
    """
    secret = read_secret(settings.token_file, PAGE, "the page's token", SettingsError)
    token = (secret or "").strip()
    where = settings.token_file or PAGE
    if token and len(token) < _MIN_TOKEN_LENGTH:
        reason = f"a token of under {_MIN_TOKEN_LENGTH} characters can be guessed"
        raise SettingsError(f"{where}: {reason}; {_NEW_TOKEN}")
    if not _VISIBLE_ASCII.fullmatch(token):
        reason = "a token is one word of ASCII characters, so that a browser can send it"
        raise SettingsError(f"{where}: {reason}; {_NEW_TOKEN}")
    if not token and not _is_loopback(settings.host):
        fix = "leave it at 127.0.0.1 and come through SSH, or give it a token: view.token_file"
        reason = "whoever is in that network could look"
        raise SettingsError(f"view.host is {settings.host}: {reason}; {fix}")
    return token


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdigit() else host


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
