"""How a server ends: RUNNING → DRAINING → STOPPED, and never back."""

from enum import Enum

from h1core.http1.timers import NEVER


class Phase(Enum):
    """The phases of a server."""

    RUNNING = "accepting and serving"
    DRAINING = "finishing what is in flight; nothing new is accepted"
    STOPPED = "nothing is left"


class Drain:
    """The shutdown of a server. Never raises.

    Each connection ends itself, by its own drain deadline at the latest; the deadline here is for work that has no
    connection any more, such as a handler that never returns.
    """

    __slots__ = ("_timeout_s", "deadline_at")

    def __init__(self, drain_timeout: float) -> None:
        self._timeout_s = drain_timeout
        self.deadline_at = NEVER

    def begin(self, now: float) -> bool:
        """Begin the drain. Returns False if it had begun before."""
        if self.deadline_at != NEVER:
            return False
        self.deadline_at = now + self._timeout_s
        return True

    def phase(self, in_flight: int) -> Phase:
        """The phase, with `in_flight` open connections and applications that run without one."""
        if self.deadline_at == NEVER:
            return Phase.RUNNING
        return Phase.DRAINING if in_flight else Phase.STOPPED
