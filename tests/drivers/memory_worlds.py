"""The worlds in memory: each driver over the same network, under a clock that goes by hand.

Worker threads are real ones. A world is settled when none of them does anything: each is idle, or held on the stage, or
waits for its client to read.
"""

import select
from collections.abc import Coroutine
from typing import Any

import trio
import trio.testing
from h1core.drivers.engine.pool import WorkerPieces
from h1core.drivers.selectors_driver import Server

from h1core.server import Phase
from h1core.testing import FakeClock, MemoryClient, MemoryNetwork
from h1core.testing.trio_network import TrioMemoryNetwork

from .scenario import Kind, Peer, Record, Row, World, play
from .scenario_handlers import as_kind, make_trio_server

MOST_TICKS = 5_000
MOST_ROUNDS = 50_000


class MemoryPeer(Peer):
    def __init__(self, client: MemoryClient) -> None:
        super().__init__()
        self.client = client

    @property
    def received(self) -> bytearray:  # type: ignore[override]  # the base has an attribute, here it is the client's
        return self.client.received

    @property
    def sees_end(self) -> bool:  # type: ignore[override]  # as above
        return self.client.sees_end

    @property
    def sees_reset(self) -> bool:  # type: ignore[override]  # as above
        return self.client.sees_reset

    def send(self, data: bytes) -> None:
        self.client.send(data)

    def end(self) -> None:
        self.client.end()

    def reset(self) -> None:
        self.client.reset()

    def widen(self, window_bytes: int) -> None:
        self.client.widen(window_bytes)


class MemoryWorld(World):
    """What both have in common."""

    in_memory = True

    async def receive(self, peer: Peer) -> None:
        assert isinstance(peer, MemoryPeer)
        await self.settle()
        while peer.client.read():
            await self.settle()

    async def receive_end(self, peer: Peer) -> None:
        await self.receive(peer)

    async def take(self, peer: Peer, count: int) -> None:
        assert isinstance(peer, MemoryPeer)
        await self.settle()
        assert len(peer.client.read(count)) == count
        await self.settle()

    async def has_let_go(self, peer: Peer) -> bool:
        assert isinstance(peer, MemoryPeer)
        await self.settle()
        return peer.client.is_closed


class SelectorsWorld(MemoryWorld):
    """The readiness loop, ticked in this thread."""

    def __init__(self, row: Row, kind: Kind, record: Record) -> None:
        super().__init__(row, kind, record)
        self._clock = FakeClock(1000.0)
        self._network = MemoryNetwork(self._clock)
        self._listener = self._network.listen()
        self._threads = 1 if kind is Kind.THREADS else 0
        self.server = Server(
            as_kind(row, kind, self.stage),
            listeners=[self._listener],
            limits=row.make_limits(),
            timeouts=row.make_timeouts(1),
            clock=self._clock,
            wall_clock=lambda: 0.0,
            selector=self._network.selector,
            threads=self._threads,
        )
        self.stage.on_park = self.server._wake_up
        self._is_stopped = False

    async def connect(self, window_bytes: int) -> None:
        self.peers.append(MemoryPeer(self._listener.connect(window_bytes)))
        await self.settle()

    async def settle(self) -> None:
        quiet_ticks = 0  # two, since a tick begins by saying what it waits for
        for _ in range(MOST_TICKS):
            if self._is_stopped or quiet_ticks == 2:
                return
            self.server.tick(0)
            quiet_ticks = 0 if self._has_something_to_do() else quiet_ticks + 1
        raise AssertionError("the loop spins")

    def _has_something_to_do(self) -> bool:
        if self._has_busy_threads():
            self._wait_for_threads()
            return True
        deadline = self.server.core.next_deadline
        is_due = deadline is not None and deadline <= self._clock()
        return bool(self.server._pump.unfinished) or self._sees_events() or is_due

    def _sees_events(self) -> bool:
        selector = self._network.selector
        return any(getattr(key.fileobj, "ready", 0) & key.events for key in selector._keys.values())

    def _has_busy_threads(self) -> bool:
        running = min(self.server.core.backlog.outstanding, self._threads)
        return running > self.stage.parked_threads + sum(
            isinstance(connection.pieces, WorkerPieces)
            and connection.pieces._waiting_bytes > connection.pieces._max_bytes
            for connection in self.server._pump.connections.values()
        )

    def _wait_for_threads(self) -> None:
        wake = self.server._wake
        assert wake is not None
        select.select([wake], [], [], 0.001)
        wake.clear()

    async def wait(self, seconds: float) -> None:
        await self.settle()
        until = self._clock.now + seconds
        while self._clock.now < until and not self._is_stopped:
            self.server.tick(until - self._clock.now)
            await self.settle()

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self._is_stopped = True
        self.server.close()

    async def has_stopped(self) -> bool:
        await self.settle()
        return self._is_stopped or self.server.core.phase is Phase.STOPPED

    def close(self) -> None:
        left = len(self.server.core.connections)
        self.server.close()
        assert left == 0, "the server knows connections that are over"
        assert self._network.selector.watched == 0


class TrioWorld(MemoryWorld):
    """The trio driver over streams in memory; this is the only task beside the server's."""

    def __init__(
        self, row: Row, kind: Kind, record: Record, nursery: trio.Nursery, clock: trio.testing.MockClock
    ) -> None:
        super().__init__(row, kind, record)
        self._nursery = nursery
        self._clock = clock
        self._network = TrioMemoryNetwork()
        self._is_stopped = False
        self.server = make_trio_server(row, kind, self.stage, [self._network.listener], scale=1)

    async def start(self) -> None:
        await self._nursery.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[list[Any]]) -> None:
        await self.server.serve(task_status=task_status)
        self._is_stopped = True

    async def connect(self, window_bytes: int) -> None:
        self.peers.append(MemoryPeer(self._network.connect(window_bytes)))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(MOST_ROUNDS):
            self._network.wake()
            await trio.testing.wait_all_tasks_blocked()
            if not self._has_busy_threads():
                return
            select.select([], [], [], 0)  # lets another thread have its turn
        raise AssertionError("a thread is never through")

    def _has_busy_threads(self) -> bool:
        limit = self.server._application._limit
        return limit is not None and limit.borrowed_tokens > self.stage.parked_threads

    async def wait(self, seconds: float) -> None:
        await self.settle()
        until = trio.current_time() + seconds
        while (left := until - trio.current_time()) > 0:
            next_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
            self._clock.jump(min(left, max(next_s, 1e-6)))
            await self.settle()

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self.server.stop()

    async def has_stopped(self) -> bool:
        await self.settle()
        return self._is_stopped


def play_on_selectors(row: Row, kind: Kind, record: Record) -> None:
    """Let a row happen to the readiness loop in memory."""
    world = SelectorsWorld(row, kind, record)
    try:
        run_without_waiting(play(world))
    except BaseException:
        world.server.close()
        raise
    world.close()


def run_without_waiting(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("in this world nobody waits")


def play_on_trio(row: Row, kind: Kind, record: Record) -> None:
    """Let a row happen to the trio driver in memory."""
    clock = trio.testing.MockClock()

    async def main() -> Exception | None:
        failure = None
        async with trio.open_nursery() as nursery:
            world = TrioWorld(row, kind, record, nursery, clock)
            await world.start()
            try:
                await play(world)
                assert not world.server._connections, "the server knows connections that are over"
            except Exception as error:  # noqa: BLE001 - raised again outside of the nursery, which would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        return failure

    failure = trio.run(main, clock=clock)
    if failure is not None:
        raise failure
