"""A clock that a test sets."""

from typing import Final

WALL_CLOCK_START_S: Final = 1_000_000_000.0
"""What a wall clock in memory shows at first: Sun, 09 Sep 2001 01:46:40 GMT."""


class FakeClock:
    """A clock in seconds that only its methods advance. Pass the instance wherever a clock is a parameter."""

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Read the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError when it would go back."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds} s")
        self.now += seconds

    def advance_to(self, instant: float) -> None:
        """Let time pass up to an instant. Raises ValueError when that has passed."""
        self.advance(instant - self.now)
