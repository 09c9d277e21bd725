"""The trio driver as a driver under test: the real `Server.serve`, on sockets or streams in memory, and our clock.

Trio is idle when all tasks wait; then it asks the clock to jump, and that is where everybody else does something. Its
scheduler shuffles on purpose, by a generator that is seeded here. Applications are async ones, or sync ones, in threads
that are the world's or in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import trio
import trio.testing
from h1core.drivers.trio_driver import Server

from h1core.events import Request, Response
from h1core.http1.state import State
from h1core.server import ServerCore
from h1core.server import core as core_module
from h1core.testing.network import READ, WRITE
from h1core.testing.trio_network import MemoryTrioStream

from .apps import Apps, Pieces, Plan
from .asgi_apps import AsgiApps
from .dice import Dice
from .invariants import Invariant, Violation, violated
from .network import SimStream
from .swaps import swapped
from .trio_sockets import SimSockets
from .trio_threads import SimThreads
from .watched import WatchedConn
from .wsgi_apps import WsgiApps

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

UNKNOWN_FAULTS = ("early_timers", "full_queue")
"""Faults of the readiness loop, which trio does not have, but with threads."""

REQUEST_READY = ServerCore.request_ready
BACKGROUND_BEGINS = ServerCore.background_begins

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


def request_ready(core: ServerCore, conn: WatchedConn) -> bool:
    """In place of `ServerCore.request_ready`: from here on a request waits for a thread."""
    conn.whole_at = conn.world.clock.now
    return REQUEST_READY(core, conn)


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
        piece, took_s = self._driver.measure(lambda: next(self._pieces, None))
        if piece is None:
            raise StopAsyncIteration
        if took_s:
            await trio.sleep(took_s)
        return piece

    async def aclose(self) -> None:
        self._pieces.close()


class TrioDriver:
    """What the world asks of the trio driver."""

    interfaces: ClassVar[tuple[type[Apps], ...]] = (Apps, Apps, Apps, WsgiApps, AsgiApps, AsgiApps)

    def __init__(self, world: World) -> None:
        self.world = world
        dice = world.dice.driver
        self.sockets = SimSockets(world, has_epoll=dice.chance(0.7)) if dice.chance(0.7) else None
        for fault in UNKNOWN_FAULTS if self.sockets else UNKNOWN_FAULTS + SOCKET_FAULTS:
            world.faults.pop(fault, None)
        self.is_async = type(world.apps) is AsgiApps or (type(world.apps) is Apps and world.dice.interface.chance(0.6))
        if self.is_async:
            world.swarm.threads = 0
        elif self.sockets is None:  # while a handler has the loop, nobody sees what comes on a stream
            world.swarm.threads = max(1, world.swarm.threads)
        self.threads = SimThreads(self) if world.swarm.threads else None
        if self.sockets is None:
            world.loses_what_breaks_off = True
            world.read_ahead_bytes = world.swarm.limits.max_buffer_bytes  # a stream receives before it is asked
        self.newcomers = trio.lowlevel.ParkingLot()
        self.owed_s: float | None = None
        """What a piece of a body takes, while it is made; None outside of that."""
        self._lots: dict[SimStream, Lots] = {}
        self._scope = trio.CancelScope()
        self._held: set[int] = set()
        """Requests whose applications were at work after the response when no more might be: they are waited for."""

        def background_begins(core: ServerCore) -> bool:
            """In place of `ServerCore.background_begins`: says who has to be waited for, too."""
            may_begin = BACKGROUND_BEGINS(core)
            if not may_begin:
                self._held.update(plan.number for plan in world.apps.running.values() if plan.is_complete)
            return may_begin

        self._background_begins = background_begins
        listener: Any = world.listener if self.sockets else SimTrioListener(self)
        with self._patched():
            self.server = self._make_server(listener)

    def _make_server(self, listener: Any) -> Server:
        world = self.world
        is_made_async = self.is_async and type(world.apps) is Apps
        handler = self._handle if is_made_async else world.apps.handler(world.swarm.threads)
        return Server(
            handler,
            listeners=[listener],
            limits=world.swarm.limits,
            timeouts=world.swarm.timeouts,
            wall_clock=world.clock,
            threads=world.swarm.threads,
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
            *(self.threads.swaps() if self.threads else ()),
            (ServerCore, "request_ready", request_ready),
            (ServerCore, "background_begins", self._background_begins),
        )

    def run(self) -> None:
        world = self.world
        with self._patched():
            trio.run(self._serve, clock=world_clock(self))
            world.ended_at = min(world.ended_at, world.clock.now)
            if self.threads:
                self.threads.let_end()

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

    def measure(self, do: Callable[[], T]) -> tuple[T, float]:
        """Do something, and say how long it took an application, which has no clock of its own."""
        self.owed_s = 0.0
        try:
            result = do()
        finally:
            owed_s, self.owed_s = self.owed_s, None
        return result, owed_s

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
        if not self.world.apps.gets_whole and conn.state in (State.RECEIVING, State.DUPLEX):
            return True
        return conn.state in (State.HANDLING, State.RESPONDING, State.CLOSED)

    def is_cleaning_up(self, conn: WatchedConn) -> bool:
        if self.threads is not None and conn.lane in self.threads.awaited:
            return True
        return any(plan.number in self._held and plan.lane == conn.lane for plan in self.world.apps.running.values())

    def see_step(self) -> None:
        connections = self.server._connections
        if len(connections) != len(self.core._connections):
            violated(Invariant.SLOTS, f"{len(connections)} connections, {len(self.core._connections)} of them known")

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        if self.core.may_accept and self.world.listener.ready:
            violated(Invariant.NOT_OVERLOOKED, "somebody waits to be accepted, and there is room")
        listening = {plan.lane for plan in self.world.apps.running.values() if plan.listens}
        for conn in touched:
            stream = conn.stream
            if self.is_cleaning_up(conn):
                continue
            if conn.lane in listening:
                waits = True
                if conn.state is State.CLOSED:
                    violated(Invariant.NOT_OVERLOOKED, "an application listens, and its client has gone", conn.lane)
            else:
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
