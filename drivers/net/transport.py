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
    """Who talks to whom over a transport whose peer has this address; or what the transport says. Never raises."""
    endpoints = getattr(transport, "endpoints", None)
    if isinstance(endpoints, Endpoints):
        return endpoints
    try:
        own = transport.getsockname() if hasattr(transport, "getsockname") else None
    except OSError:
        own = None
    return Endpoints(_host_and_port(peer), (own, None) if isinstance(own, str) else _host_and_port(own), scheme)


def _host_and_port(address: object) -> tuple[str, int] | None:
    """The part of an internet address that IPv4 and IPv6 have both; None for any other."""
    return address[:2] if isinstance(address, tuple) and len(address) >= 2 else None


class Transport(Protocol):
    """A connection's byte stream, which never blocks."""

    def fileno(self) -> int:
        """The descriptor that a selector waits for."""

    def recv(self, size: int, /) -> bytes:
        """Read at most `size` bytes; `b""` at the end. Raises BlockingIOError when it would wait, OSError when lost."""

    def send(self, data: Buffer, /) -> int:
        """Write some of `data`, and say how much. Raises like `recv`."""

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
        """Take a Transport and its peer's address. Raises BlockingIOError when there is none, OSError."""

    def close(self) -> None:
        """Stop listening. Raises OSError."""


class Key(Protocol):
    """What a selector gives back for something ready; `selectors.SelectorKey`."""

    @property
    def data(self) -> Any:
        """What was registered with it."""


class Selector(Protocol):
    """The part of `selectors.BaseSelector` that the loop uses."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Begin to wait for `events` on `fileobj`."""

    def modify(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Wait for other events."""

    def unregister(self, fileobj: Any) -> object:
        """Wait no more."""

    def select(self, timeout: float | None = None) -> Sequence[tuple[Key, int]]:
        """Wait until something is ready, `timeout` seconds at most, and say what."""

    def close(self) -> None:
        """Give the selector's own descriptor back."""
