"""The engine: every connection of a server on one thread, one bounded round at a time.

Theory
------
The engine has the selector, the transports and the `Conn`s. A host (host.py) owns the thread: it waits until the
engine's descriptor is readable or `deadline_at` has passed, and calls `tick`. session.py serves one connection;
runners.py runs the application.

`tick` is one round: poll the selector, serve what is ready, handle deadlines. Ready connections that are between two
requests come first: a whole request has likely arrived, while others are new, or send in pieces. Next the results of
the workers are taken, and the new requests submitted to them. The other connections may wait for the next tick, but not
twice in a row. Only deadlines that had passed when the selector was asked are handled: input that arrived while an
application held the thread, or the process was paused, is read first. A tick depends on nothing but the clock, the
selector and the transports.

No coroutine runs inside a tick: the host starts those of `new_exchanges` after it, and a coroutine changes its session
only between two ticks. When such a change needs another tick, the engine calls `Host.wake`.

`begin_drain` and `stop` may be called from any thread or signal handler: they set a flag and wake the selector.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any, Final

from h1core.app.exchange import StreamingHandler
from h1core.app.handler import AsyncHandler, FirstLook, Handler, is_async
from h1core.config import Limits, Timeouts
from h1core.errors import LocalError
from h1core.events import Request
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason
from h1core.server import Phase, ServerCore

from ..net.acceptor import Acceptor
from ..net.listeners import start_listening
from ..net.selector import default_selector
from ..net.transport import READ, Listener, Selector, Transport
from ..net.wake import WakeChannel
from .exchange import EngineExchange
from .host import Host
from .make_room import make_room
from .options import MAX_WAIT_S
from .own_answers import OwnAnswers, say_left_out
from .pool import Pool, Workers
from .request_body import BodySpool
from .runners import CoroutineRunner, InlineRunner, WorkerRunner
from .session import Session
from .stream_drain import end_streams

logger = logging.getLogger("h1core.server")

AnyHandler = Handler | AsyncHandler | StreamingHandler

STOPPED: Final = Phase.STOPPED


class Engine:
    """The connections of one server. All methods but `begin_drain` and `stop` belong to one thread.

    A sync `handler` runs inline, or on `threads` worker threads, for which tests may pass `workers`; an async one runs
    in tasks of the `host`. Each gets whole requests (and its `on_head`, if it has one, their heads), except a
    `StreamingHandler`. `cancel_on_disconnect`: a plain async handler is cancelled when its client disconnects first.

    `listeners` are non-blocking, and bound; the engine listens on them, and closes them. `clock` and `wall_clock`
    return seconds. With `access_log`, each answered request is logged. Raises LocalError when it cannot listen.
    """

    def __init__(
        self,
        handler: AnyHandler,
        host: Host | None,
        *,
        listeners: Sequence[Listener],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        selector: Selector | None = None,
        access_log: bool = False,
        threads: int = 0,
        workers: Workers | None = None,
        cancel_on_disconnect: bool = False,
    ) -> None:
        start_listening(listeners)
        streams = isinstance(handler, StreamingHandler)
        runs_coroutines = streams or is_async(handler)
        self.clock = clock
        self.context = copy_context()
        """Each request of a sync handler runs in a copy of it, its streamed body and clean-up too."""
        self._host = host
        self.access_log = access_log
        self.cancel_on_disconnect = cancel_on_disconnect
        self.collects_bodies = not streams
        """Whether the handler gets a request only after its whole body."""
        self.on_head: FirstLook | None = None if streams else getattr(handler, "on_head", None)
        self.new_spool = partial(BodySpool, (limits or Limits()).max_memory_body_bytes)
        self.core = ServerCore(
            limits,
            timeouts,
            clock=clock,
            wall_clock=wall_clock,
            upgrades=handler.upgrades if isinstance(handler, StreamingHandler) else (),
            workers=0 if runs_coroutines else threads,
            on_left_out=say_left_out,
        )
        self.own_answers = OwnAnswers(self)
        self.selector: Selector = selector or default_selector()
        self.idle_read_bytes = self.core.limits.initial_buffer_bytes  # `Conn.receive_bytes` of an idle connection
        self.sessions: dict[Conn, Session] = {}
        self.unfinished: dict[Session, None] = {}
        """Sessions that had work left when their turn ended, oldest first; each gets one turn in a tick."""
        self.new_exchanges: deque[EngineExchange] = deque()
        """Exchanges whose coroutines were not started yet. The host starts them after each tick."""
        self.detached: dict[EngineExchange, Callable[[], None]] = {}
        """Coroutines whose session does not wait for them, and what to call when each has ended."""
        self.held_back: dict[Session, None] = {}
        """Sessions whose next request waits because too many coroutines run on after their responses."""
        self.is_stopping = False  # `close` was called
        self._wake = WakeChannel()
        self._calls: deque[Callable[[], None]] = deque()
        self.selector.register(self._wake, READ, self._wake)
        self.workers: WorkerRunner | None = None
        self.answer: Callable[[Session, Request], None]
        if runs_coroutines:
            self.answer = CoroutineRunner(handler, self).answer  # type: ignore[arg-type]  # is_async has checked it
        elif threads:
            self.workers = WorkerRunner(handler, self, workers or Pool(threads, self._wake.wake))  # type: ignore[arg-type]  # as above
            self.answer = self.workers.answer
        else:
            self.answer = InlineRunner(handler, self).answer  # type: ignore[arg-type]  # as above
        self._acceptor = Acceptor(listeners, self.core, self.selector, partial(make_room, self.core, self.sessions))
        self._postponed_others = False  # in the last tick
        self._is_ticking = False
        self._is_closed = False
        self._drain_asked = self._stop_asked = False
        self.is_ending = False  # a drain has begun, or `stop` was called
        self.deadline_at = inf
        """The instant for the next tick if nothing becomes ready."""
        self.known_hints: set[str] = set()  # see `failure_response`

    def tick(self, max_wait: float | None = 0) -> None:
        """Do one round: wait until something is ready or due, `max_wait` seconds at most, and serve it.

        Raises what the selector raises, and LocalError when it is called inside a tick.
        """
        if self._is_ticking:
            raise LocalError("the server is in the middle of a round; a handler must not call its tick")
        if self.is_ending and self.is_over:
            return
        self._is_ticking = True
        try:
            if self._drain_asked:
                self._start_drain()
                if self.is_over:
                    return  # nothing can become ready
            while self._calls:
                self._calls.popleft()()
            self._do_round(max_wait)
        finally:
            self._is_ticking = False

    def _do_round(self, max_wait: float | None) -> None:
        if self._acceptor.is_stale:
            self._acceptor.update_listening()
        unfinished, self.unfinished = self.unfinished, {}
        behind: list[tuple[object, int]] = []
        asked_at, events = self._poll(0 if unfinished else max_wait)
        for key, mask in events:
            ready = key.data
            if type(ready) is Session and ready.conn.is_idle:
                ready.serve_idle()
            elif type(ready) is WakeChannel:
                ready.clear()
            else:
                behind.append((ready, mask))
        workers = self.workers
        if workers is not None:
            workers.take_results()
            if workers.has_ready_jobs:
                workers.submit_jobs()
                if behind and not self._postponed_others:
                    self._postponed_others = True
                    self.unfinished = unfinished | self.unfinished
                    return
        self._postponed_others = False
        for other, mask in behind:
            if type(other) is Session:
                other.serve_ready(mask)
            else:
                self._accept(other)  # type: ignore[arg-type]  # a Listener is all that is left
        for session in unfinished:
            if session.conn in self.sessions and session not in self.unfinished:
                session.pump([])
        if asked_at >= self.deadline_at:
            self._handle_deadlines(asked_at, len(events))
        if workers is not None and workers.has_ready_jobs:
            workers.submit_jobs()
        if self._acceptor.is_stale:
            self._acceptor.update_listening()  # now: there may be no other reason for a next round

    def _poll(self, max_wait: float | None) -> tuple[float, Sequence[tuple[Any, int]]]:
        """Wait until something is ready or due; return when the selector was asked, and what is ready."""
        asked_at = self.clock()
        events = self.selector.select(0 if max_wait == 0 else self._wait_s(max_wait, asked_at))
        if not events and asked_at < self.deadline_at <= (now := self.clock()):
            return now, self.selector.select(0)  # it has waited for a deadline, and perhaps much longer
        return asked_at, events

    def _handle_deadlines(self, asked_at: float, turns: int) -> None:
        """Handle deadlines that had passed when the selector was asked; `turns` is how many connections had one."""
        for job in self.core.backlog.overdue(asked_at):
            self.workers.reject_overdue(job)  # type: ignore[union-attr, arg-type]  # it has admitted this Job
        for job in self.core.held_workers.overdue(asked_at):
            self.workers.report_blocked(job)  # type: ignore[union-attr, arg-type]  # as above
        step = self.core.stream_step(asked_at)
        if step is not None:
            end_streams(self, step)
        for conn in self.core.due_connections(asked_at, turns):
            session = self.sessions[conn]
            if session.is_still_due(asked_at):
                session.pump(None)
        self.own_answers.write_counts(asked_at)
        self._acceptor.is_stale = True  # a pause of accepting may be over
        self._find_deadline()

    def _wait_s(self, max_wait: float | None, now: float) -> float | None:
        """How many seconds the selector may wait; None is without limit."""
        if self.deadline_at == inf:
            return max_wait
        wait = min(max(0.0, self.deadline_at - now), MAX_WAIT_S)
        return wait if max_wait is None else min(wait, max_wait)

    def deadline_nears(self, conn: Conn) -> None:
        """Note that the deadline of a connection may be the next one now."""
        self.deadline_at = min(self.deadline_at, conn.next_deadline or inf)

    def _find_deadline(self) -> None:
        """Set `deadline_at` to the next deadline. It may be too early, never too late."""
        deadline = self.core.next_deadline
        self.deadline_at = inf if deadline is None else deadline
        if self.is_ending and not self.sessions:  # coroutines may still run, until the drain ends
            self.deadline_at = min(self.deadline_at, self.core.drain_deadline or inf)

    def watch(self, on_event: Callable[[], None]) -> int | None:
        """Return a descriptor that is readable when a tick has work, for another event loop to wait for.

        For transports without a descriptor (in memory, or streams of the host) the selector calls `on_event` instead;
        None if it knows no others. Raises LocalError when the selector has neither a descriptor nor `on_event`.
        """
        selector = self.selector
        calls_back = hasattr(selector, "on_event")
        if calls_back:
            selector.on_event = on_event  # type: ignore[attr-defined]  # as just checked
        if hasattr(selector, "fileno"):
            descriptor: int = selector.fileno()
            return descriptor
        if not calls_back:
            raise LocalError(
                "this system's selector has no descriptor that another event loop could wait for; "
                "use --driver selectors"
            )
        return None

    @property
    def host(self) -> Host:
        """The event loop that runs coroutines."""
        assert self._host is not None, "a coroutine runs without an event loop"
        return self._host

    def wake(self) -> None:
        """Ask the host to call `tick` soon. Does nothing in a tick, or after `close`: the loop may be closed, too."""
        if not (self._is_ticking or self._is_closed) and self._host is not None:
            self._host.wake()

    def schedule_turn(self, session: Session) -> None:
        """Give a session a turn in the next tick."""
        self.unfinished[session] = None
        self.wake()

    # Connections

    def _accept(self, listener: Listener) -> None:
        """Open the connections that wait, within the limits."""
        for transport, peer in self._acceptor.accept(listener):
            self.open(transport, peer)
        if self._acceptor.is_stale:
            self._find_deadline()  # accepting may have failed, and then pauses until a deadline

    def open(self, transport: Transport, peer: object) -> None:
        """Begin to serve an accepted connection."""
        conn = self.core.connection_opened()
        session = self.sessions[conn] = Session(self, transport, conn, peer)
        self.deadline_nears(conn)
        try:
            session.settle() if self.is_ending else session.io.wait_for(READ)
        except OSError as error:  # the system's selector takes no more
            session.cut(error)

    def forget(self, session: Session) -> None:
        """Remove a session whose transport is about to be closed."""
        del self.sessions[session.conn]
        self.unfinished.pop(session, None)
        self.held_back.pop(session, None)

    def background_done(self) -> None:
        """Note that a coroutine that ran on after its response has ended. Sessions in `held_back` get a turn."""
        self.core.background_done()
        self.unfinished.update(self.held_back)
        self.held_back.clear()

    def connection_gone(self, conn: Conn) -> None:
        """Note that a connection has ended, and its coroutine too: its place is free."""
        self.core.connection_gone(conn)
        self.accept_again()

    def accept_again(self) -> None:
        """Accept again if that was not possible: a connection has ended, or is idle while a newcomer waits."""
        self.core.waits_for_room = False
        if not self._acceptor.is_listening:
            self._acceptor.is_stale = True
        self.wake()

    # Ends

    def begin_drain(self) -> None:
        """Accept no more connections, finish the requests in flight, and end. From any thread or signal handler."""
        self._drain_asked = self.is_ending = True
        self._wake.wake()

    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` at the begin of a tick. From any thread or signal handler."""
        self._calls.append(do)
        self._wake.wake()

    def stop(self) -> None:
        """End now: the host closes the engine. From any thread or signal handler."""
        self._stop_asked = self.is_ending = True
        self._wake.wake()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended: drained, stopped, or past the drain's deadline."""
        if self._stop_asked or self.core.phase is STOPPED:
            return True
        deadline = self.core.drain_deadline
        if deadline is None or self.sessions:  # each connection ends by its own deadline; then coroutines are left
            return False
        are_cut = self.core.streams_are_cut and all(exchange.is_silent for exchange in self.detached)
        return are_cut or self.clock() >= deadline

    @property
    def is_idle(self) -> bool:
        """Whether the next tick has nothing to do, unless a transport or a worker becomes ready."""
        if self.is_ending and self.is_over:
            return True
        has_asked = self._drain_asked or self._stop_asked or self._acceptor.is_stale
        return not (has_asked or self.unfinished or self.new_exchanges) and self._wait_s(None, self.clock()) != 0

    def close(self) -> None:
        """Cut every connection and free all resources; the engine is not used again. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = self.is_stopping = True
        if self.core.background_tasks:
            logger.warning("work after responses is cancelled: %d handlers", self.core.background_tasks)
        for session in list(self.sessions.values()):
            session.conn.abort(CloseReason.DRAINING)
            session.drop()
        self.own_answers.write_counts(self.clock(), at_end=True)
        while self.new_exchanges:
            self.new_exchanges.popleft().end()
        self._acceptor.close()
        if self.workers is not None:
            self.workers.close()
        self.selector.unregister(self._wake)
        self._wake.close()
        self.selector.close()

    def _start_drain(self) -> None:
        """Accept and read what was sent before the drain, so that none of it is lost; then begin the drain."""
        self._drain_asked = False
        if self.core.phase is not Phase.RUNNING:
            return
        for transport, peer in self._acceptor.accept_all():
            self.open(transport, peer)
        self._acceptor.close_listeners()
        came = {conn: session.read() for conn, session in self.sessions.items()}
        for conn in self.core.begin_drain():
            session = self.sessions.get(conn)
            if session is not None:
                session.pump(came.get(conn) or [])
        if self.workers is not None:
            self.workers.submit_jobs()  # before the selector waits
        self._find_deadline()
