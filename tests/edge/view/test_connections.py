"""How many connections the page holds, and for how long: with fake connections and a fake clock."""

import asyncio
import types

import pytest
from aiohttp import web
from mien_edge.view import server
from mien_edge.view.connections import ConnectionLimit, Places


class Transport(asyncio.Transport):
    """A connection that remembers whether it was aborted."""

    def __init__(self):
        super().__init__()
        self.aborted = False

    def abort(self):
        self.aborted = True


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limit(clock):
    return ConnectionLimit(max_connections=2, idle_seconds=10.0, monotonic=clock)


def connect(limit):
    """A new connection, counted as the server's protocols do."""
    connection = limit.limited(asyncio.Protocol)()
    transport = Transport()
    connection.connection_made(transport)
    transport.lose = lambda: connection.connection_lost(None)
    return transport


def answering(limit, transport, during):
    """Answer a request of the connection; `during` is called while that goes on."""

    async def handler(request):
        during()
        return web.Response()

    request = types.SimpleNamespace(transport=transport)
    asyncio.run(limit.answer(request, handler))


def test_a_newcomer_takes_the_place_of_the_connection_that_is_idle_longest(limit):
    first, second, third = connect(limit), connect(limit), connect(limit)
    assert (first.aborted, second.aborted, third.aborted) == (True, False, False)
    first.lose()
    assert len(limit) == 2


def test_a_connection_that_is_being_answered_gives_its_place_to_nobody(limit):
    first, second = connect(limit), connect(limit)
    answering(limit, first, lambda: connect(limit))
    assert (first.aborted, second.aborted) == (False, True)


def test_where_all_are_being_answered_the_newcomer_is_closed(limit):
    first, second = connect(limit), connect(limit)
    newcomers = []

    def connect_another():
        newcomers.append(connect(limit))

    answering(limit, first, lambda: answering_in_a_thread(limit, second, connect_another))
    assert [newcomer.aborted for newcomer in newcomers] == [True]
    assert (first.aborted, second.aborted) == (False, False)


def answering_in_a_thread(limit, transport, during):
    """As `answering`, while the loop of this thread runs another."""

    async def handler(request):
        during()
        return web.Response()

    coroutine = limit.answer(types.SimpleNamespace(transport=transport), handler)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_who_sends_no_request_is_closed_after_a_while(limit, clock):
    silent = connect(limit)
    clock.seconds = 9.0
    other = connect(limit)
    limit.close_idle()
    assert not silent.aborted
    clock.seconds = 10.0
    limit.close_idle()
    assert (silent.aborted, other.aborted) == (True, False)


def test_the_time_counts_from_the_last_answer(limit, clock):
    transport = connect(limit)
    clock.seconds = 9.0
    answering(limit, transport, limit.close_idle)
    clock.seconds = 18.0
    limit.close_idle()
    assert not transport.aborted
    clock.seconds = 19.0
    limit.close_idle()
    assert transport.aborted


def test_a_connection_that_ends_while_it_is_answered_leaves_no_trace(limit):
    transport = connect(limit)
    answering(limit, transport, transport.lose)
    assert len(limit) == 0


def test_there_is_a_number_of_places_and_each_is_free_again():
    places = Places(1)
    for _ in range(2):
        with places.take(), pytest.raises(web.HTTPServiceUnavailable), places.take():
            pass


def test_a_stream_whose_client_does_not_read_is_closed(monkeypatch):
    monkeypatch.setattr(server, "_WRITE_SECONDS", 0.0)
    transport = Transport()

    class Full:
        """A response whose client never makes room."""

        async def write(self, message):
            await asyncio.Event().wait()

    request = types.SimpleNamespace(transport=transport)
    with pytest.raises(ConnectionResetError):
        asyncio.run(server._write(request, Full(), b"picture"))
    assert transport.aborted
