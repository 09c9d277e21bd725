"""What tests of the trio driver share: a served address, clients, and a check that nothing is left behind."""

import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
from h1core.drivers.trio_driver import serve

from h1core.app.asgi import AsgiHandler

PATIENCE_S = 20.0
"""When a test that waits for something gives up; nothing waits for it to pass."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test, and see that it leaves no descriptor behind."""

    async def within_patience() -> None:
        with trio.fail_after(PATIENCE_S):
            await test()

    before = len(os.listdir("/dev/fd"))
    trio.run(within_patience)
    assert len(os.listdir("/dev/fd")) == before


class Served:
    """A running server."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.drain = trio.Event()
        self.scope = trio.CancelScope()
        """Cancelling it cancels `serve`."""
        self.has_ended = trio.Event()
        self.clients: list[Client] = []

    async def connect(self, number: int = 0) -> "Client":
        address = self.addresses[number]
        if isinstance(address, str):
            stream = await trio.open_unix_socket(address)
        else:
            stream = await trio.open_tcp_stream(address[0], address[1])
        self.clients.append(Client(stream))
        return self.clients[-1]

    async def ask(self, wire: bytes) -> bytes:
        """All that comes of sending `wire` and nothing more, until the server closes."""
        client = await self.connect()
        await client.stream.send_all(wire)
        return await client.rest()


class Client:
    """A client's end of a connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, wire: bytes) -> None:
        await self.stream.send_all(wire)

    async def until(self, text: bytes) -> bytes:
        """Everything up to `text`, which must come; it is taken away."""
        while text not in self.received:
            data = await self.stream.receive_some(65536)
            assert data, f"the server closed after {self.received!r}"
            self.received += data
        taken, _, self.received = self.received.partition(text)
        return taken + text

    async def rest(self) -> bytes:
        """What comes until the server closes, a reset told as `[reset]`; then this side is closed too."""
        try:
            async for data in self.stream:
                self.received += data
        except trio.BrokenResourceError:
            self.received += b"[reset]"
        await self.stream.aclose()
        return self.received

    async def reset(self) -> None:
        self.stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: on, for no time
        await self.stream.aclose()


@asynccontextmanager
async def serving(handler: Any, binds: tuple[str, ...] = ("127.0.0.1:0",), **options: Any) -> AsyncIterator[Served]:
    """A server for a handler; at the end of the block it is cancelled, unless it has ended."""
    async with trio.open_nursery() as nursery:

        async def run_server(task_status: Any) -> None:
            with served.scope:
                await serve(handler, binds, drain=served.drain, task_status=task_status, **options)
            served.has_ended.set()

        served = Served()
        served.addresses += await nursery.start(run_server)
        yield served
        for client in served.clients:
            await trio.aclose_forcefully(client.stream)
        nursery.cancel_scope.cancel()


@contextmanager
def no_thread_stays() -> Iterator[None]:
    """Trio keeps idle threads for a while; none may be busy."""
    before = {thread.name for thread in threading.enumerate()}
    yield
    busy = [t for t in threading.enumerate() if t.name not in before and not t.name.startswith("Trio thread")]
    assert not busy


def http_handler(app: Any, **options: Any) -> AsgiHandler:
    """A handler of an ASGI application that is asked for http only: it takes no part in lifespan."""

    async def only_http(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return AsgiHandler(only_http, **options)
