"""How many connections may be open, and when accepting makes sense."""

from typing import Final

from h1core.http1.timers import NEVER

RETRY_S: Final = 0.1
"""How long accepting rests after the process ran out of file descriptors or memory. Long enough not to spin, short
enough that nobody notices; a connection that ends sooner lets it go on at once."""


class Admission:
    """Counts open connections against their limit. Never raises.

    When the limit is reached, newcomers wait in the kernel's backlog. There is no low-water mark: a driver asks once a
    tick, which is all the damping that is needed, and a free slot never stays empty while somebody waits.
    """

    __slots__ = ("_max_connections", "_retry_at", "open_connections")

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._retry_at = NEVER
        self.open_connections = 0

    def may_accept(self, now: float) -> bool:
        """Whether to accept another connection."""
        if self._retry_at <= now:
            self._retry_at = NEVER
        return self.open_connections < self._max_connections and self._retry_at == NEVER

    def opened(self) -> None:
        """Take note of a connection."""
        self.open_connections += 1

    def gone(self) -> None:
        """Take note that a connection has ended: what it held is free."""
        assert self.open_connections > 0
        self.open_connections -= 1
        self._retry_at = NEVER

    def stop(self) -> None:
        """Accept nobody any more, whoever goes, and rest from nothing: a deadline that nobody asks about is a spin."""
        self._max_connections = 0
        self._retry_at = NEVER

    def out_of_resources(self, now: float) -> None:
        """Take note that accepting failed for want of descriptors or memory."""
        self._retry_at = now + RETRY_S

    @property
    def next_deadline(self) -> float | None:
        """When accepting may be tried again, or None when it does not rest."""
        return None if self._retry_at == NEVER else self._retry_at
