"""`Exchange` on trio: a handler reads the body of its request, and sends its response, piece by piece."""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import trio

from h1core.app.exchange import Exchange
from h1core.app.handler import first_part
from h1core.errors import Disconnected, LocalError
from h1core.events import Data, EndOfMessage, Request, Response, Sendable
from h1core.http1.output import as_bytes
from h1core.http1.state import CloseReason, State

from .trio_connection import OVER, Connection


class Progress(IntEnum):
    """How far the response to a request has come."""

    NONE = 0
    BEGUN = 1
    """Something of it was sent."""
    COMPLETE = 2
    """All of it was."""


NONE: Final = Progress.NONE
BEGUN: Final = Progress.BEGUN
COMPLETE: Final = Progress.COMPLETE


class TrioExchange(Exchange):
    """One request of one connection."""

    __slots__ = (
        "_body_is_over",
        "_connection",
        "_ended_early",
        "_is_receiving",
        "_is_waiting",
        "_log",
        "body_is_lost",
        "has_left",
        "is_over",
        "progress",
    )

    def __init__(self, connection: Connection, request: Request, log: Callable[[Response], None] | None) -> None:
        self.request = request
        self._connection = connection
        self._log = log
        self._body_is_over = request.end_stream
        self._is_receiving = False
        self._is_waiting = False
        """The handler's task waits, and the connection for it."""
        self._ended_early: bool | None = None
        """The peer closed its side along with its request; None before that was looked at."""
        self.has_left = False
        """The handler was told that nobody waits for more."""
        self.body_is_lost = False
        """The handler was told that the peer will not send the rest of its body: late, torn or invalid as that was."""
        self.progress = NONE
        self.is_over = False
        """The handler has returned."""

    # Going on after the response

    def begin_wait(self) -> None:
        """The handler's task is about to wait: its connection need not, when the response has been written."""
        self._is_waiting = True
        if self.progress is COMPLETE and not self._connection.is_writing:
            self._leave()

    def end_wait(self) -> None:
        """The handler's task goes on."""
        self._is_waiting = False

    def _leave(self) -> None:
        """Let the connection go on. It would have to wait for a task of the handler that writes, so not before."""
        self._is_waiting = not self._connection.go_on()

    # Receiving

    async def receive(self) -> bytes:
        """The next piece of the request body, or `b""` at its end."""
        if self.is_over:
            raise LocalError("the handler of this request has returned; what comes now is not its body")
        if self._is_receiving:
            raise LocalError("another task is receiving the body of this request; let one task do it")
        self._is_receiving = True
        try:
            return await self._next_piece()
        finally:
            self._is_receiving = False
            if self._is_current():
                self._connection.conn.pause_body()  # the peer has no deadline while nobody asks

    async def receive_part(self) -> tuple[bytes, bool]:
        """The next piece, and False with the last one, whose end has mostly come along with it."""
        conn = self._connection.conn
        if self.progress is not NONE and conn.close_reason is CloseReason.CONTINUE_OWED:
            return b"", False  # its client was never told to send it
        inbox = self._connection.inbox
        if len(inbox) == 2 and type(data := inbox[0]) is Data and self._is_current() and not self._is_receiving:
            # Fast path: the whole body has come, with its end. 3 of 14 µs.
            end = inbox[1]
            if type(end) is EndOfMessage:
                inbox.clear()
                self._end_body(end)
                self._look()
                return as_bytes(data.data), False
        piece = await self.receive()
        if piece and inbox and type(inbox[0]) is EndOfMessage:
            await self.receive()
        if self._body_is_over:
            self._look()
        return piece, not self._body_is_over

    async def _next_piece(self) -> bytes:
        connection = self._connection
        conn, inbox = connection.conn, connection.inbox
        while not self._body_is_over:
            if not self._is_current():
                raise self._body_lost()
            if inbox:
                event = inbox[0]
                if type(event) is Data:
                    inbox.popleft()
                    return as_bytes(event.data)
                if type(event) is not EndOfMessage:
                    raise self._body_lost()  # it may be the next request: not to be taken here
                inbox.popleft()
                self._end_body(event)
                break
            if conn.state is not State.RECEIVING and conn.state is not State.DUPLEX:
                raise self._body_lost()
            conn.resume_body()
            if conn.output_bytes:
                await connection.flush()  # 100 Continue
            if conn.wants_read:
                await connection.read()
        return b""

    def _is_current(self) -> bool:
        """Whether the connection is still at this request."""
        return self.progress is not COMPLETE and not self.is_over

    def _end_body(self, end: EndOfMessage) -> None:
        self._body_is_over = True
        self.request.trailers = end.trailers

    def _body_lost(self) -> Exception:
        reason = self._connection.conn.close_reason
        if reason is CloseReason.CONTINUE_OWED:
            return LocalError(
                "the client was never told to send its body (Expect: 100-continue): receive, then respond"
            )
        self.body_is_lost = True
        return Disconnected(f"the rest of the request body will not come: {reason.value if reason else 'it is over'}")

    # Sending

    async def send(self, event: Sendable) -> None:
        """Send a response or a part of one, and wait while the peer does not keep up."""
        if type(event) is Response and event.body is not None:
            if not self.respond(event):
                await self.flush()
            return
        self._check_progress()
        connection = self._connection
        if type(event) is Response:
            self._look()
        if connection.conn.state in OVER:
            await self._raise_gone()
        if type(event) is Data and self.request.method == b"HEAD":
            connection.look()  # an endless body must see at some time that nobody is there
            await connection.take_turn()
            return
        connection.conn.send(event)
        if type(event) is Response:
            self._note_begin(event, BEGUN)
        elif type(event) is EndOfMessage:
            self.progress = COMPLETE
            connection.interrupt_waiters()
        await self.flush()

    def respond(self, response: Response) -> bool:
        """Send a whole response without waiting."""
        self._check_progress()
        connection = self._connection
        if self.request.method == b"HEAD":
            response, _ = first_part(self.request, response)
        try:
            connection.conn.send(response)
        except LocalError:
            if connection.conn.state in OVER:
                return False  # `flush` says so
            raise
        self._note_begin(response, BEGUN if response.body is None else COMPLETE)
        is_written = connection.end_response()
        if is_written and self._is_waiting and self.progress is COMPLETE:
            self._leave()
        return is_written

    def _note_begin(self, response: Response, progress: Progress) -> None:
        self.progress = progress
        if self._log is not None:
            self._log(response)

    def _check_progress(self) -> None:
        if not self._is_current():
            raise LocalError("the response to this request is complete; a handler sends one, before it returns")

    async def flush(self) -> None:
        """Write all that is owed."""
        conn = self._connection.conn
        if self.progress is not COMPLETE and conn.state in OVER:
            await self._raise_gone()
        await self._connection.flush()
        if self.progress is COMPLETE:
            if self._is_waiting:  # it is another task that writes
                self._leave()
        elif conn.state is State.CLOSED:
            await self._raise_gone()

    async def _raise_gone(self) -> None:
        """Say that the client is gone; first to a task that waits for it, which may want to cancel this one."""
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        raise Disconnected("the client is gone; the response cannot be delivered")

    # Waiting for the client to leave

    async def disconnected(self) -> None:
        """Return when the peer is gone or has closed its side, once the body was received."""
        await self._connection.disconnected()

    async def left(self) -> None:
        """Return when nobody waits for more of the response."""
        if self.has_left:
            await trio.lowlevel.checkpoint()  # some ask again and again
            return
        connection = self._connection
        if self.progress is not COMPLETE:
            self._look()
            connection.look()  # who asks in a cancelled scope gets no further than to here
        while not (self.progress is COMPLETE or connection.conn.state in OVER):
            if connection.is_gone and not self._ended_early:
                break
            await connection.wait_for_change()
        self.has_left = True

    def _look(self) -> None:
        """Once the request is all there, see whether the peer closed its side along with it."""
        conn = self._connection.conn
        if self._ended_early is None and conn.state is not State.RECEIVING and conn.state is not State.DUPLEX:
            self._connection.look()
            self._ended_early = self._connection.is_gone
