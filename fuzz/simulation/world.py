"""One run: a seed becomes a world, the world a trace, and nothing may be violated on the way.

Two phases. In the storm there are faults, and what is unsafe is noticed when it happens. Then the faults are off, and
everything must settle: who is there ends or becomes idle, fresh clients are answered, a drain leaves nothing behind. In
some runs the server is drained or stopped in the middle of the storm instead.

Time passes only where the driver under test sleeps: it asks `next_at`, and everybody else's turns are `run_due`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any, ClassVar, Protocol

from h1core.events import Request
from h1core.server import ServerCore
from h1core.state import CloseReason, State
from h1core.testing import FakeClock

from . import faults
from .apps import Apps
from .dice import Concerns, Dice
from .invariants import Invariant, Violation, violated
from .judge import Judge
from .network import SimListener, SimNetwork, SimStream
from .peers import Peer, Script
from .scripts import Scripts
from .swarm import Swarm, draw_swarm
from .trace import WORLD, Trace
from .watched import WatchedConn

START = 1000.0
MOST_SPINS = 6
MOST_STEPS = 100_000
PROMPT_S = 1.0
"""How long a fresh client waits at most for an answer from a server that has nothing else to do."""


class Driver(Protocol):
    """A driver under test."""

    interfaces: ClassVar[tuple[type[Apps], ...]]
    """Whose applications it runs, each as often as it is named."""

    def __init__(self, world: World) -> None: ...

    @property
    def core(self) -> ServerCore: ...

    def run(self) -> None:
        """Serve until a drain is over, or the server is stopped."""
        ...

    def begin_drain(self) -> None: ...

    def stop(self) -> None: ...

    def block(self, seconds: float) -> None:
        """Called by an application that takes its time."""
        ...

    def changed(self, stream: SimStream) -> None:
        """The client of this stream did something."""
        ...

    def cut_short(self, stream: SimStream) -> None:
        """A call on this stream was in vain, or a read left some of what was there."""
        ...

    def wake_listener(self) -> None:
        """Somebody wants to be accepted, or accepting will fail."""
        ...

    def see_step(self) -> None:
        """Check what holds after each step."""
        ...

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        """Check that nothing is overlooked: the driver is about to let time pass. With those something has happened."""
        ...

    def is_busy(self, conn: WatchedConn) -> bool:
        """Whether it is an application's turn."""
        ...

    def is_cleaning_up(self, conn: WatchedConn) -> bool:
        """Whether its application's turn is not over with the response: it is touched again when that is so."""
        ...

    def see_end(self) -> None:
        """Check that nothing is left, once `run` has returned."""
        ...


class BugLog(logging.Handler):
    """What the server says of itself when it has a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bug: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if "because of a bug" in record.msg and self.bug is None:
            self.bug = record


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
        self.peers: list[Peer] = []
        self._streams: list[SimStream] = []
        self._newest: SimStream | None = None
        self._open = 0
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
        self._open += 1

    def closed(self, stream: SimStream) -> None:
        if stream.was_accepted:
            self._open -= 1
        if stream is self._newest:
            self._newest = None

    def make_conn(self, *arguments: Any, **options: Any) -> WatchedConn:
        """Takes the place of `Conn` in ServerCore. Each connection is made known before the next is accepted."""
        conn = WatchedConn(*arguments, **options)
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

    def _is_overloaded(self, conn: WatchedConn) -> bool:
        swarm = self.swarm
        is_full = self.driver.core.backlog.outstanding >= swarm.threads + swarm.limits.max_queued_requests
        return swarm.threads > 0 and (is_full or self.clock.now - conn.whole_at > swarm.timeouts.queue_timeout)

    # Steps of the driver

    def see_step(self) -> None:
        """Look at everything; called when the driver is about to wait, even if for no time at all."""
        if Violation.first is not None:
            raise Violation.first
        if self._log.bug is not None:
            record = self._log.bug
            error = record.exc_info[1] if record.exc_info else None
            violated(Invariant.ISOLATION, f"{record.getMessage()}: {error!r}")
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

    def _see_slots(self) -> None:
        core = self.driver.core
        counts = len(core._connections), core._admission.open_connections, self._open
        if len(set(counts)) > 1:
            violated(
                Invariant.SLOTS, "connections known, slots taken and sockets open are {}, {} and {}".format(*counts)
            )
        if self._open > self.swarm.limits.max_connections:
            violated(Invariant.BOUNDED, f"{self._open} connections are open")

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

    # The story

    def run(self) -> None:
        """Everything from the first connection to the last. Raises Violation."""
        log = logging.getLogger("h1core.server")
        was = log.propagate, log.level
        log.propagate = False
        log.setLevel(logging.ERROR)
        log.addHandler(self._log)
        try:
            self._arrange()
            self.driver.run()
            self._finish()
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

    def _arrange(self) -> None:
        swarm, dice = self.swarm, self.dice.clients
        for _ in range(swarm.connections):
            kind = dice.pick(swarm.peers)
            at_s = 0.0 if dice.chance(0.3) else dice.random() * swarm.storm_s * 0.7
            self.after(at_s, lambda kind=kind: self._arrive(kind))  # type: ignore[misc]  # mypy infers no default's type
        faults.brew(self)
        if swarm.ends == "settle":
            self.after(swarm.storm_s, self._calm_down)
        elif swarm.ends == "drain":
            self.after(dice.random() * swarm.storm_s, self._drain)
            self.after(swarm.storm_s, self._calm_down)
        else:
            self.after(dice.random() * swarm.storm_s, self._stop)

    def _arrive(self, kind: str, among: list[Peer] | None = None) -> None:
        window = self.dice.network.pick((200, 4000, *[1 << 20] * 6))
        lane = len(self.peers)
        try:
            client = self.listener.connect(window)
        except ConnectionRefusedError:
            self.trace.note(WORLD, "client", f"{kind} is refused")
            return
        peer = Peer(self, lane, kind, client)
        self.peers.append(peer)
        if among is not None:
            among.append(peer)
        self.trace.note(lane, "client", "connects", kind)
        self.wake_listener()
        script: Script = self._fresh(peer) if kind == "fresh" else self.scripts.named(kind)(peer)
        peer.start(script)

    def _calm_down(self) -> None:
        self.trace.note(WORLD, "world", "the storm is over")
        self.is_calm = self.apps.calm = True
        self.faults.clear()
        for peer in self.peers:
            peer.hear()
        if self.swarm.ends == "settle":
            self.after(self.swarm.bound_s + 3 * self.swarm.longest_s, self._see_settled)

    def _drain(self) -> None:
        self.trace.note(WORLD, "world", "begins to drain")
        self.drain_at = min(self.drain_at, self.clock.now)
        self.lost_s = 0.0
        self.driver.begin_drain()

    def _stop(self) -> None:
        self.trace.note(WORLD, "world", "stops")
        self.was_stopped = True
        self.driver.stop()

    # The calm

    def _see_settled(self) -> None:
        for conn in self.driver.core._connections:
            assert isinstance(conn, WatchedConn)
            if not conn.is_idle:
                violated(Invariant.SETTLES, f"after the calm a connection is still {conn.clocks()}", conn.lane)
        if self.driver.core.backlog.outstanding:
            violated(Invariant.SETTLES, f"{self.driver.core.backlog.outstanding} requests are still with workers")
        self._see_running(Invariant.SETTLES)
        timeouts = self.swarm.timeouts
        has_room = self.driver.core._admission.open_connections + 3 <= self.swarm.limits.max_connections
        fresh: list[Peer] = []
        for number in range(min(3, self.swarm.limits.max_connections)):  # one after the other: queues may be short
            self.after(number / 8, lambda: self._arrive("fresh", fresh))
        wait_s = PROMPT_S if has_room else 3 * (timeouts.keepalive_timeout + timeouts.linger_timeout + PROMPT_S)
        vain = self.vain_wakes
        self.after(wait_s, lambda: self._see_fresh(fresh, vain))

    def _see_running(self, invariant: Invariant) -> None:
        """No application is at work when nothing is left for it to do."""
        for plan in self.apps.running.values():
            violated(invariant, f"the application of {plan.number} ({plan.kind}) is still at work", plan.lane)

    def _fresh(self, peer: Peer) -> Script:
        """A client that does everything right."""
        yield from peer.send(self.scripts.one(peer, "plain", self.scripts.make.request(b"GET", closes=False)))
        yield from peer.await_end()
        peer.end()

    def _see_fresh(self, fresh: list[Peer], vain: int) -> None:
        if any(peer.reader.complete != 1 or peer.reader.responses[0].status != 200 for peer in fresh):
            violated(Invariant.SETTLES, "a fresh client has no answer from a server at rest", fresh[-1].lane)
        if self.dice.swarm.chance(0.5):
            self._drain()
            return
        timeouts = self.swarm.timeouts
        rest_s = timeouts.keepalive_timeout + timeouts.linger_timeout + timeouts.head_timeout + 1
        self.after(rest_s, lambda: self._see_rest(vain))

    def _see_rest(self, vain: int) -> None:
        """Nobody has said anything for so long that nobody is left."""
        left = list(self.driver.core._connections)
        if left:
            violated(Invariant.SETTLES, f"{len(left)} connections outlive their deadlines")
        if self.vain_wakes - vain > 8:
            violated(Invariant.NO_VAIN_WAKE, f"{self.vain_wakes - vain} wake-ups of an idle server for nothing")
        self._drain()

    def _finish(self) -> None:
        """The server has ended."""
        self.trace.note(WORLD, "world", "the server has ended")
        took_s = self.ended_at - self.drain_at
        if took_s > self.swarm.timeouts.drain_timeout + self.lost_s + 0.001 and not self.was_stopped:
            violated(Invariant.DRAINS, f"the drain took {took_s} s")
        if self.driver.core._connections or self._open:
            violated(Invariant.DRAINS, f"{self._open} connections are left")
        if not self.listener.is_closed:
            violated(Invariant.DRAINS, "the listener is left open")
        self._see_running(Invariant.DRAINS)
        self.driver.see_end()
        if Violation.first is not None:
            raise Violation.first
        if self._log.bug is not None:
            self.see_step()
        for peer in self.peers:
            Judge(self, peer).judge()
        self.apps.see_closed()

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
