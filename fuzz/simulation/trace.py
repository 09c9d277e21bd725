"""What happened in a run, in its order: who, to whom, what, when."""

import hashlib
import marshal
from typing import Final, NamedTuple

from h1core.testing import FakeClock

from .invariants import Violation

WORLD = -1
"""The lane of what concerns no connection."""

MARSHAL_VERSION: Final = 2
"""Later ones write down which objects are the same, too, and that is no part of the story."""


class Entry(NamedTuple):
    """One thing that happened. `lane` is the number of the peer, or WORLD."""

    at: float
    lane: int
    actor: str
    verb: str
    detail: object


class Trace:
    """Two lists: what is hashed, and what a reader wants besides (states and deadlines), kept when it is `detailed`."""

    def __init__(self, clock: FakeClock, detailed: bool = False) -> None:
        self._clock = clock
        self.entries: list[tuple[float, int, str, str, object]] = []
        """What becomes an `Entry` when somebody reads it."""
        self.extras: list[tuple[int, Entry]] = []
        self.detailed = detailed

    def note(self, lane: int, actor: str, verb: str, detail: object = "") -> None:
        if Violation.first is None:  # what the server does when it is torn down belongs to no story
            self.entries.append((self._clock.now, lane, actor, verb, detail))

    def note_extra(self, lane: int, actor: str, verb: str, detail: object = "") -> None:
        if self.detailed and Violation.first is None:
            self.extras.append((len(self.entries), Entry(self._clock.now, lane, actor, verb, detail)))

    def hex(self) -> str:
        """The trace in 16 digits."""
        told = marshal.dumps(self.entries, MARSHAL_VERSION)
        return hashlib.sha256(told).hexdigest()[:16]

    @property
    def ended_at(self) -> float:
        return self.entries[-1][0] if self.entries else self._clock.now

    @property
    def all(self) -> list[Entry]:
        """Everything, in its order."""
        merged: list[Entry] = []
        taken = 0
        for position, extra in self.extras:
            merged += map(Entry._make, self.entries[taken:position])
            taken = position
            merged.append(extra)
        return merged + list(map(Entry._make, self.entries[taken:]))
