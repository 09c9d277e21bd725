"""The readiness loop as a driver under test: the real `Server.run`, asleep in our selector."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from h1core.drivers import pool as pool_module
from h1core.drivers import selectors_driver
from h1core.drivers.engine.pool import InlinePieces
from h1core.drivers.selectors_driver import Server

from h1core.http1.state import Disposition
from h1core.server import core as core_module
from h1core.testing.network import READ, WRITE

from .apps import Apps
from .invariants import Invariant, Violation, violated
from .network import SimSelector, SimStream, SimWake
from .sendfile import sendfile_swaps
from .swaps import Swap, swapped
from .watched import WatchedConn
from .workers import SimCondition, SimPool, SimThreading
from .world import World
from .wsgi_apps import WsgiApps


def patched(world: World, *more: Swap) -> AbstractContextManager[None]:
    """Put our `Conn`, wake channel and condition where the driver finds its own."""
    return swapped(
        (core_module, "Conn", world.make_conn),
        (selectors_driver, "WakeChannel", SimWake),
        (pool_module, "threading", SimThreading),
        *more,
    )


class SelectorsDriver:
    """What the world asks of the readiness loop."""

    interfaces: ClassVar[tuple[type[Apps], ...]] = (Apps, Apps, WsgiApps)

    def __init__(self, world: World) -> None:
        self.world = world
        swarm = world.swarm
        has_sendfile = isinstance(world.apps, WsgiApps) and world.dice.driver.chance(0.5)
        self._swaps = sendfile_swaps(world) if has_sendfile else ()
        self.selector = SimSelector(world)
        self.pool: SimPool | None = None
        self._seen = (-1, -1)
        with patched(world, *self._swaps):
            if swarm.threads:
                self.pool = SimPool(world, swarm.threads, self._wake_up)
                SimCondition.pool = self.pool
            self.server = Server(
                world.apps.handler(swarm.threads),
                listeners=[world.listener],
                limits=swarm.limits,
                timeouts=swarm.timeouts,
                clock=world.clock,
                wall_clock=world.clock,
                selector=self.selector,
                threads=swarm.threads,
                workers=self.pool,
            )
        self.core = self.server.core

    def run(self) -> None:
        with patched(self.world, *self._swaps):
            try:
                self.server.run()
                self.world.ended_at = self.world.clock.now
                self._let_workers_end()
            except Violation:
                self._let_workers_end(quietly=True)
                raise
            finally:
                self.server._acceptor.close()

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
        self.server._wake_up()

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

    def is_busy(self, conn: WatchedConn) -> bool:
        connection = self.server._pump.connections[conn]
        return connection.job is not None or connection.pieces is not None

    def is_cleaning_up(self, conn: WatchedConn) -> bool:
        return False

    def see_step(self) -> None:
        connections = self.server._pump.connections
        if len(connections) != len(self.core._connections):
            violated(Invariant.SLOTS, f"{len(connections)} connections, {len(self.core._connections)} of them known")
        seen = (self.selector.calls, len(connections))
        if seen != self._seen:
            self._seen = seen
            self._see_registrations()
        outstanding = self.core.backlog.outstanding
        if self.pool is not None and outstanding != self.pool.uncounted:
            violated(Invariant.SLOTS, f"{outstanding} requests are counted, workers have {self.pool.uncounted}")

    def _see_registrations(self) -> None:
        """Each connection has its own socket, and just those that wait for something are registered."""
        registered = 0
        for conn, connection in self.server._pump.connections.items():
            assert isinstance(conn, WatchedConn)
            if connection.conn is not conn or connection.transport is not conn.stream:
                violated(Invariant.SLOTS, "a connection has another's socket")
            registered += bool(connection.interest)
        others = len(self.server._acceptor._listeners) * self.server._acceptor._is_listening
        others += self.server._wake is not None
        if self.selector.watched != registered + others:
            violated(Invariant.SLOTS, f"{registered} sockets should be watched, {self.selector.watched - others} are")

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        server = self.server
        if self.pool is not None and self.pool.has_unseen:
            violated(Invariant.NOT_OVERLOOKED, "a worker has something to say, and the loop was not woken")
        if server._drain_asked or server._stop_asked:
            violated(Invariant.NOT_OVERLOOKED, "the server was told to end, and sleeps")
        if self.core.may_accept and self.world.listener.ready:
            violated(Invariant.NOT_OVERLOOKED, "somebody waits to be accepted, and there is room")
        for conn in touched:
            connection, stream = server._pump.connections[conn], conn.stream
            if conn.disposition is Disposition.LINGER and not stream.output_ended:
                violated(Invariant.GENTLE_END, "all is written, and the writing side is open", conn.lane)
            if connection.job is None and conn.wants_read and stream.ready & READ:
                violated(
                    Invariant.NOT_OVERLOOKED, f"bytes, or their end, wait to be read by {conn.clocks()}", conn.lane
                )
            if conn.output_bytes and stream.ready & WRITE:
                violated(Invariant.NOT_OVERLOOKED, f"there is room for what is owed: {conn.clocks()}", conn.lane)
            if not conn.output_bytes and isinstance(connection.pieces, InlinePieces):
                violated(Invariant.NOT_OVERLOOKED, "the application has more to say, and is not asked", conn.lane)
            if not conn.output_bytes and conn._is_their_turn() and b"\r\n\r\n" in conn._buffer.data.lstrip(b"\r\n"):
                violated(Invariant.NOT_OVERLOOKED, "a request waits, and nobody waits for it", conn.lane)

    def see_end(self) -> None:
        if self.selector.watched:
            violated(Invariant.DRAINS, f"{self.selector.watched} registrations are left")
        if self.pool is not None and not self.pool.is_closed:
            violated(Invariant.DRAINS, "the workers were not told to end")
