"""What the tests of the core share: wire bytes, connections in any state, and ways to feed, flush and question them.

Questions are functions here, because a type checker takes an attribute that was asked for once to stay as it was.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import pytest

from h1core import (
    CloseReason,
    Conn,
    Disposition,
    EndOfMessage,
    Event,
    Limits,
    LocalError,
    Request,
    Response,
    Sendable,
    State,
    Timeouts,
)
from h1core.http1.date import DateField
from h1core.testing import FakeClock

from .feed import byte_by_byte, keep

START: Final = 1000.0
"""When a test begins: not 0, which is also what an instant is that nobody set."""

INSTANT: Final = 2.0**-10
"""The shortest time here, exact in binary."""

OK: Final = Response(200)
STREAMED: Final = Response(200, (), None)


def request(line: str = "GET / HTTP/1.1", *fields: str) -> bytes:
    """A head with a Host field and those given."""
    return "".join(f"{each}\r\n" for each in (line, "Host: x", *fields, "")).encode("latin-1")


def chunk(content: bytes, extensions: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(content), extensions, content)


GET: Final = request()
LAST_GET: Final = request("GET / HTTP/1.1", "Connection: close")
OLD_GET: Final = request("GET / HTTP/1.0")
POST: Final = request("POST / HTTP/1.1", "Content-Length: 10")
BODY: Final = b"0123456789"
CHUNKED: Final = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
LAST_CHUNK: Final = b"0\r\n\r\n"
EXPECTING: Final = request("POST / HTTP/1.1", "Content-Length: 10", "Expect: 100-continue")
UPGRADE: Final = request("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: chat")
CONNECT: Final = request("CONNECT x:443 HTTP/1.1")

Cut: TypeAlias = Callable[[bytes], list[bytes]]


def whole(wire: bytes) -> list[bytes]:
    return [wire]


each_cut = pytest.mark.parametrize("cut", [whole, byte_by_byte])
each_state = pytest.mark.parametrize("state", State, ids=lambda state: state.name)


def a_conn(
    clock: FakeClock | None = None,
    limits: Limits | None = None,
    *,
    timeouts: Timeouts | None = None,
    wall_clock: Callable[[], float] | DateField | None = None,
    upgrades: Container[bytes] = (),
) -> Conn:
    """A connection just accepted."""
    return Conn(limits, timeouts, clock=clock or FakeClock(START), wall_clock=wall_clock, upgrades=upgrades)


Action: TypeAlias = bytes | Sendable | Callable[[Conn], object]


def play(conn: Conn, *actions: Action) -> list[Event]:
    """Receive the bytes, send what can be sent, call the rest; the events that came of the bytes, Data joined."""
    events: list[Event] = []
    for action in actions:
        if isinstance(action, bytes):
            for event in conn.receive_data(action):
                keep(event, events)
        elif callable(action):
            action(conn)
        else:
            conn.send(action)
    return events


def receive(conn: Conn, pieces: Iterable[bytes]) -> list[Event]:
    return play(conn, *pieces)


def flush(conn: Conn) -> bytes:
    """Write everything that is owed."""
    written = b""
    while out := bytes(conn.data_to_send()):
        conn.data_sent(len(out))
        written += out
    return written


def sent_by(*actions: Action) -> bytes:
    """What is written when this is played."""
    conn = a_conn()
    play(conn, *actions)
    return flush(conn)


ROUTES: Final[dict[State, tuple[Action, ...]]] = {
    State.HEAD: (),
    State.RECEIVING: (POST,),
    State.HANDLING: (GET,),
    State.DUPLEX: (POST, STREAMED),
    State.RESPONDING: (GET, STREAMED),
    State.DRAINING: (POST, OK),
    State.ENDING: (LAST_GET, OK),
    State.SWITCHED: (UPGRADE, Conn.switch_protocols),
    State.CLOSED: (Conn.connection_lost,),
}


def conn_at(state: State, clock: FakeClock | None = None, limits: Limits | None = None) -> Conn:
    """A connection in a state, with nothing left to write."""
    conn = a_conn(clock, limits, upgrades={b"chat"})
    play(conn, *ROUTES[state])
    flush(conn)
    assert conn.state is state
    return conn


def serve(conn: Conn, pieces: Iterable[bytes], respond: Callable[[Request], Response] = lambda _: OK) -> list[Request]:
    """Answer each whole request of the pieces, as a driver does that never writes; the requests in their order."""
    requests: list[Request] = []
    for piece in pieces:
        events = conn.receive_data(piece)
        while events:
            for event in events:
                if isinstance(event, Request):
                    requests.append(event)
                if isinstance(event, EndOfMessage) or (isinstance(event, Request) and event.end_stream):
                    conn.send(respond(requests[-1]))
            events = conn.next_events()
    return requests


# Questions


def where(conn: Conn) -> State:
    return conn.state


def end_of(conn: Conn) -> tuple[CloseReason | None, Disposition]:
    """Why it ends, if it does, and what the driver must do."""
    return conn.close_reason, conn.disposition


def wants_read(conn: Conn) -> bool:
    return conn.wants_read


def due_in(conn: Conn, clock: FakeClock) -> float | None:
    """Seconds to the next deadline."""
    return None if conn.next_deadline is None else conn.next_deadline - clock.now


@contextmanager
def local_error(conn: Conn, sentence: str) -> Iterator[None]:
    """What is done within raises LocalError, and nothing has happened: nothing queued, nothing moved."""
    before = everything_about(conn)
    with pytest.raises(LocalError, match=sentence):
        yield
    assert everything_about(conn) == before


def everything_about(conn: Conn) -> tuple[object, ...]:
    questions = conn.state, *end_of(conn), conn.wants_read, conn.receive_bytes, conn.next_deadline
    return *questions, conn.output_bytes, bytes(conn.data_to_send())
