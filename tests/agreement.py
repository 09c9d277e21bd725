"""A `Conn` with every request answered at once, beside the naive reader of reference.py: they say the same."""

from h1core.config import Limits
from h1core.events import Closed, Event, Refused
from h1core.http1.conn import Conn
from h1core.http1.state import State

from .feed import collect, messages
from .reference import End, Reading, read_requests


def agree(wire: bytes, limits: Limits) -> Reading:
    """Hold h1core to what the naive reader says of a stream, given whole, and then of its end. The reader's words."""
    reading = read_requests(wire, limits)
    conn = Conn(limits, clock=lambda: 0.0, wall_clock=lambda: 0.0)
    events = collect(conn, [wire] if wire else []).events
    end = ending(conn, events)
    assert (messages(events), end) == ((reading.messages, reading.partial), reading.end)
    return reading


def ending(conn: Conn, events: list[Event]) -> End:
    """What h1core says of where a stream ends; the end of the stream makes it say so."""
    if events and isinstance(events[-1], Refused):
        return End.REFUSED
    if conn.state is State.ENDING:
        return End.CLOSED
    [last] = collect(conn, [b""]).events
    assert isinstance(last, Closed | Refused)
    return End.BETWEEN if isinstance(last, Closed) else End.INSIDE
