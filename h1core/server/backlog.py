"""Which requests wait for a worker, and which are rejected.

The queue is bounded so that an overloaded server still answers: beyond the bound a request is answered 503 at once, and
the client can try elsewhere. One that has waited too long is answered 503, too, because its client has probably given
up. Only requests count, never idle connections.
"""

from math import ceil
from typing import Final

from h1core.events import Response
from h1core.http1.writer import error_response

RETRY_AFTER_S: Final = 1
"""Seconds that a client is told to wait at least."""


class Backlog:
    """Counts the requests that workers have, or will get. Never raises, never blocks.

    `admit` and `done` are for the loop's thread only; `is_stale` may be called by any, because it changes nothing.
    """

    __slots__ = ("_max_outstanding", "_queue_timeout", "outstanding", "shed")

    def __init__(self, workers: int, max_queued_requests: int, queue_timeout: float) -> None:
        self._max_outstanding = workers + max_queued_requests
        self._queue_timeout = queue_timeout
        self.outstanding = 0
        """Requests that were admitted and are not done."""
        self.shed = 0
        """Requests that were rejected so far, for either reason."""

    def admit(self) -> bool:
        """Count one more request if there is room. Returns whether a worker will get it."""
        if self.outstanding >= self._max_outstanding:
            self.shed += 1
            return False
        self.outstanding += 1
        return True

    def done(self) -> None:
        """Uncount a request that a worker has finished, or found stale."""
        assert self.outstanding > 0
        self.outstanding -= 1

    def is_stale(self, queued_at: float, now: float) -> bool:
        """Whether a request that was admitted at `queued_at` has waited too long to be started now."""
        return now - queued_at > self._queue_timeout


def overload_response(retry_after_s: float = RETRY_AFTER_S) -> Response:
    """The answer to a request that is rejected. RFC 9110 §15.6.4, §10.2.3."""
    retry_after = (b"retry-after", b"%d" % ceil(retry_after_s))
    return error_response(503, "The server has more requests than it can handle.", (retry_after,))
