"""How many connections may be open, and when to accept."""

from typing import Final

from h1core.http1.timers import NEVER

RETRY_S: Final = 0.1
"""How long accepting pauses after the process ran out of file descriptors or memory. Long enough not to spin, too short
to be noticed; when a connection ends sooner, accepting resumes at once."""


class Admission:
    """Counts open connections against their limit. Never raises.

    When the limit is reached, new connections wait in the kernel's backlog. There is no low-water mark: the engine asks
    in each tick, which is damping enough, and no slot stays free while a connection waits.
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
        """Count a new connection."""
        self.open_connections += 1

    def gone(self) -> None:
        """Uncount a connection that has ended. Its descriptor is free, so accepting resumes."""
        assert self.open_connections > 0
        self.open_connections -= 1
        self._retry_at = NEVER

    def stop(self) -> None:
        """Stop accepting for good. Clears the pause, too: the loop would spin on a deadline that nothing handles."""
        self._max_connections = 0
        self._retry_at = NEVER

    def out_of_resources(self, now: float) -> None:
        """Pause accepting, because it failed for lack of descriptors or memory."""
        self._retry_at = now + RETRY_S

    @property
    def next_deadline(self) -> float | None:
        """When accepting may be tried again, or None when it is not paused."""
        return None if self._retry_at == NEVER else self._retry_at
