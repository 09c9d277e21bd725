"""The worlds in memory: each host over the same network, under a clock that goes by hand; trio over streams, too.

Worker threads are real ones. A world is settled when none of them does anything: each is idle, or held on the stage, or
waits for its client to read.
"""

import select
from collections.abc import Coroutine
from contextlib import suppress
from math import inf
from typing import Any

import trio
import trio.testing
from h1core.drivers import asyncio_driver, selectors_driver, trio_driver
from h1core.drivers.engine.engine import Engine
from h1core.drivers.engine.worker_source import WorkerSource

from h1core.server import Phase
from h1core.testing import FakeClock, MemoryClient, MemoryNetwork
from h1core.testing.asyncio_loop import FakeTimeLoop
from h1core.testing.trio_network import TrioMemoryNetwork

from .scenario import Kind, Peer, Record, Row, World, play
from .scenario_handlers import as_kind, options_of

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
    """The selectors driver, ticked in this thread."""

    def __init__(self, row: Row, kind: Kind, record: Record) -> None:
        super().__init__(row, kind, record)
        self._clock = FakeClock(1000.0)
        self._network = MemoryNetwork(self._clock)
        self._listener = self._network.listen()
        self.server = selectors_driver.Server(
            as_kind(row, kind, self.stage),
            listeners=[self._listener],
            clock=self._clock,
            **options_of(row, kind, 1, self._network.selector),
        )
        self.stage.on_park = self.server.engine._wake.wake
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
        engine = self.server.engine
        if has_busy_threads(self, engine):
            wait_for_threads(engine)
            return True
        deadline = self.server.core.next_deadline
        is_due = deadline is not None and deadline <= self._clock()
        return bool(engine.unfinished) or self._network.selector.has_ready or is_due

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


def has_busy_threads(world: World, engine: Engine) -> bool:
    """Whether a worker thread does something, and neither waits on the stage nor for its client."""
    workers = 1 if world.kind is Kind.THREADS else 0
    running = min(engine.core.backlog.outstanding, workers)
    return running > world.stage.parked_threads + sum(
        isinstance(session.source, WorkerSource)
        and bool(session.source._changed._waiters)  # type: ignore[attr-defined]  # a private part of threading.Condition
        and session.conn.output_bytes > 0  # else the engine is to take a piece, and was perhaps not told yet
        for session in engine.sessions.values()
    )


def wait_for_threads(engine: Engine) -> None:
    select.select([engine._wake], [], [], 0.001)
    engine._wake.clear()


class AsyncioWorld(MemoryWorld):
    """The asyncio driver on a loop whose clock goes by hand."""

    def __init__(self, row: Row, kind: Kind, record: Record) -> None:
        super().__init__(row, kind, record)
        self._clock = FakeClock(1000.0)
        self._network = MemoryNetwork(self._clock)
        self._listener = self._network.listen()
        self._loop = FakeTimeLoop(self._clock)
        self.server = asyncio_driver.Server(
            as_kind(row, kind, self.stage),
            listeners=[self._listener],
            **options_of(row, kind, 1, self._network.selector),
        )
        self._task = self._loop.create_task(self.server.serve())
        self._loop.run_until_idle()

    async def connect(self, window_bytes: int) -> None:
        self.peers.append(MemoryPeer(self._listener.connect(window_bytes)))
        await self.settle()

    async def settle(self) -> None:
        self._settle()

    def _settle(self) -> float:
        """Let the loop run until nothing is to be done; when its next timer is due."""
        for _ in range(MOST_TICKS):
            self._network.wake()
            next_at = self._loop.run_until_idle()
            if self._task.done() or not has_busy_threads(self, self.server.engine):
                return next_at
            wait_for_threads(self.server.engine)
        raise AssertionError("the loop spins")

    async def wait(self, seconds: float) -> None:
        until = self._clock.now + seconds
        while (next_at := self._settle()) <= until:
            self._clock.now = max(self._clock.now, next_at)
        self._clock.now = max(self._clock.now, until)
        self._settle()

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self.server.stop()

    async def has_stopped(self) -> bool:
        await self.settle()
        return self._task.done()

    def close(self) -> None:
        left = len(self.server.core.connections)
        self._task.cancel()
        while self._loop.run_until_idle() < inf and not self._task.done():
            self._clock.advance(1)
        assert self._task.done()
        if not self._task.cancelled():
            self._task.result()
        self._loop.close()
        assert left == 0, "the server knows connections that are over"
        assert self._network.selector.watched == 0


class TrioWorld(MemoryWorld):
    """The trio driver in memory; this is the only task beside the server's."""

    def __init__(
        self,
        row: Row,
        kind: Kind,
        record: Record,
        nursery: trio.Nursery,
        clock: trio.testing.MockClock,
        over_streams: bool,
    ) -> None:
        super().__init__(row, kind, record)
        self._nursery = nursery
        self._clock = clock
        self._network: TrioMemoryNetwork | MemoryNetwork
        self._is_stopped = False
        handler = as_kind(row, kind, self.stage)
        if over_streams:
            self._network = streams = TrioMemoryNetwork()
            self._connect = streams.connect
            self.server = trio_driver.Server(handler, listeners=[streams.listener], **options_of(row, kind, 1))
        else:
            self._network = network = MemoryNetwork(FakeClock())
            listener = network.listen()
            self._connect = listener.connect
            self.server = trio_driver.Server(
                handler, listeners=[listener], **options_of(row, kind, 1, network.selector)
            )

    async def start(self) -> None:
        await self._nursery.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[list[Any]]) -> None:
        await self.server.serve(task_status=task_status)
        self._is_stopped = True

    async def connect(self, window_bytes: int) -> None:
        self.peers.append(MemoryPeer(self._connect(window_bytes)))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(MOST_ROUNDS):
            self._network.wake()
            await trio.testing.wait_all_tasks_blocked()
            if self._is_stopped or not has_busy_threads(self, self.server.engine):
                return
            wait_for_threads(self.server.engine)
        raise AssertionError("a thread is never through")

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
    """Let a row happen to the selectors driver in memory."""
    _play(SelectorsWorld(row, kind, record))


def play_on_asyncio(row: Row, kind: Kind, record: Record) -> None:
    """Let a row happen to the asyncio driver in memory."""
    _play(AsyncioWorld(row, kind, record))


def _play(world: SelectorsWorld | AsyncioWorld) -> None:
    try:
        run_without_waiting(play(world))
    except BaseException:
        world.stage.release()
        with suppress(AssertionError):  # of what is still open
            world.close()
        raise
    world.close()


def run_without_waiting(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("in this world nobody waits")


def play_on_trio(row: Row, kind: Kind, record: Record, *, over_streams: bool = False) -> None:
    """Let a row happen to the trio driver in memory."""
    clock = trio.testing.MockClock()

    async def main() -> Exception | None:
        failure = None
        async with trio.open_nursery() as nursery:
            world = TrioWorld(row, kind, record, nursery, clock, over_streams)
            await world.start()
            try:
                await play(world)
                assert not world.server.engine.sessions, "the server knows connections that are over"
            except Exception as error:  # noqa: BLE001 - raised again outside of the nursery, which would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        return failure

    failure = trio.run(main, clock=clock)
    if failure is not None:
        raise failure
