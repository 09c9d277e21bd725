"""Which requests wait for a worker, and which are turned away.

A bounded queue is the difference between a slow server and a dead one: past the bound a request is answered 503 at
once, so that the client can go elsewhere, and one that has waited too long is answered 503 instead of being worked on
for a client that has given up. What counts is requests in hand, never idle connections.
"""

from math import ceil
from typing import Final

from h1core.events import Response
from h1core.http1.writer import error_response

RETRY_AFTER_S: Final = 1
"""What a client is told to wait at least."""


class Backlog:
    """Counts the requests that workers have, or will get. Never raises, never blocks.

    `admit` and `done` belong to the thread of the loop; `is_stale` may be asked by any, because it changes nothing.
    """

    __slots__ = ("_max_outstanding", "_queue_timeout", "outstanding", "shed")

    def __init__(self, workers: int, max_queued_requests: int, queue_timeout: float) -> None:
        self._max_outstanding = workers + max_queued_requests
        self._queue_timeout = queue_timeout
        self.outstanding = 0
        """Requests that were admitted and are not done."""
        self.shed = 0
        """Requests that were turned away so far, for either reason."""

    def admit(self) -> bool:
        """Whether a worker will get one more request; then it is counted."""
        if self.outstanding >= self._max_outstanding:
            self.shed += 1
            return False
        self.outstanding += 1
        return True

    def done(self) -> None:
        """Take note that a worker is through with a request, or found it stale."""
        assert self.outstanding > 0
        self.outstanding -= 1

    def is_stale(self, queued_at: float, now: float) -> bool:
        """Whether a request that was admitted at `queued_at` has waited too long to begin with it now."""
        return now - queued_at > self._queue_timeout


def overload_response(retry_after_s: float = RETRY_AFTER_S) -> Response:
    """The answer to a request that is turned away. RFC 9110 §15.6.4, §10.2.3."""
    retry_after = (b"retry-after", b"%d" % ceil(retry_after_s))
    return error_response(503, "The server has more requests than it can handle.", (retry_after,))
