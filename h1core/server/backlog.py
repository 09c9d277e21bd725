"""Which requests wait for a worker, and which are rejected.

The queue is bounded so that an overloaded server still answers: beyond the bound a request is answered 503 at once, and
the client can try elsewhere. One that has waited too long is answered 503, too, because its client has probably given
up. Only requests count, never idle connections.
"""

from collections.abc import Hashable
from math import ceil
from typing import Final

from h1core.events import Response
from h1core.http1.writer import error_response

RETRY_AFTER_S: Final = 1
"""Seconds that a client is told to wait at least."""


class Backlog:
    """Counts the requests that workers have, or will get. Never raises, never blocks.

    All but `is_stale`, which changes nothing, belong to the engine's thread. A `ticket` stands for one request.
    """

    __slots__ = ("_admitted_at", "_max_outstanding", "_queue_timeout", "dropped", "left", "outstanding", "shed")

    def __init__(self, workers: int, max_queued_requests: int, queue_timeout: float) -> None:
        self._max_outstanding = workers + max_queued_requests
        self._queue_timeout = queue_timeout
        self._admitted_at: dict[Hashable, float] = {}
        """When each request was admitted, in that order, until it is done or has been returned by `overdue`."""
        self.outstanding = 0
        """Requests that were admitted and are not done."""
        self.shed = 0
        """Requests that were rejected so far, for either reason."""
        self.left = 0
        """Requests that no worker began because their clients had left."""
        self.dropped = 0
        """Requests that workers finished after their connections had gone."""

    def admit(self, ticket: Hashable, now: float) -> bool:
        """Count one more request if there is room. Returns whether a worker will get it."""
        if self.outstanding >= self._max_outstanding:
            self.shed += 1
            return False
        self.outstanding += 1
        self._admitted_at[ticket] = now
        return True

    def done(self, ticket: Hashable, *, is_gone: bool = False) -> None:
        """Uncount a request that a worker has finished, or found stale. `is_gone`: its connection has ended."""
        assert self.outstanding > 0
        self.outstanding -= 1
        self.dropped += is_gone
        self._admitted_at.pop(ticket, None)

    @property
    def next_deadline(self) -> float | None:
        """The instant at which `overdue` may return a request, or None."""
        at = next(iter(self._admitted_at.values()), None)
        return None if at is None else at + self._queue_timeout

    def overdue(self, now: float) -> list[Hashable]:
        """The requests that were admitted `queue_timeout` ago, each once. A worker may have one by now; one that is
        still in the queue has waited too long.
        """
        tickets: list[Hashable] = []
        while (deadline := self.next_deadline) is not None and deadline <= now:
            ticket = next(iter(self._admitted_at))
            del self._admitted_at[ticket]
            tickets.append(ticket)
        return tickets

    def is_stale(self, queued_at: float, now: float) -> bool:
        """Whether a request that was admitted at `queued_at` has waited too long to be started now."""
        return now - queued_at > self._queue_timeout


def overload_response(retry_after_s: float = RETRY_AFTER_S) -> Response:
    """The answer to a request that is rejected. RFC 9110 §15.6.4, §10.2.3."""
    retry_after = (b"retry-after", b"%d" % ceil(retry_after_s))
    return error_response(503, "The server has more requests than it can handle.", (retry_after,))
