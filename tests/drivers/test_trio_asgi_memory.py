"""ASGI applications on the trio driver without sockets: memory streams, and a clock that jumps."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing
from h1core.drivers.trio_driver import serve

from h1core import Timeouts
from h1core.app.asgi import Message, Receive, Scope, Send

from ..wire import answers, statuses
from .trio_kit import GET, LAST_GET, http_handler

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Stream = trio.StapledStream[Any, Any]

START: Message = {"type": "http.response.start", "status": 200}


class MemoryListener(trio.abc.Listener[Stream]):
    """Accepts what `connect` makes."""

    def __init__(self) -> None:
        self._to_accept, self._accepted = trio.open_memory_channel[Stream](10)

    async def connect(self) -> Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await self._to_accept.send(theirs)
        return ours

    async def accept(self) -> Stream:
        return await self._accepted.receive()

    async def aclose(self) -> None:
        await self._accepted.aclose()


@asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[MemoryListener]:
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, http_handler(app), listeners=[listener], **options))
        yield listener
        nursery.cancel_scope.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def rest(stream: Stream) -> bytes:
    return b"".join([data async for data in stream])


def test_nothing_is_known_of_an_endpoint_without_an_address() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["client"], scope["server"], scope["scheme"]) == (None, None, "http")
        await send(START)
        await send({"type": "http.response.body", "body": b"hello"})

    async def test() -> None:
        async with serving(app) as listener:
            stream = await listener.connect()
            await stream.send_all(GET + LAST_GET)
            assert [answer.body for answer in answers(await rest(stream))] == [b"hello", b"hello"]

    run(test)


def test_a_body_that_comes_too_slowly_is_a_disconnect() -> None:
    told: list[str] = []
    told_at: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not told or told[-1] != "http.disconnect":
            told.append((await receive())["type"])
        told_at.append(trio.current_time())

    async def test() -> None:
        began_at = trio.current_time()
        async with serving(app, timeouts=Timeouts(body_timeout=60.0)) as listener:
            stream = await listener.connect()
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            assert statuses(await rest(stream)) == [408]
        assert told == ["http.request", "http.disconnect"]
        assert 60.0 <= told_at[0] - began_at <= 61.0

    run(test)


def test_an_application_may_think_for_as_long_as_it_likes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(100_000)
        await send(START)
        await send({"type": "http.response.body", "body": b"at last"})

    async def test() -> None:
        async with serving(app) as listener:
            stream = await listener.connect()
            await stream.send_all(LAST_GET)
            assert answers(await rest(stream))[0].body == b"at last"

    run(test)


def test_a_client_that_takes_nothing_is_given_up_and_its_application_told() -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(START)
            while True:
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        except OSError as error:
            told.append(type(error).__name__)

    async def test() -> None:
        began_at = trio.current_time()
        async with serving(app, timeouts=Timeouts(write_timeout=30.0)) as listener:
            client, server = trio.testing.lockstep_stream_pair()
            await listener._to_accept.send(server)
            await client.send_all(GET)
            while not told:
                await trio.sleep(1)
        assert told == ["ClientLeft"]
        assert 30.0 <= trio.current_time() - began_at <= 33.0

    run(test)


def test_a_stream_that_ends_is_a_disconnect() -> None:
    """Other than over a socket, nobody closes one side only and waits."""
    told: list[str] = []
    has_ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            told.append((await receive())["type"])
        has_ended.set()

    async def test() -> None:
        async with serving(app) as listener:
            stream = await listener.connect()
            await stream.send_all(GET)
            await trio.sleep(1)
            await stream.send_eof()
            await has_ended.wait()
        assert told == ["http.request", "http.disconnect", "http.disconnect"]

    run(test)
