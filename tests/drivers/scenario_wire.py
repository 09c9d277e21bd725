"""What the table of scenarios is written with: requests, handlers, and answers to the byte."""

from collections.abc import Iterable, Iterator

from h1core import CloseReason, Disposition, Request, Response

from .scenario import End
from .world import GET, HEAD, LAST_GET, get, post

__all__ = ["GET", "HEAD", "LAST_GET", "get", "post"]

# Requests.

OLD_GET = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT_GET = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HALF_HEAD = b"GET / HT"
REST_OF_HEAD = b"TP/1.1\r\nHost: a\r\n\r\n"
POST_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
LONG_POST_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20480\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"

# Answers. The date is that of the clock, which stands still.

DATE = b"date: Thu, 01 Jan 1970 00:00:00 GMT"
CLOSE = b"connection: close"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def lines(*parts: bytes) -> bytes:
    """A head; empty parts are left out."""
    return b"\r\n".join((*filter(None, parts), b"", b""))


def reply(status: bytes, body: bytes = b"", connection: bytes = b"", *, fields: bytes = b"") -> bytes:
    """An answer whose body has a length."""
    return lines(b"HTTP/1.1 " + status, fields, b"content-length: %d" % len(body), DATE, connection) + body


def ok(body: bytes = b"", connection: bytes = b"") -> bytes:
    return reply(b"200 OK", body, connection)


def chunked(pieces: Iterable[bytes], connection: bytes = b"") -> bytes:
    """A streamed answer."""
    head = lines(b"HTTP/1.1 200 OK", b"transfer-encoding: chunked", DATE, connection)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def own(status: bytes, sentence: str, connection: bytes = CLOSE, *, fields: bytes = b"") -> bytes:
    """An answer that the server makes itself."""
    plain = b"content-type: text/plain; charset=utf-8"
    return reply(status, sentence.encode() + b"\n", connection, fields=b"\r\n".join(filter(None, (plain, fields))))


BAD = b"400 Bad Request"
LARGE_FIELDS = b"431 Request Header Fields Too Large"

TWO_OF_TWO = b"3\r\ntwo\r\n0\r\n\r\n"
ONE_OF_TWO = chunked([b"one", b"two"]).removesuffix(TWO_OF_TWO)

FAILED = own(b"500 Internal Server Error", "The application failed.", b"")
OVERLOADED = own(
    b"503 Service Unavailable", "The server has more requests than it can handle.", fields=b"retry-after: 1"
)
HEAD_TOO_LATE = own(b"408 Request Timeout", "The request head took too long.")
BODY_TOO_LATE = own(b"408 Request Timeout", "The request body came too slowly.")
TOO_LARGE = own(b"413 Content Too Large", "The request body is too large. (RFC 9110 §15.5.14)")
TRUNCATED_BODY = own(b"400 Bad Request", "The connection ended inside a request body. (RFC 9112 §8)")

# Ends.


def lingers(reason: CloseReason) -> End:
    """The server closes its side, and waits for the client to close its own."""
    return End(Disposition.LINGER, reason)


def closes(reason: CloseReason) -> End:
    """The server closes both sides in order: the client has closed, or has had its time."""
    return End(Disposition.CLOSE, reason)


def cuts(reason: CloseReason) -> End:
    """The server resets the connection."""
    return End(Disposition.ABORT, reason)


BROKEN = closes(CloseReason.CONNECTION_LOST)
REFUSED = lingers(CloseReason.REFUSED)

# Handlers.

LARGE_BODY = b"0123456789abcdef" * 62_500  # a megabyte, nearly
PIECE = b"p" * 10_000


def target(request: Request) -> Response:
    return Response(200, (), request.target)


def body(request: Request) -> Response:
    return Response(200, (), request.body)


def body_of_file(request: Request) -> Response:
    return Response(200, (), request.open_body().read())


def trailers(request: Request) -> Response:
    return Response(200, (), b"|".join(name + b"=" + value for name, value in request.trailers))


def host(request: Request) -> Response:
    return Response(200, (), dict(request.headers)[b"host"])


def large(request: Request) -> Response:
    return Response(200, (), LARGE_BODY)


def pieces_of(*pieces: bytes) -> "Streaming":
    return Streaming(pieces)


class Streaming:
    """A handler whose body is pieces, and then perhaps an exception."""

    def __init__(
        self,
        pieces: Iterable[object],
        *fields: tuple[bytes, bytes],
        raises: BaseException | None = None,
    ) -> None:
        self._pieces = pieces
        self._fields = fields
        self._raises = raises

    def __call__(self, request: Request) -> Response:
        return Response(200, self._fields, self._make())

    def _make(self) -> Iterator[bytes]:
        yield from self._pieces  # type: ignore[misc]  # some rows yield what is no bytes
        if self._raises is not None:
            raise self._raises


def responds(status: int, *fields: tuple[bytes, bytes], body: bytes = b"") -> "Whole":
    return Whole(status, fields, body)


class Whole:
    """A handler that always says the same."""

    def __init__(self, status: int, fields: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        self._response = (status, fields, body)

    def __call__(self, request: Request) -> Response:
        return Response(*self._response)


def exiting(request: Request) -> Response:
    raise SystemExit("as it should")


def failing(request: Request) -> Response:
    raise RuntimeError("as it should")


def nothing(request: Request) -> Response:
    return None  # type: ignore[return-value]  # what a handler must not return
