"""What the engine needs of the system: a byte transport, a listener, a selector.

Non-blocking sockets and the `selectors` module fit as they are; `h1core.testing` has all three in memory. TLS will be
another transport.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from h1core.events import Endpoints
from h1core.http1.output import Buffer

READ: Final = 1
"""`selectors.EVENT_READ`."""

WRITE: Final = 2
"""`selectors.EVENT_WRITE`."""


def endpoints_of(transport: object, peer: object, scheme: str = "http") -> Endpoints:
    """The addresses of both ends of a transport; if it has its own `endpoints`, those. Never raises."""
    endpoints = getattr(transport, "endpoints", None)
    if isinstance(endpoints, Endpoints):
        return endpoints
    try:
        own = transport.getsockname() if hasattr(transport, "getsockname") else None
    except OSError:
        own = None
    return Endpoints(_host_and_port(peer), (own, None) if isinstance(own, str) else _host_and_port(own), scheme)


def _host_and_port(address: object) -> tuple[str, int] | None:
    """Host and port of an IPv4 or IPv6 address; None for any other address."""
    return address[:2] if isinstance(address, tuple) and len(address) >= 2 else None


class Transport(Protocol):
    """A connection's byte stream, which never blocks."""

    def fileno(self) -> int:
        """The descriptor that a selector waits for."""

    def recv(self, size: int, /) -> bytes:
        """Read at most `size` bytes; `b""` at the end. Raises BlockingIOError when it would wait, OSError when lost."""

    def send(self, data: Buffer, /) -> int:
        """Write some of `data`, and return how many bytes. Raises like `recv`."""

    def shutdown(self, how: int, /) -> None:
        """Close one side. Raises OSError."""

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        """Set a socket option. Raises OSError."""

    def close(self) -> None:
        """Close both sides. Raises OSError."""


class Listener(Protocol):
    """A listening socket, which never blocks."""

    def fileno(self) -> int:
        """The descriptor that a selector waits for."""

    def accept(self) -> tuple[Any, Any]:
        """Accept a Transport; return it and its peer's address. Raises BlockingIOError when there is none, OSError."""

    def close(self) -> None:
        """Stop listening. Raises OSError."""


class Key(Protocol):
    """What a selector returns for something ready; `selectors.SelectorKey` is one."""

    @property
    def data(self) -> Any:
        """The `data` that was registered with it."""


class Selector(Protocol):
    """The part of `selectors.BaseSelector` that the engine uses."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Begin to wait for `events` on `fileobj`."""

    def modify(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Wait for other events."""

    def unregister(self, fileobj: Any) -> object:
        """Stop waiting for `fileobj`."""

    def select(self, timeout: float | None = None) -> Sequence[tuple[Key, int]]:
        """Wait until something is ready, `timeout` seconds at most, and return it."""

    def close(self) -> None:
        """Close the selector's own descriptor."""
