"""How many lines of one kind a log gets, so that a flood of bad requests is no flood of lines."""

from collections.abc import Hashable
from typing import Final, NamedTuple

from h1core.http1.timers import NEVER

WINDOW_S: Final = 10.0
"""How long lines of a kind are counted together."""

LINES_PER_WINDOW: Final = 10
"""Lines of a kind that are written in that time: who reads them sees what goes wrong, and whether for one client or for
all; a thousand would not show more, and would cost more than the refusals themselves."""


class Suppressed(NamedTuple):
    """Lines of a kind that were not written."""

    kind: Hashable
    lines: int
    seconds: float
    """How long they were counted."""


class _Window:
    __slots__ = ("ends_at", "suppressed", "written")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.written = 0
        self.suppressed = 0


class LogLimit:
    """Counts the lines of each kind, and says which of them are written. Never raises.

    Kinds are few: none may be made of what a peer sends. Of a kind `LINES_PER_WINDOW` lines are written in `WINDOW_S`
    seconds, from the first one on; the others are counted, and `take_suppressed` returns how many they were.
    """

    __slots__ = ("_next_deadline", "_windows")

    def __init__(self) -> None:
        self._windows: dict[Hashable, _Window] = {}
        self._next_deadline = NEVER

    def may_write(self, kind: Hashable, now: float) -> bool:
        """Count a line. Returns whether to write it."""
        window = self._windows.get(kind)
        if window is None or (window.ends_at <= now and not window.suppressed):
            window = self._windows[kind] = _Window(now + WINDOW_S)
        if window.written < LINES_PER_WINDOW:
            window.written += 1
            return True
        window.suppressed += 1
        self._next_deadline = min(self._next_deadline, window.ends_at)
        return False

    @property
    def next_deadline(self) -> float | None:
        """The instant from which on `take_suppressed` returns something, or None while it does not."""
        return None if self._next_deadline == NEVER else self._next_deadline

    def take_suppressed(self, now: float, *, at_end: bool = False) -> list[Suppressed]:
        """The lines that were not written, each counted once: those whose time is over, or `at_end` all of them."""
        if self._next_deadline > now and not at_end:
            return []
        taken: list[Suppressed] = []
        self._next_deadline = NEVER
        for kind, window in list(self._windows.items()):
            if window.ends_at <= now or at_end:
                del self._windows[kind]
                if window.suppressed:
                    taken.append(Suppressed(kind, window.suppressed, now - window.ends_at + WINDOW_S))
            elif window.suppressed:
                self._next_deadline = min(self._next_deadline, window.ends_at)
        return taken
