"""Named timers and their next deadline; no clock.

A timer is a name and an instant. There are six names with a slot each, so that arming and stopping a timer are an
assignment: `timers.head = now + 10.0`, `timers.head = NEVER`.
"""

from enum import Enum
from typing import Final

NEVER: Final = float("inf")
"""The instant of a timer that does not run."""


class Timer(Enum):
    """What a connection has a deadline for. The value is the slot in `Timers`."""

    HEAD = "head"
    """The rest of a request head."""

    BODY = "body"
    """The rest of a request body, at a minimum rate."""

    KEEPALIVE = "keepalive"
    """The next request on an idle connection."""

    WRITE = "write"
    """Taking the queued bytes of responses, at a minimum rate."""

    LINGER = "linger"
    """The end of the peer's stream, after the last response."""

    DRAIN = "drain"
    """Everything, once the server is shutting down."""


class Timers:
    """The instant at which each timer runs out, in seconds on the caller's clock. Never raises."""

    __slots__ = ("body", "drain", "head", "keepalive", "linger", "write")

    head: float
    body: float
    keepalive: float
    write: float
    linger: float
    drain: float

    def __init__(self) -> None:
        self.stop_all()

    @property
    def next(self) -> float | None:
        """The earliest instant of any running timer, or None."""
        earliest = min(self.head, self.body, self.keepalive, self.write, self.linger, self.drain)
        return None if earliest == NEVER else earliest

    def at(self, timer: Timer) -> float:
        """The instant of one timer."""
        instant: float = getattr(self, timer.value)
        return instant

    def expired(self, now: float) -> list[Timer]:
        """The timers whose instant has come, `now` included, in the order of their instants."""
        return sorted((timer for timer in Timer if self.at(timer) <= now), key=self.at)

    def stop_all(self) -> None:
        """Stop every timer."""
        self.head = self.body = self.keepalive = self.write = self.linger = self.drain = NEVER
