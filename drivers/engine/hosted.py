"""What the servers on asyncio and trio have in common: their options, and how they are told to end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from math import inf
from typing import Any, Final, Unpack

from h1core.addresses import parse_address
from h1core.errors import LocalError
from h1core.server import ServerCore

from ..net.listeners import bind, close_listener
from .engine import AnyHandler, Engine
from .host import Host, Signal
from .options import Options

LIFESPAN_GRACE_S: Final = 5.0
"""Seconds for the application's shutdown after the drain's deadline has passed, or after `stop`."""

DEFAULT_THREADS: Final = 4
"""Worker threads for sync handlers: on the loop they would block the other tasks."""


class HostedServer(Host, ABC):
    """An HTTP/1.1 server for one handler, to be run once.

    `listeners` are those of `Engine`, or others that the driver adapts; the server closes them. For the other options
    see `Engine`. An ASGI application's lifespan begins before the first connection is accepted, and ends after the last
    has gone. Its shutdown has until the drain's deadline, and at least `LIFESPAN_GRACE_S`, also after `stop`.
    """

    def __init__(self, handler: AnyHandler, *, listeners: Sequence[Any], **options: Unpack[Options]) -> None:
        self._handler = handler
        self._listeners = listeners
        self._options = Options(threads=DEFAULT_THREADS) | options
        self._engine: Engine | None = None
        self._context = Context()
        """The task of each request gets a copy of this."""
        self._drain_asked = False
        self._stop_asked = False
        self._drain_until = -inf

    def begin_drain(self) -> None:
        """Accept no more connections, finish the requests in flight, end `serve`. From any thread or signal handler."""
        self._drain_asked = True
        self.call_soon(self._apply_requests)

    def stop(self) -> None:
        """End `serve` now, cutting every connection. From any thread or signal handler."""
        self._stop_asked = True
        self.call_soon(self._apply_requests)

    @property
    def engine(self) -> Engine:
        """The engine. Raises LocalError before the server serves."""
        if self._engine is None:
            raise LocalError("the server does not serve yet")
        return self._engine

    @property
    def core(self) -> ServerCore:
        """The policy over connections; for reading only. Raises LocalError before the server serves."""
        return self.engine.core

    def _apply_requests(self) -> None:
        """Do what `begin_drain` and `stop` have asked for."""
        if not (self._drain_asked or self._stop_asked):
            return
        engine = self._engine
        if engine is None:
            self._limit_wait(self.now())  # the lifespan is in its startup, which ends now
            return
        if self._stop_asked:
            engine.stop()
        elif self._drain_until == -inf:
            self._drain_until = self.now() + engine.core.timeouts.drain_timeout
            engine.begin_drain()
        self.wake()
        self._limit_wait(self._lifespan_deadline())

    def _lifespan_deadline(self) -> float:
        """When the application's shutdown must be over."""
        grace_until = self.now() + LIFESPAN_GRACE_S
        return grace_until if self._stop_asked else max(grace_until, self._drain_until)

    @abstractmethod
    async def wait_until(self, signal: Signal, deadline: float, *, shield: bool) -> bool:
        """Wait for a signal; return whether it was set by the deadline, which `_limit_wait` may make earlier.

        With `shield` the wait continues when the server is cancelled.
        """

    @abstractmethod
    def now(self) -> float:
        """The time of the event loop's clock, in seconds."""

    @abstractmethod
    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` in the event loop, from any thread or signal handler. Does nothing when no loop runs."""

    @abstractmethod
    def _limit_wait(self, deadline: float) -> None:
        """Make the deadline of a running `wait_until` not later than this."""


@contextmanager
def bound(binds: Sequence[str]) -> Iterator[list[Any]]:
    """Bound sockets for addresses as for `h1core --bind`, closed at exit. Raises LocalError."""
    sockets: list[Any] = []
    try:
        for text in binds:
            sockets.append(bind(parse_address(text)))
        yield sockets
    finally:
        for sock in sockets:
            close_listener(sock)


def bound_address(listener: Any) -> Any:
    """The address of a listener, as `getsockname` returns it; None when it has none."""
    sock = getattr(listener, "socket", listener)
    return sock.getsockname() if hasattr(sock, "getsockname") else None
