"""The trio driver as a driver under test: the real `Server.serve`, on sockets or streams in memory, and our clock.

Trio is idle when all tasks wait; then it asks the clock to jump, and that is where everybody else does something. Its
scheduler shuffles on purpose, by a generator that is seeded here. Handlers are async: threads have no order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import trio
import trio.testing
from h1core.drivers.trio_driver import Server

from h1core.events import Request, Response
from h1core.server import ServerCore
from h1core.server import core as core_module
from h1core.state import State
from h1core.testing.network import READ, WRITE
from h1core.testing.trio_network import MemoryTrioStream

from .apps import Apps, Pieces, Plan
from .dice import Dice
from .invariants import Invariant, Violation, violated
from .network import SimStream
from .swaps import swapped
from .trio_sockets import SimSockets
from .watched import WatchedConn

if TYPE_CHECKING:
    from .world import World

UNKNOWN_FAULTS = ("early_timers", "full_queue")
"""Faults of the readiness loop, which trio does not have."""

SOCKET_FAULTS = ("interrupted", "spurious_ready", "broken_calls")
"""Those of sockets, which streams do not have."""

Lots: TypeAlias = "tuple[trio.lowlevel.ParkingLot, trio.lowlevel.ParkingLot]"
"""Who waits to read a stream, and who to write it."""


def world_clock(driver: TrioDriver) -> trio.abc.Clock:
    """A clock that goes when all tasks wait; trio lets nobody but MockClock do that, and nobody derive from it."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    vars(clock).update(
        current_time=driver.world.clock,
        deadline_to_sleep_time=lambda deadline: 0.0 if deadline <= driver.world.clock.now else 999999.0,
        _autojump=driver.rest,
    )
    return clock


def runner_of_trio() -> Any:
    return trio._core._run.GLOBAL_RUN_CONTEXT.runner


def poll_nothing(manager: Any, timeout: float) -> Any:
    """In place of trio's poll, once a turn: there is no descriptor but the one by which `run_sync_soon` wakes it."""
    queue = runner_of_trio().entry_queue
    return manager._epoll.poll(0) if queue.queue or queue.idempotent_queue else ()


class SimTrioListener(trio.abc.Listener[MemoryTrioStream]):
    """The world's listener, as trio has them; each stream is woken by itself."""

    def __init__(self, driver: TrioDriver) -> None:
        self._driver = driver

    async def accept(self) -> MemoryTrioStream:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                stream, _ = self._driver.world.listener.accept()
            except BlockingIOError:
                await self._driver.newcomers.park()
            else:
                assert isinstance(stream, SimStream)
                return MemoryTrioStream(stream, *self._driver.lots(stream))

    async def aclose(self) -> None:
        self._driver.world.listener.close()
        await trio.lowlevel.checkpoint()


class AsyncPieces:
    """A streamed body that takes its time."""

    def __init__(self, pieces: Pieces, plan: Plan, driver: TrioDriver) -> None:
        self._pieces = pieces
        self._plan = plan
        self._driver = driver

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._driver.owed_s = 0.0
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None
        finally:
            owed_s, self._driver.owed_s = self._driver.owed_s, None
        if owed_s:
            await trio.sleep(owed_s)
        return piece

    async def aclose(self) -> None:
        self._pieces.close()


class TrioDriver:
    """What the world asks of the trio driver."""

    interfaces: ClassVar[tuple[type[Apps], ...]] = (Apps,)

    def __init__(self, world: World) -> None:
        self.world = world
        dice = world.dice.driver
        self.sockets = SimSockets(world, has_epoll=dice.chance(0.7)) if dice.chance(0.7) else None
        for fault in UNKNOWN_FAULTS if self.sockets else UNKNOWN_FAULTS + SOCKET_FAULTS:
            world.faults.pop(fault, None)
        world.swarm.threads = 0
        if self.sockets is None:
            world.read_ahead_bytes = world.swarm.limits.max_buffer_bytes  # a stream receives before it is asked
        self.newcomers = trio.lowlevel.ParkingLot()
        self.owed_s: float | None = None
        """What a piece of a body takes, while it is made; None outside of that."""
        self._lots: dict[SimStream, Lots] = {}
        self._scope = trio.CancelScope()
        listener: Any = world.listener if self.sockets else SimTrioListener(self)
        with self._patched():
            self.server = self._make_server(listener)

    def _make_server(self, listener: Any) -> Server:
        world = self.world
        return Server(
            self._handle,
            listeners=[listener],
            limits=world.swarm.limits,
            timeouts=world.swarm.timeouts,
            wall_clock=world.clock,
            threads=0,
        )

    @property
    def core(self) -> ServerCore:
        return self.server.core

    async def _handle(self, request: Request) -> Response:
        world = self.world
        plan = world.apps.begin_whole(request)
        if plan.delay_s:
            await trio.sleep(min(plan.delay_s, 0.01) if world.is_calm else plan.delay_s)
        response = world.apps.reply(plan, request)
        takes_time = plan.number % 2 or plan.piece_delay_s or plan.kind == "for_ever"
        body = getattr(response, "body", None)  # there may be no response at all
        if takes_time and isinstance(body, Pieces):
            response.body = AsyncPieces(body, plan, self)
            plan.fails = plan.fails and plan.kind != "closing_fails"  # for HEAD: closed after the answer, quietly
        return response

    def _patched(self) -> AbstractContextManager[None]:
        """Put our `Conn` and sockets where the driver finds its own, and seed trio's scheduler."""
        world = self.world
        run_module: Any = trio._core._run
        return swapped(
            (core_module, "Conn", world.make_conn),
            (run_module, "_r", Dice(f"{world.seed}/trio")),
            (run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            (run_module.TheIOManager, "get_events", poll_nothing),
            *(self.sockets.swaps() if self.sockets else ()),
        )

    def run(self) -> None:
        world = self.world
        with self._patched():
            trio.run(self._serve, clock=world_clock(self))
            world.ended_at = min(world.ended_at, world.clock.now)

    async def _serve(self) -> None:
        runner_of_trio().instruments = {}  # there are none, and a dict says so sooner than trio's own mapping
        with self._scope:
            await self.server.serve()
            self.world.ended_at = self.world.clock.now

    def rest(self) -> None:
        """All tasks wait: let others act, or time pass."""
        if self._scope.cancel_called:
            return
        try:
            self._rest()
        except Violation:
            self._scope.cancel()

    def _rest(self) -> None:
        """One thing after the other, until some task has something to do."""
        world, clock, runner = self.world, self.world.clock, runner_of_trio()
        while not runner.runq:
            world.see_step()
            if world.next_at > clock.now:
                until = runner.deadlines.next_deadline()
                world.see_sleep(min(until, world.next_at), until)
                if world.next_at > until:
                    clock.now = max(clock.now, until) + world.lateness()
                    world.progressed()
                    return
                clock.now = max(clock.now, world.next_at)
            world.run_due()
            if runner.entry_queue.queue or runner.entry_queue.idempotent_queue:
                return

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self.server.stop()

    def block(self, seconds: float) -> None:
        if self.owed_s is not None:
            self.owed_s += seconds
        else:
            self.world.lose(seconds)

    def lots(self, stream: SimStream) -> Lots:
        if stream not in self._lots:
            self._lots[stream] = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        return self._lots[stream]

    def changed(self, stream: SimStream) -> None:
        if self.sockets:
            self.sockets.changed(stream)
            return
        readable, writable = self.lots(stream)
        if stream.ready & READ:
            readable.unpark_all()
        if stream.ready & WRITE:
            writable.unpark_all()

    def cut_short(self, stream: SimStream) -> None:
        if self.sockets:
            self.sockets.cut_short(stream)

    def wake_listener(self) -> None:
        if self.sockets:
            self.sockets.changed(self.world.listener)
        else:
            self.newcomers.unpark_all()

    # What holds

    def is_busy(self, conn: WatchedConn) -> bool:
        return conn.state in (State.HANDLING, State.RESPONDING, State.CLOSED)

    def see_step(self) -> None:
        connections = self.server._connections
        if len(connections) != len(self.core._connections):
            violated(Invariant.SLOTS, f"{len(connections)} connections, {len(self.core._connections)} of them known")

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        if self.core.may_accept and self.world.listener.ready:
            violated(Invariant.NOT_OVERLOOKED, "somebody waits to be accepted, and there is room")
        for conn in touched:
            stream = conn.stream
            waits = conn.state not in (State.HANDLING, State.RESPONDING) and not conn.output_bytes
            if waits and conn.wants_read and stream.ready & READ:
                violated(
                    Invariant.NOT_OVERLOOKED, f"bytes, or their end, wait to be read by {conn.clocks()}", conn.lane
                )
            if conn.output_bytes and stream.ready & WRITE:
                violated(Invariant.NOT_OVERLOOKED, f"there is room for what is owed: {conn.clocks()}", conn.lane)

    def see_end(self) -> None:
        if self.server._connections:
            violated(Invariant.DRAINS, f"{len(self.server._connections)} connections are left")
