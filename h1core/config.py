"""Every limit and every timeout: two frozen dataclasses, each field with its unit, its reason and its consequence.

The command line is made from these fields, so a limit that is not here does not exist. The consequence is what the
peer gets when the limit is passed.
"""

from dataclasses import dataclass, fields
from sys import float_info
from typing import Final

from h1core.errors import LocalError

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a peer may send, and how much is kept. All sizes are bytes, all others are counts.

    Worst-case memory of one connection is `connection_bytes`; of a server, `max_connections` times that, and up to
    12 MiB for what is remembered of heads (`memory.py`).
    Raises LocalError when a value is not a positive whole number, or when two contradict each other.
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
    """What a connection reads at a time to begin with: an ordinary request with room to spare."""

    max_buffer_bytes: int = 1 * MIB
    """What a connection reads at a time at most, and the pipelined bytes that may wait for their turn. Then: nothing
    more is read until the response in hand is complete."""

    max_unread_body_bytes: int = 64 * KIB
    """What is read and thrown away of a body that the application left, to keep the connection. Then: close."""

    max_linger_bytes: int = 32 * MIB
    """What is read and thrown away after the last response, so that a peer which is still sending reads that response
    and no reset. Twice the body limit: who sends a body somewhat too large still hears 413. Then: close."""

    max_output_bytes: int = 64 * KIB
    """Response bytes waiting to be written above which a streamed body is not asked for more."""

    max_memory_body_bytes: int = 512 * KIB
    """Of a request body, before it goes to a temporary file. Ordinary forms and JSON stay below, uploads do not."""

    max_requests_per_connection: int = 1000
    """Requests on one connection; bounds what one peer can hold on to behind a balancer. Then: Connection: close."""

    max_connections: int = 1024
    """Open connections. Then: new ones wait in the kernel's backlog until one ends."""

    max_queued_requests: int = 500
    """Requests waiting for a worker beyond those running. Then: 503 with Retry-After."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise LocalError(f"{field.name} must be a whole number of at least 1, not {value!r}")
        if self.max_request_line_bytes > self.max_head_bytes:
            raise LocalError("max_request_line_bytes must not be larger than max_head_bytes, which contains it")
        if self.max_head_bytes > self.max_buffer_bytes:
            raise LocalError("max_head_bytes must not be larger than max_buffer_bytes, or a head could never be whole")
        if self.initial_buffer_bytes > self.max_buffer_bytes:
            raise LocalError("initial_buffer_bytes must not be larger than max_buffer_bytes")

    @property
    def connection_bytes(self) -> int:
        """Worst-case bytes that h1core keeps for one connection, bodies in the application's hands left aside.

        Input is checked before a read and output before a piece of body is asked for, so each may pass its mark by
        one read, and by one piece, which is the application's. A parsed head costs at most 64 bytes a field beyond
        its own size, an object and two byte strings.
        """
        receive = 2 * self.max_buffer_bytes
        head = 2 * self.max_head_bytes + 256 * self.max_fields
        trailers = 2 * self.max_trailer_bytes + 256 * self.max_trailer_fields
        return receive + head + trailers + self.max_output_bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take. All are seconds on the injected clock, all are on, none can be switched off.

    Raises LocalError when a value is not a positive number. A very large number is the way to say "never"; it has to
    be said.
    """

    head_timeout: float = 10.0
    """From accept, or from the first byte of a later request, to the end of the head; absolute, so that a byte now
    and then does not help. Then: 408 if a byte came, else a silent close."""

    body_timeout: float = 60.0
    """How far a request body may fall behind `min_body_rate` while we are reading it. Then: 408 and close."""

    min_body_rate: float = 1024.0
    """Bytes a second. Each byte of a body earns its share of a second, up to `body_timeout` from now."""

    keepalive_timeout: float = 75.0
    """Idle between requests; longer than the 60 s after which common balancers let go. Then: a silent close."""

    write_timeout: float = 30.0
    """How far the peer may fall behind `min_write_rate` in taking what it is owed; who takes nothing for so long
    is. Then: reset."""

    min_write_rate: float = 2048.0
    """Bytes a second. Each byte taken earns its share of a second, up to `write_timeout` from now. Without it, a client
    that takes a byte now and then holds 100 MiB of response for a year. A modem of 1995 is faster; a tiny rate is the
    way to say that any byte will do."""

    queue_timeout: float = 10.0
    """A request waits for a worker; by then most clients have given up on an ordinary page. Then: 503 with Retry-After,
    and it is not run."""

    linger_timeout: float = 2.0
    """After the last response, waiting for the peer to close its side. Then: close."""

    drain_timeout: float = 30.0
    """From the begin of a drain. Then: whatever is left is reset."""

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
    "max_requests_per_connection": "requests on one connection; then close",
    "max_connections": "open connections; then new ones wait in the kernel",
    "max_queued_requests": "requests waiting for a worker; then 503",
    "head_timeout": "from accept, or a later request's first byte, to the end of the head; then 408",
    "body_timeout": "how far a body may fall behind --min-body-rate; then 408",
    "min_body_rate": "bytes a second a request body must keep up",
    "keepalive_timeout": "idle between requests; then close",
    "write_timeout": "how far the peer may fall behind --min-write-rate; then reset",
    "min_write_rate": "bytes a second the peer must take of what it is owed",
    "queue_timeout": "a request waits for a worker; then 503",
    "linger_timeout": "waiting for the peer to close after the last response; then close",
    "drain_timeout": "from the begin of a drain; then what is left is reset",
}
"""One line for each field of Limits and Timeouts; the docstrings there say the rest, and why."""
