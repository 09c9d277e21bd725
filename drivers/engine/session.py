"""One connection's turn on the readiness loop: from what has come to what is waited for next.

Theory
------
A connection's socket is touched in four places only: `_receive` reads once, `_write` writes a buffer, `_settle` shuts
its writing side down, and `drop` closes it. All of them lead to the one pump, or are called by it:

    read -> receive_data -> events -> handler -> send -> next_events -> ... -> write -> disposition -> deadline

The pump goes round while there are events, so a batch of pipelined requests is answered with one write. It stops after
`EVENTS_PER_TURN` events or `WRITES_PER_TURN` writes and gives the others their turn; what is left waits in `unfinished`
for the next tick, which then does not wait.

What a connection waits for follows from questions to its `Conn`, after each turn: reading while it `wants_read`,
writing while it owes bytes. The selector is called only when that changes, which for ordinary requests is never.

With workers, a whole request leaves as a `Job` (pool.py) and its connection is frozen: nothing is read until the job
has come back through `hear`. A job whose connection has gone by then is dropped, and counted.

Nothing here decides anything about time, numbers or protocol: `Conn` and `ServerCore` do.
"""

import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from h1core.app.handler import FileBody, Handler, WholeBody
from h1core.events import Closed, Data, EndOfMessage, Event, FileSlice, Refused, Request, Response, TimedOut
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, Disposition
from h1core.server import ServerCore
from h1core.server.fairness import EVENTS_PER_TURN, PIECES_PER_TURN, WRITES_PER_TURN

from ..net.transport import READ, WRITE, Selector, Transport
from .connection import Connection
from .files import FileFailed, send_file
from .pool import PENDING, FilePieces, InlinePieces, Job, PieceEnd, Pieces, Work, Workers
from .responses import address_in_words, answer, close_quietly, log_access, overload_answer, release, send_first

logger = logging.getLogger("h1core.server")

LAST_EVENTS: Final = (Refused, TimedOut, Closed)
A_BUG: Final = "the connection to %s is cut because of a bug"
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Pump:
    """The open connections, and what is done with each of them. Belongs to the loop's thread.

    `workers` run the handler, or nobody else does. `clock` is read for the access log and the workers alone.
    """

    def __init__(
        self,
        handler: Handler,
        core: ServerCore,
        selector: Selector,
        clock: Callable[[], float],
        workers: Workers | None,
        access_log: bool,
    ) -> None:
        self.connections: dict[Conn, Connection] = {}
        self.unfinished: dict[Connection, None] = {}
        """Whose turn ended before its work: a set in the order of arrival; one turn for each in a tick."""
        self.dropped_completions = 0
        """How often a worker was through with a request whose connection had gone."""
        self.to_submit: list[Job] = []
        """Requests that wait to be given to the workers."""
        self._handler = handler
        self._core = core
        self._selector = selector
        self._clock = clock
        self._access_log = access_log
        self._workers = workers
        self._idle_read_bytes = core.limits.initial_buffer_bytes  # the `receive_bytes` of a connection that is idle
        if workers is not None:
            self._work = Work(handler, core.is_stale, core.limits.max_output_bytes, workers.post)

    # Connections

    def open(self, transport: Transport, peer: object) -> None:
        """Take in an accepted connection."""
        conn = self._core.connection_opened()
        connection = Connection(transport, conn, peer, self._core.limits.max_memory_body_bytes)
        self.connections[conn] = connection
        self.pump(connection, [])

    def drop(self, connection: Connection) -> None:
        """Close the transport, and forget the connection. A second call does nothing."""
        if self.connections.pop(connection.conn, None) is None:
            return
        if connection.interest:
            self._selector.unregister(connection.transport)
            connection.interest = 0
        if connection.conn.disposition is Disposition.ABORT:
            with contextlib.suppress(OSError):
                connection.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        with contextlib.suppress(OSError):
            connection.transport.close()
        connection.end_job()
        connection.body.give_up()
        connection.end_stream()
        self._core.connection_gone(connection.conn)

    # Turns

    def serve_idle(self, connection: Connection) -> None:
        """Serve a connection between two requests that the selector saw: a whole request is likely there.

        Hot path: the steps are the pump's, for an exchange of one read, one handler and one write. What turns out
        otherwise is left to the pump. A connection that is idle again owes nothing, has nothing waiting and waits for
        what it waited for before; and its deadline has moved, if at all, to a later instant. So there is nothing for
        `_settle` to ask (`Conn.is_idle`).
        """
        is_blocked = False
        try:
            events = self._receive(connection, self._idle_read_bytes)
            if len(events) == 1 and type(request := events[0]) is Request and request.end_stream:
                events = []
                request.endpoints = connection.endpoints
                self._answer(connection, request)
                if connection.job is not None:
                    return  # frozen, and without a deadline
                if connection.pieces is None:
                    is_blocked = not self._write(connection)
                    if connection.conn.is_idle:
                        return
            self._take_turn(connection, events, is_blocked)
            self._settle(connection)
        except Exception:
            logger.exception(A_BUG, address_in_words(connection.peer))
            self._cut(connection)

    def serve_ready(self, connection: Connection, mask: int) -> None:
        """Serve what the selector saw, unless the connection was dropped in this same tick."""
        if not connection.interest:
            return
        if mask & READ and connection.job is not None:
            # Frozen. It stays registered until something comes, which from ordinary clients nothing does.
            self._register(connection, connection.interest & ~READ)
        self.pump(connection, self.read(connection) if mask & READ else [])

    def serve_unfinished(self, connections: dict[Connection, None]) -> None:
        """Go on where turns have ended in an earlier tick."""
        for connection in connections:
            if connection.conn in self.connections and connection not in self.unfinished:
                self.pump(connection, [])

    def read(self, connection: Connection) -> list[Event]:
        """Read once, if the connection wants to, and say what came of it."""
        conn = connection.conn
        if connection.job is not None or not conn.wants_read:
            return []
        return self._receive(connection, conn.receive_bytes)

    def pump(self, connection: Connection, events: list[Event], job: Job | None = None) -> None:
        """Give a connection its turn. Whatever goes wrong in it ends this connection, and no other (S10)."""
        try:
            if job is not None and job is connection.job:
                self._hear_first(connection, job)
            self._take_turn(connection, events)
            self._settle(connection)
        except Exception:
            logger.exception(A_BUG, address_in_words(connection.peer))
            self._cut(connection)

    def _cut(self, connection: Connection) -> None:
        """End a connection whose turn has failed."""
        connection.conn.abort(CloseReason.APPLICATION_FAILED)
        self.drop(connection)

    def _take_turn(self, connection: Connection, events: list[Event], is_blocked: bool = False) -> None:
        """Move a connection as far as it goes within its turn: events, handler, responses, writes."""
        conn = connection.conn
        taken = writes = 0
        has_more = False
        while True:
            for event in events:
                self._take(connection, event)
            taken += len(events)
            if connection.pieces is not None:
                has_more = self._stream(connection)
            events = conn.next_events() if taken < EVENTS_PER_TURN else []
            if events:
                continue
            if is_blocked or not conn.output_bytes:
                break
            writes += 1
            is_blocked = not self._write(connection)
            if writes == WRITES_PER_TURN:
                break
        turn_is_over = taken >= EVENTS_PER_TURN or writes == WRITES_PER_TURN
        if turn_is_over or (has_more and not conn.output_bytes):
            self.unfinished[connection] = None

    def _take(self, connection: Connection, event: Event) -> None:
        """Act on one event: a request is answered once it is whole."""
        if type(event) is Request:
            event.endpoints = connection.endpoints
        elif isinstance(event, LAST_EVENTS):
            connection.end_stream()
        request = connection.body.take(event, connection.conn)
        if request is not None:
            self._answer(connection, request)

    # Requests

    def _answer(self, connection: Connection, request: Request) -> None:
        """Run the handler, or let a worker do it; what it raises is a 500."""
        if self._workers is not None:
            self._dispatch(connection, request)
            return
        if self._access_log:
            connection.began_at = self._clock()
        first, pieces, lead = answer(self._handler, request, takes_whole=True)
        if pieces is None:
            self._begin_response(connection, request, first, None)
            release(request)
        elif type(pieces) is WholeBody:
            self._begin_response(connection, request, first, None)
            close_quietly(pieces)
            release(request)
        elif type(pieces) is FileBody:
            self._begin_response(connection, request, first, FilePieces(pieces))
            release(request)
        else:
            self._begin_response(connection, request, first, InlinePieces(pieces, request, lead))

    def _begin_response(self, connection: Connection, request: Request, first: Response, pieces: Pieces | None) -> None:
        """Send what comes first, and let the pieces follow."""
        sent = send_first(connection.conn, request, first)
        if sent is first:
            connection.pieces = pieces
        elif pieces is not None:
            pieces.close()
        if self._access_log:
            log_access(connection.peer, request, sent, self._clock() - connection.began_at)

    # Workers

    def _dispatch(self, connection: Connection, request: Request) -> None:
        """Give a request to the workers, or turn it away."""
        connection.began_at = self._clock()
        if not self._core.request_ready(connection.conn):
            self._turn_away(connection, request)
            release(request)
            return
        connection.job = Job(connection, request, connection.began_at, self._work)
        self.to_submit.append(connection.job)

    def _turn_away(self, connection: Connection, request: Request) -> None:
        """Answer 503."""
        self._begin_response(connection, request, overload_answer(request), None)

    def submit_jobs(self, workers: Workers) -> None:
        """Let the workers have the requests that wait.

        All at once: with each one alone, a worker would take the interpreter from the loop at its next system call.
        """
        for job in self.to_submit:
            workers.submit(job)
        self.to_submit.clear()

    def hear(self, job: Job) -> None:
        """See how far a worker is: begin the response, or go on with it, unless the connection has gone."""
        connection = job.owner
        assert isinstance(connection, Connection)
        is_gone = connection.conn not in self.connections
        if job.is_over and not job.is_counted:
            job.is_counted = True
            self._core.request_done()
            self.dropped_completions += is_gone
        if not is_gone:
            self.pump(connection, [], job)
        if job.pieces is not None and job.pieces is not connection.pieces:
            job.pieces.close()

    def _hear_first(self, connection: Connection, job: Job) -> None:
        """Begin the response, or turn the request away that was found too old."""
        connection.job = None
        if job.first is None:
            self._core.request_stale(connection.conn)
            self._turn_away(connection, job.request)
        else:
            self._begin_response(connection, job.request, job.first, job.pieces)

    # Bytes

    def _receive(self, connection: Connection, size: int) -> list[Event]:
        """Read at most so many bytes, and say what came of them."""
        try:
            data = connection.transport.recv(size)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return connection.conn.connection_lost()
        return connection.conn.receive_data(data)

    def _stream(self, connection: Connection) -> bool:
        """Take pieces of body from the application while the peer keeps up; what it raises cuts the connection.

        Returns whether there may be more at once.
        """
        conn = connection.conn
        pieces = connection.pieces
        assert pieces is not None
        most = 0 if pieces.is_lent else self._core.limits.max_output_bytes
        try:
            for _ in range(PIECES_PER_TURN):
                if conn.output_bytes > most:
                    return True
                piece = pieces.next_piece()
                if piece is PENDING:
                    return False
                if isinstance(piece, PieceEnd):
                    conn.send(EndOfMessage())
                    connection.end_stream()
                    return False
                conn.send(piece if type(piece) is FileSlice else Data(piece))
        except Exception:
            logger.exception(
                "the handler's body failed; the connection to %s is cut", address_in_words(connection.peer)
            )
            conn.abort(CloseReason.APPLICATION_FAILED)
            connection.end_stream()
            return False
        return True

    def _write(self, connection: Connection) -> bool:
        """Write the next buffer, or some of a file, and say whether the socket would take more."""
        conn = connection.conn
        data = conn.data_to_send()
        try:
            if data:
                sent = connection.transport.send(data)
                has_room = sent == len(data)
            else:
                part = conn.file_to_send()
                assert part is not None, "something is to be written"
                sent, has_room = send_file(connection.transport, part)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            for event in conn.connection_lost():
                self._take(connection, event)
            return False
        except FileFailed as error:
            who = address_in_words(connection.peer)
            logger.error("a file cannot be sent to its end, the connection to %s is cut: %s", who, error)
            conn.abort(CloseReason.APPLICATION_FAILED)
            connection.end_stream()
            return False
        conn.data_sent(sent)
        return has_room

    # What comes next

    def _settle(self, connection: Connection) -> None:
        """Do what the connection's disposition says, or arrange for its next turn."""
        conn = connection.conn
        disposition = conn.disposition
        if disposition is not connection.disposition:
            connection.disposition = disposition
            if disposition is not Disposition.LINGER:
                self.drop(connection)
                return
            with contextlib.suppress(OSError):  # the peer may have gone first
                connection.transport.shutdown(socket.SHUT_WR)
        self._set_interest(connection)
        self._core.connection_pumped(conn)

    def _set_interest(self, connection: Connection) -> None:
        """Let the selector wait for what the connection waits for."""
        conn = connection.conn
        if connection.job is None:
            interest = READ if conn.wants_read else 0
        else:
            interest = connection.interest & READ
        if conn.output_bytes:
            interest |= WRITE
        if interest != connection.interest:
            self._register(connection, interest)

    def _register(self, connection: Connection, interest: int) -> None:
        """Change what the selector waits for."""
        if not connection.interest:
            self._selector.register(connection.transport, interest, connection)
        elif interest:
            self._selector.modify(connection.transport, interest, connection)
        else:
            self._selector.unregister(connection.transport)
        connection.interest = interest
