"""The trio driver on real sockets: what it promises besides what both drivers do (test_conformance.py)."""

import errno
import functools
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from h1core.drivers.net.listeners import listen
from h1core.drivers.trio_driver import Server, serve

from h1core import Endpoints, Limits, LocalError, Request, Response, Timeouts
from h1core.addresses import parse_address
from h1core.testing.trio_network import TrioMemoryNetwork

from ..wire import answers, statuses
from .test_listeners import needs_ipv6
from .trio_kit import GET, LAST_GET, Client, run, serving


async def hello(request: Request) -> Response:
    return Response(200, (), b"hello")


def on_trio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test that is a coroutine function."""

    @functools.wraps(test)
    def runs() -> None:
        run(test)

    del runs.__wrapped__  # pytest would take its signature for that of a coroutine
    return runs


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# Addresses.


@needs_ipv6
def test_it_reports_where_it_listens_and_serves_there(tmp_path: Path) -> None:
    seen: list[Endpoints] = []

    async def handler(request: Request) -> Response:
        seen.append(request.endpoints)
        return Response(200)

    async def test() -> None:
        path = f"{tmp_path}/h1core.sock"
        async with serving(handler, ("127.0.0.1:0", "[::1]:0", f"unix:{path}")) as served:
            assert served.addresses[2] == path
            for number, address in enumerate(served.addresses):
                client = await served.connect(number)
                await client.send(LAST_GET)
                own = client.stream.socket.getsockname()
                assert statuses(await client.rest()) == [200]
                expected = Endpoints(None, (path, None)) if number == 2 else Endpoints(own[:2], address[:2])
                assert seen.pop() == expected
        assert not Path(path).exists()

    run(test)


@on_trio
async def test_an_address_that_cannot_be_had_is_a_local_error() -> None:
    async with serving(hello) as served:
        with pytest.raises(LocalError, match="already in use"):
            await serve(hello, [f"127.0.0.1:{served.addresses[0][1]}"])


@on_trio
async def test_listeners_may_be_given_ready_made_as_sockets_or_as_trio_listeners() -> None:
    sock = listen(parse_address("127.0.0.1:0"))
    trio_listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with serving(hello, listeners=[sock, *trio_listeners]) as served:
        for number in range(2):
            client = await served.connect(number)
            await client.send(GET + LAST_GET)
            assert statuses(await client.rest()) == [200, 200]


@on_trio
async def test_several_trio_listeners_share_the_places_there_are() -> None:
    networks = [TrioMemoryNetwork(), TrioMemoryNetwork()]
    limits = Limits(max_connections=1)
    async with serving(hello, listeners=[network.listener for network in networks], limits=limits):
        clients = [network.connect() for network in networks]
        answered = []
        for _ in range(2):
            for network, client in zip(networks, clients, strict=True):
                client.send(LAST_GET)
                network.wake()
            await trio.testing.wait_all_tasks_blocked()
            answered.append([len(statuses(client.read())) for client in clients])
            for network, client in zip(networks, clients, strict=True):
                client.end()
                network.wake()
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(answered[0]) == [0, 1]
    assert [sum(each) for each in zip(*answered, strict=True)] == [1, 1]


# No exception, cancellation or bug in one connection or handler ends another, or the server.


@pytest.mark.parametrize(
    "wire",
    [LAST_GET + GET, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n" + GET, LAST_GET + b"\x16\x03\x01" * 100, b"\r\n" * 999],
)
def test_what_ends_another_server_ends_nobody_here(wire: bytes) -> None:
    """A second request behind a closing one ended the best-known trio server 5 times in 36."""

    async def test() -> None:
        async with serving(hello) as served:
            other = await served.connect()
            for _ in range(40):
                client = await served.connect()
                await client.send(wire)
                await client.stream.send_eof()
                assert set(statuses(await client.rest())) <= {200}
            await other.send(LAST_GET)
            assert statuses(await other.rest()) == [200]

    run(test)


async def raises(request: Request) -> Response:
    raise ValueError("as asked")


async def exits(request: Request) -> Response:
    raise SystemExit(3)


async def raises_a_group(request: Request) -> Response:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises, request)
        await trio.sleep_forever()
    raise AssertionError


async def returns_nothing(request: Request) -> Any:
    return None


async def cannot_be_sent(request: Request) -> Response:
    return Response(200, [(b"x", b"a\r\nb")])


async def raises_in_its_body(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for number in (1, 0):
            yield b"x" * (1 // (number - 1))

    return Response(200, (), pieces())


@pytest.mark.parametrize(
    "handler", [raises, exits, raises_a_group, returns_nothing, cannot_be_sent, raises_in_its_body]
)
def test_a_handler_that_fails_is_a_500_on_a_connection_that_goes_on(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def either(request: Request) -> Response:
        response: Response = await (handler if request.target == b"/fail" else hello)(request)
        return response

    async def test() -> None:
        async with serving(either) as served:
            other = await served.connect()
            wire = GET.replace(b"/ ", b"/fail ") + LAST_GET
            assert statuses(await served.ask(wire)) == [500, 200]
            await other.send(LAST_GET)
            assert statuses(await other.rest()) == [200]

    run(test)
    assert errors(caplog) == ["the handler failed on GET /fail HTTP/1.1"]


def test_a_handler_that_is_cancelled_by_its_own_scope_is_answered_for() -> None:
    async def handler(request: Request) -> Response:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep_forever()
        return Response(200, (), b"after all")

    async def test() -> None:
        async with serving(handler) as served:
            assert answers(await served.ask(LAST_GET))[0].body == b"after all"

    run(test)


def test_a_bug_in_a_connection_cuts_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(hello) as served:
            other = await served.connect()
            await other.send(GET)
            await other.until(b"hello")
            with monkeypatch.context() as patch:
                patch.setattr("h1core.drivers.engine.session.Session._take_turn", lambda *_: 1 / 0)
                assert await served.ask(GET) == b"[reset]"
            await other.send(LAST_GET)
            assert statuses(await other.rest()) == [200]

    run(test)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "is cut because of a bug" in record.getMessage()
    assert "ZeroDivisionError" in (record.exc_text or "")


def test_clients_that_connect_and_reset_before_they_are_accepted_harm_nobody() -> None:
    async def test() -> None:
        listener = listen(parse_address("127.0.0.1:0"))
        for _ in range(200):
            client = socket.create_connection(listener.getsockname())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        async with serving(hello, listeners=[listener]) as served:
            assert statuses(await served.ask(LAST_GET)) == [200]

    run(test)


def test_accepting_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    failures = [OSError(errno.EIO, "odd"), OSError(errno.EIO, "again"), ConnectionAbortedError()]
    accept = socket.socket.accept

    def fails_at_first(self: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(self)

    async def test() -> None:
        async with serving(hello) as served:
            with monkeypatch.context() as patch:
                patch.setattr(socket.socket, "accept", fails_at_first)
                assert statuses(await served.ask(LAST_GET)) == [200]
            assert not failures

    run(test)
    assert len(errors(caplog)) == 1


def test_a_connection_that_always_has_data_lets_others_have_their_turn() -> None:
    """S4: one busy client starves nobody."""
    order: list[bytes] = []

    async def handler(request: Request) -> Response:
        order.append(request.target)
        return Response(200)

    async def test() -> None:
        async with serving(handler) as served:
            busy, other = await served.connect(), await served.connect()
            for client in (busy, other):
                await client.send(GET)
                await client.until(b"\r\n\r\n")
            order.clear()
            wire = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(900))
            await busy.send(wire)
            await other.send(GET.replace(b"/ ", b"/other "))
            await other.until(b"\r\n\r\n")
            assert order.index(b"/other") < 500

    run(test)


class CountTasks(trio.abc.Instrument):
    """How many tasks were begun since it was added."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@on_trio
async def test_pipelined_requests_whose_handlers_do_not_wait_begin_no_tasks() -> None:
    """One for each would nearly halve how many a server answers."""
    tasks = CountTasks()
    async with serving(hello) as served:
        client = await served.connect()
        await client.send(GET)
        await client.until(b"hello")
        trio.lowlevel.add_instrument(tasks)
        await client.send(GET * 16)
        for _ in range(16):
            await client.until(b"hello")
        trio.lowlevel.remove_instrument(tasks)
    assert tasks.count == 0


@on_trio
async def test_pipelined_requests_whose_handlers_wait_are_answered_beside_others() -> None:
    """The task that does the rounds is given up to the first that waits, while others ask for another round."""

    async def waits(request: Request) -> Response:
        if request.target == b"/waits":
            await trio.lowlevel.checkpoint()
        return Response(200, (), request.target[1:])

    waiting = GET.replace(b"/", b"/waits", 1)
    async with serving(waits) as served:
        clients = [await served.connect() for _ in range(3)]
        for client in clients:
            await client.send((waiting + GET.replace(b"/", b"/goes", 1)) * 8)
        for client in clients:
            for _ in range(8):
                await client.until(b"waits")
                await client.until(b"goes")


def test_a_client_that_never_stops_to_send_a_head_is_late_all_the_same() -> None:
    """The first connection of all: nobody had to watch a deadline before."""

    async def test() -> None:
        async with serving(hello, timeouts=Timeouts(head_timeout=0.1)) as served:
            client = await served.connect()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def drip() -> None:
                    await client.send(GET[:-2] + b"X: ")
                    while True:
                        await client.send(b"x")
                        await trio.sleep(0.01)

                await client.until(b"HTTP/1.1 408 ")
                nursery.cancel_scope.cancel()

    run(test)


# Cancelling, and what is left behind.


@pytest.mark.parametrize("wire", [b"", b"GET / HT", GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"])
def test_cancelling_ends_everything_at_once_and_leaks_no_socket(wire: bytes) -> None:
    """`run` counts the descriptors."""
    seen = trio.Event()

    async def handler(request: Request) -> Response:
        seen.set()
        await trio.sleep_forever()
        raise AssertionError

    async def test() -> None:
        async with serving(handler) as served:
            client = await served.connect()
            await client.send(wire)
            if wire == GET:
                await seen.wait()
            await trio.testing.wait_all_tasks_blocked()
            served.scope.cancel()
            assert await client.rest() in (b"", b"[reset]")

    run(test)


def test_a_server_of_its_own_is_drained_and_stopped_from_other_threads() -> None:
    for end in (Server.begin_drain, Server.stop):
        listener = listen(parse_address("127.0.0.1:0"))
        server = Server(hello, listeners=[listener])
        thread = threading.Thread(target=server.run)
        thread.start()
        with socket.create_connection(listener.getsockname(), 20) as client:
            client.sendall(GET)
            assert client.recv(9999).endswith(b"hello")
            end(server)
            end(server)
        thread.join(20)
        assert not thread.is_alive()
        end(server)  # nothing is left to tell


@pytest.mark.parametrize("end", [Server.begin_drain, Server.stop])
def test_what_was_asked_for_before_it_runs_is_done_when_it_does(end: Callable[[Server], None]) -> None:
    server = Server(hello, listeners=[listen(parse_address("127.0.0.1:0"))])
    end(server)
    server.run()


# Drain.


@on_trio
async def test_a_drain_answers_what_was_sent_before_it_and_accepts_nobody_after() -> None:
    async with serving(hello) as served:
        idle, sent, half = [await served.connect() for _ in range(3)]
        for client in (idle, sent):
            await client.send(GET)
            await client.until(b"hello")
        await half.send(GET[:10])
        await trio.testing.wait_all_tasks_blocked()
        sock = socket.create_connection(served.addresses[0])  # in one go with the drain: nobody could accept yet
        sock.sendall(GET)
        sent.stream.socket._sock.send(GET)  # type: ignore[attr-defined]  # no checkpoint before the drain
        served.drain.set()
        assert await idle.rest() == b""
        assert statuses(await sent.rest()) == [200]
        await half.send(GET[10:])
        assert b"connection: close" in await half.rest()
        newcomer = Client(trio.SocketStream(trio.socket.from_stdlib_socket(_non_blocking(sock))))
        assert statuses(await newcomer.rest()) == [200]
        with pytest.raises(OSError, match="failed"):
            await trio.open_tcp_stream(*served.addresses[0])


def _non_blocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("stalls", ["handler", "reader"])
def test_a_drain_ends_by_its_deadline_whatever_stalls(stalls: str) -> None:
    ends: list[str] = []

    async def handler(request: Request) -> Response:
        if stalls == "reader":
            return Response(200, (), bytes(100_000_000))
        try:
            await trio.sleep_forever()
        finally:
            ends.append("cancelled")
        raise AssertionError

    async def test() -> None:
        async with serving(handler, timeouts=Timeouts(drain_timeout=0.1)) as served:
            client = await served.connect()
            await client.send(GET)
            await trio.testing.wait_all_tasks_blocked(0.01)
            served.drain.set()
            await served.has_ended.wait()
            assert (await client.rest()).endswith(b"[reset]")

    run(test)
    assert ends == (["cancelled"] if stalls == "handler" else [])


# Cancelling the handler at disconnect, for those who ask for it.


@pytest.mark.parametrize("cancels", [True, False])
def test_a_handler_is_cancelled_when_its_client_goes_away_only_if_that_was_asked_for(cancels: bool) -> None:
    ends: list[str] = []

    async def test() -> None:
        begun, go_on = trio.Event(), trio.Event()

        async def handler(request: Request) -> Response:
            begun.set()
            try:
                await go_on.wait()
                ends.append("complete")
            finally:
                ends.append("over")
            return Response(200)

        async with serving(handler, cancel_on_disconnect=cancels) as served:
            client = await served.connect()
            await client.send(GET)
            await begun.wait()
            await client.reset()
            if not cancels:
                await trio.testing.wait_all_tasks_blocked(0.01)
                go_on.set()
            served.drain.set()
            await served.has_ended.wait()

    run(test)
    assert ends == (["over"] if cancels else ["complete", "over"])


def test_with_cancelling_at_disconnect_a_client_that_stays_is_answered_and_may_pipeline() -> None:
    async def handler(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(200, (), request.target)

    async def test() -> None:
        async with serving(handler, cancel_on_disconnect=True) as served:
            wire = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(9)) + LAST_GET
            found = answers(await served.ask(wire))
            assert [answer.body for answer in found] == [b"/%d" % number for number in range(9)] + [b"/"]

    run(test)


def test_the_access_log_has_a_line_for_each_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "h1core.access")

    async def test() -> None:
        async with serving(hello, access_log=True, limits=Limits(max_requests_per_connection=2)) as served:
            await served.ask(GET + GET + GET)

    run(test)
    lines = [record.getMessage().split() for record in caplog.records if record.name == "h1core.access"]
    assert [line[1:5] for line in lines] == [["GET", "/", "HTTP/1.1", "200"]] * 2
