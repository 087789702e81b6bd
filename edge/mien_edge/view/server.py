"""`mien-edge view`: a page on this device alone, reached through SSH.

It reads the log, the status files and the local socket with the picture; it writes nothing.
"""

import asyncio
import dataclasses
import json
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, closing, suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from mien_edge import paths
from mien_edge.errors import SettingsError, SinkError, SourceError
from mien_edge.labels import colours, ordered
from mien_edge.log import distributions, reader
from mien_edge.schema import to_dict
from mien_edge.settings import Settings, ViewSettings
from mien_edge.status.status_file import read_status
from mien_edge.status.summary import find_problems, read_publisher
from mien_edge.status.systemd import Notifier
from mien_edge.view.access import Guard, read_token
from mien_edge.view.connections import ConnectionLimit, Handler, Places

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOOPBACK = "127.0.0.1"
_FREE_PORT = 0  # the system picks one
_POLL_SECONDS = 0.2  # between two looks at the status
_REPEAT_SECONDS = 5.0  # after which an unchanged status is sent again
_BEAT_SECONDS = 1.0
_SHUTDOWN_SECONDS = 1.0
_MAX_CONNECTIONS = 64
_MAX_STREAMS = 16  # pages that are open
_MAX_PICTURES = 8  # of them, the live picture; the service itself shows it to fewer
_BACKLOG = 128  # connections that are accepted at once, beyond _MAX_CONNECTIONS
_IDLE_SECONDS = 10.0  # for a connection without a request, or with an answer that nobody reads
_WRITE_SECONDS = 10.0  # for one message of a stream
_SCRIPTS = ("texts.js", "place.js", "picture.js", "history.js", "page.js")
_DAY = 86400
_END_OF_TIME = 1e12  # seconds since 1970
_EVENT_DAYS = 7
_MAX_EVENTS = 20
_MAX_PICTURE_BYTES = 4_000_000
_MAX_FACES_BYTES = 200_000  # of the readings of one picture, which travel in a header
_PICTURE_TYPE = "multipart/x-mixed-replace; boundary=picture"
_SPANS = {
    "hour": (3600, 60),
    "day": (_DAY, 600),
    "week": (7 * _DAY, 3600),
    "month": (28 * _DAY, 21600),
}
"""What the page can show of the past: how many seconds, and in steps of how many."""

_CARD_KEYS = ("name", "version", "created", "labels", "intended", "forbidden", "limits")


def serve(settings: Settings, log: Path, runtime: Path, announce: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM.

    settings: of the device.
    log: path of the on-device log.
    runtime: runtime folder of the camera's service.
    announce: called with a sentence that names the page's address, once it can be opened.

    Raises SettingsError for an address that can't be used, or that needs a token.
    """
    PageServer(settings, log, runtime, read_token(settings.view)).run(announce)


def serve_beside(
    settings: Settings, log: Path, runtime: Path, announce: Callable[[str], None]
) -> None:
    """Answer beside a run that was started by hand, until standard input ends.

    The page listens on a free port of 127.0.0.1, whatever address the settings name, and needs the
    token that the service's page needs. Parameters and errors are those of `serve`.
    """
    view = dataclasses.replace(settings.view, host=_LOOPBACK)
    token = read_token(view)
    own = dataclasses.replace(settings, view=view)
    PageServer(own, log, runtime, token, is_beside_run=True).run(announce)


class PageServer:
    """The web server: routes, security headers, systemd's watchdog.

    settings, log, runtime: as for `serve`.
    token: what a browser needs to look; empty for none.
    is_beside_run: take a free port, and end with standard input.
    """

    def __init__(
        self,
        settings: Settings,
        log: Path,
        runtime: Path,
        token: str,
        is_beside_run: bool = False,
    ) -> None:
        self.settings = settings.view
        self.port = _FREE_PORT if is_beside_run else self.settings.port
        self._is_beside_run = is_beside_run
        self._token = token
        self._guard = Guard(self.settings, token)
        self._page = _Page(self.settings, log, runtime, is_beside_run)
        self._limit = ConnectionLimit(_MAX_CONNECTIONS, _IDLE_SECONDS)

    def application(self) -> web.Application:
        """Return the page as an aiohttp application."""
        middlewares = [self._limit.answer, self._guard.check, _errors_as_json]
        application = web.Application(middlewares=middlewares)
        application.on_response_prepare.append(_add_security_headers)
        application.cleanup_ctx.append(self._notify_systemd)
        routes: dict[str, Handler] = {
            "/": _StaticFile("page.html", "text/html").get,
            "/page.css": _StaticFile("page.css", "text/css").get,
            **{f"/{name}": _StaticFile(name, "text/javascript").get for name in _SCRIPTS},
            "/api/live": self._page.live,
            "/api/history": self._page.history,
            "/api/model": self._page.model,
            "/picture": self._page.picture,
            "/{path:.*}": _not_found,
        }
        for path, handler in routes.items():
            route = web.route(hdrs.METH_ANY, path, handler, expect_handler=_expect_nothing)
            application.add_routes([route])
        return application

    def run(self, announce: Callable[[str], None]) -> None:
        """Answer until SIGINT or SIGTERM; see `serve`."""
        asyncio.run(self._serve(announce))

    async def _serve(self, announce: Callable[[str], None]) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if self._is_beside_run:
            loop.add_reader(sys.stdin, stop.set)
        runner = web.AppRunner(
            self.application(),
            logger=_logger(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            handler_cancellation=True,
        )
        await runner.setup()
        try:
            listener = await self._listen(runner)
            query = "?token=…" if self._token else ""
            announce(f"look at http://{self.address}/{query}")
            await stop.wait()
            listener.close()
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        assert runner.server is not None  # noqa: S101 - the runner is set up
        loop = asyncio.get_running_loop()
        factory = self._limit.limited(runner.server)
        try:
            listener = await loop.create_server(
                factory, self.settings.host, self.port, backlog=_BACKLOG
            )
        except OSError as problem:
            fix = "choose another view.port or view.host"
            # asyncio's own text repeats the address.
            reason = os.strerror(problem.errno) if problem.errno else problem.strerror
            raise SettingsError(f"{self.address}: {reason}; {fix}") from None
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    @property
    def address(self) -> str:
        """Host and port; port 0 until a free one is taken."""
        return f"{self.settings.host}:{self.port}"

    async def _notify_systemd(self, application: web.Application) -> AsyncIterator[None]:
        """Ping the watchdog, and close idle connections, while the application runs."""
        notifier = Notifier()
        task = asyncio.create_task(self._beat(notifier))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        notifier.close()

    async def _beat(self, notifier: Notifier) -> None:
        while True:
            self._limit.close_idle()
            notifier.ping_watchdog(f"listens on {self.address}")
            await asyncio.sleep(_BEAT_SECONDS)


def _logger() -> logging.Logger:
    """Return the server's logger, which leaves out what is the client's affair.

    A request that is not HTTP, or a connection that broke, would fill the journal, and may hold a
    token.
    """
    logger = logging.getLogger("mien.view")
    logger.addFilter(_is_own_error)
    return logger


def _is_own_error(record: logging.LogRecord) -> bool:
    problem = record.exc_info[1] if record.exc_info else None
    return not isinstance(problem, HttpProcessingError | ConnectionError)


async def _not_found(request: web.Request) -> web.Response:
    return web.Response(status=404, text="no such page\n")


async def _expect_nothing(request: web.Request) -> None:
    """Leave the header Expect alone: no request has a body, and aiohttp's answer can fail."""


async def _add_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY_HEADERS)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an error with its message and status 503, never with a traceback."""
    try:
        return await handler(request)
    except (SourceError, SinkError, sqlite3.Error) as problem:
        return web.json_response({"problem": str(problem)}, status=503)


class _StaticFile:
    """A file of this package, read once."""

    def __init__(self, name: str, content_type: str) -> None:
        self._text = resources.files("mien_edge.view").joinpath(name).read_text(encoding="utf-8")
        self._content_type = content_type

    async def get(self, request: web.Request) -> web.Response:
        """Answer with the file."""
        return web.Response(text=self._text, content_type=self._content_type, charset="utf-8")


class _Page:
    """What the page's script and picture ask for."""

    def __init__(
        self, settings: ViewSettings, log: Path, runtime: Path, is_beside_run: bool = False
    ) -> None:
        self.settings = settings
        self.is_beside_run = is_beside_run
        self.log = log
        self.runtime = runtime
        self._streams = Places(_MAX_STREAMS)
        self._pictures = Places(_MAX_PICTURES)

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Answer with the status as server-sent events: at each change, and at least each 5 s."""
        _refuse_head(request)
        with self._streams.take():
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await self._send_status(request, response)
        return response

    async def _send_status(self, request: web.Request, response: web.StreamResponse) -> None:
        """Send the status until the client goes, or reads no more."""
        sent_text = ""
        sent_at = float("-inf")
        while True:
            text = json.dumps(self._status())
            now = time.monotonic()
            if text != sent_text or now - sent_at > _REPEAT_SECONDS:
                await _write(request, response, f"data: {text}\n\n".encode())
                sent_text = text
                sent_at = now
            await asyncio.sleep(_POLL_SECONDS)

    def _status(self) -> dict[str, object]:
        """The status of service and publisher, and what is wrong.

        'runs', 'beside' (a run by hand), 'picture' (whether it may be shown) and 'problems' are
        always there.
        """
        page = {"beside": self.is_beside_run, "picture": self.settings.show_picture}
        try:
            service = read_status(self.runtime)
        except SourceError as problem:
            # A run by hand was started before its page, and is about to write its status.
            problems = [] if self.is_beside_run else [str(problem)]
            return {"runs": False, **page, "problems": problems}
        publisher = read_publisher(self.runtime)
        return {
            "runs": True,
            **service.to_json(),
            **page,
            "colours": colours(service.labels),
            "publisher": publisher.to_json() if publisher else None,
            "problems": find_problems(service, publisher, time.time()),
        }

    async def history(self, request: web.Request) -> web.Response:
        """Answer with a span of the past in steps, and events; ?span= is one of _SPANS.

        'labels' are those of the running model and of the models of that time, each with its
        colour.
        """
        span = request.query.get("span", "hour")
        if span not in _SPANS:
            raise web.HTTPNotFound(text=f"no such span; one of: {', '.join(_SPANS)}\n")
        length, step = _SPANS[span]
        now = time.time()
        since = now - length - step
        running = self._running_labels()
        with closing(reader.open_to_read(self.log)) as connection:
            spans = reader.read_minutes(connection, since, step=step)
            past = distributions.labels_of_minutes(connection, since, _END_OF_TIME)
            labels = (*running, *past) or distributions.noted_labels(connection)
            events = reader.newest_events(connection, now - _EVENT_DAYS * _DAY, _MAX_EVENTS)
        return web.json_response(
            {
                "now": now,
                "span": span,
                "length": length,
                "step": step,
                "labels": ordered(labels),
                "colours": colours(labels),
                "spans": [to_dict(summary) for summary in spans],
                "events": [to_dict(event) for event in reversed(events)],
            }
        )

    def _running_labels(self) -> tuple[str, ...]:
        """The labels of the running model; empty where none runs."""
        try:
            return read_status(self.runtime).labels
        except SourceError:
            return ()

    async def model(self, request: web.Request) -> web.Response:
        """Answer with what the running model's card says, and how accurate it is on which rows."""
        path = Path(read_status(self.runtime).bundle) / "card.json"
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            content = {key: card[key] for key in _CARD_KEYS}
            content |= _accuracy(card)
            content["unreliable"] = _unreliable_labels(card)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            reason = f"cannot be read ({problem}); see: mien-edge check"
            raise SourceError(f"{path}: {reason}") from None
        return web.json_response(content)

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """Answer with the live picture, a stream of JPEGs, for as long as the browser reads it."""
        if not self.settings.show_picture:
            fix = "set view.show_picture = true to show it"
            raise SourceError(f"the picture is turned off; {fix}")
        _refuse_head(request)
        with self._pictures.take():
            response = await self._send_pictures(request)
        if response is None:
            raise SourceError("no picture: too many look, or the service ends")
        return response

    async def _send_pictures(self, request: web.Request) -> web.StreamResponse | None:
        """Send pictures until the service ends; return None if there was none."""
        response = None
        async with aclosing(_read_pictures(paths.preview(self.runtime))) as pictures:
            async for picture in pictures:
                if response is None:
                    response = web.StreamResponse(headers={"Content-Type": _PICTURE_TYPE})
                    await response.prepare(request)
                await _write(request, response, _as_part(picture))
        return response


def _accuracy(card: dict[str, Any]) -> dict[str, object]:
    """The accuracy that a card reports, by which head's labels, and on which rows: 'test' is
    'PublicTest' for those of FER2013. Empty where it reports none.
    """
    figures = card["figures"]
    head = figures.get("head", "")
    network = figures.get("networks", {}).get("int8", {})
    metrics = network.get("test", {}).get(head) or network.get("validation", {}).get(head)
    if not metrics:
        return {}
    is_fer2013 = any("FER2013" in sentence for sentence in card["limits"])
    test = figures["test"] if is_fer2013 and network.get("test") else "own"
    return {"accuracy": metrics["accuracy"], "judged_by": head, "test": test}


def _unreliable_labels(card: dict[str, Any]) -> list[str]:
    """The labels that a card says cannot be told reliably."""
    names = card["figures"].get("calibration", {}).get("unreliable", [])
    return [label for label in card["labels"] if label in names]


def _refuse_head(request: web.Request) -> None:
    """Raise HTTPMethodNotAllowed for HEAD: a stream has no end to wait for."""
    if request.method != hdrs.METH_GET:
        raise web.HTTPMethodNotAllowed(request.method, [hdrs.METH_GET])


async def _write(request: web.Request, response: web.StreamResponse, message: bytes) -> None:
    """Send a message of a stream. Raises ConnectionResetError if the client doesn't read it."""
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            await response.write(message)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read") from None


class _Picture(NamedTuple):
    """What was read in a picture, as JSON, and the picture."""

    faces: bytes
    jpeg: bytes


def _as_part(picture: _Picture) -> bytes:
    """A picture as one part of a multipart stream; the header Faces tells what was read in it."""
    size = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
    headers = size.encode() + b"Faces: " + picture.faces + b"\r\n"
    return b"--picture\r\n" + headers + b"\r\n" + picture.jpeg + b"\r\n"


async def _read_pictures(path: Path) -> AsyncGenerator[_Picture, None]:
    """Yield pictures from the service's socket until it ends (service/preview.py).

    Raises SourceError if the service doesn't run.
    """
    try:
        stream, writer = await asyncio.open_unix_connection(path)
    except OSError as problem:
        reason = f"no picture ({problem.strerror}); does the service run?"
        raise SourceError(f"{path}: {reason}") from None
    try:
        while True:
            faces = await _read_part(stream, _MAX_FACES_BYTES)
            jpeg = await _read_part(stream, _MAX_PICTURE_BYTES)
            yield _Picture(faces, jpeg)
    except (asyncio.IncompleteReadError, OSError):
        return
    finally:
        writer.close()


async def _read_part(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    """Read a length, four bytes with the most significant first, and so many bytes after it.

    Raises OSError for more than `max_bytes`, and IncompleteReadError at the stream's end.
    """
    length = int.from_bytes(await stream.readexactly(4), "big")
    if length > max_bytes:
        raise OSError(f"{length} bytes are too many for a part of a picture")
    return await stream.readexactly(length)
