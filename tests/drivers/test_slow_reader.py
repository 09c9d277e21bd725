"""100 MiB to a client that reads 1 KiB a second: little is kept for it, and it is cut by the write deadline."""

import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from h1core import Limits, Request, Response
from h1core.testing import Client

KIB = 1024
SIZE = 100 * KIB * KIB
PIECE = bytes(16 * KIB)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
WINDOW_BYTES = 64 * KIB


class App:
    """Handlers of every kind, and how much they have made so far."""

    def __init__(self) -> None:
        self.made_bytes = 0
        self.whole = Response(200, (), bytes(SIZE))

    def pieces(self) -> Iterator[bytes]:
        for _ in range(SIZE // len(PIECE)):
            self.made_bytes += len(PIECE)
            yield PIECE

    async def async_pieces(self) -> AsyncIterator[bytes]:
        for piece in self.pieces():
            yield piece

    def stream(self, request: Request) -> Response:
        return Response(200, (), self.pieces())

    async def async_stream(self, request: Request) -> Response:
        return Response(200, (), self.async_pieces())

    def at_once(self, request: Request) -> Response:
        return self.whole

    async def async_at_once(self, request: Request) -> Response:
        return self.whole


@pytest.mark.parametrize("handler", [App.stream, App.at_once, App.async_stream, App.async_at_once])
def test_a_hundred_mebibytes_to_a_client_that_reads_a_kibibyte_a_second(handler: Callable[[App, Request], Any]) -> None:
    app = App()
    with Client(handler.__get__(app)) as client:
        peer = client.connect(WINDOW_BYTES)
        tracemalloc.start()
        try:
            peer.send(GET)
            read_bytes = seconds = 0
            while not peer.sees_reset:
                assert app.made_bytes - read_bytes <= WINDOW_BYTES + Limits().max_output_bytes + len(PIECE)
                client.wait(1)
                seconds += 1
                read_bytes += len(peer.read(KIB))
            kept_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert 31 <= seconds <= 60, "30 s to begin with, and half a second for each KiB, as far as it is heard of"
    assert kept_bytes < 8 * WINDOW_BYTES
