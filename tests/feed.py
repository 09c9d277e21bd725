"""A driver without I/O: bytes go through a `Conn`, a complete request is answered at once, all that came is kept."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from h1core.config import Limits, Timeouts
from h1core.events import Data, EndOfMessage, Event, Refused, Request, Response
from h1core.http1.conn import Conn
from h1core.http1.state import Disposition

from .corpus_files import Message

LAST = (Disposition.CLOSE, Disposition.ABORT)

TINY = Limits(
    max_request_line_bytes=40,
    max_head_bytes=160,
    max_fields=5,
    max_method_bytes=8,
    max_chunk_extension_bytes=12,
    max_chunk_extensions_bytes=20,
    max_trailer_bytes=40,
    max_trailer_fields=2,
    max_body_bytes=60,
    initial_buffer_bytes=16,
    max_buffer_bytes=256,
    max_unread_body_bytes=24,
    max_output_bytes=128,
    max_requests_per_connection=3,
)
"""Every limit within reach of a short stream."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True)
class Outcome:
    """What came out of a `Conn`, independent of how the bytes were cut."""

    events: list[Event] = field(default_factory=list)
    """Adjacent `Data` are joined."""
    outputs: list[bytes] = field(default_factory=list)
    """What was written, one entry for each time that something was to be written: never two responses in one."""


def new_conn() -> Conn:
    """A connection with every default, on a clock that stands still."""
    return Conn(Limits(), Timeouts(), clock=lambda: 0.0, wall_clock=lambda: 0.0)


def collect(conn: Conn, pieces: Iterable[bytes]) -> Outcome:
    """Feed the pieces, `b""` for the end of the stream, until the connection is closed.

    Holds `conn` to its contract on the way: it wants to read whenever it is fed, and no event follows its last word.
    """
    outcome = Outcome()
    for piece in pieces:
        if conn.disposition in LAST:
            break
        assert conn.wants_read
        found = conn.receive_data(piece)
        drain(conn, outcome)
        while found:
            for event in found:
                keep(event, outcome.events)
                if isinstance(event, Request) and not event.end_stream:
                    conn.resume_body()
                elif isinstance(event, Request | EndOfMessage):
                    conn.send(Response(200, (), b""))
                drain(conn, outcome)
            found = conn.next_events()
            drain(conn, outcome)
    assert conn.next_events() == []
    return outcome


def read(limits: Limits, pieces: Iterable[bytes]) -> tuple[list[Event], tuple[object, ...]]:
    """What comes of the pieces, but for 100 Continue: it MAY be left out once content came (RFC 9110 §10.1.1)."""
    conn = Conn(limits, Timeouts(), clock=lambda: 0.0, wall_clock=lambda: 0.0)
    outcome = collect(conn, pieces)
    output = b"".join(outcome.outputs).replace(CONTINUE, b"")
    return outcome.events, (output, conn.state, conn.close_reason, conn.disposition, conn.next_deadline)


def keep(event: Event, events: list[Event]) -> None:
    assert not (events and isinstance(events[-1], Refused)), f"{event} after {events[-1]}"
    if isinstance(event, Data):
        assert event.data, "an empty piece of body"
        event = Data(bytes(event.data))
        if events and isinstance(last := events[-1], Data):
            event = Data(bytes(last.data) + bytes(event.data))
            events.pop()
    events.append(event)


def drain(conn: Conn, outcome: Outcome) -> None:
    written = b""
    while out := bytes(conn.data_to_send()):
        conn.data_sent(len(out))
        written += out
    if written:
        outcome.outputs.append(written)


def messages(events: Sequence[Event]) -> tuple[list[Message], Message | None]:
    """The complete requests among joined events, and the one that was cut off. Other events are skipped."""
    complete: list[Message] = []
    head: Request | None = None
    body = b""
    for event in events:
        if isinstance(event, Request):
            assert head is None, f"{event} before the end of {head}"
            head, body = event, b""
        elif isinstance(event, Data):
            assert head is not None, f"{event} without a request"
            body = bytes(event.data)
        if head is not None and (head.end_stream or isinstance(event, EndOfMessage)):
            complete.append(message(head, body, event.trailers if isinstance(event, EndOfMessage) else ()))
            head = None
    return complete, message(head, body, ()) if head else None


def message(head: Request, body: bytes, trailers: Iterable[tuple[bytes, bytes]]) -> Message:
    return Message(head.method, head.target, head.version, tuple(head.headers), body, tuple(trailers))


def byte_by_byte(wire: bytes) -> list[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


def at_random(wire: bytes, seed: str) -> list[bytes]:
    """A few pieces of any length, the same for the same seed."""
    choose = random.Random(seed)
    cuts = sorted(choose.sample(range(1, len(wire)), min(len(wire) - 1, choose.randint(1, 8))))
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
