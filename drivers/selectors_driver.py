"""The readiness loop: h1core on non-blocking sockets and `selectors`, handlers inline or on worker threads.

Theory
------
One thread has the selector, the sockets and the `Conn`s. A connection's socket is touched in four places only: `_read`
reads once, `_write` writes a buffer, `_settle` shuts its writing side down, and `_drop` closes it. All of them lead to
the one pump, or are called by it:

    read -> receive_data -> events -> handler -> send -> next_events -> ... -> write -> disposition -> deadline

The pump goes round while there are events, so a batch of pipelined requests is answered with one write. It stops after
`EVENTS_PER_TURN` events or `WRITES_PER_TURN` writes and gives the others their turn; what is left waits in `_ready` for
the next tick, which then does not wait.

What a connection waits for follows from questions to its `Conn`, after each pump: reading while it `wants_read`,
writing while it owes bytes. The selector is called only when that changes, which for ordinary requests is never.

With workers, a whole request leaves as a `Job` (pool.py) and its connection is frozen: nothing is read until the job
has come back through `_take_job`. A job whose connection has gone by then is dropped, and counted.

Nothing here decides anything about time, numbers or protocol: `Conn` and `ServerCore` do.

`tick` is one bounded round: wait, serve what is ready, do what is due. Of what is ready, connections between two
requests come first: a whole request is likely there, while others are newcomers, or send in bits. Given the same clock,
selector and sockets it does the same. `run` is `tick` for ever. `begin_drain` and `stop` may come from any thread or a
signal handler, at any moment: they only leave a note for the next tick, and wake it.
"""

import contextlib
import logging
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

from h1core.config import Limits, Timeouts
from h1core.conn import Conn
from h1core.events import Closed, Data, EndOfMessage, Event, FileSlice, Refused, Request, Response, TimedOut
from h1core.handler import FileBody, Handler, WholeBody
from h1core.server import Phase, ServerCore
from h1core.server.turns import EVENTS_PER_TURN, PIECES_PER_TURN, WRITES_PER_TURN
from h1core.state import CloseReason, Disposition

from .accepting import SelectorAcceptor
from .answering import address_in_words, answer, close_quietly, log_access, overload_answer, release, send_first
from .connection import Connection
from .files import FileFailed, send_file
from .pool import PENDING, FilePieces, InlinePieces, Job, PieceEnd, Pieces, Pool, Workers
from .transport import READ, WRITE, Listener, Selector, Transport
from .wake import WakeChannel

logger = logging.getLogger("h1core.server")

LAST_EVENTS: Final = (Refused, TimedOut, Closed)
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Server:
    """An HTTP/1.1 server for one handler.

    `handler(request) -> Response` runs on the loop, or with `threads` on so many worker threads, for which tests may
    put `workers` in. It gets whole requests; a body past `Limits.max_memory_body_bytes` lies in a file. It may raise
    any Exception; SystemExit and its like end the server when they come on the loop.

    `listeners` are non-blocking listening sockets, which the server closes when it drains or ends. `clock`,
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
        threads: int = 0,
        workers: Workers | None = None,
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._core = ServerCore(limits, timeouts, clock=clock, wall_clock=wall_clock, workers=threads)
        self._selector: Selector = selector or selectors.DefaultSelector()
        self._access_log = access_log
        self._connections: dict[Conn, Connection] = {}
        self._ready: dict[Connection, None] = {}  # a set in the order of arrival; one turn for each in a tick
        self._wake: WakeChannel | None = None
        self._workers = workers
        if threads and workers is None:
            self._workers = Pool(threads, self._open_wake().wake)
        self._dropped_completions = 0
        self._drain_asked = False
        self._stop_asked = False
        self._acceptor = SelectorAcceptor(listeners, self._core, self._selector)

    # Running

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until a drain is over or `stop` is called, then close everything. Raises what the selector raises.

        Calls `started` before it begins.
        """
        self._open_wake()
        started()
        try:
            while not self._stop_asked and self._core.phase is not Phase.STOPPED:
                self.tick()
        finally:
            self.close()

    def _open_wake(self) -> WakeChannel:
        """Let other threads wake the selector."""
        if self._wake is None:
            self._wake = WakeChannel()
            self._selector.register(self._wake, READ, self._wake)
        return self._wake

    def tick(self, max_wait: float | None = None) -> None:
        """Do one round: wait until something is ready or due, `max_wait` seconds at most, and serve it."""
        if self._drain_asked:
            self._start_drain()
        if self._core.phase is Phase.STOPPED:
            return  # nothing will ever be ready
        self._acceptor.listen_or_rest()
        wait_s = self._wait_s(max_wait)
        waiting, self._ready = self._ready, {}
        behind: list[tuple[Connection, int]] = []
        for key, mask in self._selector.select(wait_s):
            if type(key.data) is Connection:
                if key.data.conn.is_idle:
                    self._serve_ready(key.data, mask)
                else:
                    behind.append((key.data, mask))
            elif type(key.data) is WakeChannel:
                key.data.clear()
            else:
                for transport, peer in self._acceptor.accept(key.data):
                    self._open(transport, peer)
        for connection, mask in behind:
            self._serve_ready(connection, mask)
        if self._workers is not None:
            self._take_posted(self._workers)
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
        if self._workers is not None:
            self._take_posted(self._workers)
            self._workers.close()
        if self._wake is not None:
            self._selector.unregister(self._wake)
            self._wake.close()
            self._wake = None
        self._selector.close()

    @property
    def is_idle(self) -> bool:
        """Whether the next `tick` would wait, were it not for sockets and workers."""
        return not self._drain_asked and self._wait_s(None) != 0

    @property
    def dropped_completions(self) -> int:
        """How often a worker was through with a request whose connection had gone."""
        return self._dropped_completions

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
        """Take in what was sent before the drain began, so that none of it is lost, and then begin to end."""
        self._drain_asked = False
        if self._core.phase is not Phase.RUNNING:
            return
        for transport, peer in self._acceptor.accept_all():
            self._open(transport, peer)
        self._acceptor.close_listeners()
        came = {conn: self._read(connection) for conn, connection in self._connections.items()}
        for conn in self._core.begin_drain():
            self._pump(self._connections[conn], came[conn])

    # Connections

    def _open(self, transport: Transport, peer: object) -> None:
        """Take in an accepted connection."""
        conn = self._core.connection_opened()
        connection = Connection(transport, conn, peer, self._core.limits.max_memory_body_bytes)
        self._connections[conn] = connection
        self._pump(connection, [])

    def _drop(self, connection: Connection) -> None:
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
        connection.end_job()
        connection.body.give_up()
        connection.end_stream()
        self._core.connection_gone(connection.conn)

    # The pump

    def _serve_ready(self, connection: Connection, mask: int) -> None:
        """Serve what the selector saw, unless the connection was dropped in this same tick."""
        if not connection.interest:
            return
        if mask & READ and connection.job is not None:
            # Frozen. It stays registered until something comes, which from ordinary clients nothing does.
            self._register(connection, connection.interest & ~READ)
        self._pump(connection, self._read(connection) if mask & READ else [])

    def _read(self, connection: Connection) -> list[Event]:
        """Read once, if the connection wants to, and say what came of it."""
        conn = connection.conn
        if connection.job is not None or not conn.wants_read:
            return []
        try:
            data = connection.transport.recv(conn.receive_bytes)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return conn.connection_lost()
        return conn.receive_data(data)

    def _pump(self, connection: Connection, events: list[Event], job: Job | None = None) -> None:
        """Give a connection its turn. Whatever goes wrong in it ends this connection, and no other (S10)."""
        try:
            if job is not None and job is connection.job:
                self._hear_worker(connection, job)
            self._take_turn(connection, events)
            self._settle(connection)
        except Exception:
            logger.exception("the connection to %s is cut because of a bug", address_in_words(connection.peer))
            connection.conn.abort(CloseReason.APPLICATION_FAILED)
            self._drop(connection)

    def _take_turn(self, connection: Connection, events: list[Event]) -> None:
        """Move a connection as far as it goes within its turn: events, handler, responses, writes."""
        conn = connection.conn
        taken = writes = 0
        has_more = is_blocked = False
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
            self._ready[connection] = None

    def _take(self, connection: Connection, event: Event) -> None:
        """Act on one event: a request is answered once it is whole."""
        if type(event) is Request:
            event.endpoints = connection.endpoints
        elif isinstance(event, LAST_EVENTS):
            connection.end_stream()
        request = connection.body.take(event, connection.conn)
        if request is not None:
            self._answer(connection, request)

    def _answer(self, connection: Connection, request: Request) -> None:
        """Run the handler, or let a worker do it; what it raises is a 500."""
        connection.began_at = self._clock() if self._access_log or self._workers is not None else 0.0
        if self._workers is not None:
            self._dispatch(connection, request, self._workers)
            return
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

    def _dispatch(self, connection: Connection, request: Request, workers: Workers) -> None:
        """Give a request to the workers, or turn it away."""
        core = self._core
        if not core.request_ready(connection.conn):
            self._turn_away(connection, request)
            release(request)
            return
        began_at = connection.began_at
        most = core.limits.max_output_bytes
        connection.job = Job(connection, request, self._handler, lambda: core.is_stale(began_at), most, workers.post)
        workers.submit(connection.job)

    def _turn_away(self, connection: Connection, request: Request) -> None:
        """Answer 503."""
        self._begin_response(connection, request, overload_answer(request), None)

    def _take_posted(self, workers: Workers) -> None:
        """See what workers have to say."""
        for job in workers.take_posted():
            self._take_job(job)

    def _take_job(self, job: Job) -> None:
        """See how far a worker is: begin the response, or go on with it, unless the connection has gone."""
        connection = job.owner
        assert isinstance(connection, Connection)
        is_gone = connection.conn not in self._connections
        if job.is_over and not job.is_counted:
            job.is_counted = True
            self._core.request_done()
            self._dropped_completions += is_gone
        if not is_gone:
            self._pump(connection, [], job)
        if job.pieces is not None and job.pieces is not connection.pieces:
            job.pieces.close()

    def _hear_worker(self, connection: Connection, job: Job) -> None:
        """Begin the response, or turn the request away that was found too old."""
        connection.job = None
        if job.first is None:
            self._core.request_stale(connection.conn)
            self._turn_away(connection, job.request)
        else:
            self._begin_response(connection, job.request, job.first, job.pieces)

    def _begin_response(self, connection: Connection, request: Request, first: Response, pieces: Pieces | None) -> None:
        """Send what comes first, and let the pieces follow."""
        sent = send_first(connection.conn, request, first)
        if sent is first:
            connection.pieces = pieces
        elif pieces is not None:
            pieces.close()
        if self._access_log:
            log_access(connection.peer, request, sent, self._clock() - connection.began_at)

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

    def _settle(self, connection: Connection) -> None:
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
