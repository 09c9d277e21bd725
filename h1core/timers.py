"""Named timers and their next deadline; no clock.

A timer is a name and an instant. There are six names and one slot for each, so arming, stopping and asking for the
next deadline are a list access, and a connection can never stand in a wrong queue.
"""

from enum import IntEnum
from typing import Final

NEVER: Final = float("inf")


class Timer(IntEnum):
    """What a connection can be late with. The value is the slot in a `Timers`."""

    HEAD = 0
    """The rest of a request head."""

    BODY = 1
    """The rest of a request body, at a minimum rate."""

    KEEPALIVE = 2
    """The next request on an idle connection."""

    WRITE = 3
    """Taking some of the bytes that are owed to the peer."""

    LINGER = 4
    """Closing its side after the last response."""

    DRAIN = 5
    """Everything, once the server is shutting down."""


class Timers:
    """The instant at which each timer runs out, in seconds on the caller's clock. Never raises."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at: list[float] = [NEVER] * len(Timer)
        """One slot a timer; `NEVER` when it is stopped. The hot paths write to it directly."""

    @property
    def next(self) -> float | None:
        """The earliest instant of any running timer, or None."""
        earliest = min(self.at)
        return None if earliest == NEVER else earliest

    def start(self, timer: Timer, at: float) -> None:
        """Let `timer` run out at the instant `at`, whether or not it was running."""
        self.at[timer] = at

    def stop(self, timer: Timer) -> None:
        """Stop `timer`; stopping one that does not run is no mistake."""
        self.at[timer] = NEVER

    def stop_all(self) -> None:
        """Stop every timer."""
        self.at = [NEVER] * len(Timer)

    def expired(self, now: float) -> list[Timer]:
        """The timers whose instant has come, `now` included, in the order of their instants."""
        due = [timer for timer in Timer if self.at[timer] <= now]
        return sorted(due, key=self.at.__getitem__)
