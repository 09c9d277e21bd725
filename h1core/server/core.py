"""`ServerCore`: what a driver asks about all its connections together.

Both drivers hold exactly one. They tell it facts and get back what to do; it calls nobody.
"""

from collections.abc import Callable, Container, Mapping
from typing import Final

from h1core.config import Limits, Timeouts
from h1core.http1.buffer import ReceiveBuffer
from h1core.http1.conn import Conn
from h1core.http1.date import DateField
from h1core.http1.state import CloseReason
from h1core.http1.timers import NEVER
from h1core.server.admission import Admission
from h1core.server.backlog import Backlog
from h1core.server.deadlines import DeadlineIndex
from h1core.server.drain import Drain, Phase
from h1core.server.fairness import DEADLINES_PER_TICK, TURNS_PER_DEADLINE

MAX_SPARE_BUFFERS: Final = 64


class ServerCore:
    """The connections of one server, and the policy over them. Never raises.

    - Facts: `connection_opened`, `connection_pumped`, `connection_gone`, `accept_failed`, `request_ready`,
      `request_done`, `background_begins`, `background_done`, `begin_drain`.
    - Questions: `may_accept`, `is_stale`, `next_deadline`, `due_connections`, `phase`, `connections`.

    `clock`, `wall_clock` and `upgrades` are as in `Conn`, and are handed to each connection. `workers` is how many
    requests can be worked on at a time, if a pool does it.
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
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self._clock = clock
        self._date = DateField(wall_clock)
        self._upgrades = upgrades
        self._admission = Admission(self.limits.max_connections)
        self._deadlines = DeadlineIndex[Conn]()
        self.look_at: Mapping[Conn, float] = self._deadlines.look_at
        """When the deadline of each connection is looked at; one that has none then is no longer among them."""
        self.backlog = Backlog(workers, self.limits.max_queued_requests, self.timeouts.queue_timeout)
        self._drain = Drain(self.timeouts.drain_timeout)
        self.background_tasks = 0
        """Applications that still work after their response, while their connections go on."""
        self._connections: dict[Conn, None] = {}  # a set in the order of arrival
        self._spare_buffers: list[ReceiveBuffer] = []

    # Facts

    def connection_opened(self) -> Conn:
        """Take in an accepted connection: the `Conn` that speaks for it, its deadline already watched."""
        conn = Conn(
            self.limits,
            self.timeouts,
            clock=self._clock,
            wall_clock=self._date,
            upgrades=self._upgrades,
            buffer=self._spare_buffers.pop() if self._spare_buffers else None,
        )
        self._connections[conn] = None
        if self._drain.deadline_at != NEVER:
            conn.begin_drain()  # it was accepted while the drain began
        self._admission.opened()
        self._deadlines.watch(conn, conn.next_deadline)
        return conn

    def connection_pumped(self, conn: Conn) -> bool:
        """Take note that a connection was worked on, so that its deadline may have moved.

        Returns whether `next_deadline` may have come nearer.
        """
        return self._deadlines.watch(conn, conn.next_deadline)

    def connection_gone(self, conn: Conn) -> None:
        """Take note that a connection's transport is closed. The buffer goes to a later connection."""
        del self._connections[conn]
        self._admission.gone()
        self._deadlines.forget(conn)
        buffer = conn.release_buffer()
        if len(self._spare_buffers) < MAX_SPARE_BUFFERS:
            self._spare_buffers.append(buffer)

    def accept_failed(self) -> None:
        """Take note that accepting failed for want of descriptors or memory: it rests for a moment."""
        self._admission.out_of_resources(self._clock())

    def request_ready(self, conn: Conn) -> bool:
        """Take note of a whole request; whether a worker will get it. If not, the answer is `overload_response`, and
        the last of its connection.
        """
        if self.backlog.admit():
            return True
        conn.close_after_response(CloseReason.OVERLOADED)
        return False

    def request_stale(self, conn: Conn) -> None:
        """Take note that an admitted request waited too long: answered like one that was not admitted."""
        self.backlog.shed += 1
        conn.close_after_response(CloseReason.OVERLOADED)

    def request_done(self) -> None:
        """Take note that a worker is free again, whatever came of the request and its connection."""
        self.backlog.done()

    def background_begins(self) -> bool:
        """Take note that an application goes on after its response; whether its connection goes on beside it.

        There may be as many as connections. Beyond, a connection waits for its application, which holds back whoever
        asks for more work than is done.
        """
        if self.background_tasks >= self.limits.max_connections:
            return False
        self.background_tasks += 1
        return True

    def background_done(self) -> None:
        """Take note that an application has ended that went on after its response."""
        assert self.background_tasks > 0
        self.background_tasks -= 1

    def begin_drain(self) -> list[Conn]:
        """Begin to shut down; the connections to pump, because each was told. Again, it changes nothing."""
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
        return self._admission.may_accept(self._clock())

    def is_stale(self, queued_at: float) -> bool:
        """Whether a request that was ready at `queued_at` has waited too long. May be asked by any thread."""
        return self.backlog.is_stale(queued_at, self._clock())

    @property
    def next_deadline(self) -> float | None:
        """The instant at which something is to do though nothing happens, or None; it may have passed."""
        instants = [at for at in (self._deadlines.next, self._admission.next_deadline) if at is not None]
        return min(instants, default=None)

    @property
    def drain_deadline(self) -> float | None:
        """The instant at which everything is to end that is not over, such as a handler without a connection."""
        return self._drain.deadline_at if self._drain.deadline_at != NEVER else None

    def due_connections(self, seen_at: float | None = None, turns: int | None = None) -> list[Conn]:
        """The connections whose deadline has come: call `handle_deadline` on each, and pump it.

        Not all of them when there are many: `next_deadline` lies in the past until none is left. `seen_at` is when the
        driver last looked at what had come, if that is past: what came later may yet be in time. `turns` is how many
        connections have had their turn since the last call, if that is known.
        """
        most = DEADLINES_PER_TICK if turns is None else 1 + turns // TURNS_PER_DEADLINE
        now = self._clock() if seen_at is None else seen_at
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
