"""The trio driver: h1core in a nursery, a task for each connection, deadlines on trio's clock.

Theory
------
`Server` is what all connections have in common: one task for each listener, which accepts; one task that sleeps until
the next deadline of any connection; and one `ServerCore`, which decides, as it does for the readiness loop. What a
connection's task does is in trio_connection.py, how a handler is run in trio_answering.py.

The clock is trio's own, so that under `trio.testing.MockClock` an hour of keep-alive passes at once.

A drain takes in what was sent before it began, tells every connection, and waits for them to end; each ends by its own
drain deadline at the latest. Cancelling `serve` ends everything at once.
"""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any, Final, Protocol, TypeAlias

import trio

from h1core.app.exchange import StreamingHandler
from h1core.app.handler import AsyncHandler, Handler
from h1core.config import Limits, Timeouts
from h1core.events import Endpoints
from h1core.http1.conn import Conn
from h1core.server import Phase, ServerCore

from .engine.request_body import Collector
from .net.acceptor import Acceptor
from .net.listeners import close_listener, listen, parse_address
from .net.transport import endpoints_of
from .trio_answering import Application
from .trio_connection import Connection, Host
from .trio_poller import Poller
from .trio_transport import SocketTransport, StreamTransport, TrioTransport, stream_endpoints, stream_peer

logger = logging.getLogger("h1core.server")

DEFAULT_THREADS: Final = 4

TrioListener: TypeAlias = "socket.socket | trio.abc.Listener[Any]"  # Any: a listener of whatever streams

LIFESPAN_GRACE_S: Final = 5.0
"""For the end of a lifespan, when the time for the drain is used up, or nobody wants to wait for that."""


class Lifespan(Protocol):
    """What surrounds the serving, as an ASGI application's startup and shutdown do."""

    def running(self, deadline: Callable[[], float]) -> AbstractAsyncContextManager[bool]:
        """Begin, and end when the block is left, by the deadline that holds then. False when it was not to begin.

        Raises when it cannot begin.
        """

    def hurry(self, deadline: Callable[[], float]) -> None:
        """Do not begin, unless that is done; end by the deadline that holds now. Never raises."""


class Server:
    """An HTTP/1.1 server for one handler, to be run once by `serve`.

    An async handler runs in its connection's task. A sync one gets one of `threads` worker threads, or runs on the
    loop with none, while everybody else waits. Both get whole requests and return a `Response`, whose body may be an
    iterable of bytes, or from an async handler an async one. A `StreamingHandler` gets an `Exchange`.

    With `cancel_on_disconnect` an async handler is cancelled when its client goes away before the response has begun;
    a client that only closes its writing side is taken for gone then. With `access_log`, each answered request is a
    line on the logger `h1core.access`.

    A `lifespan` begins before the first connection is accepted, and ends after the last has gone, by the drain's
    deadline; `LIFESPAN_GRACE_S` it has even when that has passed, or `stop` was called.

    `listeners` are non-blocking listening sockets, or trio listeners; the server closes them.
    """

    def __init__(
        self,
        handler: Handler | AsyncHandler | StreamingHandler,
        *,
        listeners: Sequence[TrioListener],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        wall_clock: Callable[[], float] = time.time,
        access_log: bool = False,
        threads: int = DEFAULT_THREADS,
        cancel_on_disconnect: bool = False,
        lifespan: Lifespan | None = None,
    ) -> None:
        self._handler = handler
        self._listeners = listeners
        self._sockets = [listener for listener in listeners if isinstance(listener, socket.socket)]
        self._limits = limits
        self._timeouts = timeouts
        self._wall_clock = wall_clock
        self._access_log = access_log
        self._threads = threads
        self._cancel_on_disconnect = cancel_on_disconnect
        self._lifespan = lifespan
        self._lifespan_until = -inf
        self._is_serving = False
        self._connections: dict[Conn, Connection] = {}
        self._running: trio.lowlevel.TrioToken | None = None
        self._drain_asked = False
        self._stop_asked = False

    # Running

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve in a trio run of its own until a drain is over or `stop` is called; calls `started` once it serves."""

        class Status(trio.TaskStatus[list[Any]]):
            def started(self, value: list[Any] | None = None) -> None:
                started()

        trio.run(partial(self.serve, task_status=Status()))

    async def serve(self, *, task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until a drain is over or `stop` is called; reports the bound addresses through `task_status`.

        Raises what a lifespan raises that could not begin.
        """
        self._running = trio.lowlevel.current_trio_token()
        try:
            if self._lifespan is None:
                await self._serve(task_status)
                return
            self._obey()
            async with self._lifespan.running(self._lifespan_deadline) as has_begun:
                if has_begun:
                    await self._serve(task_status)
        finally:
            self._running = None
            for listener in self._sockets:
                listener.close()

    def _lifespan_deadline(self) -> float:
        """When the lifespan must be over."""
        grace_until = trio.current_time() + LIFESPAN_GRACE_S
        return grace_until if self._stop_asked else max(grace_until, self._lifespan_until)

    async def _serve(self, task_status: trio.TaskStatus[list[Any]]) -> None:
        """Serve, within the lifespan."""
        clock = trio.lowlevel.current_clock().current_time
        self._core = ServerCore(
            self._limits,
            self._timeouts,
            clock=clock,
            wall_clock=self._wall_clock,
            upgrades=self._handler.upgrades if isinstance(self._handler, StreamingHandler) else (),
            workers=self._threads,
        )
        self._application = Application(
            self._handler,
            self._core,
            clock,
            threads=self._threads,
            access_log=self._access_log,
            cancel_on_disconnect=self._cancel_on_disconnect,
        )
        self._acceptor = Acceptor(self._sockets, self._core)
        self._ended = trio.Event()
        self._sleep = trio.CancelScope()
        self._admission = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope()
        self._poller = Poller() if Poller.is_available else None
        self._context = copy_context()
        self._host = Host(self._watch, self._start, self._core.background_begins, self._background_done, self._gone)
        addresses = [_address(listener) for listener in self._listeners]
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._keep_deadlines)
                if self._poller is not None:
                    self._nursery.start_soon(self._poller.run)
                self._nursery.start_soon(self._listen)
                self._is_serving = True
                task_status.started(addresses)
                self._obey()
                await self._ended.wait()
                if self._core.background_tasks:
                    logger.warning(
                        "what handlers do after their responses is cancelled: %d of them", self._core.background_tasks
                    )
                self._nursery.cancel_scope.cancel()
        finally:
            self._is_serving = False
            self._acceptor.close()
            if self._poller is not None:
                self._poller.close()

    def begin_drain(self) -> None:
        """Finish what is in flight, accept nothing more, and then end `serve`. From any thread or signal handler."""
        self._drain_asked = True
        self._wake_up()

    def stop(self) -> None:
        """End `serve` now, cutting every connection. From any thread or signal handler."""
        self._stop_asked = True
        self._wake_up()

    @property
    def ended(self) -> trio.Event:
        """Set when the server has drained or was stopped; there once it serves."""
        return self._ended

    @property
    def core(self) -> ServerCore:
        """The policy, for questions; there once it serves."""
        return self._core

    def _wake_up(self) -> None:
        running = self._running
        if running is not None:
            with suppress(trio.RunFinishedError):
                running.run_sync_soon(self._obey, idempotent=True)

    def _obey(self) -> None:
        """Do what was asked for."""
        if self._lifespan is not None and (self._stop_asked or self._drain_asked):
            self._lifespan.hurry(self._lifespan_deadline)
        if not self._is_serving:
            return
        if self._stop_asked:
            self._ended.set()
        elif self._drain_asked and self._core.phase is Phase.RUNNING:
            self._start_drain()

    def _start_drain(self) -> None:
        """Take in what was sent before the drain began, so that none of it is lost, and then begin to end."""
        self._lifespan_until = trio.current_time() + self._core.timeouts.drain_timeout
        self._accepting.cancel()
        for sock, peer in self._acceptor.accept_all():
            self._open_socket(sock, peer)
        self._acceptor.close_listeners()
        for connection in self._connections.values():
            connection.look()
        for conn in self._core.begin_drain():
            self._connections[conn].wake()
        self._nursery.start_soon(self._end_by_deadline)
        self._see_whether_over()

    async def _end_by_deadline(self) -> None:
        """End what the drain has not ended in its time, such as a handler whose client has gone."""
        deadline = self._core.drain_deadline
        if deadline is not None:
            await trio.sleep_until(deadline)
        while (due_at := self._core.next_deadline) is not None and due_at <= trio.current_time():
            await trio.lowlevel.checkpoint()  # each connection ends by its own deadline first
        self._ended.set()

    def _see_whether_over(self) -> None:
        if self._core.phase is Phase.STOPPED:
            self._ended.set()

    # Accepting

    async def _listen(self) -> None:
        """Accept from all listeners until the drain begins."""
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    if isinstance(listener, socket.socket):
                        nursery.start_soon(self._accept, listener)
                    else:
                        nursery.start_soon(self._accept_streams, listener)

    async def _accept(self, listener: socket.socket) -> None:
        """Accept from a listening socket."""
        while True:
            await self._until_admission()
            await trio.lowlevel.wait_readable(listener)
            for sock, peer in self._acceptor.accept(listener):
                self._open_socket(sock, peer)

    async def _accept_streams(self, listener: "trio.abc.Listener[Any]") -> None:
        """Accept from a trio listener."""
        try:
            while True:
                await self._until_admission()
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except (OSError, trio.BrokenResourceError) as error:
                    self._acceptor.rest_after(error)
                else:
                    self._acceptor.worked()
                    await self._admit(stream)
        finally:
            await trio.aclose_forcefully(listener)

    async def _admit(self, stream: "trio.abc.Stream") -> None:
        """Take in an accepted stream when there is room: another listener may have taken the last place meanwhile."""
        try:
            await self._until_admission()
        except trio.Cancelled:
            await trio.aclose_forcefully(stream)
            raise
        self._open(StreamTransport(stream), stream_peer(stream), stream_endpoints(stream))

    async def _until_admission(self) -> None:
        """Wait until policy wants newcomers."""
        while not self._core.may_accept:
            self._see_deadline()  # that of accepting again, perhaps
            await self._admission.park()

    # Connections

    def _open_socket(self, sock: Any, peer: object) -> None:
        self._open(SocketTransport(sock, self._poller), peer, endpoints_of(sock, peer))

    def _open(self, transport: TrioTransport, peer: object, endpoints: Endpoints) -> None:
        """Take in an accepted connection, and give it a task."""
        application = self._application
        conn = self._core.connection_opened()
        collector = Collector(self._core.limits.max_memory_body_bytes) if application.collects else None
        connection = Connection(conn, transport, peer, endpoints, application.answer, collector, self._host)
        self._connections[conn] = connection
        self._see_deadline()
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        """Give a connection a task, whose context variables are those of the server, whoever is it that asks."""
        self._context.run(self._nursery.start_soon, connection.run)

    def _background_done(self) -> None:
        """Take note that a handler has ended that its connection did not wait for."""
        self._core.background_done()
        self._see_whether_over()

    def _gone(self, connection: Connection) -> None:
        """Forget a connection that is over."""
        del self._connections[connection.conn]
        self._core.connection_gone(connection.conn)
        self._admission.unpark_all()
        self._see_whether_over()

    # Deadlines

    def _watch(self, conn: Conn) -> None:
        """Take note that a connection will wait now."""
        if self._core.connection_pumped(conn):
            self._see_deadline()

    def _see_deadline(self) -> None:
        """Let nobody sleep beyond the next deadline."""
        deadline = self._core.next_deadline
        if deadline is not None and deadline < self._sleep.deadline:
            self._sleep.deadline = deadline

    async def _keep_deadlines(self) -> None:
        """Sleep until something is due, and do it."""
        while True:
            for conn in self._core.due_connections():
                self._connections[conn].expire()
            if self._core.may_accept:
                self._admission.unpark_all()
            deadline = self._core.next_deadline
            with trio.CancelScope(deadline=inf if deadline is None else deadline) as self._sleep:
                await trio.sleep_forever()


async def serve(
    handler: Handler | AsyncHandler | StreamingHandler,
    binds: Sequence[str] = ("127.0.0.1:8000",),
    *,
    listeners: Sequence[TrioListener] = (),
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
    **options: Any,
) -> None:
    """Serve a handler until cancelled, or drained: `drain` is the event that begins that.

        addresses = await nursery.start(serve, handler, ["127.0.0.1:0"])

    `binds` are addresses as for `h1core --bind`; `listeners` take their place. Other options are those of `Server`.
    Reports the bound addresses through `task_status`. Raises LocalError when an address cannot be bound.
    """
    with ExitStack() as at_exit:
        if not listeners:
            bound = []
            for text in binds:
                bound.append(listen(parse_address(text)))
                at_exit.callback(close_listener, bound[-1])
            listeners = bound
        server = Server(handler, listeners=listeners, **options)
        async with trio.open_nursery() as nursery:
            if drain is not None:
                nursery.start_soon(_drain_after, drain, server)
            await server.serve(task_status=task_status)
            nursery.cancel_scope.cancel()


async def _drain_after(event: trio.Event, server: Server) -> None:
    await event.wait()
    server.begin_drain()


def _address(listener: TrioListener) -> Any:
    """Where a listener listens, as its socket says it; None when it has none."""
    sock = getattr(listener, "socket", listener)
    return sock.getsockname() if hasattr(sock, "getsockname") else None
