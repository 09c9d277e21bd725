"""The engine on asyncio and on trio, as it is under test there: the real servers, on our selector and our clock.

An event loop is idle when all its tasks wait. Then it would sleep until its next timer; in its place everybody else does
something, one after the other, until the engine has something to do. Trio's scheduler shuffles on purpose, by a
generator that is seeded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack
from math import inf
from typing import Any, ClassVar

import anyio
import trio
import trio.testing
from h1core.drivers import asyncio_driver, trio_driver

from h1core.events import Request, Response
from h1core.testing.asyncio_loop import FakeTimeLoop

from .apps import Apps, Pieces, Plan
from .asgi_apps import AsgiApps
from .dice import Dice
from .engine_world import EngineDriver
from .invariants import Violation
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
        world.faults.pop("early_timers", None)  # the loop looks again by itself
        is_plain = type(world.apps) is Apps
        self.is_async = type(world.apps) is AsgiApps or (is_plain and world.dice.interface.chance(0.6))
        if self.is_async:
            world.swarm.threads = 0
            world.faults.pop("full_queue", None)
        super().__init__(world)

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

    def rest(self, until: float) -> None:
        """Every task waits, until the loop's next timer: let others act one after the other, or time pass."""
        world, clock = self.world, self.world.clock
        while True:
            world.see_step()
            if self.selector.has_ready:
                self.selector.on_event()
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


class AsyncioDriver(HostedDriver):
    """The asyncio driver, on a loop that does not wait."""

    def make_server(self) -> Any:
        return asyncio_driver.Server(self.handler(), listeners=[self.world.listener], **self.options())

    def has_work(self) -> bool:
        return bool(self._loop._ready)  # type: ignore[attr-defined]  # nothing public tells

    def serve(self) -> None:
        loop = self._loop = FakeTimeLoop(self.world.clock)
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

    def make_server(self) -> Any:
        self._scope = trio.CancelScope()
        return trio_driver.Server(self.handler(), listeners=[self.world.listener], **self.options())

    def patched(self) -> AbstractContextManager[None]:
        run_module: Any = trio._core._run
        stack = ExitStack()
        stack.enter_context(super().patched())
        stack.enter_context(
            swapped(
                (run_module, "_r", Dice(f"{self.world.seed}/trio")),
                (run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
                (run_module.TheIOManager, "get_events", poll_nothing),
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


def poll_nothing(manager: Any, timeout: float) -> Any:
    """In place of trio's poll, once a turn: there is no descriptor but the one by which `run_sync_soon` wakes it."""
    queue = runner_of_trio().entry_queue
    return manager._epoll.poll(0) if queue.queue or queue.idempotent_queue else ()
