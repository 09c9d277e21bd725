"""Which connection must be looked at next.

Theory
------
Every request moves its connection's deadline, nearly always to a later instant. An index that followed each move would
cost time in each request; this one does not. It stores for each connection one instant at which to look, no later than
the connection's deadline. A deadline that moves later changes nothing: when the stored instant comes, the connection
is asked, and stored anew. A deadline that moves earlier adds an entry to the heap and makes the older one stale.

So a request on a busy connection costs one comparison, an idle connection costs nothing, and a connection causes at
most one early look per keep-alive period. Stale entries, also those of connections that have gone, are dropped when
they come up, and all at once when they are the larger part of the heap, which bounds it and costs O(1) for each entry
ever made.
"""

from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")

STALE_ALLOWANCE: Final = 64
"""Stale entries that are too few for a clean-up."""


class DeadlineIndex(Generic[Key]):
    """Instants at which to look at keys (hashable, compared by identity or value). Never raises."""

    __slots__ = ("_heap", "_serial", "look_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self.look_at: dict[Key, float] = {}
        """The watched keys, and the instant at which to look at each. Not to be changed from outside."""
        self._serial = 0

    def __len__(self) -> int:
        return len(self.look_at)

    @property
    def entries(self) -> int:
        """How many entries the heap has, stale ones included; for tests of its bound."""
        return len(self._heap)

    def watch(self, key: Key, deadline: float | None) -> bool:
        """Make sure that `key` comes up no later than at `deadline`. O(1) unless it moved earlier.

        Returns whether `next` may be earlier now, for a caller that sleeps until then.
        """
        if deadline is None:
            return False
        look_at = self.look_at.get(key)
        if look_at is not None and look_at <= deadline:
            return False
        self.look_at[key] = deadline
        self._serial += 1  # equal instants come up in the order they were set, and keys are never compared
        heappush(self._heap, (deadline, self._serial, key))
        is_first = self._heap[0][1] == self._serial
        self._drop_stale()
        return is_first

    def forget(self, key: Key) -> None:
        """Stop watching `key`."""
        self.look_at.pop(key, None)
        self._drop_stale()

    def _drop_stale(self) -> None:
        """Rebuild the heap when most of it is stale."""
        if len(self._heap) > 2 * len(self.look_at) + STALE_ALLOWANCE:
            self._heap = [entry for entry in self._heap if self.look_at.get(entry[2]) == entry[0]]
            heapify(self._heap)

    @property
    def next(self) -> float | None:
        """The instant at which the next key may come up, or None."""
        self._skip_stale()
        return self._heap[0][0] if self._heap else None

    def _skip_stale(self) -> None:
        heap = self._heap
        while heap and self.look_at.get(heap[0][2]) != heap[0][0]:
            heappop(heap)

    def due(self, now: float, most: int) -> list[Key]:
        """At most `most` keys whose instant has come, earliest first; each is forgotten until it is watched again."""
        keys: list[Key] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(keys) < most:
            at, _, key = heappop(heap)
            if self.look_at.get(key) == at:
                del self.look_at[key]
                keys.append(key)
        return keys
