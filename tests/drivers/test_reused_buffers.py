"""Applications that use one buffer again and again: what was sent stays what it was, however slowly a client reads."""

from collections.abc import Iterator
from typing import Any

import pytest

from h1core import Request, Response
from h1core.app.asgi import AsgiHandler
from h1core.testing import Client

from ..wire import answers
from .world import get

SIZE = 30_000
PIECES = [bytes([65 + number]) * SIZE for number in range(6)]
SERVERS: list[dict[str, Any]] = [
    {"driver": "selectors"},
    {"driver": "asyncio", "threads": 0},
    {"driver": "trio", "threads": 0},
]


def streamed(request: Request) -> Response:
    return Response(200, (), reused())


def reused() -> Iterator[Any]:
    buffer = bytearray(SIZE)
    for piece in PIECES:
        buffer[:] = piece
        yield memoryview(buffer)


class Whole:
    """A handler whose responses all have the same buffer as their body."""

    def __init__(self) -> None:
        self.buffer = bytearray(3 * SIZE)
        self.calls = 0

    def __call__(self, request: Request) -> Response:
        self.buffer[:] = PIECES[self.calls] * 3
        self.calls += 1
        return Response(200, (), memoryview(self.buffer))


class Asgi:
    """An application that sends one buffer without waiting for its client's reading: what it sends is cancelled."""

    def __init__(self) -> None:
        self.buffer = bytearray(SIZE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in PIECES:
            self.buffer[:] = piece
            await send({"type": "http.response.body", "body": self.buffer, "more_body": True})
            self.buffer[:] = bytes(SIZE)
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("options", SERVERS, ids=str)
def test_the_pieces_of_a_stream_arrive_as_they_were(options: dict[str, Any]) -> None:
    with Client(streamed, **options) as client:
        peer = client.connect(1000)
        peer.send(get(b"/"))
        assert read_slowly(client, peer) == b"".join(PIECES)


@pytest.mark.parametrize("options", SERVERS, ids=str)
def test_whole_responses_arrive_as_they_were(options: dict[str, Any]) -> None:
    with Client(Whole(), **options) as client:
        peers = [client.connect(1000) for _ in range(3)]
        for peer in peers:
            peer.send(get(b"/"))
        client.wait(0.0)
        assert [read_slowly(client, peer) for peer in peers] == [piece * 3 for piece in PIECES[:3]]


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_what_an_asgi_application_sends_arrives_as_it_was(driver: str) -> None:
    with Client(AsgiHandler(Asgi()), driver=driver) as client:
        peer = client.connect(1000)
        peer.send(get(b"/"))
        assert read_slowly(client, peer) == b"".join(PIECES)


def read_slowly(client: Client, peer: Any) -> bytes:
    wire = b""
    while data := peer.read(999):
        wire += data
        client.wait(0.0)
    return answers(wire)[0].body
