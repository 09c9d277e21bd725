"""The events that go in and out of a `Conn`: plain values.

From the peer: `Request`, `Data`, `EndOfMessage`, then perhaps one last event: `Refused`, `TimedOut` or `Closed`; and
`Switched` when the connection changes to another protocol. From the application: `InformationalResponse`, `Response`,
`Data`, `EndOfMessage`, and `FileSlice` instead of `Data`.

The classes are slotted, and not frozen: three frozen instances would cost a request a tenth of its time. Treat them as
values all the same.
"""

from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, Final, TypeAlias, final

from h1core.errors import LocalError, RefuseReason
from h1core.http1.state import CloseReason
from h1core.http1.timers import Timer

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Field lines in their order: (name, value). Names of a received message are lower-case."""


MAX_SHOWN_BYTES: Final = 200
"""How much of a request line that is not valid is given on for a log."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses and the scheme of a connection, which a driver knows and a `Conn` does not."""

    client: tuple[str, int] | None = None
    """Address and port; None when there is none, as on a unix socket."""

    server: tuple[str, int | None] | None = None
    """Address and port, or the path of a unix socket and None; None when it is not known."""

    scheme: str = "http"
    """`http` or `https`."""


UNKNOWN_ENDPOINTS: Final = Endpoints()


@dataclass(slots=True)
class Request:
    """A request head, whole and valid."""

    method: bytes
    """A token, as sent: methods are case-sensitive (RFC 9110 §9.1)."""

    target: bytes
    """The request target as sent, never decoded. Its form fits the method (RFC 9112 §3.2)."""

    headers: Headers
    """Lower-case names, values without surrounding white space. `host` is the target's authority, if it has one."""

    body: bytes = b""
    """Empty from a `Conn`, which reports the body as `Data`; a driver that collects bodies puts it here."""

    version: bytes = b"1.1"
    """`1.0`, or `1.1` for every later minor version (RFC 9110 §6.2)."""

    end_stream: bool = True
    """There is no body: neither `Data` nor `EndOfMessage` will follow."""

    upgrade: bytes | None = None
    """The first protocol the peer offers that is in `Conn(upgrades=...)`, lower-case; `b"connect"` for a tunnel."""

    trailers: Headers = ()
    """Empty from a `Conn`, like `body`."""

    endpoints: Endpoints = UNKNOWN_ENDPOINTS
    """Set by a driver."""

    raw_head: bytes = field(default=b"", compare=False, repr=False)
    """The whole head as sent; empty when the request comes from elsewhere than a `Conn`."""

    @property
    def raw_headers(self) -> Headers:
        """The field lines with their names as sent, for who shows them or passes them on."""
        if not self.raw_head:
            return self.headers
        lines = (line.partition(b":") for line in self.raw_head.split(b"\r\n")[1:-2])
        return [(name, value.strip(b" \t")) for name, _, value in lines]

    def open_body(self) -> BinaryIO:
        """The body as a file, at its start. A body that the server stored on disk is not loaded into memory."""
        return BytesIO(self.body)


@dataclass(slots=True)
class Data:
    """A piece of body, never empty when it comes from a `Conn`. How a body is split into pieces has no meaning."""

    data: bytes | bytearray | memoryview


@dataclass(slots=True)
class EndOfMessage:
    """The end of a body that was announced, with the trailer fields of a chunked one."""

    trailers: Headers = ()


@final
@dataclass(slots=True)
class FileSlice:
    """A piece of body in a file, by reference: `Conn` counts its bytes, and never reads them.

    Raises LocalError for a negative offset or size.
    """

    descriptor: int
    """Of a regular file. It stays open until all of the piece is sent."""

    offset: int
    size: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.size < 0:
            raise LocalError(f"a file has no part at {self.offset} of {self.size} bytes")

    def __len__(self) -> int:
        return self.size

    def after(self, count: int) -> "FileSlice":
        """The rest, when the first `count` bytes are sent."""
        return FileSlice(self.descriptor, self.offset + count, self.size - count)


@dataclass(slots=True)
class Refused:
    """The peer broke the protocol. Last event of the connection.

    The answer is already queued, unless a response was in progress: the application may complete that one if the
    connection's state is RESPONDING.
    """

    status: int
    reason: RefuseReason

    head: bytes = field(default=b"", compare=False, repr=False)
    """If a head was refused: its first line, as far as it had come and is shown. Any bytes; escape them in a log."""


@dataclass(slots=True)
class TimedOut:
    """A deadline of the connection passed. Last event of the connection, like Refused."""

    timer: Timer

    head: bytes = field(default=b"", compare=False, repr=False)
    """Of a head that took too long, as in Refused; empty when none had begun."""


@dataclass(slots=True)
class Closed:
    """The peer closed the connection, or it broke. Last event of the connection."""

    reason: CloseReason


@dataclass(slots=True)
class Switched:
    """The connection has changed to another protocol; `data` is what the peer sent after its request."""

    protocol: bytes
    data: bytes


@dataclass(slots=True)
class Response:
    """A final response: complete with its body, or with `body=None` the head of a streamed one.

    `Conn.send` takes bytes-like bodies and None; a handler may also return an iterable of bytes, which its driver
    streams, and an async handler an async one. Framing, Date and Connection are added where needed; names are sent as
    given, values without surrounding white space.
    """

    status: int
    headers: Headers = ()
    body: bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes] | None = b""

    reason: bytes | None = None
    """The reason phrase, without control bytes; None for the registered one of the status. RFC 9112 §4."""

    def with_body(self, body: bytes | bytearray | memoryview | Iterable[bytes] | None) -> "Response":
        """The same response with another body."""
        return Response(self.status, self.headers, body, self.reason)


@dataclass(slots=True)
class InformationalResponse:
    """An interim response, 100 to 199 but not 101. Dropped for an HTTP/1.0 peer, which must not see one."""

    status: int
    headers: Headers = ()


Event: TypeAlias = Request | Data | EndOfMessage | Refused | TimedOut | Closed | Switched
"""Everything that comes out of a `Conn`."""

Sendable: TypeAlias = Response | InformationalResponse | Data | FileSlice | EndOfMessage
"""Everything that `Conn.send` takes."""
