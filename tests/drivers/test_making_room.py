"""At `max_connections` an idle connection makes room for a newcomer, and a line says so."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from h1core import CloseReason, Limits
from h1core.testing import Client, MemoryClient

from ..wire import statuses
from .world import GET, MakeWorld, World


def full(make_world: MakeWorld, count: int) -> tuple[World, list[MemoryClient]]:
    """A server that has all the connections it may have, each idle, the first for the longest time."""
    world = make_world(max_connections=count)
    clients = []
    for _ in range(count):
        clients.append(world.connect(GET))
        world.tick(2)
        assert statuses(clients[-1].read()) == [200]
        world.clock.advance(1.0)
    return world, clients


def just_before_accepting(world: World, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Let something happen after the next poll."""
    select = world.selector.select

    def late(timeout: float | None = None) -> object:
        monkeypatch.setattr(world.selector, "select", select)
        ready = select(timeout)
        do()
        return ready

    monkeypatch.setattr(world.selector, "select", late)


def test_a_request_that_has_just_come_is_served_and_the_next_connection_makes_room(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clients = full(make_world, 2)
    newcomer = world.connect(GET)
    just_before_accepting(world, monkeypatch, lambda: clients[0].send(GET))
    world.tick(2)
    assert statuses(clients[0].read()) == [200]
    assert not clients[0].sees_end
    assert clients[1].sees_end
    assert statuses(newcomer.read()) == [200]


def test_a_connection_that_its_client_has_just_closed_is_room(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clients = full(make_world, 2)
    newcomer = world.connect(GET)
    just_before_accepting(world, monkeypatch, clients[0].end)
    world.tick(2)
    assert not clients[1].sees_end
    assert statuses(newcomer.read()) == [200]


def test_no_more_connections_are_closed_than_there_are_newcomers(make_world: MakeWorld) -> None:
    world, clients = full(make_world, 5)
    newcomers = [world.connect(GET) for _ in range(2)]
    world.tick(5)
    assert [client.sees_end for client in clients] == [True, True, False, False, False]
    assert [statuses(client.read()) for client in newcomers] == [[200], [200]]


def test_when_nobody_is_idle_the_server_sleeps(make_world: MakeWorld) -> None:
    world = make_world(max_connections=1)
    world.connect(GET[:9])
    world.tick(2)
    newcomer = world.connect(GET)
    calls = world.selector.calls
    for _ in range(10):
        world.tick(max_wait=0.01)
    assert world.selector.calls <= calls + 4
    assert newcomer.read() == b""


def test_the_limit_is_two_lines_in_the_log(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world, clients = full(make_world, 2)
    for _ in range(3):
        world.connect(GET)
        world.tick(2)
    assert [line for line in caplog.messages if "max_connections" in line] == [
        "max_connections is reached, 2: idle connections make room, or newcomers wait"
    ]
    for _ in range(2):  # idle, and then lingering
        world.clock.advance(100.0)
        world.tick(5)
    world.connect(GET)
    world.tick(2)
    assert caplog.messages[-1] == "max_connections is not reached any more"
    assert all(client.sees_end for client in clients)


def test_a_connection_that_made_room_says_why(make_world: MakeWorld) -> None:
    world, _ = full(make_world, 1)
    (conn,) = world.core.connections
    world.connect(GET)
    world.tick(2)
    assert conn.close_reason is CloseReason.MADE_ROOM


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_a_connection_makes_room_when_its_application_is_through(driver: str) -> None:
    sleep = asyncio.sleep if driver == "asyncio" else trio.sleep

    async def works_on(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        await sleep(float(scope["path"][1:]))

    with Client(works_on, driver=driver, limits=Limits(max_connections=1)) as client:
        for seconds in (20, 5):  # one coroutine may run on without its connection, and this is the second
            peer = client.connect()
            peer.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % seconds)
            assert peer.answer().status == 204
        newcomer = client.connect()
        newcomer.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(4.5)
        assert newcomer.answers() == []
        client.wait(1)
        assert newcomer.answer().status == 204
