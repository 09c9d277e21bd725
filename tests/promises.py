"""What `Conn` promises between any two calls, whatever they were."""

from h1core.config import Limits
from h1core.events import Closed, Data, EndOfMessage, Event, Refused, Request, Switched, TimedOut
from h1core.http1.body import ChunkedReader
from h1core.http1.conn import Conn
from h1core.http1.grammar import MAX_CHUNK_SIZE_DIGITS
from h1core.http1.state import Disposition, State
from h1core.http1.timers import NEVER

LAST_WORDS = (Refused, TimedOut, Closed)
OVER = (Disposition.CLOSE, Disposition.ABORT)
READING = (State.HEAD, State.RECEIVING, State.DUPLEX, State.DRAINING)
UNANSWERED = (State.RECEIVING, State.HANDLING)
STREAMING = (State.DUPLEX, State.RESPONDING)


def snapshot(conn: Conn) -> tuple[object, ...]:
    """All that can be seen of a connection."""
    front = bytes(conn.data_to_send())
    ends = conn.close_reason, conn.disposition, conn.next_deadline
    return conn.state, conn.output_bytes, front, conn.wants_read, conn.receive_bytes, *ends


def closed_is_closed(conn: Conn) -> None:
    assert (conn.state is State.CLOSED) == (conn.disposition in OVER)
    if conn.state is State.CLOSED:
        assert not conn.wants_read
        assert conn.next_deadline is None
        assert not conn.output_bytes
        assert not conn.data_to_send()


def an_end_has_a_reason(conn: Conn, *, had_last_word: bool) -> None:
    ends = conn.state in (State.ENDING, State.CLOSED) or had_last_word
    assert conn.close_reason is not None or not ends


def who_owes_has_a_deadline(conn: Conn) -> None:
    peer_owes = conn.output_bytes or conn.state is State.ENDING or (conn.state in READING and conn.wants_read)
    assert conn.next_deadline is not None or not peer_owes


def the_next_deadline_is_the_earliest(conn: Conn) -> None:
    assert conn.next_deadline == conn._timers.next


def who_is_idle_only_waits(conn: Conn) -> None:
    if conn.is_idle:
        assert not conn.output_bytes
        assert conn.wants_read
        assert conn.disposition is Disposition.KEEP


def nobody_is_late_with_a_body_that_is_not_read(conn: Conn) -> None:
    unread = conn.state in (State.RECEIVING, State.DUPLEX) and not conn.wants_read
    assert not unread or conn._timers.body == NEVER


def nobody_waits_for_a_peer_that_has_ended(conn: Conn, *, has_ended: bool) -> None:
    waits = conn.state in READING and not (conn.state is State.HEAD and conn.output_bytes)
    assert not (has_ended and waits)


def what_waits_is_bounded(conn: Conn, limits: Limits) -> None:
    """For a driver that reads no more at a time than `receive_bytes`."""
    assert len(conn._buffer) <= limits.max_buffer_bytes
    assert 0 < conn.receive_bytes <= limits.max_buffer_bytes
    if conn.state in READING and isinstance(conn._reader, ChunkedReader):
        line_bytes = MAX_CHUNK_SIZE_DIGITS + limits.max_chunk_extension_bytes + 2
        assert len(conn._reader._kept) < max(line_bytes, limits.max_trailer_bytes)


def events_are_few(events: list[Event], limits: Limits) -> None:
    """One call gives a request at most, and what belongs to it: the rest waits in bytes.

    A body that has waited comes in pieces of the size of a first read.
    """
    kinds = [type(event) for event in events]
    for kind in (Request, EndOfMessage, Switched):
        assert kinds.count(kind) <= 1, events
    assert kinds.count(Data) <= 2 + limits.max_buffer_bytes // limits.initial_buffer_bytes
    assert sum(kinds.count(kind) for kind in LAST_WORDS) <= 1, events
