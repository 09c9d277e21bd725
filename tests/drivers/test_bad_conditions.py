"""What becomes of a coroutine whose client or whose event loop does not do as it should, on asyncio and trio.

More of it is in test_hosting_failures.py: contexts, lifespans, signals, forks, and a handler that blocks the loop.
"""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from h1core.drivers import asyncio_driver, trio_driver

from h1core import Disconnected, Exchange, Limits, LocalError, Request, Response, StreamingHandler, Timeouts
from h1core.events import Data, EndOfMessage
from h1core.testing import Client

from .world import get

on_both = pytest.mark.parametrize("driver", ["asyncio", "trio"])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# The client is gone.


@on_both
def test_who_waits_for_something_else_goes_on_when_its_client_is_gone(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        await anyio.sleep(60)
        seen.append(client.now)
        try:
            await exchange.send(Response(200, (), None))
            await exchange.send(Data(b"too late"))
        except Disconnected as error:
            seen.append(type(error))
            raise

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/"))
        peer.reset()
        client.wait(59)
        assert seen == []
        client.wait(1)
        assert seen == [60, Disconnected]
    assert errors(caplog) == []


@on_both
def test_who_sends_to_a_client_that_is_gone_is_told_at_once(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    told_at: list[float] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        await exchange.send(Response(200, (), None))
        try:
            while True:
                await exchange.send(Data(b"x" * 1000))
        except Disconnected:
            told_at.append(client.now)
            raise

    with Client(handler, driver=driver) as client:
        peer = client.connect(window_bytes=100)
        peer.send(get(b"/"))
        client.wait(5)
        assert told_at == []
        peer.reset()
        client.wait(0)
        assert told_at == [5]
    assert errors(caplog) == []


@on_both
def test_a_coroutine_does_not_begin_for_a_client_that_is_gone(driver: str) -> None:
    began: list[bytes] = []

    async def handler(request: Request) -> Response:
        began.append(request.target)
        await anyio.sleep(10)
        return Response(200)

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/first") + get(b"/second"))
        client.wait(5)
        peer.reset()
        client.wait(100)
        assert began == [b"/first"]
        assert client.connect().sees_end is False


# The coroutine does something odd.


@on_both
def test_a_coroutine_that_raises_is_a_500_and_its_connection_goes_on(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        await anyio.sleep(1)
        if request.target == b"/bad":
            raise ValueError("odd")
        return Response(200, (), b"good")

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/bad") + get(b"/good"))
        client.wait(2)
        assert [answer.status for answer in peer.answers()] == [500, 200]
    assert errors(caplog) == ["the handler failed on GET /bad HTTP/1.1"]


@on_both
def test_a_body_that_swallows_its_cancellation_ends_its_connection_and_no_other(driver: str) -> None:
    ended: list[float] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        try:
            await anyio.sleep(1000)
        except BaseException:  # noqa: BLE001 - that is what it does wrong
            ended.append(client.now)
        yield b"second"

    async def handler(request: Request) -> Response:
        return Response(200, (), body() if request.target == b"/body" else b"whole")

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/body"))
        client.wait(1)
        peer.reset()
        client.wait(0)
        assert ended == [1]
        assert client.get("/").text == "whole"


@on_both
def test_a_drain_ends_by_its_deadline_beside_a_coroutine_that_never_returns(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled_at: list[float] = []

    async def handler(request: Request) -> Response:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled_at.append(client.now)
        return Response(200)

    with Client(handler, driver=driver, timeouts=Timeouts(drain_timeout=7)) as client:
        peer = client.connect()
        peer.send(get(b"/"))
        client.wait(100)
        client.begin_drain()
        client.wait(6.9)
        is_over = [client.is_over]
        client.wait(0.1)
        assert [*is_over, client.is_over] == [False, True]
        assert peer.sees_reset
    assert cancelled_at == [107]
    assert errors(caplog) == []


@on_both
def test_a_handler_that_calls_the_engine_is_told_not_to(driver: str) -> None:
    """One that runs within a round; a coroutine runs between two, and does no harm."""
    failures: list[str] = []

    def engine_of(client: Client) -> Any:
        return client._backend._server.engine  # type: ignore[attr-defined]  # nothing public leads there

    def within(request: Request) -> Response:
        with pytest.raises(LocalError, match="must not call its tick"):
            engine_of(client).tick()
        failures.append("told")
        return Response(200, (), b"within")

    async def between(request: Request) -> Response:
        engine_of(client).tick()
        await anyio.sleep(1)
        engine_of(client).tick()
        return Response(200, (), b"between")

    with Client(within, driver=driver) as client:
        assert client.get("/").text == "within"
    assert failures == ["told"]
    with Client(between, driver=driver) as client:
        peers = [client.connect(), client.connect()]
        for peer in peers:
            peer.send(get(b"/") * 2)
        client.wait(2)
        assert [[answer.text for answer in peer.answers()] for peer in peers] == [["between"] * 2] * 2


@on_both
def test_a_task_that_was_set_loose_can_do_nothing_to_its_connection(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[str] = []

    async def loose(exchange: Exchange) -> None:
        await anyio.sleep(1)
        for act in (exchange.receive(), exchange.send(Data(b"more")), exchange.send(EndOfMessage())):
            try:
                await act
            except LocalError as error:
                failures.append(str(error))

    tasks: list[object] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        if exchange.request.target == b"/loose":
            if driver == "asyncio":
                tasks.append(asyncio.ensure_future(loose(exchange)))
            else:
                trio.lowlevel.spawn_system_task(loose, exchange)
        return Response(200, (), exchange.request.target)

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/loose"))
        client.wait(0.5)
        peer.send(get(b"/next"))
        client.wait(1)
        assert [answer.text for answer in peer.answers()] == ["/loose", "/next"]
        assert not peer.sees_end
    assert len(failures) == 3
    assert errors(caplog) == []


@on_both
def test_who_asks_and_leaves_starts_no_more_coroutines_than_connections(driver: str) -> None:
    running: list[int] = [0, 0]

    async def handler(request: Request) -> Response:
        running[0] += 1
        running[1] = max(running)
        try:
            await anyio.sleep(100)
        finally:
            running[0] -= 1
        return Response(200)

    with Client(handler, driver=driver, limits=Limits(max_connections=3)) as client:
        for _ in range(20):
            peer = client.connect()
            peer.send(get(b"/"))
            peer.reset()
            client.wait(1)
        assert running[1] == 3
        client.wait(1000)
        assert running[0] == 0


@on_both
def test_a_request_that_was_held_back_is_served_when_another_coroutine_has_ended(driver: str) -> None:
    """With one connection's worth of coroutines that go on after their responses, a second one holds its connection."""
    answered: list[tuple[bytes, float]] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        answered.append((exchange.request.target, client.now))
        await exchange.send(Response(200, (), exchange.request.target))
        await anyio.sleep({b"/long": 1000, b"/short": 10}.get(exchange.request.target, 0))

    with Client(handler, driver=driver, limits=Limits(max_connections=2)) as client:
        first, second = client.connect(), client.connect()
        first.send(get(b"/short") + get(b"/long"))
        second.send(get(b"/long") + get(b"/next"))
        client.wait(0)
        first.send(get(b"/next"))
        client.wait(9)
        assert answered == [(b"/short", 0), (b"/long", 0), (b"/long", 0), (b"/next", 0)]
        client.wait(1)
        assert answered[4:] == [(b"/next", 10)]


# The event loop is ended from outside.


async def waits(request: Request) -> Response:
    await anyio.sleep_forever()
    return Response(200)


async def fetch(port: int) -> None:
    """Ask, and wait until the server has cut the connection."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(get(b"/"))
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


def on_asyncio(act: Callable[[Callable[[], object], int], Awaitable[None]]) -> None:
    async def main() -> None:
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(asyncio_driver.serve(waits, ["127.0.0.1:0"], ready=ready.set_result))
        [(_, port)] = await ready
        await act(task.cancel, port)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main(), debug=True)


def on_trio(act: Callable[[Callable[[], object], int], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            [(_, port)] = await nursery.start(trio_driver.serve, waits, ["127.0.0.1:0"])
            before = trio.lowlevel.current_statistics().tasks_living
            await act(nursery.cancel_scope.cancel, port)
        assert trio.lowlevel.current_statistics().tasks_living < before

    trio.run(main)


@pytest.mark.parametrize("run", [on_asyncio, on_trio], ids=["asyncio", "trio"])
def test_a_server_that_is_cancelled_from_outside_leaves_nothing(
    run: Callable[[Any], None], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(os.listdir("/dev/fd"))

    async def act(cancel: Callable[[], object], port: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(fetch, port)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            cancel()
            if run is on_trio:
                return  # the clients are cancelled along with it

    run(act)
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before
    assert errors(caplog) == []
    assert capfd.readouterr().err == ""
