"""A bounded dict, for caches whose keys a peer or an application chooses."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """A dict of at most `max_entries`. An assignment to a full one empties it first: entries in use soon return."""

    __slots__ = ("_max_entries",)

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self._max_entries:
            self.clear()
        super().__setitem__(key, value)
