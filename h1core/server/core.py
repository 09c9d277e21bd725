"""`ServerCore`: the decisions about all connections of a server together.

Each engine has exactly one. The engine reports facts and asks questions; `ServerCore` never calls a driver.
"""

from collections import deque
from collections.abc import Callable, Container, Hashable, Mapping
from typing import Final

from h1core.config import Limits, Timeouts
from h1core.http1.buffer import ReceiveBuffer
from h1core.http1.conn import Conn
from h1core.http1.date import DateField
from h1core.http1.state import CloseReason
from h1core.http1.timers import NEVER
from h1core.http1.writer import OnLeftOut, ignore_left_out
from h1core.server.admission import Admission
from h1core.server.backlog import Backlog
from h1core.server.deadlines import DeadlineIndex
from h1core.server.drain import Drain, Phase, StreamStep
from h1core.server.fairness import DEADLINES_PER_TICK, TURNS_PER_DEADLINE
from h1core.server.held_workers import HeldWorkers
from h1core.server.log_limit import LogLimit

MAX_SPARE_BUFFERS: Final = 64


class ServerCore:
    """The connections of one server, and the policy over them. Never raises.

    - Facts: `connection_opened`, `connection_pumped`, `connection_gone`, `accept_failed`, `request_ready`,
      `request_stale`, `request_left`, `request_done`, `background_begins`, `background_done`, `begin_drain`.
    - Questions: `may_accept`, `is_full`, `longest_idle`, `limit_begins`, `limit_ends`, `is_stale`, `next_deadline`,
      `drain_deadline`, `due_connections`, `stream_step`, `backlog.overdue`, `held_workers.overdue`, `log_limit`,
      `phase`, `connections`.

    `clock`, `wall_clock`, `upgrades` and `on_left_out` are as in `Conn`, and are passed to each connection. `workers`
    is the number of worker threads, 0 without a pool.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] | None = None,
        upgrades: Container[bytes] = (),
        workers: int = 0,
        on_left_out: OnLeftOut = ignore_left_out,
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self._clock = clock
        self._date = DateField(wall_clock)
        self._upgrades = upgrades
        self._on_left_out = on_left_out
        self._admission = Admission(self.limits.max_connections)
        self._deadlines = DeadlineIndex[Conn]()
        self.look_at: Mapping[Conn, float] = self._deadlines.look_at
        """When the deadline of each connection is checked next; one that has none then is removed."""
        self.backlog = Backlog(workers, self.limits.max_queued_requests, self.timeouts.queue_timeout)
        self.held_workers = HeldWorkers(workers)
        self.log_limit = LogLimit()
        """Which lines about what the server itself answers are written."""
        self._drain = Drain(self.timeouts.drain_timeout, self.timeouts.stream_drain_timeout)
        self.background_tasks = 0
        """Applications that still run after their response, while their connections serve other requests."""
        self.waits_for_room = False
        """A newcomer waits, and no connection is idle; the engine resets this when one is."""
        self._idle: deque[tuple[float, int, Conn]] = deque()
        self._connections: dict[Conn, None] = {}  # a set in the order of arrival
        self._spare_buffers: list[ReceiveBuffer] = []

    # Facts

    def connection_opened(self) -> Conn:
        """Make the `Conn` of an accepted connection, and watch its deadline."""
        conn = Conn(
            self.limits,
            self.timeouts,
            clock=self._clock,
            wall_clock=self._date,
            upgrades=self._upgrades,
            buffer=self._spare_buffers.pop() if self._spare_buffers else None,
            on_left_out=self._on_left_out,
        )
        self._connections[conn] = None
        if self._drain.deadline_at != NEVER:
            conn.begin_drain()  # it was accepted while the drain began
        self._admission.opened()
        self._deadlines.watch(conn, conn.next_deadline)
        return conn

    def connection_pumped(self, conn: Conn) -> bool:
        """Watch the deadline of a connection that was pumped: it may have moved.

        Returns whether `next_deadline` may be earlier now.
        """
        return self._deadlines.watch(conn, conn.next_deadline)

    def connection_gone(self, conn: Conn) -> None:
        """Remove a connection whose transport is closed. Its buffer goes to a later connection."""
        del self._connections[conn]
        self._admission.gone()
        self._deadlines.forget(conn)
        buffer = conn.release_buffer()
        if len(self._spare_buffers) < MAX_SPARE_BUFFERS:
            self._spare_buffers.append(buffer)

    def accept_failed(self) -> None:
        """Pause accepting for a moment, because it failed for lack of descriptors or memory."""
        self._admission.pause(self._clock())

    def request_ready(self, conn: Conn, ticket: Hashable, now: float) -> bool:
        """Admit a request that was whole at `now`; later calls name it by its `ticket`. Returns whether a worker will
        get it; if not, answer with `overload_response`, which is the last response of the connection.
        """
        if self.backlog.admit(ticket, now):
            return True
        conn.close_after_response(CloseReason.OVERLOADED)
        return False

    def request_stale(self, conn: Conn) -> None:
        """Reject an admitted request that waited too long: answer it like one that was not admitted."""
        self.backlog.shed += 1
        conn.close_after_response(CloseReason.OVERLOADED)

    def request_left(self) -> None:
        """Count an admitted request that no worker has begun, and none will, because its client has left."""
        self.backlog.left += 1

    def request_done(self, ticket: Hashable, *, is_gone: bool = False) -> None:
        """Uncount an admitted request: its worker is free again, whatever happened to the connection."""
        self.backlog.done(ticket, is_gone=is_gone)
        if self.held_workers.left_at or self.held_workers.blocked:  # hot path: a call less for nearly all
            self.held_workers.done(ticket)

    def background_begins(self) -> bool:
        """Count an application that goes on after its response. Returns whether its connection may go on beside it.

        At most `max_connections` may. Beyond that, a connection waits for its application, which is backpressure for
        clients that ask for more work than is done.
        """
        if self.background_tasks >= self.limits.max_connections:
            return False
        self.background_tasks += 1
        return True

    def background_done(self) -> None:
        """Uncount an application that went on after its response and has ended."""
        assert self.background_tasks > 0
        self.background_tasks -= 1

    def begin_drain(self) -> list[Conn]:
        """Begin to shut down. Returns the connections to pump, all of which were told. A second call does nothing."""
        if not self._drain.begin(self._clock()):
            return []
        self._admission.stop()
        for conn in self._connections:
            conn.begin_drain()
        return list(self._connections)

    # Questions

    @property
    def may_accept(self) -> bool:
        """Whether to accept another connection now."""
        return not self.waits_for_room and self._admission.may_accept(self._clock())

    @property
    def is_full(self) -> bool:
        """Whether `max_connections` are open: then a newcomer needs the place of `longest_idle`."""
        return self._admission.is_full

    def limit_begins(self) -> bool:
        """Whether `max_connections` is felt from now on: a newcomer has found no place."""
        return self._admission.limit_begins()

    def limit_ends(self) -> bool:
        """Whether `max_connections` is not felt any more, since this was asked last."""
        return self._admission.limit_ends()

    def longest_idle(self) -> Conn | None:
        """The connection that has been idle longest, each once until all were returned; None when none is idle.

        All are looked at only when nothing is left of the last look, so that a newcomer costs O(log n) on average.
        """
        for _ in range(2):
            while self._idle:
                deadline, _, conn = self._idle.popleft()
                if conn in self._connections and conn.is_idle and conn.next_deadline == deadline:
                    return conn
            # All have the same timeout, so the first to end has been idle longest.
            found = [(conn.next_deadline or 0.0, at, conn) for at, conn in enumerate(self._connections) if conn.is_idle]
            self._idle.extend(sorted(found))
        return None

    def is_stale(self, queued_at: float) -> bool:
        """Whether a request that was ready at `queued_at` has waited too long. May be asked by any thread."""
        return self.backlog.is_stale(queued_at, self._clock())

    @property
    def next_deadline(self) -> float | None:
        """The instant of the next deadline, of a connection or of the server itself, or None; it may be past."""
        instants = (
            self._deadlines.next,
            self._admission.next_deadline,
            self.backlog.next_deadline,
            self.held_workers.next_deadline,
            self.log_limit.next_deadline,
            self._drain.next_step_at,
        )
        return min((at for at in instants if at is not None), default=None)

    def stream_begins(self) -> float | None:
        """Note that a streamed response begins in a drain; return when it must end at the latest, if that is known."""
        self._drain.stream_begins(self._clock())
        return self._drain.next_step_at

    def stream_step(self, now: float) -> StreamStep | None:
        """What is due for the streamed responses of a server that drains, each step once; None most of the time."""
        return self._drain.stream_step(now)

    @property
    def streams_are_cut(self) -> bool:
        """Whether the last `stream_step` was taken."""
        return self._drain.streams_are_cut

    @property
    def drain_deadline(self) -> float | None:
        """The instant at which everything still running must end, such as a handler without a connection, or None."""
        return self._drain.deadline_at if self._drain.deadline_at != NEVER else None

    def due_connections(self, asked_at: float | None = None, turns: int | None = None) -> list[Conn]:
        """The connections whose deadline has come: call `handle_deadline` on each, and pump it.

        Not all of them when there are many: `next_deadline` is in the past until none is left. `asked_at` is when the
        engine last polled for input, if not now: input that came later may still be in time. `turns` is how many
        connections were served since the last call, if that is known.
        """
        most = DEADLINES_PER_TICK if turns is None else 1 + turns // TURNS_PER_DEADLINE
        now = self._clock() if asked_at is None else asked_at
        due: list[Conn] = []
        while looked_at := self._deadlines.due(now, most - len(due)):
            for conn in looked_at:
                deadline = conn.next_deadline
                if deadline is not None and deadline <= now:
                    due.append(conn)
                else:
                    self._deadlines.watch(conn, deadline)
        return due

    @property
    def phase(self) -> Phase:
        """Whether the server runs, drains, or has nothing left to do."""
        return self._drain.phase(len(self._connections) + self.background_tasks)

    @property
    def connections(self) -> list[Conn]:
        """The open connections in the order of their arrival."""
        return list(self._connections)
