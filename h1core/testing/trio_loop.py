"""The trio driver in memory, for `Client`: trio runs in its own thread, and only while a call here waits for it.

Every call from outside runs in trio, and returns when all tasks wait: of the two threads, only one runs at a time.
"""

import math
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio
import trio.testing

from h1core.app.exchange import StreamingHandler
from h1core.app.handler import AsyncHandler, Handler
from h1core.config import Limits, Timeouts
from h1core.drivers.engine.pool import Job
from h1core.drivers.trio_driver import Server
from h1core.drivers.trio_tasks import only_error
from h1core.testing.clock import WALL_CLOCK_START_S
from h1core.testing.network import MemoryClient
from h1core.testing.trio_network import TrioMemoryNetwork
from h1core.testing.workers import FakeWorkers

T = TypeVar("T")

START_S: Final = 20.0
"""Seconds of real time in which trio must start."""

THREADS_S: Final = 10.0
"""Seconds of real time in which threads of the application must finish."""

POLL_INTERVAL_S: Final = 0.002
"""Seconds of real time between two checks of these threads."""


class TrioBackend:
    """A server on trio whose streams and clock are fakes."""

    def __init__(
        self,
        handler: Handler | AsyncHandler | StreamingHandler,
        threads: int,
        limits: Limits | None,
        timeouts: Timeouts | None,
    ) -> None:
        self._clock = trio.testing.MockClock(autojump_threshold=0)  # a startup may sleep
        self._handler = handler
        self._threads = threads
        self._limits = limits
        self._timeouts = timeouts
        self._is_over = False
        self._failure: BaseException | None = None
        self._is_started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="h1core-testing", daemon=True)
        self._thread.start()
        if not self._is_started.wait(START_S) or self._failure is not None:
            raise RuntimeError("the server did not start") from self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve, clock=self._clock)
        except BaseException as error:  # noqa: BLE001 - for the thread that waits; close() raises it
            self._failure = only_error(error)
        finally:
            self._is_over = True
            self._is_started.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._network = TrioMemoryNetwork()
        self._closing = trio.Event()
        workers = FakeWorkers[Job](lambda: nursery.start_soon(self._run_job, workers))
        self._server = Server(
            self._handler,
            listeners=[self._network.listener],
            limits=self._limits,
            timeouts=self._timeouts,
            wall_clock=lambda: WALL_CLOCK_START_S + self._clock.current_time(),
            threads=self._threads,
            workers=workers if self._threads else None,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self._server.serve)
            self._clock.autojump_threshold = math.inf
            self._is_started.set()
            nursery.start_soon(self._watch_end)
            await self._closing.wait()
            self._clock.autojump_threshold = 0  # a shutdown may sleep
            nursery.cancel_scope.cancel()

    async def _run_job(self, workers: FakeWorkers[Job]) -> None:
        workers.run_next()
        self._server.wake()

    async def _watch_end(self) -> None:
        await self._server.ended.wait()
        self._is_over = True

    def _in_trio(self, do: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return trio.from_thread.run(do, *arguments, trio_token=self._token)

    @property
    def now(self) -> float:
        """The clock."""
        return self._clock.current_time()

    def connect(self, window_bytes: int) -> MemoryClient:
        """Make a connection."""
        return self._network.connect(window_bytes)

    def settle(self) -> None:
        """Let trio run until all tasks wait."""
        self._in_trio(self._settle)

    async def _settle(self) -> None:
        self._network.wake()
        await trio.testing.wait_all_tasks_blocked()

    def settle_threads(self, is_done: Callable[[], bool]) -> None:
        """Wait for threads of the application, too, until `is_done`. Takes real time."""
        left = THREADS_S
        while not is_done() and left > 0:
            has_threads = self._in_trio(self._runs_threads)
            self.settle()
            if not has_threads and not self._in_trio(self._runs_threads):  # one may have ended, and another begun
                return
            threading.Event().wait(POLL_INTERVAL_S)  # sleeps: nothing sets the event
            left -= POLL_INTERVAL_S

    async def _runs_threads(self) -> bool:
        return trio.to_thread.current_default_thread_limiter().borrowed_tokens > 0

    def wait(self, seconds: float) -> None:
        """Let the clock jump from deadline to deadline."""
        self._in_trio(self._wait, seconds)

    async def _wait(self, seconds: float) -> None:
        await self._settle()
        self._clock.autojump_threshold = 0
        await trio.sleep(seconds)
        self._clock.autojump_threshold = math.inf
        await self._settle()

    def begin_drain(self) -> None:
        """Begin to drain the server."""
        self._server.begin_drain()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended."""
        return self._is_over

    def close(self) -> None:
        """Cancel the server. Raises the error that ended it, if any."""
        if self._thread.is_alive():
            trio.from_thread.run_sync(self._closing.set, trio_token=self._token)
            self._thread.join()
        if self._failure is not None:
            raise self._failure
