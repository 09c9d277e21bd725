"""Readiness from one epoll: no edge is lost, nobody is woken for another, and trio's way serves where there is none."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing
from h1core.drivers.trio_poller import Poller
from h1core.drivers.trio_transport import SocketTransport

from h1core import Request, Response

from .trio_kit import GET, run, serving

pytestmark = pytest.mark.skipif(not Poller.is_available, reason="there is no epoll on this system")


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def polling() -> Any:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        yield poller
        nursery.cancel_scope.cancel()
    poller.close()


def test_what_lay_there_before_is_news_too() -> None:
    async def test() -> None:
        with socket_pair() as (ours, theirs):
            theirs.send(b"x")
            async with polling() as poller:
                await poller.watch(ours.fileno()).wait()
                assert ours.recv(10) == b"x"

    run(test)


@pytest.mark.parametrize("news", ["bytes", "end", "reset"])
def test_news_that_come_while_nobody_waits_are_kept(news: str) -> None:
    async def test() -> None:
        with socket_pair() as (ours, theirs):
            async with polling() as poller:
                readiness = poller.watch(ours.fileno())
                if news == "bytes":
                    theirs.send(b"x")
                elif news == "end":
                    theirs.shutdown(socket.SHUT_WR)
                else:
                    theirs.close()
                await trio.testing.wait_all_tasks_blocked()
                assert readiness.has_news
                await readiness.wait()
                assert readiness.has_news is (news != "bytes")  # an end stays one

    run(test)


def test_an_end_that_came_along_with_bytes_is_not_waited_for() -> None:
    async def test() -> None:
        with socket_pair() as (ours, theirs):
            async with polling() as poller:
                readiness = poller.watch(ours.fileno())
                theirs.send(b"x")
                theirs.shutdown(socket.SHUT_WR)
                for expected in (b"x", b""):
                    await readiness.wait()
                    assert ours.recv(10) == expected

    run(test)


def test_a_client_that_ends_its_side_along_with_its_request_is_not_kept() -> None:
    async def test() -> None:
        async with serving(hello) as served:
            client = await served.connect()
            await trio.testing.wait_all_tasks_blocked()  # the server waits for the epoll, not for the first bytes
            with socket.socket(fileno=os.dup(client.stream.socket.fileno())) as now:  # nothing happens in between
                now.send(GET)
                now.shutdown(socket.SHUT_WR)
            assert (await client.rest()).endswith(b"hello")

    run(test)


def test_only_the_task_whose_socket_has_news_is_woken() -> None:
    async def test() -> None:
        woken: list[str] = []

        async def wait(readiness: Any, name: str) -> None:
            await readiness.wait()
            woken.append(name)

        with socket_pair() as (a, to_a), socket_pair() as (b, to_b):
            async with polling() as poller, trio.open_nursery() as nursery:
                nursery.start_soon(wait, poller.watch(a.fileno()), "a")
                nursery.start_soon(wait, poller.watch(b.fileno()), "b")
                await trio.testing.wait_all_tasks_blocked()
                to_b.send(b"x")
                await trio.testing.wait_all_tasks_blocked()
                assert woken == ["b"]
                to_a.send(b"x")

    run(test)


def test_a_wait_that_is_cancelled_loses_nothing_and_wakes_nobody() -> None:
    async def test() -> None:
        with socket_pair() as (ours, theirs):
            async with polling() as poller:
                readiness = poller.watch(ours.fileno())
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await readiness.wait()
                assert scope.cancelled_caught
                readiness.wake()  # nobody is in it
                theirs.send(b"x")
                await readiness.wait()
                assert ours.recv(10) == b"x"

    run(test)


def test_a_wait_can_be_ended_without_news() -> None:
    async def test() -> None:
        with socket_pair() as (ours, _):
            async with polling() as poller, trio.open_nursery() as nursery:
                readiness = poller.watch(ours.fileno())
                nursery.start_soon(readiness.wait)
                await trio.testing.wait_all_tasks_blocked()
                readiness.wake()

    run(test)


def test_a_descriptor_that_was_let_go_may_come_again() -> None:
    async def test() -> None:
        async with polling() as poller:
            for _ in range(3):
                with socket_pair() as (ours, theirs):
                    readiness = poller.watch(ours.fileno())
                    theirs.send(b"x")
                    await readiness.wait()
                    readiness.forget()

    run(test)


class Full:
    """A poller whose kernel watches no more."""

    def watch(self, fd: int) -> Any:
        raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("poller", [None, Full()])
def test_without_an_epoll_trio_waits(poller: Any) -> None:
    async def test() -> None:
        with socket_pair() as (ours, theirs):
            transport = SocketTransport(ours, poller)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.wait_readable)
                await trio.testing.wait_all_tasks_blocked()
                transport.wake_reader()
            theirs.send(b"x")
            await transport.wait_readable()
            assert transport.recv(10) == b"x"
            await transport.close(reset=False)

    run(test)


async def hello(request: Request) -> Response:
    return Response(200, (), b"hello")


def test_a_server_serves_where_there_is_no_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Poller, "is_available", False)

    async def test() -> None:
        async with serving(hello) as served:
            client = await served.connect()
            for _ in range(3):
                await client.send(GET)
                await client.until(b"hello")

    run(test)
