"""How many connections may be open, and when to accept."""

from typing import Final

from h1core.http1.timers import NEVER

RETRY_S: Final = 0.1
"""How long accepting pauses after the process ran out of file descriptors or memory. Long enough not to spin, too short
to be noticed; when a connection ends sooner, accepting resumes at once."""


ROOM_SHARE: Final = 0.9
"""Below this share of the limit it is said to be over: so a server that is nearly full does not say so all the time."""


class Admission:
    """Counts open connections against their limit. Never raises.

    When the limit is reached, an idle connection makes room for each new one. When none is idle, new ones wait in the
    kernel's backlog until one is, or has ended.
    """

    __slots__ = ("_limit_is_felt", "_max_connections", "_retry_at", "open_connections")

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._retry_at = NEVER
        self._limit_is_felt = False
        self.open_connections = 0

    def may_accept(self, now: float) -> bool:
        """Whether to accept another connection, if there is room or can be."""
        if self._retry_at <= now:
            self._retry_at = NEVER
        return self._max_connections > 0 and self._retry_at == NEVER

    @property
    def is_full(self) -> bool:
        """Whether a connection must go before another can come."""
        return self.open_connections >= self._max_connections

    def limit_begins(self) -> bool:
        """Note that a newcomer has met the limit; return whether that is new."""
        was_felt, self._limit_is_felt = self._limit_is_felt, True
        return not was_felt

    def limit_ends(self) -> bool:
        """Return whether the limit was felt, and is not any more; once."""
        if not self._limit_is_felt or self.open_connections > ROOM_SHARE * self._max_connections:
            return False
        self._limit_is_felt = False
        return True

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

    def pause(self, now: float) -> None:
        """Pause accepting, because it failed for lack of descriptors or memory."""
        self._retry_at = now + RETRY_S

    @property
    def next_deadline(self) -> float | None:
        """When accepting may be tried again, or None when it is not paused."""
        return None if self._retry_at == NEVER else self._retry_at
