"""Streaming both ways on trio: what a `StreamingHandler` sees of its client, and the client of it."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from h1core import (
    Data,
    Disconnected,
    EndOfMessage,
    Exchange,
    InformationalResponse,
    Limits,
    LocalError,
    Response,
    StreamingHandler,
    Timeouts,
)
from h1core.testing import Client

from ..wire import answers, statuses
from .trio_kit import GET, LAST_GET, run, serving

STREAMED = Response(200, (), None)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"


def post(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *fields, b"", b""])


@StreamingHandler
async def echo(exchange: Exchange) -> None:
    await exchange.send(STREAMED)
    async for piece in exchange:
        await exchange.send(Data(piece))
    await exchange.send(EndOfMessage(exchange.request.trailers))


@StreamingHandler
async def read_all(exchange: Exchange) -> Response:
    return Response(200, (), await exchange.read())


def test_an_echo_answers_while_the_body_is_still_coming() -> None:
    async def test() -> None:
        async with serving(echo) as served:
            client = await served.connect()
            await client.send(CHUNKED + b"Connection: close\r\n\r\n")
            await client.until(b"\r\n\r\n")
            for number in range(3):
                await client.send(b"1\r\n%d\r\n" % number)
                assert await client.until(b"\r\n%d\r\n" % number) == b"1\r\n%d\r\n" % number
            await client.send(b"0\r\nX-Sum: 3\r\n\r\n")
            assert await client.rest() == b"0\r\nx-sum: 3\r\n\r\n"

    run(test)


def test_the_rest_of_a_body_is_read_as_one_and_a_request_may_follow() -> None:
    async def test() -> None:
        async with serving(read_all) as served:
            wire = post(5) + b"hello" + CHUNKED + b"\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" + LAST_GET
            assert [answer.body for answer in answers(await served.ask(wire))] == [b"hello", b"abc", b""]

    run(test)


def test_100_continue_is_sent_when_the_body_is_first_asked_for() -> None:
    async def test() -> None:
        asks = trio.Event()

        @StreamingHandler
        async def handler(exchange: Exchange) -> Response:
            await asks.wait()
            return Response(200, (), await exchange.read())

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(post(2, b"Expect: 100-continue", b"Connection: close"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            with pytest.raises(BlockingIOError):
                client.stream.socket._sock.recv(1)  # type: ignore[attr-defined]  # trio's own recv would wait
            asks.set()
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"ok")
            assert answers(await client.rest())[0].body == b"ok"

    run(test)


def test_a_handler_that_does_not_ask_for_the_body_never_sends_100_continue() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        return Response(403)

    async def test() -> None:
        async with serving(handler) as served:
            wire = await served.ask(post(2, b"Expect: 100-continue"))
            assert wire.startswith(b"HTTP/1.1 403 ")
            assert b"connection: close" in wire

    run(test)


def test_nothing_is_read_but_what_is_asked_for() -> None:
    """So a client that sends a large body to a handler that waits fills only the kernel's buffers."""
    size = 50_000_000

    async def test() -> None:
        asks = trio.Event()
        received = 0

        @StreamingHandler
        async def handler(exchange: Exchange) -> Response:
            nonlocal received
            received += len(await exchange.receive())
            await asks.wait()
            async for piece in exchange:
                received += len(piece)
            return Response(200)

        async with serving(handler, limits=Limits(max_body_bytes=size)) as served:
            client = await served.connect()
            await client.send(post(size, b"Connection: close"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, bytes(size))
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert 0 < received <= 1 << 20
                asks.set()
            assert statuses(await client.rest()) == [200]
            assert received == size

    run(test)


def test_a_body_has_no_deadline_while_nobody_asks_for_it() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        await trio.sleep(200)  # the time of the application, twice the peer's
        first = await exchange.receive()
        await trio.sleep(200)
        return Response(200, (), first + await exchange.read())

    with Client(handler, driver="trio", timeouts=Timeouts(body_timeout=100)) as client:
        peer = client.connect()
        peer.send(post(4))
        client.wait(200)
        peer.send(b"all")
        client.wait(300 - 1)
        peer.send(b"!")
        assert peer.answer().body == b"all!"


# A client that goes away, or breaks the rules.


class Watching:
    """Runs `use` on an exchange, and keeps what it raised."""

    def __init__(self, use: Callable[[Exchange], Awaitable[Any]]) -> None:
        self.use = use
        self.begun = trio.Event()
        self.ended = trio.Event()
        self.raised: BaseException | None = None

    async def __call__(self, exchange: Exchange) -> None:
        self.begun.set()
        try:
            await self.use(exchange)
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.ended.set()


async def streams_for_ever(exchange: Exchange) -> None:
    await exchange.send(STREAMED)
    while True:
        await exchange.send(Data(bytes(100_000)))


async def reads(exchange: Exchange) -> None:
    await exchange.read()


@pytest.mark.parametrize("use", [streams_for_ever, reads])
@pytest.mark.parametrize("how", ["resets", "closes", "stalls"])
def test_a_client_that_goes_away_is_told_to_the_handler(
    use: Callable[[Exchange], Awaitable[None]], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        watching = Watching(use)
        timeouts = Timeouts(body_timeout=0.1, write_timeout=0.1)
        async with serving(StreamingHandler(watching), timeouts=timeouts) as served:
            client = await served.connect()
            await client.send(post(100) + b"only this")
            await watching.begun.wait()
            if how == "resets":
                await client.reset()
            elif how == "closes":
                await client.stream.aclose()
            await watching.ended.wait()
            assert type(watching.raised) is Disconnected
            assert statuses(await served.ask(LAST_GET.replace(b"GET", b"GE T"))) == [400]

    run(test)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_body_that_breaks_the_rules_is_refused_and_the_handler_told() -> None:
    async def test() -> None:
        watching = Watching(reads)
        async with serving(StreamingHandler(watching)) as served:
            client = await served.connect()
            await client.send(CHUNKED + b"\r\n")
            await watching.begun.wait()
            await client.send(b"xyz\r\n")
            assert statuses(await client.rest()) == [400]
            assert type(watching.raised) is Disconnected
            assert "the client broke the protocol" in str(watching.raised)

    run(test)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_handler_can_wait_for_its_client_to_leave(leaves: bool) -> None:
    async def test() -> None:
        async def use(exchange: Exchange) -> None:
            await exchange.send(STREAMED)
            await exchange.send(Data(b"event\n"))
            with trio.move_on_after(20 if leaves else 0.05) as waiting:
                await exchange.wait_disconnected()
            assert waiting.cancelled_caught is not leaves
            if not leaves:
                await exchange.send(EndOfMessage())

        watching = Watching(use)
        async with serving(StreamingHandler(watching)) as served:
            client = await served.connect()
            await client.send(LAST_GET)
            await client.until(b"event\n")
            if leaves:
                await client.stream.aclose()
            await watching.ended.wait()
            assert watching.raised is None

    run(test)


def test_one_task_may_wait_for_the_client_to_leave_while_another_sends() -> None:
    """As Starlette's StreamingResponse does, and with a client that reads late and pipelines meanwhile."""
    size = 3_000_000

    async def test() -> None:
        @StreamingHandler
        async def handler(exchange: Exchange) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange.wait_disconnected)
                nursery.start_soon(exchange.wait_disconnected)
                await exchange.send(STREAMED)
                for _ in range(30):
                    await exchange.send(Data(bytes(size // 30)))
                await exchange.send(EndOfMessage())
                nursery.cancel_scope.cancel()

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(GET)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await client.send(LAST_GET)
            assert [len(answer.body) for answer in answers(await client.rest())] == [size, size]

    run(test)


# The handler's own mistakes.


async def sends_nothing(exchange: Exchange) -> None:
    pass


async def raises(exchange: Exchange) -> None:
    raise ValueError("as asked")


async def returns_something_else(exchange: Exchange) -> Any:
    return b"hello"


async def sends_what_cannot_be_sent(exchange: Exchange) -> None:
    await exchange.send(Response(200, [(b"a b", b"")]))


@pytest.mark.parametrize("use", [sends_nothing, raises, returns_something_else, sends_what_cannot_be_sent])
def test_a_handler_that_fails_before_its_response_is_a_500(
    use: Callable[[Exchange], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(StreamingHandler(use)) as served:
            assert statuses(await served.ask(GET + LAST_GET)) == [500, 500]

    run(test)
    assert [record.getMessage() for record in caplog.records] == ["the handler failed on GET / HTTP/1.1"] * 2


async def stops_in_the_middle(exchange: Exchange) -> None:
    await exchange.send(STREAMED)
    await exchange.send(Data(b"half"))


async def raises_in_the_middle(exchange: Exchange) -> None:
    await stops_in_the_middle(exchange)
    raise ValueError("as asked")


async def sends_too_little(exchange: Exchange) -> None:
    await exchange.send(Response(200, [(b"content-length", b"5")], None))
    await exchange.send(Data(b"half"))
    await exchange.send(EndOfMessage())


@pytest.mark.parametrize("use", [stops_in_the_middle, raises_in_the_middle, sends_too_little])
def test_a_response_that_stops_in_the_middle_is_visibly_cut(
    use: Callable[[Exchange], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(StreamingHandler(use)) as served:
            wire = await served.ask(GET + GET)
            assert wire.count(b"HTTP/1.1") == 1
            assert not wire.endswith((b"[reset]", b"0\r\n\r\n"))

    run(test)
    assert caplog.records[-1].getMessage() == "the response to GET / HTTP/1.1 is cut: its handler ended before its end"


def test_what_is_out_of_turn_is_a_local_error() -> None:
    said: list[str] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        for event in (Data(b"x"), EndOfMessage(), Response(200), Response(200), Data(b"x")):
            try:
                await exchange.send(event)
            except LocalError as error:
                said.append(str(error))

    async def test() -> None:
        async with serving(handler) as served:
            assert statuses(await served.ask(LAST_GET)) == [200]

    run(test)
    assert len(said) == 4
    assert "out of turn" in said[0]
    assert "complete" in said[-1]


def test_two_tasks_cannot_receive_one_body() -> None:
    async def test() -> None:
        @StreamingHandler
        async def handler(exchange: Exchange) -> Response:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange.receive)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(LocalError, match="another task"):
                    await exchange.receive()
                nursery.cancel_scope.cancel()
            return Response(200)

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(post(1, b"Connection: close"))
            await client.until(b"200")

    run(test)


def test_head_gets_what_get_would_but_the_body() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response | None:
        if exchange.request.target == b"/whole":
            return Response(200, (), b"hello")
        await echo(exchange)
        return None

    async def test() -> None:
        async with serving(handler) as served:
            wire = b"HEAD /whole HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            whole, streamed = answers(await served.ask(wire), "HEAD", "HEAD")
            assert whole.fields["content-length"] == "5"
            assert (whole.body, streamed.body) == (b"", b"")

    run(test)


def test_interim_responses_come_before_the_final_one() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        await exchange.send(InformationalResponse(103, [(b"link", b"</a.css>; rel=preload")]))
        return Response(200)

    async def test() -> None:
        async with serving(handler) as served:
            assert (await served.ask(LAST_GET)).startswith(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
            )

    run(test)


def test_what_a_handler_leaves_of_a_body_is_drained_and_the_connection_goes_on() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        await exchange.receive()
        return Response(200, (), exchange.request.target)

    async def test() -> None:
        async with serving(handler) as served:
            wire = await served.ask(CHUNKED + b"\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n" + LAST_GET.replace(b"/ ", b"/2 "))
            assert [answer.body for answer in answers(wire)] == [b"/", b"/2"]

    run(test)
