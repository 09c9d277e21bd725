"""A selector for the engine: the interface of `selectors`, directly on epoll where the system has it.

`selectors.EpollSelector` runs Python code for each event, to find its registration and to translate its mask. Here the
ordinary event, which is input and nothing else, costs one lookup in a dict.
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
        """The part of `selectors.EpollSelector` that the engine needs."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._registered: dict[int, Registration] = {}

        def register(self, fileobj: Any, events: int, data: Any = None) -> None:
            """Begin to wait for `events` on `fileobj`. Raises FileExistsError if registered already, OSError."""
            descriptor = fileobj.fileno()
            self._epoll.register(descriptor, _to_epoll(events))
            self._registered[descriptor] = Registration(events, data)

        def modify(self, fileobj: Any, events: int, data: Any = None) -> None:
            """Wait for other events. Raises FileNotFoundError if it is not registered, OSError."""
            descriptor = fileobj.fileno()
            self._epoll.modify(descriptor, _to_epoll(events))
            registration = self._registered[descriptor]
            registration.events = events
            registration.data = data

        def unregister(self, fileobj: Any) -> None:
            """Stop waiting for `fileobj`, which is still open. Raises KeyError if it is not registered."""
            descriptor = fileobj.fileno()
            del self._registered[descriptor]
            self._epoll.unregister(descriptor)

        def select(self, timeout: float | None = None) -> list[tuple[Registration, int]]:
            """Wait until something is ready, `timeout` seconds at most, and return it."""
            known = self._registered
            timeout_s = -1 if timeout is None else ceil(timeout * 1000) / 1000  # epoll counts in milliseconds
            ready = self._epoll.poll(timeout_s, len(known) or 1)
            return [
                (known[descriptor], READ if event == select.EPOLLIN else _from_epoll(event, known[descriptor].events))
                for descriptor, event in ready
            ]

        def fileno(self) -> int:
            """A descriptor that is readable when something is ready, for another event loop to wait for."""
            return self._epoll.fileno()

        def close(self) -> None:
            """Close the descriptor."""
            self._registered.clear()
            self._epoll.close()

    def _to_epoll(events: int) -> int:
        return (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)

    def _from_epoll(event: int, waited_for: int) -> int:
        """Translate an event of epoll: a hang-up or an error is both readable and writable, if that is waited for."""
        seen = (READ if event & ~select.EPOLLOUT else 0) | (WRITE if event & ~select.EPOLLIN else 0)
        return seen & waited_for
