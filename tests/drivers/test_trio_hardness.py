"""What could end the trio driver, hang it or starve it, and did: each with the client or handler that does it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from h1core import (
    Conn,
    Data,
    Disconnected,
    EndOfMessage,
    Exchange,
    LocalError,
    Request,
    Response,
    StreamingHandler,
    Timeouts,
)
from h1core.testing import Client
from h1core.testing.trio_network import TrioMemoryNetwork

from ..wire import answers, statuses
from .trio_kit import GET, LAST_GET, run, serving

STREAMED = Response(200, (), None)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# Cancel scopes and nurseries in the wrong places.


async def within_a_scope(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        with trio.move_on_after(0.05):
            while True:
                yield bytes(1_000_000)

    return Response(200, (), pieces())


async def within_a_nursery(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            while True:
                yield bytes(1_000_000)

    return Response(200, (), pieces())


async def within_a_nursery_that_fails(request: Request) -> Response:
    async def fail() -> None:
        await trio.sleep(0.02)
        raise ValueError("as asked")

    async def pieces() -> AsyncIterator[bytes]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            while True:
                yield bytes(1_000_000)

    return Response(200, (), pieces())


@pytest.mark.parametrize("handler", [within_a_scope, within_a_nursery, within_a_nursery_that_fails])
@pytest.mark.parametrize("resets", [True, False])
def test_a_body_that_yields_where_it_must_not_ends_its_connection_at_most(
    handler: Callable[[Request], Awaitable[Response]], resets: bool
) -> None:
    """An async generator's scope cancels whoever takes its pieces, and may be left in another task."""

    async def either(request: Request) -> Response:
        return Response(200) if request.target == b"/fine" else await handler(request)

    async def test() -> None:
        async with serving(either, timeouts=Timeouts(write_timeout=0.2)) as served:
            client = await served.connect()
            await client.send(GET)
            await client.until(b"\r\n\r\n")
            if resets:
                await client.reset()
            await trio.sleep(0.1)
            assert statuses(await served.ask(LAST_GET.replace(b"/ ", b"/fine "))) == [200]
            assert not served.has_ended.is_set()

    run(test)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_endless_stream_of_small_pieces_lets_others_have_their_turn(method: bytes) -> None:
    turns: list[int] = []

    async def test() -> None:
        sent = 0

        @StreamingHandler
        async def handler(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.send(STREAMED)
            while True:
                await exchange.send(Data(b"x" * 50))
                sent += 1

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(GET.replace(b"GET", method))
            await client.until(b"\r\n\r\n")
            async with trio.open_nursery() as nursery:

                async def read_all() -> None:
                    async for _ in client.stream:
                        pass

                nursery.start_soon(read_all)
                for _ in range(50):
                    before = sent
                    await trio.lowlevel.checkpoint()
                    turns.append(sent - before)
                nursery.cancel_scope.cancel()
            served.scope.cancel()

    run(test)
    assert max(turns) < 1000


# Drains.


@pytest.mark.parametrize("resets", ["before", "during"])
def test_a_drain_ends_by_its_deadline_though_a_client_resets_while_its_handler_works(resets: str) -> None:
    async def forever(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    with Client(forever, driver="trio", timeouts=Timeouts(drain_timeout=5)) as client:
        peer = client.connect()
        peer.send(GET)
        if resets == "before":
            peer.reset()
        client.begin_drain()
        if resets == "during":
            peer.reset()
        client.wait(4.9)
        assert not client.is_over
        client.wait(0.2)
        assert client.is_over


def test_who_is_accepted_while_a_drain_begins_is_drained_too() -> None:
    async def hello(request: Request) -> Response:
        return Response(200)

    async def test() -> None:
        for checkpoints in range(4):
            network = TrioMemoryNetwork()
            async with serving(hello, listeners=[network.listener], timeouts=Timeouts(drain_timeout=0.5)) as served:
                await trio.testing.wait_all_tasks_blocked()
                client = network.connect()
                network.wake()
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                served.drain.set()
                await trio.testing.wait_all_tasks_blocked()
                assert client.sees_end
                client.end()
                network.wake()
                await served.has_ended.wait()

    run(test)


# Exchanges.


def test_a_body_that_is_awaited_when_the_response_is_complete_takes_no_later_request_with_it() -> None:
    said: list[str] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> Response | None:
        if exchange.request.target == b"/2":
            return Response(200, (), b"second")

        async def receive() -> None:
            try:
                await exchange.receive()
            except Disconnected as error:
                said.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.sleep(1)
            await exchange.send(Response(200, (), b"first"))
        return None

    with Client(handler, driver="trio") as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        client.wait(1)
        assert peer.answer().body == b"first"
        peer.send(b"hello" + GET.replace(b"/ ", b"/2 "))
        assert peer.answer().body == b"second"
    assert len(said) == 1


def test_an_exchange_whose_handler_has_returned_is_of_no_use() -> None:
    kept: list[Exchange] = []
    said: list[str] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        kept.append(exchange)
        for use in (kept[0].receive, lambda: kept[0].send(Response(200))):
            if len(kept) == 2:
                try:
                    await use()
                except LocalError as error:
                    said.append(str(error))
        return Response(200, (), await exchange.read())

    with Client(handler, driver="trio") as client:
        assert client.post("/", b"one").body == b"one"
        assert client.post("/", b"two").body == b"two"
    assert len(said) == 2
    assert all("returned" in sentence or "returns" in sentence for sentence in said)


def test_a_handler_that_fails_because_another_client_is_gone_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        raise Disconnected("that was another one")

    with Client(handler, driver="trio") as client:
        assert client.get("/").status == 500
    assert errors(caplog) == ["the handler failed on GET / HTTP/1.1"]


def test_a_client_that_leaves_a_handler_with_a_nursery_is_nobodys_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        ended = trio.Event()

        @StreamingHandler
        async def handler(exchange: Exchange) -> None:
            async def stream() -> None:
                await exchange.send(STREAMED)
                while True:
                    await exchange.send(Data(bytes(100_000)))

            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream)
            finally:
                ended.set()

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(GET)
            await client.until(b"\r\n\r\n")
            await client.reset()
            await ended.wait()

    run(test)
    assert errors(caplog) == []


def test_a_body_that_was_declined_cannot_be_had_and_the_handler_is_told_why() -> None:
    said: list[str] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        await exchange.send(STREAMED)
        try:
            await exchange.receive()
        except LocalError as error:
            said.append(str(error))
        await exchange.send(EndOfMessage())

    with Client(handler, driver="trio") as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert peer.answer().status == 200
    assert "receive, then respond" in said[0]


def test_a_receive_that_was_given_up_leaves_no_deadline_running() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        with trio.move_on_after(1):
            await exchange.receive()
        await trio.sleep(100)
        return Response(200, (), await exchange.read())

    with Client(handler, driver="trio", timeouts=Timeouts(body_timeout=10)) as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        client.wait(105)
        peer.send(b"hello")
        assert peer.answer().body == b"hello"


def test_a_sender_that_finds_the_client_gone_tells_who_waits_for_that() -> None:
    async def test() -> None:
        told = trio.Event()

        @StreamingHandler
        async def handler(exchange: Exchange) -> None:
            async def send() -> None:
                try:
                    while True:
                        await exchange.send(Data(b"x"))
                except Disconnected:
                    pass

            await exchange.send(STREAMED)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await exchange.wait_disconnected()
            told.set()

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            await client.until(b"\r\n\r\n")
            await client.reset()
            await told.wait()

    run(test)


# Streams that are no sockets.


class Stream(trio.abc.HalfCloseableStream):
    """A client's stream whose `how` says what goes wrong."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.to_receive = [GET]
        self.sent = b""
        self.is_closed = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.to_receive:
            return self.to_receive.pop()
        if self.how == "breaks while it is written to":
            await trio.sleep(1)
            raise trio.BrokenResourceError
        await trio.sleep_forever()
        raise AssertionError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for begin in range(0, len(data), 1000):
            if self.how == "breaks while it is written to":
                await trio.sleep_forever()
            await trio.sleep(0.001)
            self.sent += data[begin : begin + 1000]

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError

    async def send_eof(self) -> None:
        if self.how == "takes its time to end":
            await trio.sleep(1000)

    async def aclose(self) -> None:
        self.is_closed.set()
        if self.how == "fails to close":
            raise OSError("no")
        await trio.lowlevel.checkpoint()


class OneStream(trio.abc.Listener[Stream]):
    def __init__(self, stream: Stream) -> None:
        self.streams = [stream]
        self.failures: list[Exception] = [trio.BrokenResourceError("a handshake failed"), OSError("odd")]

    async def accept(self) -> Stream:
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop()
        if not self.streams:
            await trio.sleep_forever()
        return self.streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["breaks while it is written to", "takes its time to end", "fails to close"])
def test_a_stream_that_fails_or_hangs_ends_in_time_and_ends_nobody_else(how: str) -> None:
    async def last(request: Request) -> Response:
        return Response(200, [(b"connection", b"close")], b"hello")

    async def test() -> None:
        stream = Stream(how)
        async with trio.open_nursery() as nursery, serving(last, listeners=[OneStream(stream)]) as served:
            with trio.fail_after(40):
                await stream.is_closed.wait()
                await trio.sleep(1)
            assert not served.has_ended.is_set()
            nursery.cancel_scope.cancel()

    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_bug_in_a_deadline_cuts_its_connection_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hello(request: Request) -> Response:
        return Response(200)

    def broken(conn: Conn) -> Any:
        raise ZeroDivisionError

    with Client(hello, driver="trio", timeouts=Timeouts(keepalive_timeout=5)) as client:
        peer = client.connect()
        with monkeypatch.context() as patch:
            patch.setattr(Conn, "handle_deadline", broken)
            client.wait(10)
        assert peer.sees_end
        assert client.get("/").status == 200
    assert "because of a bug" in errors(caplog)[0]


@pytest.mark.parametrize("threads", [0, 4])
def test_a_body_in_a_file_is_given_back_when_its_handler_is_cancelled(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []

    async def test() -> None:
        async def handler(request: Request) -> Response:
            requests.append(request)
            await trio.sleep_forever()
            raise AssertionError

        async with serving(handler, threads=threads) as served:
            client = await served.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n" + bytes(600_000))
            while not requests:
                await trio.lowlevel.checkpoint()
            served.scope.cancel()
            await served.has_ended.wait()

    run(test)
    assert requests[0].open_body.__self__._file.closed


def test_whole_answers_are_still_whole() -> None:
    async def hello(request: Request) -> Response:
        return Response(200, (), b"hello")

    with Client(hello, driver="trio") as client:
        peer = client.connect()
        peer.send(GET * 200)
        assert [answer.body for answer in peer.answers()] == [b"hello"] * 200
        assert answers(b"") == []


def test_a_request_whose_connection_has_gone_is_not_run() -> None:
    """It was read while an earlier answer waited for room, and then the deadline for writing came."""
    ran = []

    async def handler(request: Request) -> Response:
        ran.append(request.target)
        return Response(200, (), bytes(70_000))

    with Client(handler, driver="trio", timeouts=Timeouts(write_timeout=5.0)) as client:
        peer = client.connect(window_bytes=100)
        peer.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        peer.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(6)
        assert peer.sees_reset
        assert ran == [b"/first"]


def test_a_body_that_is_late_behind_a_response_that_waits_is_noticed_in_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x" * 3000})

    with Client(app, driver="trio", timeouts=Timeouts(body_timeout=8)) as client:
        peer = client.connect(window_bytes=200)
        peer.send(GET)
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        client.wait(9)
        peer.send(b"llo")
        peer.widen(1 << 20)
        assert [answer.status for answer in peer.answers()] == [200, 408]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("bad", [b"", b"five\r\n"])
def test_a_body_that_is_lost_beside_its_response_is_no_fault_of_the_application(
    bad: bytes, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        while (message := await receive())["type"] == "http.request":
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        if raises:
            raise ValueError("no more of it")

    caplog.set_level(logging.INFO)
    with Client(app, driver="trio", timeouts=Timeouts(body_timeout=8)) as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n")
        if bad:
            peer.send(bad)
        client.wait(9)
        assert peer.read().endswith(b"\r\n\r\n2\r\nhe\r\n")
        assert peer.sees_reset
    said = [record for record in caplog.records if "POST" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.INFO] * (1 + raises)
    assert "body given up: " in said[0].getMessage()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
