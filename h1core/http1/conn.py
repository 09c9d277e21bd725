"""`Conn`: one server connection, from bytes and the time to events, bytes and a deadline.

This is the one file that knows all the parts. It has no socket and no thread, and reads the given clock at most once in
each public call. `state.py` defines which steps are possible, this file takes them.
"""

from collections.abc import Callable, Container
from typing import Final

from h1core.config import Limits, Timeouts
from h1core.errors import LocalError
from h1core.events import (
    Data,
    EndOfMessage,
    Event,
    FileSlice,
    Headers,
    InformationalResponse,
    Response,
    Sendable,
    Switched,
)
from h1core.http1 import writer
from h1core.http1.buffer import ReceiveBuffer
from h1core.http1.date import DateField
from h1core.http1.hop_fields import LeftOut
from h1core.http1.lifecycle import CLOSED, ENDING, HEAD, STREAMS
from h1core.http1.output import SMALL_BYTES, Buffer, as_buffer
from h1core.http1.receiving import CONTINUE_OWED, DUPLEX, HANDLING, PAUSED, READING, RECEIVING, Receiving
from h1core.http1.state import TABLE, CloseReason, Disposition, State, Step
from h1core.http1.statuses import WITHOUT_CONTENT
from h1core.http1.timers import NEVER
from h1core.http1.writer import whole_head

# More aliases for the hot paths, like those in lifecycle.py.
RESPONSE: Final = Step.RESPONSE
AFTER_RESPONSE: Final = TABLE[HANDLING][RESPONSE]
RESPONSE_HEAD: Final = Step.RESPONSE_HEAD


class Conn(Receiving):
    """One server connection. Four kinds of methods:

    - In from the network and the clock: `receive_data`, `connection_lost`, `handle_deadline`. They return events and
      never raise because of what a peer did.
    - In from the application and the server: `send`, `switch_protocols`, which raise LocalError when they are out of
      turn, and then have changed nothing; `resume_body`, `pause_body`, `close_after_response`, `begin_drain`, `abort`,
      `close_idle`, `cut_response`, `release_buffer`, which never raise.
    - Out: `next_events`, `data_to_send`, `file_to_send`, `data_sent`.
    - Questions: `wants_read`, `receive_bytes`, `owes_continue`, `output_bytes`, `next_deadline`, `is_idle`, `state`,
      `close_reason`, `disposition`.

    After each call in, and before the next, a driver does this in order: it handles the returned events, calls
    `next_events` once a response is complete, writes `data_to_send` until it is empty, does what `disposition` says,
    and arms `next_deadline`. Any call may change the answer to any question; time alone never does.

    `clock() -> float` gives seconds that never go back. `wall_clock() -> float` gives seconds since 1970 for the Date
    field; a `DateField` may be given in its place to share it. `upgrades` names the protocols that the caller can
    change to, lower-case; `b"connect"` stands for tunnels, and without it a CONNECT is refused. `buffer` is what
    `release_buffer` of an earlier connection with the same limits returned. `on_left_out` is called with a `LeftOut`
    for each thing in a response that is not sent, because the server says it or nobody may; it must not raise.

    Time is linear in the bytes of the input, however they are split. Memory: see `Limits.connection_bytes`.
    """

    __slots__ = ("_body_writer", "_on_left_out")

    def __init__(
        self,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] | DateField | None = None,
        upgrades: Container[bytes] = (),
        buffer: ReceiveBuffer | None = None,
        on_left_out: writer.OnLeftOut = writer.ignore_left_out,
    ) -> None:
        date = wall_clock if isinstance(wall_clock, DateField) else DateField(wall_clock)
        super().__init__(limits or Limits(), timeouts or Timeouts(), clock, date, upgrades, buffer)
        # The response in progress
        self._body_writer: writer.BodyWriter | None = None
        self._on_left_out = on_left_out

    # In from the application

    def send(self, event: Sendable) -> None:
        """Queue a response, or the next part of one.

        `Response` with a body is complete; with `body=None` it begins a streamed one, which goes on with `Data`, or a
        `FileSlice`, and ends with `EndOfMessage`. After a complete response, or the end of one, the next request may be
        parsed: call `next_events`. Buffers are queued, not copied; leave them unchanged until they are sent.

        Raises LocalError, with nothing queued, for: an event out of turn; a field or status that may not be sent; two
        framings; more or less body than Content-Length says; a body for HEAD. The content of a 204, 205 or 304, and
        fields that concern the connection only, are left out; `Connection: close` is obeyed.
        """
        now = self._clock()
        if type(event) is Response:
            self._send_response(event, now)
        elif type(event) is Data:
            data = event.data
            self._send_data(data if type(data) is bytes else as_buffer(data), now)
        elif type(event) is EndOfMessage:
            self._send_end(event, now)
        elif type(event) is InformationalResponse:
            self._send_informational(event, now)
        elif type(event) is FileSlice:
            self._send_data(event, now)
        else:
            raise LocalError(f"Conn.send takes Response, InformationalResponse, Data and EndOfMessage, not {event!r}")

    def resume_body(self) -> None:
        """Read the request body, or more of it. Never raises.

        The first call queues 100 Continue for a peer that waits for it. Any other body is read from the start; without
        a body this does nothing.
        """
        if self._state is not RECEIVING and self._state is not DUPLEX:
            return
        if self._demand is not READING:
            now = self._clock()
            if self._demand is CONTINUE_OWED:
                self._queue(writer.CONTINUE, now)
            self._resume_reading(now)

    def pause_body(self) -> None:
        """Stop reading the request body for now; its deadline stops, too. Never raises."""
        if self._demand is READING and (self._state is RECEIVING or self._state is DUPLEX):
            self._demand = PAUSED
            self._allowance_s = max(0.0, self._timers.body - self._clock())
            self._timers.body = NEVER

    def switch_protocols(self, headers: Headers = ()) -> list[Event]:
        """Change to the protocol that `Request.upgrade` names: queue the 101, or the 200 to a CONNECT.

        Returns [Switched] with the bytes that followed the request. From then on only the write deadline runs, and
        received bytes are the caller's to handle. Raises LocalError when nothing was offered, the request body is not
        complete, or a response was begun.
        """
        if self._protocol is None:
            raise LocalError("the request offers no protocol that this Conn was told to take (see Conn(upgrades=...))")
        after = self._after(Step.SWITCH)
        now = self._clock()
        head = writer.switch_head(self._protocol, headers, self._date.line(now))
        self._state = after
        write_at = self._timers.write
        self._timers.stop_all()
        self._timers.write = write_at  # of earlier responses that still wait
        self._queue(head, now)
        return [Switched(self._protocol, self._buffer.take_all())]

    def close_after_response(self, reason: CloseReason) -> None:
        """Make the current response the last one. Never raises; without a request it does nothing."""
        if self._state not in (HEAD, ENDING, State.SWITCHED, CLOSED):
            self._close_reason = self._close_reason or reason

    def begin_drain(self) -> None:
        """Shut down gracefully: an idle connection ends now, any other after one more response. Never raises.

        What is not over after `drain_timeout` is aborted. Calling again changes nothing.
        """
        state = self._state
        if state is State.SWITCHED or state is CLOSED or self._timers.drain != NEVER:
            return
        now = self._clock()
        self._timers.drain = now + self._timeouts.drain_timeout
        if state is HEAD and not self._buffer.data:
            self._end(CloseReason.DRAINING, now)
        elif state is HEAD:
            self._requests_left = 1
        else:
            self.close_after_response(CloseReason.DRAINING)

    def close_idle(self, reason: CloseReason) -> bool:
        """Close a connection that is between two requests, at once; return whether it was. Never raises."""
        if not self.is_idle:
            return False
        self._close(reason, Disposition.CLOSE)
        return True

    def cut_response(self, reason: CloseReason, *, unsendable: bool = False) -> None:
        """End the connection in the middle of a response. Never raises.

        Where the framing shows that the body is not whole (RFC 9112 §8), queued bytes are written, and the peer gets
        time to read them, as after a last response. Where the end of the connection would look like the end of the
        body, and when there is no response in progress, this is `abort`. A connection that ends already is left as it
        is. `unsendable` drops the queued bytes, because they come from a file that cannot be read.
        """
        if self._state is ENDING:
            return
        if self._state not in STREAMS or self._body_writer is None or not self._body_writer.shows_its_end:
            self.abort(reason)
            return
        if unsendable:
            self._out.clear()
            self._timers.write = NEVER
        self._end(reason, self._clock())

    # Responses

    def _send_response(self, response: Response, now: float) -> None:
        """Queue a whole response, or the head of a streamed one."""
        body = response.body
        if body is None:
            self._begin_response(response, now)
            return
        if type(body) is not bytes:
            body = as_buffer(body)
        size = len(body)
        has_too_much = size and response.status in WITHOUT_CONTENT and self._method != b"HEAD"
        if has_too_much:
            body, size = b"", 0
        if self._state is HANDLING and self._protocol is None:  # ordinary
            after = AFTER_RESPONSE
            close_reason = self._close_reason
        else:
            after = self._after(RESPONSE)
            close_reason = self._why_close(response)
        head, self._close_reason = whole_head(
            response, size, self._method, self._version, close_reason, self._date.line(now), self._on_left_out
        )
        # Nothing is raised from here on.
        if has_too_much:
            self._on_left_out(LeftOut.CONTENT)
        self._state = after
        out = self._out
        if not out.size:
            self._timers.write = now + self._timeouts.write_timeout
        if size <= SMALL_BYTES:
            head += body
            out.buffers.append(head)
            out.size += len(head)
        else:
            out.add(head)
            out.add(body)
        if after is not HEAD:
            self._drain_body(now)
        elif self._close_reason is not None or self._buffer.capacity != self._limits.initial_buffer_bytes:
            self._finish_exchange(now)

    def _begin_response(self, response: Response, now: float) -> None:
        """Queue the head of a streamed response."""
        after = self._after(RESPONSE_HEAD)
        head, framing, self._close_reason = writer.streamed_head(
            response, self._method, self._version, self._why_close(response), self._date.line(now), self._on_left_out
        )
        # Nothing is raised from here on.
        self._state = after
        self._body_writer = writer.BodyWriter(framing, self._on_left_out)
        self._queue(head, now)
        if after is DUPLEX and self._demand is CONTINUE_OWED:
            self._give_up_body()

    def _why_close(self, response: Response) -> CloseReason | None:
        """Why the connection ends after this response, or None; known before its head, so that this can say it."""
        if self._method == b"CONNECT":
            if 200 <= response.status <= 299:
                raise LocalError("a 2xx response to CONNECT opens the tunnel: call Conn.switch_protocols")
            # What follows may be meant for the tunnel, and must not be read as requests.
            return CloseReason.TUNNEL_DECLINED
        if self._close_reason is not None or self._state is not RECEIVING:
            return self._close_reason
        if self._demand is CONTINUE_OWED:
            return CloseReason.CONTINUE_OWED
        return CloseReason.BODY_UNREAD if response.body is not None and self._leaves_too_much() else None

    def _send_data(self, data: Buffer | FileSlice, now: float) -> None:
        """Queue a piece of a streamed body."""
        after = self._after(Step.RESPONSE_DATA)
        assert self._body_writer is not None
        buffers = self._body_writer.data(data)
        self._state = after
        for buffer in buffers:
            self._queue(buffer, now)

    def _send_end(self, event: EndOfMessage, now: float) -> None:
        """Queue the end of a streamed body."""
        after = self._after(Step.RESPONSE_END)
        assert self._body_writer is not None
        buffers = self._body_writer.end(event.trailers)
        self._state = after
        for buffer in buffers:
            self._queue(buffer, now)
        self._write_allowance_s = self._timeouts.write_timeout  # for what is owed next
        if after is HEAD:
            self._finish_exchange(now)
        else:
            self._drain_body(now)

    def _send_informational(self, event: InformationalResponse, now: float) -> None:
        """Queue an interim response, but not for HTTP/1.0, which would take it for the final one."""
        after = self._after(Step.INFORMATIONAL)
        head = writer.informational_head(event)
        self._state = after
        if self._version == b"1.0":
            return
        self._queue(head, now)
        if event.status == 100 and self._demand is CONTINUE_OWED and after is RECEIVING:
            self._resume_reading(now)

    def _drain_body(self, now: float) -> None:
        """Read and discard the rest of the request body after a complete response, or end."""
        if self._close_reason is not None or self._leaves_too_much():
            self._end(self._close_reason or CloseReason.BODY_UNREAD, now)
        elif self._demand is PAUSED:
            self._resume_reading(now)
