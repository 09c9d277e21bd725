"""What an application looks like to a driver: the types, and how its reply becomes what `Conn.send` takes.

A handler gets a whole request and returns a `Response`. Wrappers for other interfaces (`h1core.app`) produce
handlers; drivers run them and know nothing else.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import BinaryIO, Final, Protocol, TypeAlias

from h1core.errors import LocalError
from h1core.events import FileSlice, Request, Response

FILE_BLOCK_BYTES: Final = 64 * 1024

Handler: TypeAlias = Callable[[Request], Response]
"""Runs to its end before anything else happens in its thread. What it raises becomes a 500."""

AsyncHandler: TypeAlias = Callable[[Request], Awaitable[Response]]


class ResponseWriter(Protocol):
    """What a driver gives to a `WritingHandler`."""

    def begin(self, response: Response) -> None:
        """Say how the response begins; its body is None. It goes out with what is written first. Never raises."""

    def write(self, data: bytes) -> None:
        """Send a piece of the body, and wait while the client is behind. Raises Disconnected when it has gone."""


class WritingHandler:
    """A handler that may send a part of its response before it returns, where it runs in a worker that can wait.

    No abstract class: to ask whether something is one of those costs more than the rest of a worker's question.
    """

    def __call__(self, request: Request, writer: ResponseWriter | None = None) -> Response:
        """The whole response; or, if it was begun on the writer, one with the rest of its body, an iterator."""
        raise NotImplementedError


class SpooledRequest(Request):
    """A request whose body was too large to keep in memory, and lies in a file.

    `body` reads all of it, once; `open_body` gives the file itself. The file is closed when the response is over.
    """

    __slots__ = ("_body", "_file")

    def __init__(self, head: Request, file: BinaryIO) -> None:
        self.method = head.method
        self.target = head.target
        self.headers = head.headers
        self.version = head.version
        self.end_stream = head.end_stream
        self.upgrade = head.upgrade
        self.trailers = head.trailers
        self.endpoints = head.endpoints
        self._file = file
        self._body: bytes | None = None

    @property
    def body(self) -> bytes:  # type: ignore[override]  # the base has a slot where this has something to do
        """The whole body."""
        if self._body is None:
            self._file.seek(0)
            self._body = self._file.read()
        return self._body

    def open_body(self) -> BinaryIO:
        """The file, at its begin; the same one each time."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


class WholeBody:
    """A body that is all there, of somebody who wants to clean up once it is on its way.

    It is an iterator of its one piece, like any other. A driver may as well send `data` as the whole body that it is,
    and then call `close`; the application must not have to wait for that, nor the client for the application.
    """

    __slots__ = ("_close", "_left", "data")

    def __init__(self, data: bytes, close: Callable[[], None]) -> None:
        self.data = data
        self._left = [data]
        self._close: Callable[[], None] | None = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        return self._left.pop()

    def close(self) -> None:
        """Let the application clean up. A second call does nothing."""
        close, self._close = self._close, None
        if close is not None:
            close()


class FileBody:
    """A body that lies in a file: `size` bytes from `offset`. The file is its own, and closed with it.

    It is an iterator of blocks, like any other. A driver may send `part` instead, and call `close` when that is sent.
    """

    __slots__ = ("_file", "_offset", "_taken", "size")

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._taken = 0
        self.size = size

    @property
    def part(self) -> FileSlice:
        """All of it."""
        return FileSlice(self._file.fileno(), self._offset, self.size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._file.seek(self._offset + self._taken)
        block = self._file.read(min(FILE_BLOCK_BYTES, self.size - self._taken))
        if not block:
            raise StopIteration
        self._taken += len(block)
        return block

    def close(self) -> None:
        """Give the file back. A second call does nothing."""
        self._file.close()


def first_part(request: Request, response: Response) -> tuple[Response, Iterator[bytes] | None]:
    """What to send first of a handler's reply, and the pieces of body that follow it, or None.

    A reply to HEAD is what GET would have got, so its body is left out here and its length said (RFC 9110 §9.3.2).
    Raises LocalError when the reply is not a Response, or its body not something to send.
    """
    if type(response) is not Response:
        raise LocalError(f"a handler returns h1core.Response, not {type(response).__name__}")
    body: object = response.body
    if isinstance(body, (bytes, bytearray, memoryview)):
        if request.method == b"HEAD" and body:
            return Response(response.status, _with_length(response, memoryview(body).nbytes)), None
        return response, None
    if isinstance(body, WholeBody | FileBody):
        size = len(body.data) if isinstance(body, WholeBody) else body.size
        response = Response(response.status, _with_length(response, size), body)
    if isinstance(body, str) or not isinstance(body, Iterable):
        raise LocalError(f"a handler's body is bytes or an iterable of bytes, not {type(body).__name__}")
    if request.method == b"HEAD":
        close_pieces(body)
        return Response(response.status, response.headers), None
    pieces = iter(body)
    if pieces is not body and hasattr(body, "close"):
        pieces = _Pieces(pieces, body)
    return Response(response.status, response.headers, None), pieces


class _Pieces:
    """The iterator of an iterable that wants to be closed itself, as a WSGI application's result does."""

    __slots__ = ("_body", "_iterator")

    def __init__(self, iterator: Iterator[bytes], body: object) -> None:
        self._iterator = iterator
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._iterator

    def __next__(self) -> bytes:
        return next(self._iterator)

    def close(self) -> None:
        """Close both, for either may be where the cleaning up is."""
        try:
            close_pieces(self._iterator)
        finally:
            close_pieces(self._body)


def _with_length(response: Response, body_bytes: int) -> list[tuple[bytes, bytes]]:
    """The headers of a reply, with its length unless they frame it already."""
    headers = list(response.headers)
    if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        headers.append((b"content-length", b"%d" % body_bytes))
    return headers


def close_pieces(pieces: object) -> None:
    """Let an iterable of pieces clean up, whether or not it was read to its end. Raises what its `close` raises."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def is_async(app: Callable[..., object]) -> bool:
    """Calling it gives an awaitable: an `async def`, a partial or a bound method of one, or an instance of such."""
    while isinstance(app, functools.partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or (
        not inspect.isclass(app) and inspect.iscoroutinefunction(type(app).__call__)
    )
