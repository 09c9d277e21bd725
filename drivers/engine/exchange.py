"""`Exchange` on the engine: a coroutine receives the body of its request, and sends its response, piece by piece.

Theory
------
The coroutine runs between two ticks, in a task of the host. What it sends is queued in the `Conn` and written at once;
what the transport does not take, the engine writes in later ticks, and `flush` waits for that. The engine reads the
body: `receive` takes pieces from `_inbox`, and resumes the body when the inbox is empty. Each read pauses the body, so
the inbox never holds more than one read.

A coroutine may run on after its response. The next request of the connection does not wait for it: in its next turn the
session detaches the exchange (`Session._detach_exchange`).
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from h1core.app.exchange import Exchange
from h1core.app.handler import first_part
from h1core.app.reply import request_line
from h1core.errors import Disconnected, LocalError
from h1core.events import Data, EndOfMessage, Event, FileSlice, Request, Response, Sendable
from h1core.http1.output import as_bytes, own_copy
from h1core.http1.receiving import DUPLEX, RECEIVING
from h1core.http1.state import CloseReason, State
from h1core.server.fairness import WRITES_PER_TURN

from .access_log import log_response
from .own_answers import line_of
from .responding import OVER
from .responses import failure_response, is_disconnected, is_interrupt, release
from .session import Session
from .stream_drain import end_response, stream_begins

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger("h1core.server")

ExchangeHandler = Callable[["EngineExchange"], Awaitable[Response | None]]

CLOSED: Final = State.CLOSED
PIECES: Final = frozenset({Data, FileSlice})


class Progress(IntEnum):
    """How far the response to a request has come."""

    NONE = 0
    BEGUN = 1
    """Its head was sent."""
    COMPLETE = 2
    """All of it was sent or queued; the engine writes the rest."""


NONE: Final = Progress.NONE
BEGUN: Final = Progress.BEGUN
COMPLETE: Final = Progress.COMPLETE


class EngineExchange(Exchange):
    """One request of one connection, served by a coroutine. The host runs `run` in a task.

    `handler` gets this exchange. With `Engine.collects_bodies` the body of the request was collected before.
    """

    __slots__ = (
        *"_body_is_over _ended_early _engine _handler _inbox _is_over _is_receiving".split(),
        *"_knows_disconnected _lost_body _must_end _progress _session _turn task".split(),
    )

    def __init__(self, engine: "Engine", session: Session, request: Request, handler: ExchangeHandler) -> None:
        self.request = request
        self._engine = engine
        self._session = session
        self._handler = handler
        self._inbox: deque[Data | EndOfMessage] = deque()
        self._body_is_over = request.end_stream or engine.collects_bodies
        self._is_receiving = False
        self._ended_early: bool | None = None
        """The peer closed its side together with its request; None until that was checked."""
        self._knows_disconnected = False
        """The handler was told that its client is gone."""
        self._must_end = False
        """The server drains, and this response has had its time."""
        self._lost_body = False
        """The handler was told that the rest of the request body will not come."""
        self._progress = NONE
        self._is_over = False  # the handler has returned
        self._turn = 0  # operations since this task last let other tasks run
        self.task: Any = None  # Any: a task of asyncio, or a cancel scope of trio
        """Its `cancel` cancels the coroutine; set by the host. The engine calls it for plain async handlers only."""

    # For the host and the session

    @property
    def is_complete(self) -> bool:
        """Whether the response is complete. The handler may still run."""
        return self._progress is COMPLETE

    @property
    def may_be_cancelled(self) -> bool:
        """Whether the task is cancelled when its client is gone; only that of a plain async handler is."""
        return self._engine.collects_bodies and (self._progress is BEGUN or self._engine.cancel_on_disconnect)

    def ask_to_end(self) -> bool:
        """Tell the handler that it must end its response, as if its client had left; return whether that is new."""
        is_new, self._must_end = not (self._must_end or self.is_complete), True
        self._session.notify()
        return is_new

    @property
    def is_silent(self) -> bool:
        """Whether a streamed response must end, and its handler has not noticed: it neither sends nor receives."""
        return self._must_end and self._progress is BEGUN and not self._knows_disconnected

    async def run(self) -> None:
        """Run the handler to its end. Raises only KeyboardInterrupt, and groups with one."""
        session = self._session
        try:
            if session.conn.state is not CLOSED:  # the client may have gone before this task began
                response = await self._handler(self)
                if response is not None or self._progress is NONE:
                    await self.send(response)  # type: ignore[arg-type]  # None is a LocalError that says so
        except BaseException as error:
            if is_interrupt(error):
                session.conn.abort(CloseReason.APPLICATION_FAILED)
                raise
            self._fail(error)
        finally:
            self.end()

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """A context in which the task is cancelled when the client is gone. Raises Disconnected, or CancelledError."""
        with self._engine.host.cancel_scope(self):
            yield
            return
        raise Disconnected("the client is gone, and the handler was cancelled")

    def take(self, event: Event) -> None:
        """Take a part of the request body from the session, and pause the body after it."""
        if type(event) is Data or type(event) is EndOfMessage:
            self._inbox.append(event)
            self._session.conn.pause_body()

    def take_body(self, events: list[Event]) -> None:
        """Take a whole body that came with its head; `events` are the request, one piece, and the end."""
        if not self._body_is_over:
            self._inbox.extend(events[1:])  # type: ignore[arg-type]  # the session has checked their types

    def cancel_if_disconnected(self) -> None:
        """Cancel the task if its client is gone and `may_be_cancelled`. Never raises."""
        session = self._session
        is_gone = session.is_disconnected if self._progress is NONE else session.conn.state is CLOSED
        if self.may_be_cancelled and self.task is not None and is_gone and not self.is_complete:
            self._knows_disconnected = True
            self.task.cancel()

    def _fail(self, error: BaseException) -> None:
        """Log what the handler raised, and answer 500 if no response has begun."""
        session, request = self._session, self.request
        conn = session.conn
        is_gone = conn.state in OVER
        is_cancelled = not isinstance(error, (Exception, SystemExit))
        if is_cancelled and (self._must_end or is_gone or self._engine.is_stopping):
            pass  # cancelled along with the server
        elif is_cancelled and self._knows_disconnected:
            conn.abort(CloseReason.PEER_CLOSED)  # it was cancelled for this reason
        elif is_disconnected(error) and (is_gone or self.is_complete or self._knows_disconnected or self._lost_body):
            level = logging.INFO if error.__cause__ and not self._must_end else logging.DEBUG
            logger.log(level, "%s: %s", request_line(request), error)
            if not self.is_complete and not is_gone and not self._must_end:
                # The peer may have closed only its own side, or only its body may be lost: it still gets no answer.
                conn.abort((conn.close_reason if self._lost_body else None) or CloseReason.PEER_CLOSED)
        else:
            hint = self._engine.host.wrong_loop_hint(error)
            failure = failure_response(request, error, hint, self._engine.known_hints)
            if self._progress is NONE and conn.state in (RECEIVING, State.HANDLING):
                self.respond(failure)

    def end(self) -> None:
        """Note that the handler has returned, or will never run. Never raises."""
        session = self._session
        if self._must_end and not self.is_complete:
            session.answered = line_of(self.request)
            end_response(self, session.conn)
        self._is_over = True
        if self._progress is BEGUN and session.conn.state not in OVER:
            logger.error("the response to %s is cut: its handler ended before its end", request_line(self.request))
            session.conn.cut_response(CloseReason.APPLICATION_FAILED)
        release(self.request)
        on_over = self._engine.detached.pop(self, None)
        if on_over is not None:
            on_over()
            self._engine.wake()
        else:
            session.exchange_over()

    # Receiving

    async def receive(self) -> bytes:
        """The next piece of the request body, or `b""` at its end."""
        if self._is_over:
            raise LocalError("the handler of this request has returned; what comes now is not its body")
        if self._is_receiving:
            raise LocalError("another task is receiving the body of this request; let one task do it")
        self._is_receiving = True
        try:
            return await self._next_piece()
        finally:
            self._is_receiving = False
            if self._is_current():
                self._session.conn.pause_body()  # the peer has no deadline while no task receives

    async def receive_part(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether more may follow. If the end comes after the last piece, `b""` follows."""
        conn = self._session.conn
        if self._progress is not NONE and conn.owes_continue:
            return b"", False  # its client was never told to send it
        inbox = self._inbox
        if len(inbox) == 2 and self._progress is not COMPLETE and not self._is_receiving:
            data, end = inbox
            if type(data) is Data and type(end) is EndOfMessage:  # fast path: the whole body has come, with its end
                inbox.clear()
                self._body_is_over = True
                self.request.trailers = end.trailers
                return data.data if type(data.data) is bytes else as_bytes(data.data), False
        piece = await self.receive()
        if piece and inbox and type(inbox[0]) is EndOfMessage:
            await self.receive()
        if self._body_is_over:
            self._poll_end()
        return piece, not self._body_is_over

    async def _next_piece(self) -> bytes:
        session, inbox = self._session, self._inbox
        conn = session.conn
        while not self._body_is_over:
            if not self._is_current():
                raise self._body_lost()
            if inbox:
                event = inbox.popleft()
                if type(event) is Data:
                    return as_bytes(event.data)
                assert type(event) is EndOfMessage
                self._body_is_over = True
                self.request.trailers = event.trailers
                break
            if conn.state is not RECEIVING and conn.state is not DUPLEX:
                raise self._body_lost()
            conn.resume_body()
            if conn.output_bytes:
                session.write_out()  # 100 Continue
            if session.io.last_read_was_full:
                await self._take_turn()
                session.poll_input()
            if not inbox and (conn.state is RECEIVING or conn.state is DUPLEX):  # the body may be lost by now
                await session.wait_for_change()
        return b""

    def _is_current(self) -> bool:
        """Whether the connection still serves this request."""
        return self._progress is not COMPLETE and not self._is_over

    def _body_lost(self) -> Exception:
        conn = self._session.conn
        if self._progress is not NONE and conn.owes_continue:
            return LocalError(
                "the client was never told to send its body (Expect: 100-continue): receive, then respond"
            )
        self._lost_body = True
        reason = conn.close_reason
        return Disconnected(f"the rest of the request body will not come: {reason.value if reason else 'it is over'}")

    # Sending

    async def send(self, event: Sendable) -> None:
        """Send a response or a part of one, and wait until it is written. Raises Disconnected if the client is gone."""
        if type(event) is Response and event.body is not None:
            if not self.respond(event):
                await self.flush()
            return
        self._check_current()
        session = self._session
        if type(event) is Response:
            self._poll_end()
        must_tell = self._must_end and not self._knows_disconnected and type(event) in PIECES
        if must_tell or session.conn.state in OVER:
            await self._raise_disconnected()
        if type(event) in PIECES and self.request.method == b"HEAD":
            session.poll_input()  # a handler with an endless body must learn that its client is gone
            await self._take_turn()
            return
        if type(event) is Data and type(event.data) is not bytes:
            event = Data(own_copy(event.data))
        session.conn.send(event)
        if type(event) is Response:
            self._progress = BEGUN
            stream_begins(self._engine)
            if self._engine.access_log:
                log_response(session, self.request, event, self._engine.clock())
        elif type(event) is EndOfMessage:
            self._progress = COMPLETE
            session.notify()
        await self.flush()

    def respond(self, response: Response) -> bool:
        """Send a whole response without waiting; return whether all of it is written."""
        self._check_current()
        session = self._session
        if self.request.method == b"HEAD":
            response, _ = first_part(self.request, response)
        try:
            if type(response.body) is not bytes:
                response = response.with_body(own_copy(response.body))
            session.conn.send(response)
        except LocalError:
            if session.conn.state in OVER:
                return False  # `flush` raises Disconnected
            raise
        self._progress = COMPLETE
        if self._engine.access_log:
            log_response(session, self.request, response, self._engine.clock())
        if session.waiters:
            session.notify()
        is_written = session.write_out()
        if not is_written:
            session.answered = line_of(self.request)  # this exchange may end before all of it is
        return is_written

    def _check_current(self) -> None:
        if self._progress is COMPLETE or self._is_over:
            raise LocalError("the response to this request is complete; a handler sends one, before it returns")

    async def send_last(self, piece: Data) -> None:
        """Send the last piece of the body, and its end."""
        self._knows_disconnected = self._knows_disconnected or self._must_end  # it ends as it must
        await super().send_last(piece)

    async def flush(self) -> None:
        """Wait until all queued output is written."""
        session = self._session
        conn = session.conn
        if self._progress is not COMPLETE and conn.state in OVER:
            await self._raise_disconnected()
        if session.write_out():
            await self._take_turn()
        else:
            while conn.output_bytes:
                if self.is_silent:
                    await self._raise_disconnected()
                await session.wait_for_change()
        if self._progress is not COMPLETE and conn.state is CLOSED:
            await self._raise_disconnected()

    async def _take_turn(self) -> None:
        """Count an operation that did not wait; let other tasks run after `WRITES_PER_TURN` of them."""
        self._turn = (self._turn + 1) % WRITES_PER_TURN
        if not self._turn:
            await self._engine.host.checkpoint()

    async def _raise_disconnected(self) -> None:
        """Raise Disconnected, after a task that waits for the disconnect has run: it may want to cancel this one."""
        self._knows_disconnected = True
        await self._engine.host.checkpoint()
        await self._engine.host.checkpoint()
        raise Disconnected("the client is gone; the response cannot be delivered")

    # Waiting for the client to leave

    async def wait_disconnected(self) -> None:
        """Return when the peer is gone or has closed its side, once the body was received."""
        while not (self._session.is_disconnected or self._must_end):
            await self._session.wait_for_change()

    async def wait_client_gone(self) -> None:
        """Return when the response is complete, or no client waits for it."""
        if self._knows_disconnected:
            await self._engine.host.checkpoint()  # applications may call this in a loop
            return
        session = self._session
        if self._is_current():
            self._poll_end()
            session.poll_input()  # a caller in a cancelled scope gets no further than this
        while self._is_current() and session.conn.state not in OVER and not self._must_end:
            if session.is_disconnected and not self._ended_early:
                break
            await session.wait_for_change()
        self._knows_disconnected = True

    def _poll_end(self) -> None:
        """Once the whole request has come, check whether the peer closed its side together with it."""
        state = self._session.conn.state
        if self._ended_early is None and state is not RECEIVING and state is not DUPLEX:
            self._session.poll_input()
            self._ended_early = self._session.is_disconnected
