"""Handlers: their types, and how their response becomes what `Conn.send` takes.

A handler gets a whole request and returns a `Response`. Wrappers for other interfaces (`wsgi.py`, `asgi.py`) are
handlers, too; drivers run nothing else.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import BinaryIO, Final, Protocol, TypeAlias

from h1core.errors import LocalError
from h1core.events import FileSlice, Request, Response
from h1core.http1.statuses import WITHOUT_CONTENT

FILE_BLOCK_BYTES: Final = 64 * 1024

Handler: TypeAlias = Callable[[Request], Response]
"""Blocks its thread until it returns. What it raises becomes a 500."""

AsyncHandler: TypeAlias = Callable[[Request], Awaitable[Response]]


FirstLook: TypeAlias = Callable[[Request], Response | None]
"""The attribute `on_head` of a handler or a WSGI application, if it has one. It is called with each request before its
body is read, on the thread of the loop, and answers with a whole response, or returns None. So an upload may be refused
before the client sends it (100-continue, RFC 9110 §10.1.1)."""


class ResponseWriter(Protocol):
    """What a driver gives to a `WritingHandler`."""

    def begin(self, response: Response) -> None:
        """Set the head of the response, with None as its body. It is sent with the first `write`. Never raises."""

    def write(self, data: bytes) -> None:
        """Send a piece of the body, and wait while the client is behind. Raises Disconnected."""


class WritingHandler:
    """A handler that may send a part of its response before it returns, when it runs in a worker thread.

    Not an abstract class: `isinstance` costs much more with one, and workers call it for each request.
    """

    def __call__(self, request: Request, writer: ResponseWriter | None = None) -> Response:
        """Return the whole response; or, if it was begun on `writer`, one with an iterator of the rest of its body."""
        raise NotImplementedError


class SpooledRequest(Request):
    """A request whose body was too large to keep in memory, and is in a file.

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
        self.raw_head = head.raw_head
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
        """The file, at its start; the same one each time."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Close the file."""
        self._file.close()


AsFile: TypeAlias = Callable[[object], "FileBody | None"]
"""Returns the rest of an open file as a body that stays valid when the file is closed, or None."""

OpenPath: TypeAlias = Callable[[str], "FileBody"]
"""Opens a file as a body. Raises OSError."""


class WholeBody:
    """A complete body whose application cleans up after it is sent.

    It is an iterator of its one piece. A driver may instead send `data` as a whole body, and then call `close`: the
    client does not wait for the clean-up, nor the application for the client.
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
        """Run the application's clean-up. A second call does nothing."""
        close, self._close = self._close, None
        if close is not None:
            close()


class FileBody:
    """A body in a file: `size` bytes from `offset`. It owns the file, and `close` closes it.

    It is an iterator of blocks. A driver may send `part` instead, and call `close` when that is sent.
    """

    __slots__ = ("_file", "_offset", "_taken", "size")

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._taken = 0
        self.size = size

    def limit(self, offset: int | None = None, count: int | None = None) -> None:
        """Take only `count` bytes from `offset` in the file, as far as there are so many; None leaves it as it is."""
        if offset is not None:
            self.size = max(0, self._offset + self.size - offset)
            self._offset = offset
        if count is not None:
            self.size = min(self.size, count)

    @property
    def part(self) -> FileSlice:
        """The whole body, by reference."""
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
        """Close the file. A second call does nothing."""
        self._file.close()


def first_part(request: Request, response: Response) -> tuple[Response, Iterator[bytes] | None]:
    """What to send first of a handler's response, and the pieces of body that follow it, or None.

    A handler answers HEAD like GET, so the body is removed here, and its length declared if known (RFC 9110 §9.3.2).
    The pieces of a response that has no content are not asked for.
    Raises LocalError when `response` is not a Response, or its body cannot be sent.
    """
    if type(response) is not Response:
        raise LocalError(f"a handler returns h1core.Response, not {type(response).__name__}")
    body: object = response.body
    if isinstance(body, (bytes, bytearray, memoryview)):
        if request.method == b"HEAD" and body:
            headers = with_length(response, memoryview(body).nbytes)
            return Response(response.status, headers, reason=response.reason), None
        return response, None
    if isinstance(body, WholeBody | FileBody):
        size = len(body.data) if isinstance(body, WholeBody) else body.size
        response = Response(response.status, with_length(response, size), body, response.reason)
    if isinstance(body, str) or not isinstance(body, Iterable):
        raise LocalError(f"a handler's body is bytes or an iterable of bytes, not {type(body).__name__}")
    if request.method == b"HEAD" or response.status in WITHOUT_CONTENT:
        close_pieces(body)
        return response.with_body(b""), None
    pieces = iter(body)
    if pieces is not body and hasattr(body, "close"):
        pieces = _Pieces(pieces, body)
    return response.with_body(None), pieces


class _Pieces:
    """The iterator of an iterable that has its own `close`, like the result of a WSGI application."""

    __slots__ = ("_body", "_iterator")

    def __init__(self, iterator: Iterator[bytes], body: object) -> None:
        self._iterator = iterator
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._iterator

    def __next__(self) -> bytes:
        return next(self._iterator)

    def close(self) -> None:
        """Close both, because either may do the clean-up."""
        try:
            close_pieces(self._iterator)
        finally:
            close_pieces(self._body)


def with_length(response: Response, body_bytes: int) -> list[tuple[bytes, bytes]]:
    """The headers of a response, with its Content-Length unless they have one already, or it has no content."""
    headers = list(response.headers)
    if response.status not in WITHOUT_CONTENT and not any(name.lower() == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % body_bytes))
    return headers


def close_pieces(pieces: object) -> None:
    """Call the `close` of an iterable of pieces, if it has one, read to its end or not. Raises what that raises."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def is_async(app: Callable[..., object]) -> bool:
    """Whether `app` is an `async def`, a partial or bound method of one, or an instance with an async `__call__`."""
    while isinstance(app, functools.partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or (
        not inspect.isclass(app) and inspect.iscoroutinefunction(type(app).__call__)
    )
