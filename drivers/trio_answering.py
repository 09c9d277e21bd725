"""From a request to its response on trio: which way a handler is run, and how its reply is sent."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import trio

from h1core.app.exchange import StreamingHandler
from h1core.app.handler import AsyncHandler, Handler
from h1core.errors import Disconnected
from h1core.events import Data, EndOfMessage, Request, Response
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, State
from h1core.server import ServerCore
from h1core.server.fairness import PIECES_PER_TURN

from .cli.app_loader import is_async
from .engine.pool import PieceEnd
from .engine.responses import (
    address_in_words,
    failure_response,
    in_words,
    log_access,
    overload_answer,
    release,
    send_first,
)
from .trio_connection import OVER, Connection
from .trio_exchange import BEGUN, COMPLETE, NONE, TrioExchange
from .trio_replies import FAILURES, AsyncPieces, Reply, ThreadReply, reply_async, reply_inline

logger = logging.getLogger("h1core.server")

UNANSWERED: Final = frozenset({State.RECEIVING, State.HANDLING})
CLOSED: Final = State.CLOSED
STREAMING: Final = frozenset({State.DUPLEX, State.RESPONDING})


def is_unanswered(conn: Conn) -> bool:
    """Whether the request in hand still waits for its response: the peer may have gone meanwhile."""
    return conn.state in UNANSWERED


class Application:
    """A handler and how it is run: async ones in the connection's task, sync ones in threads, or inline with none."""

    def __init__(
        self,
        handler: Handler | AsyncHandler | StreamingHandler,
        core: ServerCore,
        clock: Callable[[], float],
        *,
        threads: int,
        access_log: bool,
        cancel_on_disconnect: bool,
    ) -> None:
        self._core = core
        self._clock = clock
        self._access_log = access_log
        self._max_output_bytes = core.limits.max_output_bytes
        self.collects = not isinstance(handler, StreamingHandler)
        """Whether it gets whole requests."""
        self._handler: Any = handler  # Any: one of three kinds, and each way below knows which
        self._limit = trio.CapacityLimiter(threads) if threads else None
        self._reply: Callable[[Connection, Request], Awaitable[Reply | None]]
        self._waits = True
        self._is_threaded = False
        self.answer = self._answer_whole if self.collects else self._exchange
        """Gets a request answered, or sees to it that its connection ends."""
        if is_async(handler):
            self._reply = self._reply_until_gone if cancel_on_disconnect else self._reply_async
        elif threads:
            self._reply = self._reply_in_thread
            self._is_threaded = True
        else:
            self._reply = self._reply_inline
            self._waits = False

    async def _answer_whole(self, connection: Connection, request: Request) -> None:
        """Let a handler of whole requests answer."""
        conn = connection.conn
        if conn.output_bytes and self._waits and not await self._flush_first(connection, request):
            return
        began_at = self._clock() if self._access_log else 0.0
        try:
            reply = await self._reply(connection, request)
            if reply is None:
                return
            first, pieces = reply
            if pieces is not None:
                await self._stream(connection, request, began_at, first, pieces)
            elif conn.state in UNANSWERED:
                sent = send_first(conn, request, first)
                if self._access_log:
                    log_access(connection.peer, request, sent, self._clock() - began_at)
        finally:
            if not self._is_threaded:  # else the reply does it: the thread may still be at work on the request
                release(request)

    async def _flush_first(self, connection: Connection, request: Request) -> bool:
        """Write what is owed before an application is waited for; whether the request is still to be answered."""
        await connection.flush()
        if is_unanswered(connection.conn):
            return True
        release(request)
        return False

    # The ways of running a handler

    def _reply_async(self, connection: Connection, request: Request) -> Awaitable[Reply | None]:
        return reply_async(self._handler, request)

    async def _reply_inline(self, connection: Connection, request: Request) -> Reply | None:
        return reply_inline(self._handler, request)

    async def _reply_until_gone(self, connection: Connection, request: Request) -> Reply | None:
        """The reply, or None when the peer went away first: then the handler was cancelled."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, connection, scope)
                reply = await reply_async(self._handler, request)
                nursery.cancel_scope.cancel()
            return reply
        connection.conn.abort(CloseReason.PEER_CLOSED)
        return None

    async def _reply_in_thread(self, connection: Connection, request: Request) -> Reply | None:
        """The reply from a worker thread, or what is said when none is to be had."""
        core = self._core
        if not core.request_ready(connection.conn):
            release(request)
            return overload_answer(request), None
        began_at = self._clock()
        limit = cast(trio.CapacityLimiter, self._limit)
        conn = connection.conn
        # Asked in the thread, for which it may have waited: the connection may be over by then.
        reply = ThreadReply(self._handler, request, lambda: core.is_stale(began_at) or conn.state is CLOSED, limit)
        try:
            first = await reply.begin()
        finally:
            core.request_done()
        if first is None:
            core.request_stale(connection.conn)
            return overload_answer(request), reply
        return first, reply

    async def _exchange(self, connection: Connection, request: Request) -> None:
        """Let a handler that streams do it all."""
        conn = connection.conn
        if conn.output_bytes and not await self._flush_first(connection, request):
            return
        if not request.end_stream:
            conn.pause_body()  # nothing is read but what is asked for
        exchange = TrioExchange(connection, request, self._logs_of(connection, request) if self._access_log else None)
        task = connection.task
        task.waiter = exchange
        try:
            response = await self._handler(exchange)
            if response is not None or exchange.progress is NONE:
                await exchange.send(response)  # a LocalError when it is no response
        except FAILURES as error:
            is_nobodys = (
                exchange.progress is COMPLETE or exchange.has_left or exchange.body_is_lost or conn.state in OVER
            )
            if _is_disconnected(error) and is_nobodys:
                logger.log(logging.INFO if error.__cause__ else logging.DEBUG, "%s: %s", in_words(request), error)
                if exchange.progress is not COMPLETE and conn.state not in OVER:
                    # The peer may be half-closed only, or its body alone may be lost, but it will get no answer.
                    lost = conn.close_reason if exchange.body_is_lost else None
                    conn.abort(lost or CloseReason.PEER_CLOSED)
            else:
                failure = failure_response(request)
                if exchange.progress is NONE and is_unanswered(conn):
                    await exchange.send(failure)
        exchange.is_over = True
        task.waiter = None
        if exchange.progress is BEGUN and conn.state is not State.CLOSED:
            logger.error("the response to %s is cut: its handler ended before its end", in_words(request))
            conn.abort(CloseReason.APPLICATION_FAILED)

    def _logs_of(self, connection: Connection, request: Request) -> Callable[[Response], None]:
        began_at = self._clock()
        return lambda first: log_access(connection.peer, request, first, self._clock() - began_at)

    # Sending

    async def _stream(
        self, connection: Connection, request: Request, began_at: float, first: Response, pieces: AsyncPieces
    ) -> None:
        """Send a reply in pieces, until the peer resets the connection while one is waited for."""
        try:
            if not is_unanswered(connection.conn):
                return
            sent = send_first(connection.conn, request, first)
            if self._access_log:
                log_access(connection.peer, request, sent, self._clock() - began_at)
            if sent is not first or first.body is not None:
                return
            if not pieces.waits:
                await self._send_pieces(connection, pieces)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_lost, connection, nursery.cancel_scope)
                await self._send_pieces(connection, pieces)
                nursery.cancel_scope.cancel()
        finally:
            await pieces.close()

    async def _send_pieces(self, connection: Connection, pieces: AsyncPieces) -> None:
        """Send pieces while the peer keeps up; what the application raises cuts the connection."""
        conn = connection.conn
        try:
            while conn.state in STREAMING:
                piece = await pieces.next_piece()
                if conn.state not in STREAMING:
                    return
                if isinstance(piece, PieceEnd):
                    conn.send(EndOfMessage())
                    if pieces.waits and conn.output_bytes:
                        connection.end_response()  # the client need not wait for the application to clean up
                    return
                conn.send(Data(piece))
                if pieces.waits or conn.output_bytes > self._max_output_bytes:
                    await connection.flush()
                else:
                    await connection.take_turn(PIECES_PER_TURN)
        except FAILURES:
            where = address_in_words(connection.peer)
            logger.exception("the handler's body failed; the connection to %s is cut", where)
            conn.abort(CloseReason.APPLICATION_FAILED)


def _is_disconnected(error: BaseException) -> bool:
    """Whether it says that the client is gone, and nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Disconnected)[1] is None
    return isinstance(error, Disconnected)


async def _cancel_when_lost(connection: Connection, scope: trio.CancelScope) -> None:
    """Read on, as far as there is room, because that is how a reset is seen. A peer that only closes its side stays."""
    conn = connection.conn
    while conn.wants_read:
        await connection.read()
    if conn.state is State.CLOSED:
        scope.cancel()


async def _cancel_when_gone(connection: Connection, scope: trio.CancelScope) -> None:
    await connection.disconnected()
    scope.cancel()
