"""How a server ends: RUNNING → DRAINING → STOPPED, and never back."""

from enum import Enum

from h1core.http1.timers import NEVER


class Phase(Enum):
    """Where a server is in its life."""

    RUNNING = "accepting and serving"
    DRAINING = "finishing what is in flight; nothing new is accepted"
    STOPPED = "nothing is left"


class Drain:
    """The end of a server. Never raises.

    Each connection ends itself, by its own drain deadline at the latest; the one here is for what has no connection any
    more, such as a handler that never returns.
    """

    __slots__ = ("_timeout_s", "deadline_at")

    def __init__(self, drain_timeout: float) -> None:
        self._timeout_s = drain_timeout
        self.deadline_at = NEVER

    def begin(self, now: float) -> bool:
        """Begin, and say whether that is news."""
        if self.deadline_at != NEVER:
            return False
        self.deadline_at = now + self._timeout_s
        return True

    def phase(self, in_flight: int) -> Phase:
        """Where the server is with so many connections open, and so much work left that has none."""
        if self.deadline_at == NEVER:
            return Phase.RUNNING
        return Phase.DRAINING if in_flight else Phase.STOPPED
