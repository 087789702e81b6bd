"""How many connections the page's server holds, and for how long.

aiohttp answers whoever connects, and waits for a request for as long as it takes. Here a connection
that has no request being answered is idle: it is closed after a while, and earlier if it has waited
longest when a newcomer finds no room. So a flood of connections costs neither the file descriptors
that the log needs nor, once it is over, anything at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""


class ConnectionLimit:
    """At most so many connections, none of them idle for long.

    max_connections: above it the connection that is idle longest is closed, or the new one if
        every other is being answered.
    idle_seconds: after which `close_idle` closes a connection.
    monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        max_connections: int,
        idle_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_connections = max_connections
        self.idle_seconds = idle_seconds
        self._monotonic = monotonic
        self._idle_since: dict[asyncio.BaseTransport, float] = {}  # idle longest first
        self._answered: set[asyncio.BaseTransport] = set()

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._idle_since) + len(self._answered)

    def limited(self, make_handler: Callable[[], asyncio.Protocol]) -> "Callable[[], _Connection]":
        """Return a factory of protocols that count; `make_handler` makes what handles each."""
        return lambda: _Connection(self, make_handler())

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with the handler; until then the connection is not idle. A middleware."""
        transport = request.transport
        if transport not in self._idle_since:  # it is closed
            return await handler(request)
        del self._idle_since[transport]
        self._answered.add(transport)
        try:
            return await handler(request)
        finally:
            if transport in self._answered:
                self._answered.remove(transport)
                self._idle_since[transport] = self._monotonic()

    def close_idle(self) -> None:
        """Close each connection that has been idle for `idle_seconds`."""
        latest = self._monotonic() - self.idle_seconds
        for transport, since in tuple(self._idle_since.items()):
            if since <= latest:
                self._close(transport)

    def add(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection, and make room for it."""
        if len(self) < self.max_connections:
            self._idle_since[transport] = self._monotonic()
        elif self._idle_since:
            self._close(next(iter(self._idle_since)))
            self._idle_since[transport] = self._monotonic()
        else:
            _abort(transport)

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection no more: it is closed."""
        self._idle_since.pop(transport, None)
        self._answered.discard(transport)

    def _close(self, transport: asyncio.BaseTransport) -> None:
        del self._idle_since[transport]
        _abort(transport)


def _abort(transport: asyncio.BaseTransport) -> None:
    """Close a connection now, whether or not its client reads what was sent to it."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


class _Connection(asyncio.Protocol):
    """A connection that counts; all else is its handler's."""

    def __init__(self, limit: ConnectionLimit, handler: asyncio.Protocol) -> None:
        self._limit = limit
        self._handler = handler
        self._transport: asyncio.BaseTransport | None = None
        self.data_received = handler.data_received  # type: ignore[method-assign]
        self.eof_received = handler.eof_received  # type: ignore[method-assign]
        self.pause_writing = handler.pause_writing  # type: ignore[method-assign]
        self.resume_writing = handler.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._handler.connection_made(transport)
        self._limit.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._limit.remove(self._transport)
        self._handler.connection_lost(error)


class Places:
    """So many may be taken at one time.

    count: the number of places, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._free = count

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a place while inside. Raises HTTPServiceUnavailable if there is none."""
        if self._free == 0:
            text = "too many look at this page; close another one\n"
            raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "10"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
