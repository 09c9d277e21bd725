"""The real engine as what is under test, on any host: what goes in the place of its world, and what must hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from h1core.drivers.engine import engine as engine_module
from h1core.drivers.engine import worker_source as worker_source_module
from h1core.drivers.engine.engine import Engine
from h1core.drivers.engine.response_body import IteratorSource
from h1core.drivers.engine.session import Session
from h1core.drivers.engine.worker_source import WorkerSource
from h1core.drivers.selectors_driver import Server

from h1core.http1.state import Disposition, State
from h1core.server import ServerCore
from h1core.server import core as core_module
from h1core.server.admission import RETRY_S
from h1core.server.drain import SILENCE_S
from h1core.testing.network import READ, WRITE

from . import bounds
from .apps import Apps
from .invariants import Invariant, Violation, violated
from .network import SimSelector, SimStream, SimWake
from .sendfile import sendfile_swaps
from .swaps import swapped
from .waits import Waits
from .watched import WatchedConn
from .workers import SimCondition, SimPool, SimThreading
from .wsgi_apps import WsgiApps

if TYPE_CHECKING:
    from .world import World


class EngineDriver:
    """What the world asks of a host, as far as that is the engine's."""

    interfaces: ClassVar[tuple[type[Apps], ...]] = (Apps, Apps, WsgiApps)

    def __init__(self, world: World) -> None:
        self.world = world
        has_sendfile = isinstance(world.apps, WsgiApps) and world.dice.driver.chance(0.5)
        self._swaps = sendfile_swaps(world) if has_sendfile else ()
        self.selector = self.make_selector()
        self.waits = Waits()
        self.pool: SimPool | None = None
        self._seen = (-1, -1, -1)
        self._newcomer_since = inf, 0
        if world.swarm.threads:
            self.pool = SimPool(world, world.swarm.threads, self._wake_up)
            SimCondition.pool = self.pool
        with self.patched():
            self.server: Any = self.make_server()

    def make_selector(self) -> SimSelector:
        """What the engine asks."""
        return SimSelector(self.world)

    def make_server(self) -> Any:
        """The server under test."""
        return Server(self.handler(), listeners=[self.world.listener], clock=self.world.clock, **self.options())

    def handler(self) -> Any:
        return self.world.apps.handler(self.world.swarm.threads)

    def options(self) -> dict[str, Any]:
        swarm = self.world.swarm
        return {
            "limits": swarm.limits,
            "timeouts": swarm.timeouts,
            "wall_clock": self.world.clock,
            "selector": self.selector,
            "threads": swarm.threads,
            "workers": self.pool,
        }

    @property
    def engine(self) -> Engine:
        engine: Engine = self.server.engine
        return engine

    @property
    def core(self) -> ServerCore:
        return self.engine.core

    def patched(self) -> AbstractContextManager[object]:
        """Put our `Conn`, wake channel and condition where the engine finds its own."""
        return swapped(
            (core_module, "Conn", self.world.make_conn),
            (engine_module, "WakeChannel", SimWake),
            (worker_source_module, "threading", SimThreading),
            *self.waits.swaps(),
            *self._swaps,
        )

    def run(self) -> None:
        with self.patched():
            try:
                self.serve()
                self.world.ended_at = min(self.world.ended_at, self.world.clock.now)
                self._let_workers_end()
            except Violation:
                self._let_workers_end(quietly=True)
                raise
            finally:
                self.engine._acceptor.close()

    def serve(self) -> None:
        """Let the server run to its end."""
        self.server.run()

    def _let_workers_end(self, quietly: bool = False) -> None:
        """The world goes on a little without the server, until workers that can end have ended."""
        if self.pool is None:
            return
        if not quietly:
            for _ in range(1000):
                if not self.pool.fibers or self.world.next_at == float("inf"):
                    break
                self.world.clock.now = max(self.world.clock.now, self.world.next_at)
                self.world.run_due()
            if self.pool.fibers:
                violated(Invariant.CLEAN_UP, "a worker waits for a client that has gone")
        self.pool.kill_all()

    def _wake_up(self) -> None:
        self.engine._wake.wake()

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self.server.stop()

    def block(self, seconds: float) -> None:
        if self.pool is not None and self.pool.current is not None:
            self.pool.sleep(seconds)
        else:
            self.world.lose(seconds)

    def changed(self, stream: SimStream) -> None:
        """The selector asks each stream by itself."""

    def cut_short(self, stream: SimStream) -> None:
        """The selector asks again."""

    def wake_listener(self) -> None:
        """The selector asks the listener, too."""

    # What holds

    @property
    def orphans(self) -> int:
        """Coroutines whose connection is closed, and whose place is not free yet."""
        return sum(isinstance(getattr(over, "__self__", None), Session) for over in self.engine.detached.values())

    def is_busy(self, conn: WatchedConn) -> bool:
        session = self.engine.sessions.get(conn)
        if session is None:
            return True
        return session.job is not None or session.source is not None or session.exchange is not None

    def is_cleaning_up(self, conn: WatchedConn) -> bool:
        return conn not in self.engine.sessions

    def see_step(self) -> None:
        sessions = self.engine.sessions
        if len(sessions) + self.orphans != len(self.core._connections):
            violated(
                Invariant.SLOTS,
                f"{len(sessions)} sessions and {self.orphans} coroutines, {len(self.core._connections)} of them known",
            )
        seen = (self.selector.calls, self.watched, len(sessions))
        if seen != self._seen:
            self._seen = seen
            self._see_registrations()
        outstanding = self.core.backlog.outstanding
        if self.pool is not None and outstanding != self.pool.uncounted:
            violated(Invariant.SLOTS, f"{outstanding} requests are counted, workers have {self.pool.uncounted}")
        bounds.see(bounds.of_engine(self.engine, self.world.swarm.threads, self.waits.coroutines))
        for session in sessions.values():
            bounds.see(bounds.of_session(session, self.world))

    def _see_registrations(self) -> None:
        """Each connection has its own socket, and just those that wait for something are registered."""
        registered = 0
        for conn, session in self.engine.sessions.items():
            assert isinstance(conn, WatchedConn)
            if session.conn is not conn or self.stream_of(session.io._transport) is not conn.stream:
                violated(Invariant.SLOTS, "a connection has another's socket")
            registered += bool(session.io.interest)
        acceptor = self.engine._acceptor
        others = len(acceptor._listeners) * acceptor.is_listening + (not self.engine._is_closed)
        if self.watched != registered + others:
            violated(Invariant.SLOTS, f"{registered} sockets should be watched, {self.watched - others} are")

    @property
    def watched(self) -> int:
        """How much is registered with the engine's selector."""
        return self.selector.watched

    def stream_of(self, transport: Any) -> SimStream:
        """The stream that the engine reads and writes by a transport."""
        stream: SimStream = transport
        return stream

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        engine = self.engine
        if self.pool is not None and self.pool.has_unseen:
            violated(Invariant.NOT_OVERLOOKED, "a worker has something to say, and the engine was not woken")
        if self.pool is not None:
            self.pool.see_queue(self.world.clock.now - self.world.swarm.timeouts.queue_timeout)
        if engine._drain_asked or engine._stop_asked:
            violated(Invariant.NOT_OVERLOOKED, "the server was told to end, and sleeps")
        if engine.new_exchanges:
            violated(Invariant.NOT_OVERLOOKED, "a request waits for its coroutine, and nobody starts that")
        if engine.unfinished:
            violated(Invariant.NOT_OVERLOOKED, "a connection has something to do, and no turn")
        if self.core.may_accept and self.world.listener.ready:
            violated(Invariant.NOT_OVERLOOKED, "somebody waits to be accepted, and there is room")
        self._see_newcomers()
        self.waits.see_sleep()
        for conn, session in engine.sessions.items():
            is_held_back = session.exchange is not None and session.exchange.is_complete
            if is_held_back or conn in touched:
                assert isinstance(conn, WatchedConn)
                self._see_session(session, conn)

    def _see_newcomers(self) -> None:
        """Nobody waits for a place for long while another connection is idle."""
        now = self.world.clock.now
        # One whose application is still at work after its response makes no room.
        is_idle = any(conn.is_idle and it.exchange is None for conn, it in self.engine.sessions.items())
        is_draining = self.world.drain_at < inf or self.world.was_stopped
        has_cause = is_draining or "accept_errors" in self.world.faults
        if has_cause or not (self.world.listener.ready and self.core.is_full and is_idle):
            self._newcomer_since = inf, 0
            return
        since, opened = self._newcomer_since
        if opened != self.world.opened:  # one after the other
            since = inf
        since = min(since, now)
        self._newcomer_since = since, self.world.opened
        if now > since + 2 * RETRY_S + self.world.lost_s:
            violated(Invariant.NOT_OVERLOOKED, "a newcomer waits, and another connection is idle")

    def _see_session(self, session: Session, conn: WatchedConn) -> None:
        stream, exchange = conn.stream, session.exchange
        if conn.disposition is Disposition.LINGER and not stream.output_ended:
            violated(Invariant.GENTLE_END, "all is written, and the writing side is open", conn.lane)
        is_full = self.core.background_tasks >= self.core.limits.max_connections
        is_held = exchange is not None and exchange.is_complete and is_full  # too many work after their responses
        if session._wants_read() and not is_held and stream.ready & READ:
            violated(Invariant.NOT_OVERLOOKED, f"bytes, or their end, wait to be read by {conn.clocks()}", conn.lane)
        if conn.output_bytes and stream.ready & WRITE:
            violated(Invariant.NOT_OVERLOOKED, f"there is room for what is owed: {conn.clocks()}", conn.lane)
        if not conn.output_bytes and isinstance(session.source, IteratorSource):
            violated(Invariant.NOT_OVERLOOKED, "the application has more to say, and is not asked", conn.lane)
        late_s = self.world.lost_s + 3 * SILENCE_S
        since = max(self.world.drain_at, conn.state_since)
        is_told = self.world.clock.now > since + self.world.stream_drain_s + late_s
        is_untold = exchange is not None and (exchange.is_silent or not exchange._must_end)
        is_open = (session.source is not None and not session.source.is_complete) or is_untold
        if is_told and is_open and conn.state in (State.RESPONDING, State.DUPLEX):
            violated(Invariant.DRAINS, "a stream goes on in a drain, and nobody told its application", conn.lane)
        is_at_work = session.source is not None and not session.source.is_complete
        if is_at_work and stream.has_left(session.began_at):
            violated(Invariant.NOT_OVERLOOKED, "a stream goes on for a client that has left", conn.lane)
        if isinstance(session.source, WorkerSource):
            self._see_worker(session.source, conn)
        waits = b"\r\n\r\n" in conn._buffer.data.lstrip(b"\r\n")
        if not conn.output_bytes and not is_held and conn._may_parse() and waits:
            violated(Invariant.NOT_OVERLOOKED, "a request waits, and nobody waits for it", conn.lane)
        if session.waiters and conn.state is State.CLOSED:
            violated(Invariant.NOT_OVERLOOKED, "a coroutine waits for a connection that is over", conn.lane)

    def _see_worker(self, source: WorkerSource, conn: WatchedConn) -> None:
        """A worker that streams and the engine do not wait for each other."""
        if source._waiting and not conn.output_bytes:
            violated(Invariant.NOT_OVERLOOKED, "a worker has made a piece, and nobody sends it", conn.lane)
        changed: Any = source._changed  # a SimCondition
        if not changed.is_waited_for:
            return
        if source._waiting_bytes <= source._max_memory_bytes and not source._file.unread_bytes:
            violated(Invariant.NOT_OVERLOOKED, "a worker waits for room in memory, and there is some", conn.lane)
        if conn.output_bytes and not source._file.is_full:
            violated(Invariant.NOT_OVERLOOKED, "a worker waits for its client, and there is room in a file", conn.lane)

    def see_end(self) -> None:
        if self.selector.left:
            violated(Invariant.DRAINS, f"{self.selector.left} registrations are left")
        if self.pool is not None and not self.pool.is_closed:
            violated(Invariant.DRAINS, "the workers were not told to end")
        if self.core._connections:
            violated(Invariant.DRAINS, f"{len(self.core._connections)} connections are left")


def quiet(do: Callable[[], Any]) -> None:
    """Do something of which a violation is told later."""
    try:
        do()
    except Violation:
        pass
