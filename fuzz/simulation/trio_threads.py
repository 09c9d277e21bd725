"""Worker threads as trio knows them, in a world with one thread: what they are given to do is done when the seed says.

A piece of work is done all at once, and its result comes as much later as it has taken. Whoever waits for it may be
cancelled; then nobody hears of the result, and the place in the limiter is free when the work is over, as with threads.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import outcome
import trio

if TYPE_CHECKING:
    from .swaps import Swap
    from .trio_world import TrioDriver

Deliver: TypeAlias = "Callable[[outcome.Outcome[Any]], None]"


class SimThreads:
    """What the driver takes for threads."""

    def __init__(self, driver: TrioDriver) -> None:
        self._driver = driver
        self._world = driver.world
        self.at_work = 0
        """How many there are."""
        self.awaited: list[int] = []
        """Lanes whose connections wait for one, or for what it does."""

    def swaps(self) -> tuple[Swap, ...]:
        """What lets the driver find these where it looks for trio's."""
        return (trio.to_thread, "run_sync", self.run_sync), (trio.lowlevel, "start_thread_soon", self.start_thread_soon)

    async def run_sync(self, work: Any, *, limiter: trio.CapacityLimiter, abandon_on_cancel: bool) -> Any:
        """Like `trio.to_thread.run_sync`, for methods of a reply."""
        assert abandon_on_cancel, "the driver waits for no thread"
        lane = self._world.apps.plans[int(work.__self__._request.target[1:])].lane
        self.awaited.append(lane)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            return await self._run(work, limiter)
        finally:
            self.awaited.remove(lane)
            self._world.touch(lane)

    async def _run(self, work: Callable[[], Any], limiter: trio.CapacityLimiter) -> Any:
        place = object()
        await limiter.acquire_on_behalf_of(place)
        waiting: list[trio.lowlevel.Task] = [trio.lowlevel.current_task()]

        def deliver(result: outcome.Outcome[Any]) -> None:
            limiter.release_on_behalf_of(place)
            if waiting:
                trio.lowlevel.reschedule(waiting.pop(), result)

        def give_up(_: object) -> trio.lowlevel.Abort:
            waiting.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        self.start_thread_soon(work, deliver)
        return await trio.lowlevel.wait_task_rescheduled(give_up)

    def start_thread_soon(self, work: Callable[[], Any], deliver: Deliver) -> None:
        """Like `trio.lowlevel.start_thread_soon`, but that `deliver` is called as if by trio."""
        self.at_work += 1
        self._world.after(self._lag(), lambda: self._do(work, deliver))

    def _lag(self) -> float:
        return self._world.lag(self._world.dice.pool)

    def _do(self, work: Callable[[], Any], deliver: Deliver) -> None:
        result, took_s = self._driver.measure(lambda: outcome.capture(work))
        self._world.after(took_s + self._lag(), lambda: self._deliver(deliver, result))

    def _deliver(self, deliver: Deliver, result: outcome.Outcome[Any]) -> None:
        self.at_work -= 1
        deliver(result)

    def let_end(self) -> None:
        """The server is gone: let time pass until nobody is at work."""
        world = self._world
        while self.at_work and world.next_at < inf:
            world.clock.now = max(world.clock.now, world.next_at)
            world.run_due()
