"""How a whole request gets its reply on trio: from an async handler, in a worker thread, or from a sync one in between.

Each way ends in a `Reply`: what to send first, and pieces to be awaited one by one, so that a slow client holds a
thread for no longer than the application needs for one piece.
"""

import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any, Final, Protocol

import trio

from h1core.app.handler import AsyncHandler, Handler, first_part
from h1core.events import Request, Response

from .engine.pool import END, PieceEnd
from .engine.responses import answer, close_quietly, failure_response, release

logger = logging.getLogger("h1core.server")

FAILURES: Final = (Exception, SystemExit)
"""What a handler may raise without ending more than its own request."""


class AsyncPieces(Protocol):
    """The rest of a response that is being streamed."""

    waits: bool
    """Taking a piece may wait, so that what is owed is written before."""

    async def next_piece(self) -> bytes | PieceEnd:
        """The next piece, or END. Raises what the application raised."""
        ...

    async def close(self) -> None:
        """Let the application clean up, however far it came. Never raises but for cancellation."""
        ...


Reply = tuple[Response, AsyncPieces | None]


async def reply_async(handler: AsyncHandler, request: Request) -> Reply:
    """The reply of an async handler; what it raises, also before its first piece, is logged, and a 500."""
    pieces: AsyncPieces | None = None
    method = request.method
    try:
        try:
            response = await handler(request)
        finally:
            request.method = method  # as in `answer`
        if type(response) is Response and isinstance(response.body, AsyncIterable):
            pieces = _FromAsyncIterator(aiter(response.body))
            if method == b"HEAD":
                await pieces.close()
                return Response(response.status, response.headers), None
            first = Response(response.status, response.headers, None)
            await pieces.take_lead()
            return first, pieces
        first, iterator = first_part(request, response)
        if iterator is not None:
            pieces = _FromIterator(iterator, request)
            await pieces.take_lead()
    except FAILURES:
        first = failure_response(request)
        if pieces is not None:
            await pieces.close()
        return first, None
    except trio.Cancelled:
        if pieces is not None:
            await pieces.close()
        raise
    return first, pieces


def reply_inline(handler: Handler, request: Request) -> Reply:
    """The reply of a sync handler that runs here and now, while everybody else waits."""
    first, iterator, lead = answer(handler, request, FAILURES)
    return first, None if iterator is None else _FromIterator(iterator, request, lead)


class _FromIterator:
    """Pieces of a sync iterator, taken here and now."""

    waits = False

    def __init__(self, pieces: Iterator[bytes], request: Request, lead: list[bytes] | None = None) -> None:
        self._pieces = pieces
        self._request = request
        self._lead = lead or []

    async def take_lead(self) -> None:
        """See whether there is a first piece."""
        self._lead = [piece for piece in (next(self._pieces, None),) if piece is not None]

    async def next_piece(self) -> bytes | PieceEnd:
        """The next piece, or END. Raises what the application raised."""
        return self._lead.pop() if self._lead else next(self._pieces, END)

    async def close(self) -> None:
        """Let the iterator clean up."""
        close_quietly(self._pieces)
        release(self._request)


class _FromAsyncIterator:
    """Pieces of an async iterator."""

    waits = True

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._lead: list[bytes | PieceEnd] = []

    async def take_lead(self) -> None:
        """See whether there is a first piece."""
        self._lead = [await anext(self._pieces, END)]

    async def next_piece(self) -> bytes | PieceEnd:
        """The next piece, or END. Raises what the application raised."""
        return self._lead.pop() if self._lead else await anext(self._pieces, END)

    async def close(self) -> None:
        """Let an async generator run to its end; what it raises is logged."""
        aclose: Any = getattr(self._pieces, "aclose", None)
        if aclose is None:
            return
        try:
            await aclose()
        except FAILURES:
            logger.exception("closing the handler's body failed")


class ThreadReply:
    """A sync handler's reply, made in worker threads: the handler runs in one, and each piece is taken in one.

    Whoever awaits may be cancelled while a thread works. Then nobody waits for the thread, and what it holds is given
    back as soon as it is free: `_lock` is held while the application runs.
    """

    waits = True

    def __init__(self, handler: Handler, request: Request, is_stale: Callable[[], bool], limit: trio.CapacityLimiter):
        self._handler = handler
        self._request = request
        self._is_stale = is_stale
        self._limit = limit
        self._lock = threading.Lock()
        self._pieces: Iterator[bytes] | None = None
        self._lead: list[bytes] = []
        self._is_wanted = True
        self._is_left_to_itself = False

    async def begin(self) -> Response | None:
        """What to send first; None when the request has waited too long for a thread. Never raises but cancellation."""
        first: Response | None = await self._in_thread(self._begin)
        return first

    async def next_piece(self) -> bytes | PieceEnd:
        """The next piece, or END. Raises what the application raised."""
        if self._lead:
            return self._lead.pop()
        piece: bytes | PieceEnd = await self._in_thread(self._next)
        return piece

    async def close(self) -> None:
        """Let the iterator clean up, and give back what the request holds."""
        if self._is_left_to_itself:
            return
        if self._pieces is not None:
            await self._in_thread(self._close)
        else:
            self._close()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limit, abandon_on_cancel=True)
        except trio.Cancelled:
            # Nobody waits: the lock may be held for as long as the application likes.
            self._is_left_to_itself = True
            self._is_wanted = False  # without the lock, for a thread that has not begun yet
            trio.lowlevel.start_thread_soon(self._close, lambda outcome: None)
            raise

    def _begin(self) -> Response | None:
        with self._lock:
            if not self._is_wanted or self._is_stale():
                return None
            first, self._pieces, self._lead = answer(self._handler, self._request, BaseException)
            return first

    def _next(self) -> bytes | PieceEnd:
        with self._lock:
            return END if self._pieces is None else next(self._pieces, END)

    def _close(self) -> None:
        with self._lock:
            self._is_wanted = False
            pieces, self._pieces = self._pieces, None
            if pieces is not None:
                close_quietly(pieces, BaseException)
            release(self._request)
