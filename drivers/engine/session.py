"""One connection on the engine: its state, and the steps of its turn.

Theory
------
A turn goes through these steps:

    read -> receive_data -> events -> application -> send -> next_events -> ... -> write -> disposition -> deadline

`pump` repeats this while there are events, so a batch of pipelined requests is answered with one write. It stops after
`EVENTS_PER_TURN` events or `WRITES_PER_TURN` writes, so that other connections get their turn; the session then waits
in `Engine.unfinished` for the next tick, whose selector does not wait.

After each turn the session asks its `Conn` what to wait for: reading while it `wants_read`, writing while output
is queued. The selector is called only when that changes, which for ordinary requests is never.

While the application works on a request, the session has a `job` for a worker, or an `exchange` for a coroutine, which
calls `write_out`, `poll_input` and `wait_for_change` between two ticks. With a `source` the response has begun, and the
engine takes the rest of its body from that (responding.py).
"""

import logging
from typing import TYPE_CHECKING, Final

from h1core.app.handler import FirstLook
from h1core.app.reply import address_text
from h1core.app.request_collector import RequestCollector
from h1core.events import Closed, Data, EndOfMessage, Event, Refused, Request, TimedOut
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, Disposition, State
from h1core.server.fairness import EVENTS_PER_TURN, READS_PER_DEADLINE, WRITES_PER_TURN

from ..net.transport import READ, WRITE, Transport, endpoints_of
from .connection_io import ConnectionIO
from .host import Signal
from .request_body import collect
from .responding import OVER, Responding
from .responses import first_look

if TYPE_CHECKING:
    from .engine import Engine
    from .exchange import EngineExchange

logger = logging.getLogger("h1core.server")

CLOSED: Final = State.CLOSED
HEAD: Final = State.HEAD
BODY_IS_OVER: Final = frozenset({State.HANDLING, State.RESPONDING})


class Session(Responding):
    """One connection. Belongs to the engine's thread."""

    __slots__ = ("_disposition", "_is_dropped", "collector", "endpoints", "exchange", "waiters")

    def __init__(self, engine: "Engine", transport: Transport, conn: Conn, peer: object) -> None:
        super().__init__(engine, conn, ConnectionIO(transport, conn, engine.selector, self), peer)
        self.endpoints = endpoints_of(transport, peer)
        self.exchange: EngineExchange | None = None
        self.collector = RequestCollector(engine.new_spool) if engine.collects_bodies else None
        self._disposition = Disposition.KEEP
        """The disposition that was last applied to the transport."""
        self.waiters: list[Signal] = []
        """Signals of coroutines that wait until this session changes."""
        self._is_dropped = False

    # Turns

    def serve_idle(self) -> None:
        """Serve a readable session that is between two requests: a whole request has likely arrived.

        Hot path: the steps are those of `pump`, for one read, one request and one write. `settle` has nothing to do
        for a connection that is idle again: no output is queued, and its deadline has only moved later.
        """
        is_blocked = False
        try:
            if self.exchange is not None and not self._detach_exchange():
                self.io.stop_reading()
                return
            events = self.io.receive(self._engine.idle_read_bytes)
            if self._answer_whole(events):
                if self.exchange is not None or self.job is not None:
                    return  # the application has it; no deadline runs
                events = []
                if self.source is None:
                    is_blocked = not self.io.write()
                    if self.conn.is_idle and not self._engine.core.waits_for_room:
                        self.answered = None
                        return
            self._take_turn(events, is_blocked)
            self.settle()
        except Exception as error:  # noqa: BLE001 - logged in cut
            self.cut(error)

    def _answer_whole(self, events: list[Event]) -> bool:
        """Answer the events if they are one whole request, its body in one piece; return whether they were."""
        if not events or type(request := events[0]) is not Request or self._engine.on_head is not None:
            return False
        if not request.end_stream:
            if len(events) != 3 or type(end := events[2]) is not EndOfMessage or type(data := events[1]) is not Data:
                return False
            if self.collector is not None:
                if len(data.data) > self._engine.core.limits.max_memory_body_bytes:
                    return False
                request.body = bytes(data.data)
                request.trailers = end.trailers
        elif len(events) != 1:
            return False
        request.endpoints = self.endpoints
        self._engine.answer(self, request)
        if self.exchange is not None and len(events) == 3:
            self.exchange.take_body(events)
        return True

    def serve_ready(self, mask: int) -> None:
        """Serve what the selector reported, unless the session was dropped in this same tick."""
        if not self.io.interest:
            return
        events = self.read() if mask & READ else []
        if events is None:
            self.io.stop_reading()
        self.pump(events or [])

    def read(self) -> list[Event] | None:
        """Read once, and return the events; None when nothing may be read now."""
        if not self._wants_read() or self._waits_for_background():
            return None
        return self.io.receive(self.conn.receive_bytes)

    def _wants_read(self) -> bool:
        """Whether input is wanted now. While a coroutine has a whole request, none is, unless one of its tasks waits
        for the client, or a disconnect cancels it.
        """
        conn = self.conn
        if not conn.wants_read:
            return False
        exchange = self.exchange
        if exchange is None or exchange.is_complete or self.waiters or exchange.may_be_cancelled:
            return True
        return conn.state not in BODY_IS_OVER

    def pump(self, events: list[Event] | None) -> None:
        """Give the session its turn; None is for a deadline. An error in it ends this connection, and no other."""
        try:
            self._take_turn(self.conn.handle_deadline() if events is None else events)
            self.settle()
            if self.waiters:
                self.notify()
            if self.exchange is not None:
                self.exchange.cancel_if_disconnected()
        except Exception as error:  # noqa: BLE001 - logged in cut
            self.cut(error)

    def is_still_due(self, asked_at: float) -> bool:
        """Read what is left in the socket; return whether a deadline has passed at `asked_at` in spite of it."""
        conn = self.conn
        for _ in range(READS_PER_DEADLINE):
            if not (self.io.last_read_was_full and self._wants_read()):
                break
            self.serve_ready(READ)
        deadline = conn.next_deadline
        if self._is_dropped or deadline is None or deadline > asked_at:
            self._engine.core.connection_pumped(conn)
            return False
        return True

    def poll_input(self) -> None:
        """Read what has arrived, outside of a tick. Never raises."""
        events = self.io.receive(self.conn.receive_bytes) if self.conn.wants_read else []
        if events or self.io.sees_end:  # else nothing has changed
            self.pump(events)

    def _take_turn(self, events: list[Event], is_blocked: bool = False) -> None:
        """Repeat the steps of a turn, within its limits: events, application, responses, writes."""
        conn = self.conn
        taken = writes = has_more = 0
        if self.io.sees_end:
            self._see_left()
        while True:
            for event in events:
                self._take(event)
            taken += len(events)
            if self.source is not None:
                has_more = self._stream()
            may_go_on = taken < EVENTS_PER_TURN and not self._waits_for_background()
            events = conn.next_events() if may_go_on else []
            if events:
                continue
            if is_blocked or not conn.output_bytes:
                break
            writes += 1
            is_blocked = not self.io.write()
            if writes == WRITES_PER_TURN or (is_blocked and conn.state is CLOSED):
                break
        if is_blocked and self.source is not None:
            self.source.client_is_behind()
        turn_is_over = taken >= EVENTS_PER_TURN or writes == WRITES_PER_TURN
        if turn_is_over or (has_more and not conn.output_bytes):
            self._engine.unfinished[self] = None

    def _take(self, event: Event) -> None:
        """Act on one event. A request is answered once it is whole, or at once if its handler streams."""
        if type(event) is Request:
            event.endpoints = self.endpoints
            if self._engine.on_head is not None and self._is_answered_by_head(event, self._engine.on_head):
                return
        elif isinstance(event, (Refused, TimedOut, Closed)):
            self._engine.own_answers.ended(self, event)
            self.end_source()
        if self.collector is not None:
            self._collect(self.collector, event)
        elif type(event) is Request:
            self._engine.answer(self, event)
            self.conn.pause_body()  # the body is read only when the handler receives
        elif self.exchange is not None:
            self.exchange.take(event)

    def _is_answered_by_head(self, request: Request, on_head: FirstLook) -> bool:
        """Whether `on_head` answers the request: then its body is not read for an application."""
        response = self._engine.context.copy().run(first_look, on_head, request)
        if response is None:
            return False
        self.began_at = self._engine.clock()
        self.begin_response(request, response, None)
        return True

    def _collect(self, collector: RequestCollector, event: Event) -> None:
        """Collect a request, and answer it once it is whole."""
        request = collect(collector, event, self, self._engine.own_answers)
        if request is not None:
            self._engine.answer(self, request)
        elif type(event) is Request:
            self.conn.resume_body()

    # Coroutines: called between two ticks

    def write_out(self) -> bool:
        """Write queued output, outside of a turn; return whether all of it is written. Never raises."""
        conn = self.conn
        try:
            for _ in range(WRITES_PER_TURN):
                if not conn.output_bytes or not self.io.write():
                    break
            if conn.is_idle and self.io.interest == READ and not self._engine.core.waits_for_room:
                look_at = self._engine.core.look_at.get(conn)
                if look_at is not None and look_at <= conn.next_deadline:  # type: ignore[operator]  # idle has one
                    return True  # fast path: there is nothing to settle
            if self.exchange is not None and self.exchange.is_complete:
                self._engine.schedule_turn(self)  # there may be another request, even if the coroutine runs on
                if conn.state is HEAD and not conn.output_bytes and not self.waiters:
                    return True  # fast path: it is settled in that turn, or before the next request
            self.settle()
            if self.waiters and not conn.output_bytes:
                self.notify()
            return not conn.output_bytes
        except Exception as error:  # noqa: BLE001 - logged in cut
            self.cut(error)
            return True

    async def wait_for_change(self) -> None:
        """Wait until this session has had a turn, or something else about it changed."""
        signal = self._engine.host.new_signal()
        self.waiters.append(signal)
        try:
            self.settle()  # after the signal was added: it must be set if this changes something
            if not self._is_dropped:
                await signal.wait()
        finally:
            if signal in self.waiters:
                self.waiters.remove(signal)

    def notify(self) -> None:
        """Wake the coroutines that wait for a change."""
        waiters, self.waiters = self.waiters, []
        for signal in waiters:
            signal.set()

    @property
    def is_disconnected(self) -> bool:
        """Whether the peer has closed its side, or the connection is over."""
        return self.io.sees_end or self.conn.state in OVER

    def exchange_over(self) -> None:
        """Serve the next request, or let the connection end, after the coroutine has ended."""
        self.exchange = None
        conn, engine = self.conn, self._engine
        if self._is_dropped:
            engine.connection_gone(conn)
        elif not conn.is_idle or self.io.interest != READ:
            engine.unfinished.pop(self, None)
            try:
                events = conn.next_events()
                if self.io.interest != READ or conn.output_bytes or not self._answer_whole(events):
                    self.pump(events)  # else the application has the next request; no deadline runs
            except Exception as error:  # noqa: BLE001 - logged in cut
                self.cut(error)
            engine.wake()
        elif engine.core.waits_for_room:
            engine.accept_again()

    def _waits_for_background(self) -> bool:
        """Whether the next request must wait for a coroutine that runs on after its response; else detach that."""
        if self.exchange is None or not self.exchange.is_complete or self.conn.state in OVER:
            return False
        return not self._detach_exchange()

    def _detach_exchange(self) -> bool:
        """Detach a coroutine whose response is complete, if the limit allows; return whether it does."""
        assert self.exchange is not None
        if not self._engine.core.background_begins():
            self._engine.held_back[self] = None
            return False
        self._engine.detached[self.exchange] = self._engine.background_done
        self.exchange = None
        return True

    # What comes next

    def settle(self) -> None:
        """Apply the connection's disposition, or prepare its next turn."""
        conn = self.conn
        disposition = conn.disposition
        if disposition is not self._disposition:
            if disposition is Disposition.ABORT and self._disposition is Disposition.KEEP:
                self._engine.own_answers.cut(self)
            self._disposition = disposition
            if disposition is not Disposition.LINGER:
                self.drop()
                return
            self.io.end_output()
        self._set_interest()
        if self._engine.core.waits_for_room and conn.is_idle:
            self._engine.accept_again()
        if self._engine.core.connection_pumped(conn):
            self._engine.deadline_nears(conn)
            self._engine.wake()

    def _set_interest(self) -> None:
        """Register what the connection waits for. While the application works on a request, reading stays registered
        until unwanted input arrives (`stop_reading`): ordinary clients send none.
        """
        conn = self.conn
        if self.exchange is not None:
            # After its response: once it ends or is detached, or for the end of the input.
            waits = (not self.exchange.is_complete or conn.state in OVER) and self._wants_read()
            interest = READ if self.io.interest & READ or waits else 0
        else:
            interest = READ if conn.wants_read else 0
        if conn.output_bytes:
            interest |= WRITE
        elif self.source is None:
            self.answered = None
        if interest != self.io.interest:
            self.io.wait_for(interest)

    def cut(self, error: Exception) -> None:
        """End a session whose turn has failed."""
        logger.error("the connection to %s is cut because of a bug", address_text(self.peer), exc_info=error)
        self.conn.abort(CloseReason.APPLICATION_FAILED)
        self.drop()

    def drop(self) -> None:
        """Close the transport, and forget the session. A second call does nothing."""
        if self._is_dropped:
            return
        self._is_dropped = True
        engine = self._engine
        engine.forget(self)
        self.io.close()
        if self.job is not None:
            if self.job.claim():  # no worker will begin it
                engine.core.request_left()
            elif not self.job.is_over and engine.workers is not None:
                engine.workers.note_left(self.job)
            self.job.abandon()
            self.job = None
        self.end_source()
        if self.collector is not None:
            self.collector.give_up()
        if self.exchange is None or self._release_place(self.exchange):
            engine.connection_gone(self.conn)

    def _release_place(self, exchange: "EngineExchange") -> bool:
        """Tell the coroutine that the connection is over; return whether its place is free while the coroutine runs on.
        Before its response is complete it is not: else clients that ask and leave could start any number of them.
        """
        self.notify()
        if exchange.is_complete and self._detach_exchange():
            return True
        self._engine.detached[exchange] = self.exchange_over
        exchange.cancel_if_disconnected()
        return False
