"""The engine on asyncio and on trio, as it is under test there: the real servers, on our selector and our clock.

An event loop is idle when all its tasks wait. Then it would sleep until its next timer; in its place everybody else
does something, one after the other, until the engine has something to do. In half of the runs the loop waits for the
engine's descriptor, as it does where there are sockets; in the others it is called when something may be ready, as for
streams. Trio's scheduler shuffles on purpose, by a generator that is seeded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack
from math import inf
from typing import Any, ClassVar

import anyio
import outcome
import trio
import trio.testing
from h1core.drivers import asyncio_driver, trio_driver

from h1core.events import Request, Response
from h1core.testing.asyncio_loop import FakeTimeLoop

from . import bounds
from .apps import Apps, Pieces, Plan
from .asgi_apps import AsgiApps
from .dice import Dice
from .engine_world import EngineDriver
from .invariants import Violation
from .network import SimDescriptorSelector, SimSelector, SimStream
from .stream_listener import FAULTS_OF_SOCKETS, SimInnerSelector, SimTrioListener, stream_of
from .swaps import swapped
from .world import World
from .wsgi_apps import WsgiApps


class AsyncPieces:
    """A streamed body that takes its time."""

    def __init__(self, pieces: Pieces, plan: Plan, driver: HostedDriver) -> None:
        self._pieces = pieces
        self._plan = plan
        self._driver = driver

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        driver = self._driver
        driver.owed_s = 0.0
        try:
            piece = next(self._pieces, None)
        finally:
            owed_s, driver.owed_s = driver.owed_s, None
        if piece is None:
            raise StopAsyncIteration
        if owed_s:
            await anyio.sleep(owed_s)
        return piece

    async def aclose(self) -> None:
        self._pieces.close()


class HostedDriver(EngineDriver):
    """What asyncio and trio have in common."""

    interfaces: ClassVar[tuple[type[Apps], ...]] = (Apps, Apps, Apps, WsgiApps, AsgiApps, AsgiApps)

    def __init__(self, world: World) -> None:
        self.owed_s: float | None = None
        """What a piece of a body takes, while it is made; None outside of that."""
        self.world = world
        self._avoid_faults()
        is_plain = type(world.apps) is Apps
        self.is_async = type(world.apps) is AsgiApps or (is_plain and world.dice.interface.chance(0.6))
        if self.is_async:
            world.swarm.threads = 0
            world.faults.pop("full_queue", None)
        super().__init__(world)

    def _avoid_faults(self) -> None:
        """Take faults out that cannot be."""
        self.world.faults.pop("early_timers", None)  # the loop looks again by itself

    def make_selector(self) -> SimSelector:
        self.has_descriptor = self.world.dice.driver.chance(0.5)
        return SimDescriptorSelector(self.world) if self.has_descriptor else SimSelector(self.world)

    def handler(self) -> Any:
        return self._handle if self.is_async and type(self.world.apps) is Apps else super().handler()

    async def _handle(self, request: Request) -> Response:
        world = self.world
        plan = world.apps.begin_whole(request)
        if plan.delay_s:
            await anyio.sleep(min(plan.delay_s, 0.01) if world.is_calm else plan.delay_s)
        response = world.apps.reply(plan, request)
        takes_time = plan.number % 2 or plan.piece_delay_s or plan.kind == "for_ever"
        body = getattr(response, "body", None)  # there may be no response at all
        if takes_time and isinstance(body, Pieces):
            response.body = AsyncPieces(body, plan, self)
            plan.fails = plan.fails and plan.kind != "closing_fails"  # for HEAD: closed after the answer, quietly
        return response

    def block(self, seconds: float) -> None:
        if self.owed_s is not None:
            self.owed_s += seconds
        else:
            super().block(seconds)

    def has_work(self) -> bool:
        """Whether the loop has something to do now."""
        raise NotImplementedError

    def tell_reader(self) -> None:
        """The engine's descriptor is readable: let who waits for it know."""
        raise NotImplementedError

    def rest(self, until: float) -> None:
        """Every task waits, until the loop's next timer: let others act one after the other, or time pass."""
        world, clock = self.world, self.world.clock
        while True:
            world.see_step()
            if self.selector.has_ready:
                self.tell_reader() if self.has_descriptor else self.selector.on_event()
            if self.has_work():
                return
            if world.next_at > clock.now:
                world.see_sleep(min(until, world.next_at), until)
                if world.next_at > until:
                    clock.now = max(clock.now, until) + world.lateness()
                    world.progressed()
                    return
                clock.now = max(clock.now, world.next_at)
            world.run_due()


class SimLoop(FakeTimeLoop):
    """A loop that waits for the engine's descriptor where that is none of the system's."""

    def __init__(self, driver: AsyncioDriver) -> None:
        self._driver = driver
        self._reader: asyncio.Handle | None = None
        super().__init__(driver.world.clock)

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]  # typeshed has a TypeVarTuple
        if fd != SimDescriptorSelector.DESCRIPTOR:
            super().add_reader(fd, callback, *args)
            return
        self._reader = asyncio.Handle(callback, args, self)

    def remove_reader(self, fd: Any) -> bool:
        if fd != SimDescriptorSelector.DESCRIPTOR:
            return super().remove_reader(fd)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
        return reader is not None

    def _stop_idle(self, timeout: float | None) -> None:
        if not self.is_readable:
            super()._stop_idle(timeout)

    def _process_events(self, event_list: Any) -> None:
        """In each turn, after what was ready: what has come."""
        super()._process_events(event_list)  # type: ignore[misc]  # the loop's own, which nothing public stands for
        if self.is_readable:
            self._ready.append(self._reader)  # type: ignore[attr-defined]  # as above

    @property
    def is_readable(self) -> bool:
        """Whether the engine's descriptor is waited for, and readable."""
        return self._reader is not None and self._driver.selector.has_ready


class AsyncioDriver(HostedDriver):
    """The asyncio driver, on a loop that does not wait."""

    def make_server(self) -> Any:
        return asyncio_driver.Server(self.handler(), listeners=[self.world.listener], **self.options())

    def has_work(self) -> bool:
        return self._loop.is_readable or bool(self._loop._ready)  # type: ignore[attr-defined]  # nothing public tells

    def tell_reader(self) -> None:
        """The loop looks by itself."""

    def see_step(self) -> None:
        super().see_step()
        ready = self._loop._ready  # type: ignore[attr-defined]  # as above
        rounds = sum(handle._callback == self.server._on_wake for handle in ready)
        bounds.see(iter([("rounds are asked for", rounds, 1)]))

    def serve(self) -> None:
        loop = self._loop = SimLoop(self)
        asyncio.set_event_loop(None)
        task = loop.create_task(self.server.serve())
        try:
            while True:
                until = loop.run_until_idle()
                if task.done():
                    break
                self.rest(until)
            task.result()
        finally:
            self._close(loop)

    def _close(self, loop: FakeTimeLoop) -> None:
        """End what the applications have left."""
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        for _ in range(100):
            until = loop.run_until_idle()
            if until == inf:
                break
            self.world.clock.now = max(self.world.clock.now, until)
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # one that never ends is the seed's
        loop.close()


class TrioDriver(HostedDriver):
    """The trio driver, on a clock that jumps when all tasks wait."""

    def _avoid_faults(self) -> None:
        super()._avoid_faults()
        world = self.world
        self._streams = SimTrioListener(world) if world.dice.driver.chance(0.25) else None
        if self._streams is not None:
            for fault in FAULTS_OF_SOCKETS:
                world.faults.pop(fault, None)
            world.swarm.threads = max(1, world.swarm.threads)  # while a handler has the loop, nobody sees what comes
            world.loses_what_breaks_off = True
            world.read_ahead_bytes = world.swarm.limits.max_buffer_bytes

    def make_selector(self) -> SimSelector:
        if self._streams is None:
            return super().make_selector()
        self.has_descriptor = True
        return SimInnerSelector(self.world)

    def make_server(self) -> Any:
        self._scope = trio.CancelScope()
        self._reader: trio.lowlevel.Task | None = None
        listener: Any = self._streams or self.world.listener
        return trio_driver.Server(self.handler(), listeners=[listener], **self.options())

    def patched(self) -> AbstractContextManager[object]:
        run_module: Any = trio._core._run
        stack = ExitStack()
        stack.enter_context(super().patched())
        stack.enter_context(
            swapped(
                (run_module, "_r", Dice(f"{self.world.seed}/trio")),
                (run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
                (run_module.TheIOManager, "get_events", self._poll),
                (trio.lowlevel, "wait_readable", self._wait_readable),
                (trio.lowlevel, "notify_closing", self._notify_closing),
                *(self._streams.swaps() if self._streams is not None else ()),
            )
        )
        return stack

    def serve(self) -> None:
        trio.run(self._serve, clock=self._make_clock())
        if Violation.first is not None:
            raise Violation.first

    def has_work(self) -> bool:
        runner = runner_of_trio()
        return bool(runner.runq or runner.entry_queue.queue or runner.entry_queue.idempotent_queue)

    def changed(self, stream: SimStream) -> None:
        if self._streams is not None:
            self._streams.changed(stream)

    def wake_listener(self) -> None:
        if self._streams is not None:
            self._streams.wake()

    @property
    def watched(self) -> int:
        streams = len(self.engine.selector._streams) if self._streams is not None else 0  # type: ignore[attr-defined]  # the driver's own
        return super().watched + streams

    def stream_of(self, transport: Any) -> SimStream:
        return stream_of(transport) if self._streams is not None else super().stream_of(transport)

    async def _wait_readable(self, descriptor: int) -> None:
        """In place of trio's, for the engine's descriptor."""
        if self._reader is not None:
            raise trio.BusyResourceError("another task waits for the engine")
        self._reader = trio.lowlevel.current_task()

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _notify_closing(self, descriptor: int) -> None:
        """In place of trio's, like `_wait_readable`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader, outcome.Error(trio.ClosedResourceError("the engine is closed")))

    def tell_reader(self) -> None:
        if self._reader is not None and self.selector.has_ready:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)

    def _poll(self, timeout: float) -> Any:
        """In place of trio's poll, once a turn: of the system's there is only the one that `run_sync_soon` wakes."""
        self.tell_reader()
        runner = runner_of_trio()
        queue = runner.entry_queue
        return runner.io_manager._epoll.poll(0) if queue.queue or queue.idempotent_queue else ()

    async def _serve(self) -> None:
        runner_of_trio().instruments = {}  # there are none, and a dict says so sooner than trio's own mapping
        with self._scope:
            await self.server.serve()

    def _make_clock(self) -> trio.abc.Clock:
        """A clock that goes when all tasks wait; trio lets nobody but MockClock do that, and nobody derive from it."""
        clock = trio.testing.MockClock(autojump_threshold=0)
        vars(clock).update(
            current_time=self.world.clock,
            deadline_to_sleep_time=lambda deadline: 0.0 if deadline <= self.world.clock.now else 999999.0,
            _autojump=self._autojump,
        )
        return clock

    def _autojump(self) -> None:
        if self._scope.cancel_called or self.has_work():
            return
        try:
            self.rest(runner_of_trio().deadlines.next_deadline())
        except Violation:
            self._scope.cancel()


def runner_of_trio() -> Any:
    return trio._core._run.GLOBAL_RUN_CONTEXT.runner
