"""ASGI applications on the trio driver, over real sockets: ordering, backpressure, and clients that leave."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from h1core.drivers.net.listeners import listen
from h1core.drivers.trio_driver import serve

from h1core import Limits, Timeouts
from h1core.addresses import parse_address
from h1core.app.asgi import Message, Receive, Scope, Send

from ..wire import answers, statuses
from .trio_kit import GET, LAST_GET, http_handler, run, serving

App = Callable[[Scope, Receive, Send], Awaitable[None]]

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
MEGABYTE = bytes(1 << 20)


def body(data: bytes = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def post(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *fields, b"", b""])


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def on(app: App, test: Callable[[Any], Awaitable[None]], **options: Any) -> None:
    """Run a test against an application that is being served."""

    async def runs() -> None:
        async with serving(http_handler(app), **options) as served:
            await test(served)

    run(runs)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send(body(message["body"], more))


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"hello"))


def test_the_scope_names_both_ends() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await hello(scope, receive, send)

    async def test(served: Any) -> None:
        client = await served.connect()
        address = client.stream.socket.getsockname()
        await client.send(b"GET /a%20b?c HTTP/1.1\r\nHost: a\r\nX-A: b\r\nConnection: close\r\n\r\n")
        await client.rest()
        [scope] = seen
        assert (scope["client"], scope["server"]) == (address, served.addresses[0])
        assert (scope["path"], scope["query_string"]) == ("/a b", b"c")
        assert list(scope["headers"]) == [(b"host", b"a"), (b"x-a", b"b"), (b"connection", b"close")]

    on(app, test)


def test_an_ordinary_response_has_its_length_and_keeps_the_connection() -> None:
    async def test(served: Any) -> None:
        wire = await served.ask(GET + LAST_GET)
        assert [answer.body for answer in answers(wire)] == [b"hello", b"hello"]
        assert wire.count(b"content-length: 5\r\n") == 2

    on(hello, test)


def test_a_head_request_gets_the_head_only() -> None:
    async def test(served: Any) -> None:
        wire = await served.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert wire.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: 5\r\n" in wire
        assert wire.endswith(b"\r\n\r\n")

    on(hello, test)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_what_an_application_says_of_chunks_changes_nothing(version: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"transfer-encoding", b"chunked")]})
        await send(body(b"a", more=scope["path"] == "/streamed"))
        if scope["path"] == "/streamed":
            await send(body(b"b"))

    async def test(served: Any) -> None:
        for path, expected in ((b"/", b"a"), (b"/streamed", b"ab")):
            request = b"GET %b HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % (path, version)
            [answer] = answers(await served.ask(request))
            assert answer.body == expected

    on(app, test)


def test_an_echo_streams_both_ways() -> None:
    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(CHUNKED + b"Connection: close\r\n\r\n")
        for _ in range(3):
            await client.send(b"3\r\nabc\r\n")
            await client.until(b"3\r\nabc\r\n")
        await client.send(b"0\r\n\r\n")
        assert await client.rest() == b"0\r\n\r\n"

    on(echo, test)


def test_a_small_body_is_one_message() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await hello(scope, receive, send)

    async def test(served: Any) -> None:
        await served.ask(post(5, b"Connection: close") + b"hello")
        await served.ask(CHUNKED + b"Connection: close\r\n\r\n2\r\nhe\r\n0\r\n\r\n")
        await served.ask(LAST_GET)
        assert [(message["body"], message["more_body"]) for message in received] == [
            (b"hello", False),
            (b"he", False),
            (b"", False),
        ]

    on(app, test)


def test_100_continue_is_sent_when_the_body_is_asked_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] == b"read":
            await receive()
        await hello(scope, receive, send)

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(post(2, b"Expect: 100-continue", b"Connection: close").replace(b"/ ", b"/?read ", 1))
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(b"ok")
        assert statuses(await client.rest()) == [200]
        assert (await served.ask(post(2, b"Expect: 100-continue"))).startswith(b"HTTP/1.1 200 ")

    on(app, test)


def test_who_answers_before_it_asks_for_the_body_gets_none_where_100_was_never_sent() -> None:
    """It may be listening for its client's leaving, as Starlette's streams are."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"hello", more=True))
        received.append(await receive())
        await send(body())

    async def test(served: Any) -> None:
        wire = await served.ask(post(2, b"Expect: 100-continue"))
        assert answers(wire)[0].body == b"hello"
        assert received == [{"type": "http.request", "body": b"", "more_body": False}]

    on(app, test)


def test_a_large_upload_and_download_pass_through() -> None:
    async def test(served: Any) -> None:
        client = await served.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, post(4 * len(MEGABYTE), b"Connection: close") + 4 * MEGABYTE)
            wire = await client.rest()
        assert answers(wire)[0].body == 4 * MEGABYTE

    on(echo, test)


def test_a_stream_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(64):
            await send(body(MEGABYTE, more=True))
            sent += 1
        await send(body())

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(LAST_GET)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sent < 16
        received = 0
        async for data in client.stream:
            received += len(data)
        assert received > 64 * len(MEGABYTE)

    on(app, test)


def test_trailers_and_early_hints_reach_the_wire() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
        await send({**START, "trailers": True})
        await send(body(b"hello"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    async def test(served: Any) -> None:
        wire = await served.ask(LAST_GET)
        assert wire.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert wire.endswith(b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
        old_client = await served.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert old_client.startswith(b"HTTP/1.1 200 OK\r\n")
        assert old_client.endswith(b"\r\n\r\nhello")

    on(app, test)


# Failures.


@pytest.mark.parametrize("messages", [(), (START,), (START, {"type": "http.response.body", "body": "text"})])
def test_half_a_response_that_was_not_begun_is_a_500(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def test(served: Any) -> None:
        assert statuses(await served.ask(GET + LAST_GET)) == [500, 500]

    on(app, test)
    assert "the handler failed on GET / HTTP/1.1" in complaints(caplog)


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_a_response_that_was_begun_is_cut(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"hello", more=True))
        if how == "raises":
            raise ValueError("mine")

    async def test(served: Any) -> None:
        wire = await served.ask(GET)
        assert b"\r\n0\r\n" not in wire

    on(app, test)
    assert "the response to GET / HTTP/1.1 is cut: its handler ended before its end" in complaints(caplog)


def test_a_header_that_may_not_be_sent_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"x-a", b"b\r\nx-c: d")]})
        await send(body(b"hello"))

    async def test(served: Any) -> None:
        assert statuses(await served.ask(LAST_GET)) == [500]

    on(app, test)
    assert "a header value has no control bytes" in caplog.text


def test_a_failure_after_the_response_leaves_that_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        raise ValueError("in a background task")

    async def test(served: Any) -> None:
        assert statuses(await served.ask(GET + LAST_GET)) == [200, 200]

    on(app, test)
    assert len(complaints(caplog)) == 2


# Clients that leave.


class Stream:
    """An application that sends one piece and waits for its client to leave; it remembers what it was told."""

    def __init__(self, *, listens: bool = True, begins: bool = True) -> None:
        self.listens = listens
        self.begins = begins
        self.told: list[str] = []
        self.asked = trio.Event()
        self.has_ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            assert (await receive())["type"] == "http.request"
            if self.begins:
                await send(START)
                await send(body(b"hello", more=True))
            self.asked.set()
            if self.listens:
                self.told.append((await receive())["type"])
                self.told.append((await receive())["type"])
            else:
                while True:
                    await send(body(MEGABYTE, more=True))
        except OSError as error:
            self.told.append(type(error).__name__)
        finally:
            self.has_ended.set()


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_who_listens_is_told_of_a_client_that_leaves(how: str, begins: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        app = Stream(begins=begins)
        async with serving(http_handler(app)) as served:
            client = await served.connect()
            await client.send(GET)
            await app.asked.wait()
            if how == "close":
                await client.stream.aclose()
            elif how == "reset":
                await client.reset()
            else:
                await client.stream.send_eof()
            await app.has_ended.wait()
            assert app.told == ["http.disconnect", "http.disconnect"]
            if how == "half-close":
                await client.rest()

    run(test)
    assert complaints(caplog) == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_only_sends_gets_an_os_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        app = Stream(listens=False)
        async with serving(http_handler(app)) as served:
            client = await served.connect()
            await client.send(GET)
            await app.asked.wait()
            await (client.stream.aclose() if how == "close" else client.reset())
            await app.has_ended.wait()
            assert app.told == ["ClientLeft"]

    run(test)
    assert complaints(caplog) == []


def test_a_task_that_listens_may_cancel_the_one_that_sends_before_that_fails() -> None:
    told: list[str] = []
    has_ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def stream() -> None:
            try:
                await send(START)
                while True:
                    await send(body(MEGABYTE, more=True))
            except OSError:
                told.append("OSError")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()
        has_ended.set()

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(GET)
        await client.until(b"\r\n\r\n")
        await client.reset()
        await has_ended.wait()
        assert told == []

    on(app, test)


@asynccontextmanager
async def half_closed_client(app: App) -> AsyncIterator[socket.socket]:
    """A server, and a client whose request and its end are both there before the server looks."""
    listener = listen(parse_address("127.0.0.1:0"))
    client = socket.create_connection(listener.getsockname())
    client.sendall(GET)
    client.shutdown(socket.SHUT_WR)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, http_handler(app), listeners=[listener]))
        yield client
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("streamed", [False, True])
def test_who_closes_its_side_along_with_its_request_gets_its_answer(streamed: bool) -> None:
    """Though the application listens for its leaving, as Quart does for every request."""
    told_before_the_end: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_told = False

        async def listen() -> None:
            nonlocal is_told
            while (await receive())["type"] != "http.disconnect":
                pass
            is_told = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await send(START)
            await send(body(b"hello", more=True)) if streamed else None
            await trio.testing.wait_all_tasks_blocked(0.01)
            told_before_the_end.append(is_told)
            await send(body(b"" if streamed else b"hello"))

    async def test() -> None:
        async with half_closed_client(app) as client:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
            wire = b"".join([data async for data in stream])
            await stream.aclose()
        assert answers(wire)[0].body == b"hello"
        assert told_before_the_end == [False]

    run(test)


def test_a_stream_whose_client_closed_its_side_early_ends_when_it_can_no_longer_send() -> None:
    async def test() -> None:
        app = Stream(listens=False)
        async with half_closed_client(app) as client:
            client.close()
            await app.has_ended.wait()
        assert app.told == ["ClientLeft"]

    run(test)


def test_who_waits_for_the_client_is_told_of_the_end_of_the_response() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            await hello(scope, receive, send)

    async def test(served: Any) -> None:
        assert statuses(await served.ask(GET + LAST_GET)) == [200, 200]
        client = await served.connect()
        for _ in range(2):
            await client.send(GET)
            await client.until(b"hello")

    on(app, test)


def test_who_looks_without_waiting_sees_a_client_that_has_left() -> None:
    """As Starlette's Request.is_disconnected does: it receives in a scope that is cancelled."""

    async def is_disconnected(receive: Receive) -> bool:
        message: Message = {}
        with trio.CancelScope() as scope:
            scope.cancel()
            message = await receive()
        return bool(message) and message["type"] == "http.disconnect"

    looked: list[bool] = []
    left, has_ended = trio.Event(), trio.Event()
    begun = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        looked.append(await is_disconnected(receive))
        begun.set()
        await left.wait()
        looked.append(await is_disconnected(receive))
        has_ended.set()

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(post(2) + b"ok")
        await begun.wait()
        await client.stream.aclose()
        left.set()
        await has_ended.wait()
        assert looked == [False, True]

    on(app, test)


def test_a_body_that_breaks_off_is_a_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    has_begun = trio.Event()
    has_ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not told or told[-1] != "http.disconnect":
            told.append((await receive())["type"])
            has_begun.set()
        has_ended.set()
        raise RuntimeError("ClientDisconnect")  # as Starlette does

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(post(10) + b"half")
        await has_begun.wait()
        await client.reset()
        await has_ended.wait()
        assert told == ["http.request", "http.disconnect"]

    on(app, test)
    assert complaints(caplog) == []


@pytest.mark.parametrize("in_another_task", [False, True])
def test_what_an_application_does_after_its_response_holds_up_nobody(in_another_task: bool) -> None:
    """More of that, without sockets, in test_trio_after_response.py."""
    goes_on, has_ended = trio.Event(), trio.Event()
    done: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            if in_another_task:
                nursery.start_soon(hello, scope, receive, send)
            else:
                await hello(scope, receive, send)
            if scope["path"] == "/wait":
                await goes_on.wait()
        done.append(scope["path"])
        if scope["path"] == "/wait":
            has_ended.set()

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(GET.replace(b" / ", b" /wait "))
        await client.until(b"hello")
        for _ in range(2):
            await client.send(GET)
            await client.until(b"hello")
        await client.send(LAST_GET)
        assert statuses(await client.rest()) == [200]
        assert done == ["/"] * 3
        goes_on.set()
        await has_ended.wait()
        assert done == ["/"] * 3 + ["/wait"]

    on(app, test)


def test_a_body_over_the_limit_is_refused_and_its_application_told() -> None:
    told: list[str] = []
    begun, has_ended = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append((await receive())["type"])
        begun.set()
        told.append((await receive())["type"])
        has_ended.set()

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(CHUNKED + b"\r\n4\r\nabcd\r\n")
        await begun.wait()
        await client.send(b"40\r\n" + bytes(64))
        assert statuses(await client.rest()) == [413]
        await has_ended.wait()
        assert told == ["http.request", "http.disconnect"]

    on(app, test, limits=Limits(max_body_bytes=10))


@pytest.mark.parametrize("when", ["idle", "closed"])
def test_what_an_application_does_after_its_response_ends_with_the_drain(when: str) -> None:
    """The connection may be idle by then, or gone: neither has a deadline for a drain any more."""
    begun = trio.Event()
    is_cancelled = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal is_cancelled
        await hello(scope, receive, send)
        begun.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            is_cancelled = True
            raise

    async def test(served: Any) -> None:
        client = await served.connect()
        await client.send(GET if when == "idle" else LAST_GET)
        await begun.wait()
        await client.until(b"hello")
        if when == "closed":
            await client.reset()
        served.drain.set()
        await served.has_ended.wait()
        assert is_cancelled

    on(app, test, timeouts=Timeouts(drain_timeout=0.05, linger_timeout=0.01))
