"""Workers that slow or departed clients hold: which stream must end, and which worker is to be named in the log."""

from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

Key = TypeVar("Key")

BLOCKED_S: Final = 5.0
"""How long a worker may go on for a client that has left before it is named: most applications notice sooner."""


class HeldWorkers:
    """Workers that wait for their clients, or go on although these have left. Never raises.

    A `ticket` stands for one request; `workers` is how many there are.
    """

    __slots__ = ("blocked", "left_at", "workers")

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.left_at: dict[Hashable, float] = {}
        """When the client of each request left, in that order, while a worker goes on with it and is not named."""
        self.blocked: dict[Hashable, None] = {}
        """Requests that were returned by `overdue` and are not done."""

    def stream_to_end(self, rates: Mapping[Key, float]) -> Key | None:
        """Which stream must end because too many workers wait for their clients, or None.

        `rates` are the streams whose workers wait, and how many bytes a second each client has taken. At most half of
        the workers may wait: the others are for everybody else. The slowest client has to leave.
        """
        return min(rates, key=rates.__getitem__) if len(rates) > self.workers // 2 else None

    def left(self, ticket: Hashable, now: float) -> None:
        """Note that the client of a request has left while its worker goes on, or waits to begin."""
        self.left_at.setdefault(ticket, now)

    def done(self, ticket: Hashable) -> None:
        """Note that no worker has the request any more."""
        self.left_at.pop(ticket, None)
        self.blocked.pop(ticket, None)

    @property
    def next_deadline(self) -> float | None:
        """The instant at which `overdue` returns a request, or None."""
        at = next(iter(self.left_at.values()), None)
        return None if at is None else at + BLOCKED_S

    def overdue(self, now: float) -> list[Hashable]:
        """The requests that a worker still has `BLOCKED_S` after their clients left, each once."""
        tickets: list[Hashable] = []
        while (deadline := self.next_deadline) is not None and deadline <= now:
            ticket = next(iter(self.left_at))
            del self.left_at[ticket]
            self.blocked[ticket] = None
            tickets.append(ticket)
        return tickets
