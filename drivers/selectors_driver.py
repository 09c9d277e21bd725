"""The readiness loop: h1core on non-blocking sockets and `selectors`, handlers inline.

Theory
------
One thread, one selector. A connection's socket is touched in four places only: `_serve_ready` reads once, `_write`
writes a buffer, `_settle` shuts its writing side down, and `_drop` closes it. All of them lead to the one pump, or are
called by it:

    read -> receive_data -> events -> handler -> send -> next_events -> ... -> write -> disposition -> deadline

The pump goes round while there are events, so a batch of pipelined requests is answered with one write. It stops after
`EVENTS_PER_TURN` events or `WRITES_PER_TURN` writes and gives the others their turn; what is left waits in `_ready` for
the next tick, which then does not wait.

What a connection waits for follows from questions to its `Conn`, after each pump: reading while it `wants_read`,
writing while it owes bytes. The selector is called only when that changes, which for ordinary requests is never.

Nothing here decides anything about time, numbers or protocol: `Conn` and `ServerCore` do.

`tick` is one bounded round: wait, serve what is ready, do what is due. Given the same clock, selector and sockets it
does the same. `run` is `tick` for ever. `begin_drain` and `stop` may come from any thread or a signal handler, at any
moment: they only leave a note for the next tick, and wake it.
"""

import contextlib
import logging
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, assert_never

from h1core.config import Limits, Timeouts
from h1core.conn import Conn
from h1core.events import Closed, Data, EndOfMessage, Event, Refused, Request, Switched, TimedOut
from h1core.handler import Handler, close_pieces, first_part
from h1core.output import Buffer
from h1core.server import Phase, ServerCore
from h1core.server.turns import EVENTS_PER_TURN, PIECES_PER_TURN, WRITES_PER_TURN
from h1core.state import CloseReason, Disposition
from h1core.writer import error_response

from .accepting import Acceptor
from .transport import READ, WRITE, Listener, Selector, Transport
from .wake import WakeChannel

logger = logging.getLogger("h1core.server")
access_logger = logging.getLogger("h1core.access")

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class _Connection:
    """A transport, its `Conn`, and what the driver is in the middle of."""

    __slots__ = ("conn", "disposition", "interest", "parts", "peer", "pieces", "request", "transport")

    def __init__(self, transport: Transport, conn: Conn, peer: object) -> None:
        self.transport = transport
        self.conn = conn
        self.peer = peer
        self.interest = 0
        """What the selector waits for; 0 when it does not know the transport."""
        self.disposition = Disposition.KEEP
        """What was done about the transport last."""
        self.request: Request | None = None
        """The request whose body is being collected."""
        self.parts: list[Buffer] = []
        self.pieces: Iterator[bytes] | None = None
        """The rest of the response that is being streamed."""


class Server:
    """An HTTP/1.1 server for one handler on one thread.

    `handler(request) -> Response` runs on the loop; it may raise any Exception, while SystemExit and its like end the
    server. `listeners` are non-blocking listening sockets, which the server closes when it drains or ends. `clock`,
    `wall_clock` and `selector` are injected by tests. With `access_log`, each answered request is a line on the logger
    `h1core.access`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        listeners: Sequence[Listener],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        selector: Selector | None = None,
        access_log: bool = False,
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._core = ServerCore(limits, timeouts, clock=clock, wall_clock=wall_clock)
        self._selector: Selector = selector or selectors.DefaultSelector()
        self._access_log = access_log
        self._connections: dict[Conn, _Connection] = {}
        self._ready: dict[_Connection, None] = {}  # a set in the order of arrival; one turn for each in a tick
        self._wake: WakeChannel | None = None
        self._drain_asked = False
        self._stop_asked = False
        self._acceptor = Acceptor(listeners, self._selector, self._core)

    # Running

    def run(self) -> None:
        """Serve until a drain is over or `stop` is called, then close everything. Raises what the selector raises."""
        self._wake = WakeChannel()
        self._selector.register(self._wake, READ, self._wake)
        try:
            while not self._stop_asked and self._core.phase is not Phase.STOPPED:
                self.tick()
        finally:
            self.close()

    def tick(self, max_wait: float | None = None) -> None:
        """Do one round: wait until something is ready or due, `max_wait` seconds at most, and serve it."""
        if self._drain_asked:
            self._start_drain()
        if self._core.phase is Phase.STOPPED:
            return  # nothing will ever be ready
        self._acceptor.listen_or_rest()
        wait_s = self._wait_s(max_wait)
        waiting, self._ready = self._ready, {}
        for key, mask in self._selector.select(wait_s):
            if type(key.data) is _Connection:
                self._serve_ready(key.data, mask)
            elif type(key.data) is WakeChannel:
                key.data.clear()
            else:
                for transport, peer in self._acceptor.accept(key.data):
                    self._open(transport, peer)
        for connection in waiting:
            if connection.conn in self._connections and connection not in self._ready:
                self._pump(connection, [])
        for conn in self._core.due_connections():
            self._pump(self._connections[conn], conn.handle_deadline())

    def begin_drain(self) -> None:
        """Finish what is in flight, accept nothing more, and then end `run`. From any thread or signal handler."""
        self._drain_asked = True
        self._wake_up()

    def stop(self) -> None:
        """End `run` now, cutting every connection. From any thread or signal handler."""
        self._stop_asked = True
        self._wake_up()

    def _wake_up(self) -> None:
        wake = self._wake  # looked at once: the loop may give it back in between
        if wake is not None:
            wake.wake()

    def close(self) -> None:
        """Cut every connection and give everything back; the server is not used again. A second call does nothing."""
        for connection in list(self._connections.values()):
            connection.conn.abort(CloseReason.DRAINING)
            self._drop(connection)
        self._acceptor.close()
        if self._wake is not None:
            self._selector.unregister(self._wake)
            self._wake.close()
            self._wake = None
        self._selector.close()

    @property
    def core(self) -> ServerCore:
        """The policy, for questions."""
        return self._core

    def _wait_s(self, max_wait: float | None) -> float | None:
        """How long the selector may wait."""
        if self._ready:
            return 0
        deadline = self._core.next_deadline
        if deadline is None:
            return max_wait
        wait = max(0.0, deadline - self._clock())
        return wait if max_wait is None else min(wait, max_wait)

    def _start_drain(self) -> None:
        self._drain_asked = False
        self._acceptor.close_listeners()
        for conn in self._core.begin_drain():
            self._pump(self._connections[conn], [])

    # Connections

    def _open(self, transport: Transport, peer: object) -> None:
        """Take in an accepted connection."""
        conn = self._core.connection_opened()
        connection = _Connection(transport, conn, peer)
        self._connections[conn] = connection
        self._pump(connection, [])

    def _drop(self, connection: _Connection) -> None:
        """Close the transport, and forget the connection. A second call does nothing."""
        if self._connections.pop(connection.conn, None) is None:
            return
        if connection.interest:
            self._selector.unregister(connection.transport)
            connection.interest = 0
        if connection.conn.disposition is Disposition.ABORT:
            with contextlib.suppress(OSError):
                connection.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        with contextlib.suppress(OSError):
            connection.transport.close()
        self._end_stream(connection)
        self._core.connection_gone(connection.conn)

    # The pump

    def _serve_ready(self, connection: _Connection, mask: int) -> None:
        """Serve what the selector saw, unless the connection was dropped in this same tick."""
        if not connection.interest:
            return
        events: list[Event] = []
        if mask & READ:
            conn = connection.conn
            try:
                data = connection.transport.recv(conn.receive_bytes)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                events = conn.connection_lost()
            else:
                events = conn.receive_data(data)
        self._pump(connection, events)

    def _pump(self, connection: _Connection, events: list[Event]) -> None:
        """Give a connection its turn. Whatever goes wrong in it ends this connection, and no other (S10)."""
        try:
            self._take_turn(connection, events)
            self._settle(connection)
        except Exception:
            logger.exception("the connection to %s is cut because of a bug", _address(connection.peer))
            connection.conn.abort(CloseReason.APPLICATION_FAILED)
            self._drop(connection)

    def _take_turn(self, connection: _Connection, events: list[Event]) -> None:
        """Move a connection as far as it goes within its turn: events, handler, responses, writes."""
        conn = connection.conn
        taken = writes = 0
        while True:
            for event in events:
                self._take(connection, event)
            taken += len(events)
            if connection.pieces is not None:
                self._stream(connection)
            events = conn.next_events() if taken < EVENTS_PER_TURN else []
            if events:
                continue
            if not conn.output_bytes:
                break
            writes += 1
            if not self._write(connection) or writes == WRITES_PER_TURN:
                break
        turn_is_over = taken >= EVENTS_PER_TURN or writes == WRITES_PER_TURN
        if turn_is_over or (connection.pieces is not None and not conn.output_bytes):
            self._ready[connection] = None

    def _take(self, connection: _Connection, event: Event) -> None:
        """Act on one event: collect the body of a request, and answer the request once it is whole."""
        match event:
            case Request():
                if event.end_stream:
                    self._answer(connection, event)
                else:
                    connection.request = event
                    connection.conn.resume_body()
            case Data():
                connection.parts.append(event.data)
            case EndOfMessage():
                request = connection.request
                assert request is not None
                request.body = b"".join(connection.parts)
                request.trailers = event.trailers
                connection.request = None
                connection.parts = []
                self._answer(connection, request)
            case Refused() | TimedOut() | Closed():
                connection.request = None
                connection.parts = []
                self._end_stream(connection)
                logger.debug("%s: %s", connection.peer, event)
            case Switched():
                raise AssertionError("no protocol was offered to be taken")
            case _:
                assert_never(event)

    def _answer(self, connection: _Connection, request: Request) -> None:
        """Run the handler, and begin its response; what it raises is a 500."""
        conn = connection.conn
        began = self._clock() if self._access_log else 0.0
        pieces = None
        try:
            first, pieces = first_part(request, self._handler(request))
            conn.send(first)
        except Exception:
            logger.exception("the handler failed on %s", _in_words(request))
            close_quietly(pieces)
            first, pieces = first_part(request, error_response(500, "The application failed."))
            conn.send(first)
        connection.pieces = pieces
        if self._access_log:
            took_ms = 1000 * (self._clock() - began)
            access_logger.info("%s %s %d %.1fms", _address(connection.peer), _in_words(request), first.status, took_ms)

    def _stream(self, connection: _Connection) -> None:
        """Take pieces of body from the handler while the peer keeps up; what it raises cuts the connection."""
        conn = connection.conn
        pieces = connection.pieces
        assert pieces is not None
        most = self._core.limits.max_output_bytes
        try:
            for _ in range(PIECES_PER_TURN):
                if conn.output_bytes > most:
                    return
                piece = next(pieces, _END)
                if piece is _END:
                    conn.send(EndOfMessage())
                    self._end_stream(connection)
                    return
                conn.send(Data(piece))
        except Exception:
            logger.exception("the handler's body failed; the connection to %s is cut", _address(connection.peer))
            conn.abort(CloseReason.APPLICATION_FAILED)
            self._end_stream(connection)

    def _end_stream(self, connection: _Connection) -> None:
        """Let the handler's iterator clean up, however its response ended."""
        pieces, connection.pieces = connection.pieces, None
        close_quietly(pieces)

    def _write(self, connection: _Connection) -> bool:
        """Write the next buffer, and say whether the socket would take more."""
        conn = connection.conn
        data = conn.data_to_send()
        try:
            sent = connection.transport.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            for event in conn.connection_lost():
                self._take(connection, event)
            return False
        conn.data_sent(sent)
        return sent == len(data)

    def _settle(self, connection: _Connection) -> None:
        """Do what the connection's disposition says, or arrange for its next turn."""
        conn = connection.conn
        disposition = conn.disposition
        if disposition is not connection.disposition:
            connection.disposition = disposition
            if disposition is not Disposition.LINGER:
                self._drop(connection)
                return
            with contextlib.suppress(OSError):  # the peer may have gone first
                connection.transport.shutdown(socket.SHUT_WR)
        self._set_interest(connection)
        self._core.connection_pumped(conn)

    def _set_interest(self, connection: _Connection) -> None:
        """Let the selector wait for what the connection waits for."""
        conn = connection.conn
        interest = READ if conn.wants_read else 0
        if conn.output_bytes:
            interest |= WRITE
        if interest != connection.interest:
            if not connection.interest:
                self._selector.register(connection.transport, interest, connection)
            elif interest:
                self._selector.modify(connection.transport, interest, connection)
            else:
                self._selector.unregister(connection.transport)
            connection.interest = interest


_END: Final = b"end of pieces"
"""Not a piece: compared by identity."""


def close_quietly(pieces: Iterator[bytes] | None) -> None:
    """Close a handler's iterator; what that raises is logged."""
    try:
        close_pieces(pieces)
    except Exception:
        logger.exception("closing the handler's body failed")


def _in_words(request: Request) -> str:
    """The request line for a log. The grammar of heads leaves no control byte in it (CVE-2020-7694)."""
    return f"{request.method.decode()} {request.target.decode()} HTTP/{request.version.decode()}"


def _address(peer: object) -> str:
    """A peer's address for a log."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix"
