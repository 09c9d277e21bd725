"""A selector for the engine: the interface of `selectors`, on epoll without a detour where there is one.

`selectors.EpollSelector` asks itself in Python, for each event, what was registered and what the event means. Here the
ordinary event, which is input and nothing else, costs one look into a table.
"""

import select
import selectors
from math import ceil
from typing import Any

from .transport import READ, WRITE, Selector


class Registration:
    """What was registered for a descriptor."""

    __slots__ = ("data", "events")

    def __init__(self, events: int, data: object) -> None:
        self.events = events
        self.data: Any = data


def default_selector() -> Selector:
    """The best selector that the system has."""
    return EpollSelector() if hasattr(select, "epoll") else selectors.DefaultSelector()


if hasattr(select, "epoll"):

    class EpollSelector:
        """As far as the loop needs it, what `selectors.EpollSelector` is."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._registered: dict[int, Registration] = {}

        def register(self, fileobj: Any, events: int, data: Any = None) -> None:
            """Begin to wait for `events` on `fileobj`. Raises FileExistsError when it does already, OSError."""
            descriptor = fileobj.fileno()
            self._epoll.register(descriptor, _to_epoll(events))
            self._registered[descriptor] = Registration(events, data)

        def modify(self, fileobj: Any, events: int, data: Any = None) -> None:
            """Wait for other events. Raises KeyError when it does not wait yet, OSError."""
            descriptor = fileobj.fileno()
            self._epoll.modify(descriptor, _to_epoll(events))
            registration = self._registered[descriptor]
            registration.events = events
            registration.data = data

        def unregister(self, fileobj: Any) -> None:
            """Wait no more; `fileobj` is still open. Raises KeyError when it did not wait."""
            descriptor = fileobj.fileno()
            del self._registered[descriptor]
            self._epoll.unregister(descriptor)

        def select(self, timeout: float | None = None) -> list[tuple[Registration, int]]:
            """Wait until something is ready, `timeout` seconds at most, and say what."""
            known = self._registered
            timeout_s = -1 if timeout is None else ceil(timeout * 1000) / 1000  # epoll knows milliseconds
            ready = self._epoll.poll(timeout_s, len(known) or 1)
            return [
                (known[descriptor], READ if event == select.EPOLLIN else _from_epoll(event, known[descriptor].events))
                for descriptor, event in ready
            ]

        def fileno(self) -> int:
            """A descriptor that is readable when something is ready, for another event loop to wait for."""
            return self._epoll.fileno()

        def close(self) -> None:
            """Give the descriptor back."""
            self._registered.clear()
            self._epoll.close()

    def _to_epoll(events: int) -> int:
        return (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)

    def _from_epoll(event: int, waited_for: int) -> int:
        """What an event is to who waits: a hang-up or an error shows when reading, and when writing."""
        seen = (READ if event & ~select.EPOLLOUT else 0) | (WRITE if event & ~select.EPOLLIN else 0)
        return seen & waited_for
