"""The selectors driver in memory, for `Client`."""

from collections.abc import Callable

from h1core.app.handler import Handler
from h1core.config import Limits, Timeouts
from h1core.drivers.engine.pool import Job
from h1core.drivers.selectors_driver import Server
from h1core.server import Phase
from h1core.testing.clock import WALL_CLOCK_START_S, FakeClock
from h1core.testing.network import MemoryClient, MemoryNetwork
from h1core.testing.workers import FakeWorkers

MAX_TICKS = 100_000
"""In a row, with no time passing: more than any test needs. It ends a loop that spins."""


class SelectorsBackend:
    """A server on the selectors driver whose sockets, selector, clock and workers are fakes."""

    def __init__(self, handler: Handler, threads: int, limits: Limits | None, timeouts: Timeouts | None) -> None:
        self._clock = FakeClock()
        self._network = MemoryNetwork(self._clock)
        self._listener = self._network.listen()
        self._workers = FakeWorkers[Job]()
        self._server = Server(
            handler,
            listeners=[self._listener],
            limits=limits,
            timeouts=timeouts,
            clock=self._clock,
            wall_clock=lambda: WALL_CLOCK_START_S + self._clock(),
            selector=self._network.selector,
            threads=threads,
            workers=self._workers if threads else None,
        )

    @property
    def now(self) -> float:
        """The clock."""
        return self._clock.now

    def connect(self, window_bytes: int) -> MemoryClient:
        """Make a connection."""
        return self._listener.connect(window_bytes)

    def settle(self) -> None:
        """Tick until there is nothing to do but wait."""
        for _ in range(MAX_TICKS):
            while self._workers.jobs:
                self._workers.run_next()
            self._server.tick(0)
            if self._server.engine.is_idle and not self._network.selector.has_ready and not self._workers.jobs:
                return
        raise AssertionError(f"the server is still busy after {MAX_TICKS} rounds")

    def settle_threads(self, is_done: Callable[[], bool]) -> None:
        """Do nothing: the application has no threads of its own to wait for."""

    def wait(self, seconds: float) -> None:
        """Tick from deadline to deadline."""
        until = self._clock.now + seconds
        self.settle()
        while self._clock.now < until and not self.is_over:
            self._server.tick(until - self._clock.now)
            self.settle()
        self._clock.now = max(self._clock.now, until)

    def begin_drain(self) -> None:
        """Begin to drain the server."""
        self._server.begin_drain()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended."""
        return self._server.core.phase is Phase.STOPPED

    def close(self) -> None:
        """Close the server."""
        self._server.close()
