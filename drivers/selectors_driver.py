"""The selectors driver: the engine on its own loop, handlers inline or on worker threads.

How it waits: the engine's selector waits. How it runs a coroutine: not at all; `asyncio_driver` and `trio_driver` do.
How it stops: `run` returns when a drain is over, or after `stop`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Unpack

from h1core.app.handler import Handler
from h1core.errors import LocalError
from h1core.server import ServerCore

from .app_interface import runs_on_a_loop
from .engine.engine import Engine
from .engine.options import Options
from .net.transport import Listener


class Server:
    """An HTTP/1.1 server for one sync handler, which gets whole requests.

    `listeners` are non-blocking listening sockets, which the server closes. `clock` gives seconds, and never goes back.
    For the other options see `Engine`. Raises LocalError for an async handler.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        listeners: Sequence[Listener],
        clock: Callable[[], float] = time.monotonic,
        **options: Unpack[Options],
    ) -> None:
        if runs_on_a_loop(handler):
            raise LocalError("an async application needs the asyncio or the trio driver")
        self.engine = Engine(handler, None, listeners=listeners, clock=clock, **options)

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until a drain is over or `stop` is called, then close everything. Raises what the selector raises.

        Calls `started` before the first round.
        """
        started()
        try:
            while not self.engine.is_over:
                self.engine.tick(None)
        finally:
            self.close()

    def tick(self, max_wait: float | None = None) -> None:
        """Do one round: wait until something is ready or due, `max_wait` seconds at most, and serve it."""
        self.engine.tick(max_wait)

    def begin_drain(self) -> None:
        """Accept no more connections, finish the requests in flight, end `run`. From any thread or signal handler."""
        self.engine.begin_drain()

    def stop(self) -> None:
        """End `run` now, cutting every connection. From any thread or signal handler."""
        self.engine.stop()

    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` in the thread of `run`. From any thread or signal handler."""
        self.engine.call_soon(do)

    def close(self) -> None:
        """Cut every connection and free all resources; the server is not used again. A second call does nothing."""
        self.engine.close()

    @property
    def core(self) -> ServerCore:
        """The policy over connections; for reading only."""
        return self.engine.core
