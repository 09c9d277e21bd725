"""How many rounds an event loop gives to the engine."""

import asyncio
import contextlib
import itertools
import socket
from typing import Any

from h1core.drivers.asyncio_driver import Server
from h1core.drivers.net.selector import default_selector

from h1core import Response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = GET.replace(b"/ ", b"/stream ", 1)


class CountingSelector:
    """The selector of the system, and how often it was asked."""

    def __init__(self) -> None:
        self._inner: Any = default_selector()  # Any: it is only passed on
        self.asked = 0

    def select(self, timeout: float | None = None) -> Any:
        self.asked += 1
        return self._inner.select(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_rounds_do_not_pile_up_beside_a_response_that_streams() -> None:
    """A stream asks for a round in each turn of the loop. A request of another client makes it two, for that turn."""

    def handler(request: Any) -> Response:
        return Response(200, (), itertools.repeat(b"x" * 10) if request.target == b"/stream" else b"y")

    selector = CountingSelector()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = Server(handler, listeners=[listener], selector=selector, threads=0)

    async def count_rounds() -> list[int]:
        serving = asyncio.create_task(server.serve())
        counts = []
        with socket.create_connection(listener.getsockname()) as stream:
            with socket.create_connection(listener.getsockname()) as other:
                stream.sendall(STREAM)
                stream.setblocking(False)
                other.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_recv(stream, 1)
                for _ in range(20):
                    loop.call_later(0, other.send, GET)  # after the rounds: it is new when the loop looks
                    before = selector.asked
                    await asyncio.sleep(0)
                    counts.append(selector.asked - before)
                    for client in (stream, other):
                        with contextlib.suppress(BlockingIOError):
                            client.recv(1 << 20)
                await asyncio.sleep(0.001)  # for the last timer
            server.stop()
            await serving
        return counts

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        counts = runner.run(count_rounds())
    assert max(counts) == 2
