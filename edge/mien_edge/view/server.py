"""`mien-edge view`: a page to look at, on this device alone, reached through SSH.

It reads the log, the status and the local socket that shows the picture; it writes nothing. It answers only browsers
that call it by a known name (else a page from elsewhere could be made to point here: DNS rebinding) and requests that
come from itself. On any other address than 127.0.0.1 it needs a token.
"""

import asyncio
import hmac
import ipaddress
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from mien_edge import paths
from mien_edge.errors import SettingsError, SinkError, SourceError
from mien_edge.log import reader as log_reader
from mien_edge.log.reader import Filter
from mien_edge.schema import to_dict
from mien_edge.settings import Settings, ViewSettings
from mien_edge.status import status_file, summary, systemd

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_COOKIE = "mien-token"
_LOOK = 0.2  # seconds between looks at the status
_LARGEST = 4_000_000  # bytes of a picture
_HOUR, _DAY = 3600, 86400
_SHORTEST = 16  # characters of a token
_CARD = ("name", "version", "created", "labels", "intended", "forbidden", "limits")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(settings: Settings, log: Path, runtime: Path, token: str = "") -> web.Application:
    """The page as an aiohttp application; `runtime` is the camera service's folder."""
    page = _Page(settings, log, runtime)
    made = web.Application(middlewares=[_guard(settings.view, token), _told_simply])
    made.on_response_prepare.append(_stamp)
    made.add_routes([web.get(path, _file(name, kind)) for path, (name, kind) in _FILES.items()])
    made.add_routes(
        [
            web.get("/api/live", page.live),
            web.get("/api/history", page.history),
            web.get("/api/model", page.model),
            web.get("/picture", page.picture),
        ]
    )
    return made


async def _stamp(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_HEADERS)


def token(settings: ViewSettings) -> str:
    """The token of the unit's credential or file; empty where there is none. Raises SettingsError where one is needed
    and missing, or short.
    """
    folder = paths.systemd_directory("CREDENTIALS_DIRECTORY")
    path = Path(settings.token_file) if settings.token_file else folder / "view-token" if folder else None
    found = ""
    if path is not None and (settings.token_file or path.exists()):
        try:
            found = path.read_text(encoding="utf-8").strip()
        except OSError as problem:
            raise SettingsError(f"{path}: cannot be read ({problem.strerror}); it holds the page's token") from None
    if found and len(found) < _SHORTEST:
        raise SettingsError(
            f"{path}: a token of under {_SHORTEST} characters can be guessed; make one: openssl rand -hex 16"
        )
    if not found and not _is_loopback(settings.host):
        fix = "leave it at 127.0.0.1 and come through SSH, or give it a token: view.token_file"
        raise SettingsError(f"view.host is {settings.host}: whoever is in that network could look; {fix}")
    return found


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _guard(settings: ViewSettings, token: str) -> Any:
    names = {"localhost", "127.0.0.1", "[::1]", *settings.allowed_hosts.split()}
    if not _is_loopback(settings.host):
        names.add(settings.host)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _refusal(request, names)
        if refusal:
            return web.Response(status=403, text=f"{refusal}\n")
        if token and not _has(request, token):
            given = request.query.get("token", "")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return web.Response(status=401, text="open /?token=… with the device's token\n")
            answer: web.StreamResponse = web.Response(status=303, headers={"Location": "/"})
            answer.set_cookie(_COOKIE, token, httponly=True, samesite="Strict", max_age=30 * _DAY)
        else:
            answer = await handler(request)
        return answer

    return guard


def _refusal(request: web.Request, names: set[str]) -> str:
    """Why a request is not answered; empty if it is."""
    host = request.headers.get("Host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name not in names:
        return f"this device is not {host!r}; add the name to view.allowed_hosts"
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "a request from another page"
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "a request from another page"
    return "" if request.method in ("GET", "HEAD") else "nothing can be changed here"


def _has(request: web.Request, token: str) -> bool:
    return hmac.compare_digest(request.cookies.get(_COOKIE, "").encode(), token.encode())


@web.middleware
async def _told_simply(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What cannot be had is one line with its reason, never a traceback."""
    try:
        return await handler(request)
    except (SourceError, SinkError, sqlite3.Error) as problem:
        return web.json_response({"problem": str(problem)}, status=503)


def _file(name: str, kind: str) -> Handler:
    content = resources.files("mien_edge.view").joinpath(name).read_text(encoding="utf-8")

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=content, content_type=kind, charset="utf-8")

    return answer


class _Page:
    def __init__(self, settings: Settings, log: Path, runtime: Path) -> None:
        self.settings, self.log, self.runtime = settings, log, runtime

    async def live(self, request: web.Request) -> web.StreamResponse:
        """How things are, as server-sent events: whenever the service tells something new, and at least each 5 s."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        told, when = "", 0.0
        while True:
            text = json.dumps(self._now())
            if text != told or time.monotonic() - when > 5:
                await answer.write(f"data: {text}\n\n".encode())
                told, when = text, time.monotonic()
            await asyncio.sleep(_LOOK)

    def _now(self) -> dict[str, Any]:
        try:
            service = status_file.read_status(self.runtime)
        except SourceError as problem:
            return {"runs": False, "problems": [str(problem)]}
        publisher = summary.read_publisher(self.runtime)
        return {
            "runs": True,
            **service.to_json(),
            "picture": self.settings.view.show_picture,
            "publisher": publisher.to_json() if publisher else None,
            "problems": summary.find_problems(service, publisher, time.time()),
        }

    async def history(self, request: web.Request) -> web.Response:
        """The last hour by minutes, the last day by ten minutes, and the newest events."""
        now = time.time()
        connection = log_reader.open_to_read(self.log)
        try:
            hour = log_reader.read_minutes(connection, now - _HOUR - 60)
            day = log_reader.read_minutes(connection, now - _DAY - 600, step=600)
            events = log_reader.events(connection, Filter(since=now - 7 * _DAY))[-20:]
        finally:
            connection.close()
        return web.json_response(
            {
                "now": now,
                "hour": [to_dict(minute) for minute in hour],
                "day": [to_dict(minutes) for minutes in day],
                "events": [to_dict(event) for event in reversed(events)],
            }
        )

    async def model(self, request: web.Request) -> web.Response:
        """What the model's card says, and its own figures."""
        folder = Path(status_file.read_status(self.runtime).bundle)
        try:
            card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
            test = card["figures"]["networks"]["int8"]["test"][card["figures"]["head"]]
        except (OSError, ValueError, KeyError) as problem:
            raise SourceError(f"{folder / 'card.json'}: cannot be read ({problem}); see: mien-edge check") from None
        told = {key: card[key] for key in _CARD}
        figures = {key: test[key] for key in ("accuracy", "macro_f1", "recall")}
        return web.json_response(told | {"judged_by": card["figures"]["head"], **figures})

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """The live picture as a multipart stream, for as long as somebody looks."""
        if not self.settings.view.show_picture:
            raise SourceError("the picture is turned off; set view.show_picture = true to show it")
        pictures = _pictures(self.runtime / status_file.SOCKET)
        first = await anext(pictures, b"")
        if not first:
            raise SourceError("no picture: too many look, or the service ends")
        kind = "multipart/x-mixed-replace; boundary=picture"
        answer = web.StreamResponse(headers={"Content-Type": kind})
        await answer.prepare(request)
        await answer.write(_part(first))
        async for each in pictures:
            await answer.write(_part(each))
        return answer


def _part(picture: bytes) -> bytes:
    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"


async def _pictures(path: Path) -> AsyncIterator[bytes]:
    """JPEGs from the service's socket until it ends. Raises SourceError if it does not run."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as problem:
        raise SourceError(f"{path}: no picture ({problem.strerror}); does the service run?") from None
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(4), "big")
            if length > _LARGEST:
                return
            yield await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return
    finally:
        writer.close()


def serve(settings: Settings, log: Path, runtime: Path, told: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM. Raises SettingsError for an address that cannot be, or needs a token."""
    secret = token(settings.view)

    async def tell(application: web.Application) -> AsyncIterator[None]:
        notifier = systemd.Notifier()

        async def beat() -> None:
            while True:
                notifier.ping_watchdog(f"listens on {settings.view.host}:{settings.view.port}")
                await asyncio.sleep(1)

        beating = asyncio.create_task(beat())
        yield
        beating.cancel()
        notifier.close()

    made = application(settings, log, runtime, secret)
    made.cleanup_ctx.append(tell)
    where = f"http://{settings.view.host}:{settings.view.port}/" + ("?token=…" if secret else "")
    try:
        web.run_app(
            made, host=settings.view.host, port=settings.view.port, print=lambda *_: told(f"look at {where}"),
            access_log=None, shutdown_timeout=1, handler_cancellation=True,
        )  # fmt: skip
    except OSError as problem:
        where = f"{settings.view.host}:{settings.view.port}"
        raise SettingsError(f"{where}: {problem.strerror}; choose another view.port or view.host") from None
