"""One run: a seed becomes a world, the world a trace, and nothing may be violated on the way.

Two phases. In the storm there are faults, and what is unsafe is noticed when it happens. Then the faults are off, and
everything must settle: who is there ends or becomes idle, fresh clients are answered, a drain leaves nothing behind. In
some runs the server is drained or stopped in the middle of the storm instead.

Time passes only where the driver under test sleeps: it asks `next_at`, and everybody else's turns are `run_due`.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from pathlib import Path
from typing import Any

from h1core.drivers.engine.worker_source import WorkerSource

from h1core.events import Request
from h1core.http1.state import CloseReason, State
from h1core.testing import FakeClock

from .apps import Apps
from .dice import Concerns, Dice
from .driver import Driver
from .invariants import Invariant, Violation, violated
from .network import SimListener, SimNetwork, SimStream
from .peers import Peer
from .scripts import Scripts
from .story import Story
from .swarm import Swarm, draw_swarm
from .trace import WORLD, Trace
from .watched import ROUNDING_S, WatchedConn

START = 1000.0
MOST_SPINS = 6
MOST_STEPS = 300_000


class BugLog(logging.Handler):
    """What the server says of itself when it has a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bug: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if "because of a bug" in record.msg and self.bug is None:
            self.bug = record


def where(error: BaseException | None) -> str:
    """The line in which an exception was raised, that of the first where they are a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None or error.__traceback__ is None:
        return ""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f", in line {line} of {Path(frame.f_code.co_filename).name}"


class World:
    """Everything of one run."""

    def __init__(self, seed: int, make_driver: type[Driver], detailed: bool = False) -> None:
        Violation.first = None
        self.seed = seed
        self.clock = FakeClock(START)
        self.trace = Trace(self.clock, detailed)
        self.dice = Concerns(seed)
        self.swarm: Swarm = draw_swarm(self.dice.swarm)
        self.faults = dict(self.swarm.faults)
        self.is_calm = False
        self.was_stopped = False
        self.drain_at = self.ended_at = inf
        self.lost_s = 0.0
        self.opened = 0
        """Connections that the server has accepted."""
        """Time that passed while the server could not help it."""
        self.network = SimNetwork(self)
        self.listener: SimListener = self.network.listen()
        self.apps: Apps = self.dice.interface.pick(make_driver.interfaces)(
            self.dice, self.swarm, self.trace, self._block
        )
        self.apps.progress = self.progressed
        self.apps.see_call = self._see_call
        self.apps.see_left = self._see_left
        self.apps.see_end = self.touch
        self.scripts = Scripts(self)
        self._story = Story(self)
        self.peers: list[Peer] = []
        self._streams: list[SimStream] = []
        self._newest: SimStream | None = None
        self.open_sockets = 0
        self._heap: list[tuple[float, int, Callable[[], None], Peer | None, int]] = []
        """What happens when, in the order in which it was arranged; and a client's turn, if it is for that one."""
        self._serial = 0
        self._progress = self._seen_progress = 0
        self._seen_at = START
        self._spins = self.steps = 0
        self._fired = self._wakes = self.vain_wakes = 0
        self.touched: dict[WatchedConn, None] = {}
        """Connections with which something has happened since they were last looked at with everybody asleep."""
        self._deadlines: dict[WatchedConn, float] = {}
        self._log = BugLog()
        self.read_ahead_bytes = 0
        """What a driver may have read when the room for it has gone: `Limits.connection_bytes` allows one read."""
        self.loses_what_breaks_off = False
        """A connection does not outlive that its application cancels what it is sending."""
        self.driver = make_driver(self)

    # Time

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heappush(self._heap, (self.clock.now + seconds, self._serial, action, None, 0))

    def after_for(self, peer: Peer, turn: int, seconds: float) -> None:
        """Let a client go on then, if it is still at this turn."""
        self._serial += 1
        heappush(self._heap, (self.clock.now + seconds, self._serial, peer.go_on, peer, turn))

    def run_due(self) -> None:
        """Let everybody whose time has come do something."""
        heap, clock = self._heap, self.clock
        while heap and heap[0][0] <= clock.now:
            _, _, action, peer, turn = heappop(heap)
            if peer is None or peer.turn == turn:
                self._progress += 1
                action()

    @property
    def next_at(self) -> float:
        heap = self._heap
        while heap:
            at, _, _, peer, turn = heap[0]
            if peer is None or peer.turn == turn:
                return at
            heappop(heap)  # it has heard what it waited for before its patience was over
        return inf

    def lag(self, dice: Dice) -> float:
        """How long it takes until somebody notices something."""
        return 0.0 if dice.random() < 0.5 else dice.random() / 256

    def lose(self, seconds: float) -> None:
        """Time passes, and nobody can do anything about it."""
        self.clock.advance(seconds)
        self.lost_s += seconds

    def lateness(self) -> float:
        """By how much the driver wakes up too late, this time."""
        rate = self.faults.get("late_timers")
        if rate is None or self.dice.network.random() >= rate:
            return 0.0
        late_s = self.dice.network.duration(self.dice.network.pick((0.01, 3.0)))
        self.lost_s += late_s
        return late_s

    def be_paused(self) -> None:
        """Stop the process for a while, perhaps, as SIGSTOP does: everybody else goes on."""
        rate = self.faults.get("pauses")
        if rate is not None and not self.is_calm and self.dice.network.random() < rate:
            seconds = self.dice.network.duration(self.dice.network.pick((3.0, 200.0)))
            self.trace.note(-1, "world", "pauses the server", seconds)
            began_at, until = self.clock.now, self.clock.now + seconds
            while self.next_at <= until and not self.is_calm:
                self.clock.now = max(self.clock.now, self.next_at)
                self.run_due()
            if not self.is_calm:
                self.clock.now = max(self.clock.now, until)
            self.lost_s += self.clock.now - began_at

    def is_woken_early(self) -> bool:
        rate = self.faults.get("early_timers")
        if rate is None or self.dice.network.random() >= rate:
            return False
        self.progressed()
        return True

    def _block(self, seconds: float) -> None:
        self.driver.block(min(seconds, 0.01) if self.is_calm else seconds)

    # Facts, from all sides

    def progressed(self) -> None:
        self._progress += 1

    def deadline_fired(self) -> None:
        self._fired += 1
        self._progress += 1

    def woke_for_deadline(self) -> None:
        self._wakes += 1
        self._progress += 1
        if self._wakes > self._fired + self.vain_wakes:
            self.vain_wakes = self._wakes - self._fired

    def changed(self, stream: SimStream) -> None:
        if stream.conn is not None:
            self.touched[stream.conn] = None
        self.driver.changed(stream)

    def touch(self, lane: int) -> None:
        """Something has happened on behalf of a connection."""
        conn = self.peers[lane].stream.conn
        if conn is not None:
            self.touched[conn] = None

    def wake_listener(self) -> None:
        """Something has come to be accepted."""
        self.driver.wake_listener()

    def accepted(self, stream: SimStream) -> None:
        if stream.was_accepted:
            violated(Invariant.SLOTS, "a connection is accepted twice", stream.lane)
        stream.was_accepted = True
        self._newest = stream
        self.open_sockets += 1

    def closed(self, stream: SimStream) -> None:
        if stream.was_accepted:
            self.open_sockets -= 1
        if stream is self._newest:
            self._newest = None

    def make_conn(self, *arguments: Any, **options: Any) -> WatchedConn:
        """Takes the place of `Conn` in ServerCore. Each connection is made known before the next is accepted."""
        conn = WatchedConn(*arguments, **options)
        self.opened += 1
        stream, self._newest = self._newest, None
        if stream is None:
            violated(Invariant.SLOTS, "there is a Conn without a connection")
        stream.conn = conn
        conn.attach(self, stream)
        return conn

    def waits(self, request: Request) -> bool:
        """Whether a worker will have to wait in the middle of answering this."""
        number = request.target[1:]
        plan = self.apps.plans.get(int(number)) if number.isdigit() else None
        return plan is not None and plan.waits(self.swarm.limits.max_output_bytes)

    def _see_call(self, lane: int, number: int) -> None:
        """A request that has waited too long for a worker is not run, and none whose connection is over."""
        conn = self.peers[lane].stream.conn
        if conn is not None and conn.state is State.CLOSED:
            violated(Invariant.APPLICATION, f"{number} is run, and its connection is over", lane)
        if self.swarm.threads and conn is not None:
            waited_s = self.clock.now - conn.whole_at
            if waited_s > self.swarm.timeouts.queue_timeout:
                violated(Invariant.APPLICATION, f"{number} is run after it waited for {waited_s} s", lane)

    def _see_left(self, lane: int, number: int) -> None:
        """Nobody is told that a client has left who is there."""
        stream = self.peers[lane].stream
        is_over = stream.conn is not None and stream.conn.close_reason is not None
        is_over = is_over or self._streams_must_end()
        if not (is_over or stream.end_seen or stream.loss_seen or self.was_stopped):
            violated(Invariant.APPLICATION, f"the application of {number} is told that its client has left", lane)

    @property
    def largest_piece(self) -> int:
        """What may be queued at once, with its head."""
        return 81_000

    def allows(self, conn: WatchedConn, reason: CloseReason) -> bool:
        """Whether this world has given a connection cause to end."""
        stream = conn.stream
        sent = stream.peer.sent if stream.peer is not None else []
        count = len(conn.received)
        last = sent[count - 1] if 0 < count <= len(sent) else None
        plan = self.apps.plans.get(last.number) if last is not None else None
        match reason:
            case CloseReason.PEER_ASKED:
                return last is not None and not last.persists
            case CloseReason.APPLICATION_ASKED:
                return plan is not None and plan.closes
            case CloseReason.CLOSE_DELIMITED:
                return last is not None and last.version == b"1.0" and plan is not None and plan.streams
            case CloseReason.MAX_REQUESTS:
                return count == self.swarm.limits.max_requests_per_connection
            case CloseReason.DRAINING:
                return conn.asked_to_drain or self.was_stopped or sys.exception() is not None
            case CloseReason.REFUSED:
                return conn.last_word is not None
            case CloseReason.PEER_CLOSED:
                return stream.end_seen
            case CloseReason.CONNECTION_LOST:
                return stream.loss_seen or stream.is_reset or self._is_broken_off(conn)
            case CloseReason.OVERLOADED:
                return self._is_overloaded(conn)
            case CloseReason.MADE_ROOM:
                return conn.old_was_idle and self.driver.core.is_full
            case CloseReason.STREAM_ENDED:
                return plan is not None and plan.streams and self._streams_must_end()
            case CloseReason.HELD_WORKER:
                source = self.driver.engine.sessions[conn].source  # type: ignore[attr-defined]  # all drivers have one
                return isinstance(source, WorkerSource) and source.waits_for_client and source.is_full
            case CloseReason.APPLICATION_FAILED:
                return plan is not None and (plan.cuts or plan.has_left) and plan.calls > 0
            case CloseReason.BODY_UNREAD:
                return not self.apps.gets_whole and plan is not None and plan.calls > 0
            case CloseReason.CONTINUE_OWED:
                return not self.apps.gets_whole and last is not None and last.expects
        return False

    def _is_broken_off(self, conn: WatchedConn) -> bool:
        """Whether a write was cancelled, by the end of the server or by an application, and the stream lost with it."""
        if not self.loses_what_breaks_off:
            return False
        if self.was_stopped or self.clock.now >= self.drain_at + self.swarm.timeouts.drain_timeout:
            return True
        return any(plan.breaks_off and plan.lane == conn.lane for plan in self.apps.plans.values())

    @property
    def stream_drain_s(self) -> float:
        """How long streamed responses have in a drain."""
        return min(self.swarm.timeouts.stream_drain_timeout, self.swarm.timeouts.drain_timeout / 2)

    def _streams_must_end(self) -> bool:
        """Whether a drain has come so far that streamed responses have to end."""
        return self.clock.now >= self.drain_at + self.stream_drain_s - ROUNDING_S

    def _is_overloaded(self, conn: WatchedConn) -> bool:
        swarm = self.swarm
        is_full = self.driver.core.backlog.outstanding >= swarm.threads + swarm.limits.max_queued_requests
        return swarm.threads > 0 and (
            is_full or self.clock.now - conn.whole_at >= swarm.timeouts.queue_timeout - ROUNDING_S
        )

    # Steps of the driver

    def see_step(self) -> None:
        """Look at everything; called when the driver is about to wait, even if for no time at all."""
        if Violation.first is not None:
            raise Violation.first
        self.see_bug(WORLD)
        self.steps += 1
        if self.steps > MOST_STEPS:
            violated(Invariant.NO_SPIN, f"{MOST_STEPS} steps, and no end")
        if self._progress == self._seen_progress and self.clock.now == self._seen_at:
            self._spins += 1
            if self._spins > MOST_SPINS:
                violated(Invariant.NO_SPIN, "the loop turns, nothing happens, and no time passes")
        else:
            self._spins = 0
        self._seen_progress, self._seen_at = self._progress, self.clock.now
        self._see_slots()
        self.driver.see_step()
        if self.drain_at < inf:
            self._see_drain()

    def see_bug(self, lane: int) -> None:
        """The server has not said that it has a bug."""
        record = self._log.bug
        if record is not None:
            error = record.exc_info[1] if record.exc_info else None
            violated(Invariant.ISOLATION, f"{record.getMessage()}: {error!r}{where(error)}", lane)

    def _see_slots(self) -> None:
        core = self.driver.core
        counts = len(core._connections), core._admission.open_connections, self.open_sockets + self.driver.orphans
        if len(set(counts)) > 1:
            violated(
                Invariant.SLOTS, "connections known, slots taken and sockets open are {}, {} and {}".format(*counts)
            )
        if self.open_sockets > self.swarm.limits.max_connections:
            violated(Invariant.BOUNDED, f"{self.open_sockets} connections are open")

    def _see_drain(self) -> None:
        """Nobody is idle while the server drains."""
        for conn in self.driver.core._connections:
            if isinstance(conn, WatchedConn) and conn.asked_to_drain and conn.is_idle and not conn._buffer.data:
                violated(Invariant.DRAINS, "an idle connection is kept while the server drains", conn.lane)

    def see_sleep(self, target: float, until: float) -> None:
        """Look for what would be overlooked; called when nothing is ready and time is to pass."""
        if target == inf:
            violated(Invariant.SETTLES, "the server sleeps for ever")
        touched = [conn for conn in self.touched if conn in self.driver.core._connections]
        for conn in touched:
            deadline = conn.next_deadline
            if self.driver.is_cleaning_up(conn):
                self._deadlines[conn] = inf
            elif deadline is not None:
                self._deadlines[conn] = deadline
            elif self.driver.is_busy(conn):
                self._deadlines[conn] = inf
            else:
                violated(Invariant.OWING, f"nothing will end this: {conn.clocks()}", conn.lane)
        if until > self.clock.now:
            if self._deadlines and min(self._deadlines.values()) < until:
                self._see_deadlines(until)
            self.driver.see_sleep(touched)
            self.touched.clear()

    def _see_deadlines(self, until: float) -> None:
        """Nobody's deadline comes before the instant until which the driver sleeps."""
        connections = self.driver.core._connections
        self._deadlines = {conn: at for conn, at in self._deadlines.items() if conn in connections}
        for conn, at in self._deadlines.items():
            if at < until:
                late_s = until - at
                violated(Invariant.OWING, f"the server will sleep {late_s:g} s too long: {conn.clocks()}", conn.lane)

    # The run

    def run(self) -> None:
        """Everything from the first connection to the last. Raises Violation."""
        log = logging.getLogger("h1core.server")
        was = log.propagate, log.level
        log.propagate = False
        log.setLevel(logging.ERROR)
        log.addHandler(self._log)
        try:
            self._story.arrange()
            self.driver.run()
            self._story.finish()
        except BaseException as error:
            if Violation.first is not None:
                raise Violation.first  # noqa: B904 - a later one, or a group around it, only hides what was first
            if not isinstance(error, Exception):
                raise
            raise Violation(Invariant.ISOLATION, f"the server itself failed: {error!r}") from error
        finally:
            log.removeHandler(self._log)
            log.propagate, log.level = was
        if Violation.first is not None:
            raise Violation.first

    def forget(self) -> None:
        """Cut the circles that hold everything together, so that nobody has to look for them."""
        for peer in self.peers:
            conn = peer.stream.conn
            if conn is not None:
                del conn.world, conn.stream
            vars(peer.stream).clear()
            vars(peer).clear()
        vars(self.apps).clear()
        vars(self.driver).clear()
        vars(self).clear()

    # Figures

    @property
    def requests(self) -> int:
        """Requests that came out of the server's connections whole, and those that it refused."""
        count = 0
        for peer in self.peers:
            conn = peer.stream.conn
            if conn is not None:
                count += sum(received.is_whole for received in conn.received)
                count += type(conn.last_word).__name__ == "Refused"
        return count

    @property
    def simulated_s(self) -> float:
        return self.clock.now - START
