"""What a request to an ASGI application costs on asyncio and trio: calls of the server's functions and of the system.

The client stands in the same event loop, so a request is served alone: its figures hold whatever a round costs beside.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
from h1core.drivers import asyncio_driver, trio_driver
from h1core.drivers.app_interface import handler_of

import h1core

from .world import GET, get, post

HOMES = (str(Path(h1core.__file__).parent), str(Path(asyncio_driver.__file__).parent))
ROUNDS = 10

FIGURES = {
    # which: calls for a request; for one with a body; for one without, of an application that receives all the same
    "asyncio": (50, 58, 60),
    "trio": (55, 63, 65),
}


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    if scope["type"] == "http":
        if scope["method"] == "POST" or scope["path"] == "/receives":
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello"})


class CountedSocket(socket.socket):
    """A connection that counts its calls of the system."""

    counts: dict[str, int]

    def recv(self, *arguments: Any) -> bytes:
        self.counts["recv"] += 1
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self.counts["send"] += 1
        return super().send(*arguments)


class CountedListener:
    """A listener whose connections count."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.address = self._socket.getsockname()
        self.counts = {"recv": 0, "send": 0}
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def accept(self) -> tuple[CountedSocket, Any]:
        sock, peer = self._socket.accept()
        counted = CountedSocket(fileno=sock.detach())
        counted.counts = self.counts
        return counted, peer


class Counter:
    """How often functions of the server are called."""

    def __init__(self) -> None:
        self.calls = 0

    def see(self, frame: FrameType, what: str, _argument: object) -> None:
        self.calls += what == "call" and frame.f_code.co_filename.startswith(HOMES)

    async def count(self, ask: Callable[[], Awaitable[bytes]]) -> None:
        self.calls = 0
        sys.setprofile(self.see)
        try:
            answer = await ask()
        finally:
            sys.setprofile(None)
        assert answer.endswith(b"\r\n\r\nhello")


Figures = list[tuple[int, dict[str, int]]]


async def measure(listener: CountedListener, ask: Callable[[], Awaitable[bytes]]) -> Figures:
    """Calls, and calls of the system, of some requests: what is remembered of the first makes others cheaper."""
    counter = Counter()
    figures: Figures = []
    for _ in range(ROUNDS):
        listener.counts.update(recv=0, send=0)
        await counter.count(ask)
        figures.append((counter.calls, dict(listener.counts)))
    return figures


def on_asyncio(listener: CountedListener, request: bytes) -> Figures:
    async def main() -> Figures:
        server = asyncio_driver.Server(handler_of(app), listeners=[listener])
        task = asyncio.create_task(server.serve())
        reader, writer = await asyncio.open_connection(*listener.address)

        async def ask() -> bytes:
            writer.write(request)
            return await reader.read(1 << 16)

        try:
            return await measure(listener, ask)
        finally:
            writer.close()
            server.stop()
            await task

    return asyncio.run(main())


def on_trio(listener: CountedListener, request: bytes) -> Figures:
    async def main() -> Figures:
        server = trio_driver.Server(handler_of(app), listeners=[listener])
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: server.serve(task_status=task_status))
            stream = await trio.open_tcp_stream(*listener.address)

            async def ask() -> bytes:
                await stream.send_all(request)
                return bytes(await stream.receive_some(1 << 16))

            try:
                return await measure(listener, ask)
            finally:
                await stream.aclose()
                server.stop()

    return trio.run(main)


RUNS = {"asyncio": on_asyncio, "trio": on_trio}


@pytest.mark.parametrize("driver", RUNS)
@pytest.mark.parametrize("which", range(3), ids=["GET", "POST", "GET, and receives"])
def test_a_request_makes_few_calls_and_two_of_the_system(driver: str, which: int) -> None:
    request = (GET, post(b"x" * 100), get(b"/receives"))[which]
    figures = RUNS[driver](CountedListener(), request)
    calls = min(calls for calls, _ in figures)
    assert 20 < calls <= FIGURES[driver][which]
    # Who receives where there is no body is told whether its client has closed its side by then.
    system = {"recv": 2 if which == 2 else 1, "send": 1}
    assert [of_system for _, of_system in figures[1:]] == [system] * (ROUNDS - 1)
