"""Every limit and every timeout: two frozen dataclasses, each field with its unit, its reason and its consequence.

The command line is made from these fields, so a limit that is not here does not exist. The consequence, after "Then:",
is what happens when the limit is exceeded.
"""

from dataclasses import dataclass, fields
from sys import float_info, maxsize
from typing import Final

from h1core.errors import LocalError

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a peer may send, and how much is kept. All sizes are bytes, all others are counts.

    Worst-case memory of one connection is `connection_bytes`; of a server, `max_connections` times that, and up to
    12 MiB for the cache of request heads (`head_cache.py`).
    Raises LocalError when a value is not a whole number from 1 to `sys.maxsize`, which the calls of the system take,
    or when two contradict each other.
    """

    max_request_line_bytes: int = 8 * KIB
    """The request line, without its CR LF. RFC 9112 §3 asks for 8000 at least. Then: 414."""

    max_head_bytes: int = 16 * KIB
    """The request line, all field lines and the empty line that ends them. Browsers stay below 8 KiB unless their
    cookies grow; node and h11 use 16 KiB. Then: 431."""

    max_fields: int = 100
    """Field lines in a head. Each costs a tuple and a name, many times its bytes. Then: 431."""

    max_method_bytes: int = 32
    """The longest registered method has 17 bytes (UPDATEREDIRECTREF). Then: 501."""

    max_chunk_extension_bytes: int = 256
    """Chunk extensions on one chunk-size line; nobody uses them, attackers do (CVE-2024-22019). Then: 400."""

    max_chunk_extensions_bytes: int = 4 * KIB
    """Chunk extensions over one whole body. Then: 400."""

    max_trailer_bytes: int = 4 * KIB
    """The trailer section of a chunked body, with the empty line that ends it. Then: 431."""

    max_trailer_fields: int = 16
    """Field lines in a trailer section. Then: 431."""

    max_body_bytes: int = 16 * MIB
    """Content of one request, after the transfer coding. Then: 413, at once when the length is declared."""

    initial_buffer_bytes: int = 16 * KIB
    """How much a connection reads at a time at first: more than an ordinary request has."""

    max_buffer_bytes: int = 1 * MIB
    """How much a connection reads at a time at most, and the pipelined bytes that may wait. Then: nothing more is read
    until the current response is complete."""

    max_unread_body_bytes: int = 64 * KIB
    """How much of a body that the application did not read is read and discarded, to keep the connection. Then:
    close."""

    max_linger_bytes: int = 32 * MIB
    """How much is read and discarded after the last response, so that a peer which is still sending gets that response
    and no reset. Twice the body limit: a peer whose body is a little too large still gets its 413. Then: close."""

    max_output_bytes: int = 64 * KIB
    """Response bytes waiting to be written. Then: a streamed body is not asked for more, and no request is parsed."""

    max_memory_body_bytes: int = 512 * KIB
    """A request body in memory; ordinary forms and JSON stay below, uploads do not. Then: a temporary file."""

    max_spooled_response_bytes: int = 64 * MIB
    """How far a worker thread may run ahead of a client that takes a streamed body slowly; a temporary file keeps it.
    Then: the worker waits for the client, as long as not more than half of the workers do; beyond that, the slowest
    such stream ends."""

    max_requests_per_connection: int = 1000
    """Requests on one connection; bounds how long a client stays on one server behind a balancer. Then: Connection:
    close."""

    max_connections: int = 1024
    """Open connections. Then: the one that has been idle longest is closed for a new one; when none is idle, new ones
    wait in the kernel's backlog."""

    max_queued_requests: int = 500
    """Requests waiting for a worker beyond those running. Then: 503 with Retry-After."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise LocalError(f"{field.name} must be a whole number of at least 1, not {value!r}")
            if value > maxsize:
                raise LocalError(f"{field.name} must be at most {maxsize}, which is as good as no limit")
        if self.max_request_line_bytes > self.max_head_bytes:
            raise LocalError("max_request_line_bytes must not be larger than max_head_bytes, which contains it")
        if self.max_head_bytes > self.max_buffer_bytes:
            raise LocalError("max_head_bytes must not be larger than max_buffer_bytes, or a head could never be whole")
        if self.initial_buffer_bytes > self.max_buffer_bytes:
            raise LocalError("initial_buffer_bytes must not be larger than max_buffer_bytes")

    @property
    def connection_bytes(self) -> int:
        """Worst-case bytes that h1core keeps for one connection, without bodies that the application has.

        Input is checked before a read and output before a piece of body is asked for, so input may exceed its limit by
        one read, and output by one piece, whose size the application chooses. A parsed head costs at most 64 bytes a
        field beyond its own size, an object and two byte strings.
        """
        receive = 2 * self.max_buffer_bytes
        head = 2 * self.max_head_bytes + 256 * self.max_fields
        trailers = 2 * self.max_trailer_bytes + 256 * self.max_trailer_fields
        return receive + head + trailers + self.max_output_bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take. Timeouts are seconds on the injected clock, and none can be switched off.

    Raises LocalError when a value is not a positive number. For "never", give a very large number.
    """

    head_timeout: float = 10.0
    """From accept, or from the first byte of a later request, to the end of the head; absolute, so that a byte now
    and then does not extend it. Then: 408 if a byte came, else a silent close."""

    body_timeout: float = 60.0
    """How far a request body may fall behind `min_body_rate` while we are reading it. Then: 408 and close."""

    min_body_rate: float = 1024.0
    """Bytes a second. Each byte of a body extends the deadline by its share of a second, to `body_timeout` at most."""

    keepalive_timeout: float = 75.0
    """Idle between requests; longer than the 60 s after which common balancers close. Then: a silent close."""

    write_timeout: float = 30.0
    """How far the peer may fall behind `min_write_rate` in taking the response; it is too far behind when it takes
    nothing for so long. Then: reset."""

    min_write_rate: float = 2048.0
    """Bytes a second. Each byte taken extends the deadline by its share of a second, to `write_timeout` at most.
    Without it, a client that takes a byte now and then holds 100 MiB of response for a year. A modem of 1995 is faster.
    With a tiny rate, any byte is enough."""

    queue_timeout: float = 10.0
    """How long a request may wait for a worker; most clients of an ordinary page do not wait longer. Then: 503 with
    Retry-After, and the application is not called."""

    linger_timeout: float = 2.0
    """After the last response, waiting for the peer to close its side. Then: close."""

    stream_drain_timeout: float = 5.0
    """From the start of a drain, and at most half of `drain_timeout`. Then: a streamed response must end. Its
    application is told as if its client had left; what it still sends is delivered. A response whose application says
    nothing is cut."""

    drain_timeout: float = 30.0
    """From the start of a drain. Then: the remaining connections are reset."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) not in (int, float) or not 0 < value <= float_info.max:
                raise LocalError(f"{field.name} must be a positive number, not {value!r}")


SUMMARIES: Final = {
    "max_request_line_bytes": "request line; then 414",
    "max_head_bytes": "request line and all field lines; then 431",
    "max_fields": "field lines in a head; then 431",
    "max_method_bytes": "method; then 501",
    "max_chunk_extension_bytes": "extensions of one chunk; then 400",
    "max_chunk_extensions_bytes": "chunk extensions of one body; then 400",
    "max_trailer_bytes": "trailer section; then 431",
    "max_trailer_fields": "field lines in a trailer section; then 431",
    "max_body_bytes": "content of one request; then 413",
    "initial_buffer_bytes": "read at a time to begin with",
    "max_buffer_bytes": "read at a time at most, and pipelined bytes that may wait",
    "max_unread_body_bytes": "discarded of a body the application left; then close",
    "max_linger_bytes": "discarded after the last response; then close",
    "max_output_bytes": "waiting to be written before a streamed body is held back",
    "max_memory_body_bytes": "a request body in memory; then a temporary file",
    "max_spooled_response_bytes": "of a streamed body in a temporary file, for a slow client; then its worker waits",
    "max_requests_per_connection": "requests on one connection; then close",
    "max_connections": "open connections; then the longest idle makes room, or new ones wait",
    "max_queued_requests": "requests waiting for a worker; then 503",
    "head_timeout": "from accept, or a later request's first byte, to the end of the head; then 408",
    "body_timeout": "how far a body may fall behind --min-body-rate; then 408",
    "min_body_rate": "bytes a second a request body must keep up",
    "keepalive_timeout": "idle between requests; then close",
    "write_timeout": "how far the peer may fall behind --min-write-rate; then reset",
    "min_write_rate": "bytes a second the peer must take of what it is owed",
    "queue_timeout": "a request waits for a worker; then 503",
    "linger_timeout": "waiting for the peer to close after the last response; then close",
    "stream_drain_timeout": "from the begin of a drain; then streamed responses must end",
    "drain_timeout": "from the begin of a drain; then what is left is reset",
}
"""One line for each field of Limits and Timeouts, for `--help`; the docstrings there have the details and reasons."""
