"""The asyncio driver in memory, for `Client`: an event loop on a fake clock.

The loop runs in the thread of the test, and only during the calls here: each returns when nothing is left to do at the
current instant.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable
from math import inf
from typing import Any, Final

from h1core.config import Limits, Timeouts
from h1core.drivers.asyncio_driver import Server
from h1core.drivers.engine.pool import Job
from h1core.testing.clock import WALL_CLOCK_START_S, FakeClock
from h1core.testing.network import MemoryClient, MemoryNetwork
from h1core.testing.workers import FakeWorkers

THREADS_S: Final = 10.0
"""Seconds of real time in which threads of the application must finish."""

POLL_INTERVAL_S: Final = 0.02
"""Seconds of real time between two checks of these threads."""

MAX_JUMPS: Final = 100
"""Jumps of the clock that a server may need to start or to end."""


class IdleSelector(selectors.DefaultSelector):
    """A selector that does not wait: it calls `on_idle` with the timeout instead."""

    def __init__(self) -> None:
        super().__init__()
        self.on_idle: Callable[[float | None], None] = lambda timeout: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now."""
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.on_idle(timeout)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on a fake clock. Nothing in it waits: `run_until_idle` returns instead."""

    def __init__(self, clock: FakeClock) -> None:
        self._fake_clock = clock
        self._idle_selector = IdleSelector()
        self._idle_selector.on_idle = self._stop_idle
        self._next_in = inf
        super().__init__(self._idle_selector)
        self._clock_resolution = 1e-6  # a float cannot add the usual nanosecond to an instant half a year away

    def time(self) -> float:
        """The fake clock."""
        return self._fake_clock()

    def _stop_idle(self, timeout: float | None) -> None:
        self._next_in = inf if timeout is None else timeout
        self.stop()

    def run_until_idle(self) -> float:
        """Run what can run now. Returns the instant of the next timer, `inf` when there is none."""
        self.run_forever()
        return self._fake_clock() + self._next_in

    @property
    def watches_descriptors(self) -> bool:
        """Whether the loop waits for any descriptor besides that of its own wake-up."""
        return len(self._idle_selector.get_map()) > 1

    def wait_for_threads(self, seconds: float) -> bool:
        """Wait in real time until a thread calls back into the loop. Returns whether one did."""
        return bool(selectors.DefaultSelector.select(self._idle_selector, seconds))


class AsyncioBackend:
    """A server on asyncio whose sockets, selector and clock are fakes."""

    def __init__(self, handler: Any, threads: int, limits: Limits | None, timeouts: Timeouts | None) -> None:
        self._threads_before = frozenset(threading.enumerate())
        self._clock = FakeClock()
        self._loop = FakeTimeLoop(self._clock)
        self._network = MemoryNetwork(self._clock)
        self._listener = self._network.listen()
        self._workers = FakeWorkers[Job](lambda: self._loop.call_soon(self._run_job))
        self._is_ready = False
        self._server = Server(
            handler,
            listeners=[self._listener],
            limits=limits,
            timeouts=timeouts,
            wall_clock=lambda: WALL_CLOCK_START_S + self._clock(),
            selector=self._network.selector,
            threads=threads,
            workers=self._workers if threads else None,
        )
        self._task = self._loop.create_task(self._server.serve(ready=self._on_ready))
        self._jump_until(lambda: self._is_ready or self._task.done())
        if not self._is_ready:
            self._task.cancel()
            failure = self._task.exception() if self._task.done() else None
            self._close_loop()
            raise RuntimeError("the server did not start") from failure

    def _on_ready(self, addresses: list[Any]) -> None:
        self._is_ready = True

    def _run_job(self) -> None:
        self._workers.run_next()
        self._server.wake()

    @property
    def now(self) -> float:
        """The clock."""
        return self._clock.now

    def connect(self, window_bytes: int) -> MemoryClient:
        """Make a connection."""
        return self._listener.connect(window_bytes)

    def settle(self) -> None:
        """Let the loop do all that it can do now."""
        self._network.wake()
        self._loop.run_until_idle()

    def settle_threads(self, is_done: Callable[[], bool]) -> None:
        """Wait for threads of the application, too, until `is_done`. Takes real time."""
        left = THREADS_S
        while not is_done() and left > 0:
            has_outside_work = self._has_outside_work
            self.settle()
            if not (has_outside_work or self._has_outside_work):
                return
            if not self._loop.wait_for_threads(POLL_INTERVAL_S):
                left -= POLL_INTERVAL_S

    @property
    def _has_outside_work(self) -> bool:
        """Whether threads or descriptors may need real time."""
        return self._loop.watches_descriptors or not self._threads_before.issuperset(threading.enumerate())

    def wait(self, seconds: float) -> None:
        """Let the clock jump from timer to timer."""
        until = self._clock.now + seconds
        self._network.wake()
        while (next_at := self._loop.run_until_idle()) <= until:
            self._clock.now = max(self._clock.now, next_at)
        self._clock.now = max(self._clock.now, until)
        self.settle()

    def _jump_until(self, is_done: Callable[[], bool]) -> None:
        """Let the clock jump from timer to timer until `is_done`, or until nothing more can happen."""
        jumps, left = 0, THREADS_S
        while jumps < MAX_JUMPS and left > 0:
            has_outside_work = self._has_outside_work
            next_at = self._loop.run_until_idle()
            if is_done():
                return
            # Longer each time: the first jumps are quick, and a thread on a busy machine has time enough.
            if has_outside_work and self._loop.wait_for_threads(POLL_INTERVAL_S * (1 + jumps / 10)):
                continue
            if next_at < inf:
                self._clock.now = max(self._clock.now, next_at)
                jumps += 1
            elif has_outside_work:
                left -= POLL_INTERVAL_S
            else:
                return

    def begin_drain(self) -> None:
        """Begin to drain the server."""
        self._server.begin_drain()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended."""
        return self._task.done()

    def close(self) -> None:
        """Cancel the server. Raises the error that ended it, if any. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._task.cancel()
        self._jump_until(self._task.done)
        self._close_loop()
        if not self._task.cancelled() and self._task.exception() is not None:
            raise self._task.exception()  # type: ignore[misc]  # not None, as just asked

    def _close_loop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_idle()
        closing = self._loop.create_task(self._loop.shutdown_asyncgens())
        self._jump_until(closing.done)
        self._loop.close()
