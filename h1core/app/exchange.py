"""One request and its response in progress, for an application that streams both.

Most handlers get a whole request and return a response (handler.py). One that is wrapped in `StreamingHandler` gets an
`Exchange` instead, as soon as the head of the request was received:

    @StreamingHandler
    async def echo(exchange):
        piece = await exchange.receive()  # first: the client may wait for 100 Continue
        await exchange.send(Response(200, (), None))
        while piece:
            await exchange.send(Data(piece))
            piece = await exchange.receive()
        await exchange.send(EndOfMessage())
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Container, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from h1core.app.handler import AsyncHandler, FileBody, close_pieces, first_part
from h1core.events import Data, EndOfMessage, Request, Response, Sendable
from h1core.http1.statuses import WITHOUT_CONTENT


class Exchange(ABC):
    """Made by an async driver for each request. One task may receive while another sends."""

    __slots__ = ("request",)

    request: Request
    """Its body is empty: call `receive`. Its trailers are set at the end of the body."""

    @abstractmethod
    async def receive(self) -> bytes:
        """The next piece of the request body, or `b""` at its end.

        The body is read from the network only as it is asked for here; the first call sends 100 Continue to a client
        that waits for it. Raises Disconnected when the rest of the body will not come, and LocalError when another task
        is receiving, or when the response was begun while the client still waited for 100 Continue.
        """

    async def receive_part(self) -> tuple[bytes, bool]:
        """Like `receive`, and whether more may come: False with the last piece if that is known already."""
        piece = await self.receive()
        return piece, bool(piece)

    @abstractmethod
    async def send(self, event: Sendable) -> None:
        """Send a response or a part of one, as with `Conn.send`, and wait while the client is behind (backpressure).

        Raises Disconnected when the client has disconnected, LocalError as `Conn.send` does.
        """

    async def send_last(self, piece: Data) -> None:
        """Send the last piece of a streamed body, and the end. Raises as `send`."""
        await self.send(piece)
        await self.send(EndOfMessage())

    @abstractmethod
    def respond(self, response: Response) -> bool:
        """Send a whole response without waiting. Returns True when all of it is written; when not, `await flush()`.

        Raises LocalError as `Conn.send` does. `flush` raises Disconnected when the client has disconnected.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until what was sent is written. Raises Disconnected when the client has disconnected."""

    @abstractmethod
    async def wait_disconnected(self) -> None:
        """Wait until the client has disconnected or closed its side. Call it after the body. Raises nothing itself."""

    @abstractmethod
    async def wait_client_gone(self) -> None:
        """Wait until the response is complete or the client is gone. Call it after the body. Raises nothing.

        A client that closes its side together with its request (half-close) still waits for the response, and is gone
        only when the connection breaks; one that closes it later is gone.
        """

    def cancellable(self) -> AbstractContextManager[object]:
        """A context in which the task is cancelled when the client is gone. This one never cancels."""
        return nullcontext()

    async def read(self) -> bytes:
        """The rest of the request body, within `Limits.max_body_bytes`. Raises like `receive`."""
        return b"".join([piece async for piece in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.receive():
            yield piece


class StreamingHandler:
    """Marks a handler that takes an `Exchange`. It sends the response itself, or returns a whole one and sends none."""

    upgrades: Container[bytes] = ()
    """Protocols that `Request.upgrade` may name, as in `Conn`, for a handler that wants to know of such an offer."""

    def __init__(self, handler: Callable[[Exchange], Awaitable[Response | None]]) -> None:
        self._handler = handler

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Run the handler."""
        return await self._handler(exchange)


def on_exchange(handler: AsyncHandler, cancels: bool = False) -> Callable[[Exchange], Awaitable[None]]:
    """Wrap an async handler of whole requests as a handler of exchanges, which sends what the first one returns.

    The request of the exchange has its body. The response's body may also be an iterable, or an async one. With
    `cancels` the handler is cancelled when its client disconnects first.
    """

    async def run(exchange: Exchange) -> None:
        request = exchange.request
        method = request.method
        try:
            if cancels:
                with exchange.cancellable():
                    response = await handler(request)
            else:
                response = await handler(request)
        finally:
            request.method = method  # a handler may change it, and the response must fit what the client sent
        if type(response) is Response and isinstance(response.body, AsyncIterable):
            with exchange.cancellable():
                await _send_async(exchange, response, aiter(response.body))
            return
        first, pieces = first_part(request, response)
        if pieces is None:
            await exchange.send(first)
            return
        try:
            await _send_pieces(exchange, first, pieces)
        finally:
            close_pieces(pieces)

    return run


async def _send_pieces(exchange: Exchange, first: Response, pieces: Iterator[bytes]) -> None:
    """Send a streamed response. Nothing is sent before the body's first piece: until then a failure is a 500."""
    if isinstance(pieces, FileBody):
        await exchange.send(first)
        await exchange.send(pieces.part)
    else:
        end: list[bytes] = []
        piece: Any = next(pieces, end)
        await exchange.send(first)
        while piece is not end:
            await exchange.send(Data(piece))
            piece = next(pieces, end)
    await exchange.send(EndOfMessage())


async def _send_async(exchange: Exchange, response: Response, pieces: AsyncIterator[bytes]) -> None:
    """The same for an async iterator, which is closed at the end."""
    try:
        if exchange.request.method == b"HEAD" or response.status in WITHOUT_CONTENT:
            await exchange.send(response.with_body(b""))
            return
        end: list[bytes] = []
        piece: Any = await anext(pieces, end)
        await exchange.send(response.with_body(None))
        while piece is not end:
            await exchange.send(Data(piece))
            piece = await anext(pieces, end)
        await exchange.send(EndOfMessage())
    finally:
        aclose: Any = getattr(pieces, "aclose", None)
        if aclose is not None:
            await aclose()
