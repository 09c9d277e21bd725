"""A `Conn` that is watched: each call is looked at before and after. All drivers under test have this in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from h1core.events import Closed, Data, EndOfMessage, Event, Refused, Request, TimedOut
from h1core.http1.conn import Conn
from h1core.http1.receiving import READING
from h1core.http1.state import CloseReason, Disposition, State
from h1core.http1.timers import NEVER

from . import bounds
from .invariants import Invariant, violated

if TYPE_CHECKING:
    from .network import SimStream
    from .world import World

LAST_WORDS: Final = (Refused, TimedOut, Closed)
NAMES: Final = ("head", "body", "keepalive", "write", "linger", "drain")
HEAD, BODY, KEEPALIVE, WRITE, LINGER, DRAIN = range(6)
STREAMS: Final = (State.DUPLEX, State.RESPONDING)
WITH_BODY: Final = (State.RECEIVING, State.DUPLEX, State.DRAINING)
EXPIRED: Final = {
    CloseReason.HEAD_TIMEOUT: HEAD,
    CloseReason.BODY_TIMEOUT: BODY,
    CloseReason.KEEPALIVE_TIMEOUT: KEEPALIVE,
    CloseReason.WRITE_TIMEOUT: WRITE,
    CloseReason.DRAIN_TIMEOUT: DRAIN,
}
ROUNDING_S: Final = 1e-6


class Received:
    """A request as it came out of a `Conn`."""

    __slots__ = ("body", "is_whole", "request", "trailers")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.body = b""
        self.trailers: tuple[tuple[bytes, bytes], ...] = ()
        self.is_whole = request.end_stream

    @property
    def parts(self) -> tuple[object, ...]:
        request = self.request
        return request.method, request.target, tuple(request.headers), request.version, self.body, self.trailers


class WatchedConn(Conn):
    """Checks the core's own promises in every call, and remembers what came out."""

    __slots__ = (
        "_old",
        "_old_reason",
        "_old_state",
        "_seen",
        "_seen_requests",
        "_spare_s",
        "asked_to_drain",
        "decided_by",
        "lane",
        "last_word",
        "received",
        "state_since",
        "stream",
        "whole_at",
        "world",
    )

    def attach(self, world: World, stream: SimStream) -> None:
        self.world = world
        self.stream = stream
        self.lane = stream.lane
        self.received: list[Received] = []
        self.last_word: Event | None = None
        self.asked_to_drain = False
        self.decided_by: tuple[int, bool] | None = None
        """How many bytes were read, and whether their end, when the end was decided."""
        self._spare_s = 0.0
        """What a stream that owes nothing had left of its time to take bytes."""
        self.whole_at = 0.0
        self.state_since = 0.0
        """When the last request was whole."""
        self._old_reason: CloseReason | None = None
        self._old_state = State.HEAD
        self._old: tuple[float, ...] = (NEVER,) * 6
        self._seen_requests = 0
        self._seen: tuple[object, ...] = ()
        """What was looked at last; as long as it is the same, it need not be looked at again."""
        self.world.trace.note_extra(self.lane, "conn", "state", State.HEAD.name)
        self._look("accepted", earned_s=0.0)

    # In

    def receive_data(self, data: bytes) -> list[Event]:
        events = super().receive_data(data)
        self._take_events(events)
        self._look("receive_data", earned_s=len(data) / self._timeouts.min_body_rate)
        return events

    def connection_lost(self) -> list[Event]:
        events = super().connection_lost()
        self._take_events(events)
        self._look("connection_lost")
        return events

    def handle_deadline(self) -> list[Event]:
        now = self.world.clock.now
        deadline = self.next_deadline
        before = (self._state, self._out.size, self._old)
        engine = self.world.driver.engine  # type: ignore[attr-defined]  # all drivers have one
        is_held_back = any(session.conn is self for session in engine.held_back)
        is_peers = deadline not in (None, self._timers.write, self._timers.drain) and not is_held_back
        if is_peers and self.stream.unread_since < deadline <= now and self.wants_read:  # type: ignore[operator]  # not None
            violated(Invariant.CAUSE, f"a deadline is believed, and input lies unread: {self.clocks()}", self.lane)
        events = super().handle_deadline()
        self._take_events(events)
        self._look("handle_deadline")
        if deadline is None or deadline > now:
            if events or before != (self._state, self._out.size, self._old):
                violated(Invariant.OWING, "a deadline that had not come was dealt with", self.lane)
        else:
            self.world.deadline_fired()
            after = self.next_deadline
            if after is not None and after <= now:
                violated(Invariant.OWING, f"a deadline was dealt with, and is still due: {self.clocks()}", self.lane)
        return events

    def next_events(self) -> list[Event]:
        waiting = len(self._buffer.data)
        events = super().next_events()
        self._take_events(events)
        if events or waiting:
            self._look("next_events", earned_s=waiting / self._timeouts.min_body_rate)
        return events

    def send(self, event: Any) -> None:
        super().send(event)
        self._look("send")

    def data_sent(self, count: int) -> None:
        super().data_sent(count)
        self._look("data_sent", taken_s=count / self._timeouts.min_write_rate)

    def abort(self, reason: CloseReason) -> None:
        super().abort(reason)
        self._look("abort")

    def close_idle(self, reason: CloseReason) -> bool:
        if self.stream.unread_since < NEVER and not self.stream.is_read_ahead:
            violated(Invariant.ISOLATION, "a connection makes room, and a request lies in its socket", self.lane)
        is_closed = super().close_idle(reason)
        self._look("close_idle")
        return is_closed

    def cut_response(self, reason: CloseReason, *, unsendable: bool = False) -> None:
        super().cut_response(reason, unsendable=unsendable)
        self._look("cut_response")

    def begin_drain(self) -> None:
        self.asked_to_drain = True
        super().begin_drain()
        self._look("begin_drain")

    def resume_body(self) -> None:
        super().resume_body()
        self._look("resume_body")

    def pause_body(self) -> None:
        super().pause_body()
        self._look("pause_body")

    # What holds

    def _take_events(self, events: list[Event]) -> None:
        """Order: a request, its body, its end; one in flight; a last word, and nothing behind it."""
        for event in events:
            if self.last_word is not None:
                violated(Invariant.IN_ORDER, f"{event!r} comes behind the last word {self.last_word!r}", self.lane)
            self.world.progressed()
            received = self.received[-1] if self.received else None
            if type(event) is Request:
                if received is not None and not received.is_whole and self.world.apps.gets_whole:
                    violated(Invariant.IN_ORDER, "a request begins in the middle of another's body", self.lane)
                if self._old_reason is not None:
                    reason = self._old_reason.name
                    violated(Invariant.IN_ORDER, f"a request comes although the end was decided: {reason}", self.lane)
                bounds.see(bounds.of_request(event, self._limits), self.lane)
                self.received.append(Received(event))
                self.whole_at = self.world.clock.now
                if len(self.received) > self._limits.max_requests_per_connection:
                    violated(Invariant.BOUNDED, "a connection has more requests than it may", self.lane)
            elif isinstance(event, LAST_WORDS):
                self.last_word = event
            elif received is None or received.is_whole:
                violated(Invariant.IN_ORDER, f"{type(event).__name__} belongs to no request", self.lane)
            elif type(event) is Data:
                received.body += bytes(event.data)
                bounds.see(bounds.of_body(received, self._limits), self.lane)
            elif type(event) is EndOfMessage:
                received.is_whole = True
                self.whole_at = self.world.clock.now
                received.trailers = tuple(event.trailers)
                bounds.see(bounds.of_body(received, self._limits), self.lane)

    def _look(self, call: str, earned_s: float | None = None, taken_s: float = 0.0) -> None:
        state = self._state
        timers = self._timers
        new = (timers.head, timers.body, timers.keepalive, timers.write, timers.linger, timers.drain)
        seen = (new, state, self._close_reason, self._out.size, len(self._buffer.data), self._demand)
        if seen == self._seen and not taken_s:
            return
        self._seen = seen
        self.world.touched[self] = None
        if new != self._old:
            if len(self.received) > self._seen_requests:
                self._seen_requests = len(self.received)
                self._old = (*self._old[:BODY], NEVER, *self._old[BODY + 1 :])  # the body is another one
            self._see_timers(call, new, earned_s, taken_s)
        if taken_s and self._out.size:
            most = self.world.clock.now + self._timeouts.write_timeout
            if new[WRITE] < min(most, self._old[WRITE] + taken_s) - ROUNDING_S:
                violated(Invariant.CAUSE, "the peer took bytes, and did not get the time that they earn", self.lane)
        reason = self._close_reason
        if reason is not self._old_reason:
            self._see_reason(reason)
        if state is not self._old_state:
            self.world.trace.note_extra(self.lane, "conn", "state", state.name)
            self._old_state = state
            self.state_since = self.world.clock.now
            if state in (State.ENDING, State.CLOSED) and self.decided_by is None:
                self.decided_by = len(self.stream.consumed), self.stream.end_seen
            if state is State.CLOSED and self.disposition is Disposition.CLOSE:
                self._see_close()
        self._old = new
        if state is State.CLOSED:
            if self._out.size or self.next_deadline is not None or self.wants_read:
                violated(Invariant.IN_ORDER, f"after its end a connection wants something: {self.clocks()}", self.lane)
            return
        self._see_owed(state, new)
        bounds.see(bounds.of_conn(self, self.world), self.lane)

    def _see_timers(self, call: str, new: tuple[float, ...], earned_s: float | None, taken_s: float) -> None:
        now, t = self.world.clock.now, self._timeouts
        longest = (
            t.head_timeout, t.body_timeout, t.keepalive_timeout, t.write_timeout, t.linger_timeout, t.drain_timeout
        )  # fmt: skip
        old = self._old
        for which in range(6):
            if new[which] == old[which]:
                continue
            if self.world.trace.detailed:
                self.world.trace.note_extra(self.lane, "conn", f"deadline {NAMES[which]}", new[which])
            if new[which] == NEVER:
                if which == WRITE:
                    self._spare_s = max(0.0, min(longest[WRITE], old[WRITE] - now + taken_s))
                if which == DRAIN and self._state is not State.CLOSED:
                    violated(Invariant.OWING, "the drain's deadline was stopped", self.lane)
                continue
            if new[which] > now + longest[which] + ROUNDING_S:
                violated(Invariant.OWING, f"{NAMES[which]} has more time than configured after {call}", self.lane)
            if which == WRITE and old[which] != NEVER:
                if new[which] > old[which] + taken_s + ROUNDING_S:
                    violated(
                        Invariant.OWING, f"the peer has earned less time to take bytes than it got in {call}", self.lane
                    )
                continue
            if which == WRITE and self._old_state in STREAMS:
                if abs(new[which] - now - self._spare_s) > ROUNDING_S:
                    violated(
                        Invariant.OWING, "a stream began to owe bytes again, with other time than it had", self.lane
                    )
            elif which != BODY and abs(new[which] - now - longest[which]) > ROUNDING_S:
                violated(Invariant.CAUSE, f"{NAMES[which]} has less time than configured after {call}", self.lane)
            if old[which] == NEVER:
                continue
            if which == BODY and earned_s is not None and new[which] <= old[which] + earned_s + ROUNDING_S:
                continue
            if new[which] > old[which]:
                violated(Invariant.OWING, f"{NAMES[which]} got more time in {call} without progress", self.lane)

    def _see_owed(self, state: State, new: tuple[float, ...]) -> None:
        """Who owes what, by the state alone, and whether just those deadlines run."""
        owes_bytes = self._out.size > 0
        body_runs = state in WITH_BODY and self._demand is READING
        idle = state is State.HEAD and not owes_bytes and not self._buffer.data
        what = None
        if owes_bytes is (new[WRITE] == NEVER):
            what = "bytes are owed and the deadline for writing is off, or the other way round"
        elif body_runs is (new[BODY] == NEVER):
            what = "a body is read and its deadline is off, or the other way round"
        elif (state is State.ENDING and not owes_bytes) is (new[LINGER] == NEVER):
            what = "the end is near and nothing bounds it, or the other way round"
        elif new[KEEPALIVE] != NEVER and (state is not State.HEAD or owes_bytes):
            what = "a connection is taken for idle, and is not"
        elif new[KEEPALIVE] != NEVER and not (self.wants_read and self.disposition is Disposition.KEEP):
            what = "a driver asks nothing of an idle connection, and should"
        elif new[HEAD] != NEVER and state is not State.HEAD:
            what = "no head is read, and its deadline runs"
        elif idle and new[KEEPALIVE] == new[HEAD] == NEVER:
            what = "an idle connection has no deadline"
        elif self.asked_to_drain and state is not State.SWITCHED and new[DRAIN] == NEVER:
            what = "a drained connection has no deadline"
        if what is not None:
            violated(Invariant.OWING, f"{what}: {self.clocks()}", self.lane)

    def _see_close(self) -> None:
        """A transport is closed when the peer has closed, has had its time, or sends without end."""
        lingered = self._old[LINGER] <= self.world.clock.now
        if self._close_reason in (CloseReason.CONNECTION_LOST, CloseReason.MADE_ROOM):
            return  # for which there was a cause
        heard = self.stream.end_seen or self.stream.loss_seen or self.stream.is_reset
        if not lingered and not heard and self._discarded_bytes <= self._limits.max_linger_bytes:
            violated(Invariant.GENTLE_END, "a connection is closed before the peer had time to hear of it", self.lane)

    def _see_reason(self, reason: CloseReason | None) -> None:
        """An end has a cause that this world knows of."""
        if reason is None:
            violated(Invariant.CAUSE, "the reason to end was forgotten", self.lane)
        self._old_reason = reason
        self.world.trace.note_extra(self.lane, "conn", "ends because", reason.name)
        if reason is CloseReason.APPLICATION_FAILED:
            self.world.see_bug(self.lane)  # or it would seem to be the application's
        now = self.world.clock.now
        timer = EXPIRED.get(reason)
        if timer is not None:
            if self._old[timer] > now:
                violated(Invariant.CAUSE, f"{reason.name} before its time: {self.clocks()}", self.lane)
        elif not self.world.allows(self, reason):
            violated(Invariant.CAUSE, f"the connection ends by {reason.name}, for no cause", self.lane)

    @property
    def old_was_idle(self) -> bool:
        """Whether it was between two requests, and owed nothing, when it was looked at last."""
        return self._old[KEEPALIVE] != NEVER

    def clocks(self) -> str:
        """State and timers in words."""
        now = self.world.clock.now
        running = [f"{name} in {at - now:g} s" for name, at in zip(NAMES, self._old, strict=True) if at != NEVER]
        return f"{self._state.name}, {self._out.size} bytes owed, {', '.join(running) or 'no deadline'}"
