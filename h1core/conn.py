"""`Conn`: one server connection, from bytes and the time to events, bytes and a deadline.

This is the one file that knows all the parts. It owns no socket and no thread, and reads the clock it was given once in
each public call that needs it. `state.py` says which order of things is possible, this file does them.
"""

from collections.abc import Callable, Container
from enum import IntEnum
from typing import Final, assert_never

from h1core import writer
from h1core.body import ChunkedReader, LengthReader
from h1core.buffer import ReceiveBuffer
from h1core.config import Limits, Timeouts
from h1core.date import DateField
from h1core.errors import LocalError, RefuseReason
from h1core.events import (
    Closed,
    Data,
    EndOfMessage,
    Event,
    Headers,
    InformationalResponse,
    Refused,
    Request,
    Response,
    Sendable,
    Switched,
    TimedOut,
)
from h1core.framing import NO_BODY, Framing, Kind
from h1core.grammar import EMPTY_LINES
from h1core.head import HeadScan
from h1core.lifecycle import CLOSED, ENDING, HEAD, Lifecycle
from h1core.output import SMALL_BYTES, as_buffer, as_bytes
from h1core.request import Intake, take_in
from h1core.state import TABLE, CloseReason, Disposition, State, Step
from h1core.timers import NEVER, Timer

CR: Final = 0x0D
END_OF_HEAD: Final = b"\r\n\r\n"

# More aliases for the hot paths, like those in lifecycle.py.
REQUEST: Final = Step.REQUEST
REQUEST_WITH_BODY: Final = Step.REQUEST_WITH_BODY
RESPONSE: Final = Step.RESPONSE
RESPONSE_HEAD: Final = Step.RESPONSE_HEAD
AFTER_HEAD: Final = TABLE[HEAD]
RECEIVING: Final = State.RECEIVING
HANDLING: Final = State.HANDLING
DUPLEX: Final = State.DUPLEX
RESPONDING: Final = State.RESPONDING
DRAINING: Final = State.DRAINING


class Demand(IntEnum):
    """Whether the application wants the request body."""

    CONTINUE_OWED = 0
    """The peer waits for 100 Continue, and nobody asked for the body yet."""
    READING = 1
    """The body is read as it comes; its deadline runs."""
    PAUSED = 2
    """The application is behind; nothing is read, and the deadline stands still."""


CONTINUE_OWED: Final = Demand.CONTINUE_OWED
READING: Final = Demand.READING
PAUSED: Final = Demand.PAUSED


class Conn(Lifecycle):
    """One server connection. Four kinds of methods:

    - In from the network and the clock: `receive_data`, `connection_lost`, `handle_deadline`. They return events and
      never raise because of what a peer did.
    - In from the application: `send`, `resume_body`, `pause_body`, `switch_protocols`, `begin_drain`, `abort`. They
      raise LocalError when they are out of turn, and then nothing happened.
    - Out: `next_events`, `data_to_send`, `data_sent`.
    - Questions: `wants_read`, `receive_bytes`, `output_bytes`, `next_deadline`, `state`, `close_reason`, `disposition`.

    After each call in, and before the next, a driver drains the outs in this order: the events it was given,
    `next_events` once a response is complete, `data_to_send` until it is empty, then it does what `disposition` says
    and arms `next_deadline`. Any call may change any of the questions' answers; nothing else does, time least of all.

    `clock() -> float` gives seconds that never go back. `wall_clock() -> float` gives seconds since 1970 for the Date
    field; a `DateField` may be given in its place to share it. `upgrades` names the protocols the caller is ready to
    take over, lower-case; `b"connect"` stands for tunnels, and without it a CONNECT is refused. `buffer` is one that
    an earlier connection of the same limits has left.

    Input of hostile size and cut costs time linear in its bytes. Memory: see `Limits.connection_bytes`.
    """

    __slots__ = (
        "_allowance_s",
        "_body_writer",
        "_date",
        "_demand",
        "_method",
        "_protocol",
        "_reader",
        "_requests_left",
        "_scan",
        "_unread_bytes",
        "_upgrades",
        "_version",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] | DateField | None = None,
        upgrades: Container[bytes] = (),
        buffer: ReceiveBuffer | None = None,
    ) -> None:
        super().__init__(limits or Limits(), timeouts or Timeouts(), clock, buffer)
        self._timers.head = clock() + self._timeouts.head_timeout
        self._date = wall_clock if isinstance(wall_clock, DateField) else DateField(wall_clock)
        self._upgrades = upgrades
        self._requests_left = self._limits.max_requests_per_connection
        self._scan: HeadScan | None = None
        # The request in hand
        self._method = b""
        self._version = b"1.1"
        self._protocol: bytes | None = None
        self._reader: LengthReader | ChunkedReader | None = None
        self._demand = READING
        self._allowance_s = self._timeouts.body_timeout
        self._unread_bytes = 0
        # The response under way
        self._body_writer: writer.BodyWriter | None = None

    # In from the network and the clock

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what the transport gave; `b""` is the end of the peer's stream. Never raises on peer input.

        Returns what came of it, in order: at most one Request, one Data, one EndOfMessage or Switched, and one last
        word. Data that arrives in the same instant as a deadline wins. Raises LocalError when `data` is not bytes-like,
        or after `switch_protocols`.
        """
        now = self._clock()
        if type(data) is not bytes:
            data = as_bytes(data)
        if not data:
            return self._receive_end(now)
        state = self._state
        if state is HEAD:
            if self._out.size > self._limits.max_output_bytes:
                self._buffer.append(data)  # for next_events, when the peer has taken more of its responses
                return []
            if not self._buffer.data:
                # Fast path: most reads are one head. Two heads do not parse as one, nor does a mistake: those are
                # looked at again below. 0.3 of 7 microseconds.
                if data.endswith(END_OF_HEAD) and len(data) <= self._limits.max_head_bytes:
                    intake = take_in(data[:-4], self._limits, self._upgrades)
                    if isinstance(intake, tuple):
                        return self._begin_request(intake, b"", now)
                end = data.find(END_OF_HEAD, 0, self._limits.max_head_bytes)
                if end > 0 and data[0] != CR:
                    return self._receive_request(data[:end], data[end + 4 :], now)
            self._buffer.append(data)
            return self._parse_buffered(now)
        events: list[Event] = []
        if state is RECEIVING or state is DUPLEX or state is DRAINING:
            self._buffer.grow_after(len(data))
            self._receive_body(data, events, now)
        elif state is State.SWITCHED:
            raise LocalError("the connection was switched to another protocol; its bytes are not for h1core")
        elif state is HANDLING or state is RESPONDING:
            self._keep(data)
        elif state is ENDING:
            self._discard(len(data))
        return events

    def handle_deadline(self) -> list[Event]:
        """Do what is due by the clock. Never raises; too early it does nothing, late it does the same as on time."""
        now = self._clock()
        events: list[Event] = []
        for timer in self._timers.expired(now):
            if self._timers.at(timer) <= now:  # unless the one before it has stopped it
                events += self._expire(timer, now)
        return events

    # In from the application

    def send(self, event: Sendable) -> None:
        """Queue a response, or the next part of one.

        `Response` with a body is complete; with `body=None` it begins a streamed one, which goes on with `Data` and
        ends with `EndOfMessage`. A complete response, or the end of one, frees the way for the next request: call
        `next_events`. Buffers are queued, not copied; leave them unchanged until they are sent.

        Raises LocalError, with nothing queued: out of turn; a field or status that may not be sent; two framings; more
        or less body than Content-Length says; a body for HEAD, 204 or 304.
        """
        now = self._clock()
        if type(event) is Response:
            self._send_response(event, now)
        elif type(event) is Data:
            self._send_data(event, now)
        elif type(event) is EndOfMessage:
            self._send_end(event, now)
        elif type(event) is InformationalResponse:
            self._send_informational(event, now)
        else:
            raise LocalError(f"Conn.send takes Response, InformationalResponse, Data and EndOfMessage, not {event!r}")

    def resume_body(self) -> None:
        """Say that the application wants the request body, or more of it. Never raises.

        The first call sends 100 Continue to a peer that waits for it. A body is wanted from the start unless the peer
        waits; without one this does nothing.
        """
        if self._state is not RECEIVING and self._state is not DUPLEX:
            return
        if self._demand is not READING:
            now = self._clock()
            if self._demand is CONTINUE_OWED:
                self._queue(writer.CONTINUE, now)
            self._read_body(now)

    def pause_body(self) -> None:
        """Say that the application has enough of the request body for now: its deadline stands still. Never raises."""
        if self._demand is READING and (self._state is RECEIVING or self._state is DUPLEX):
            self._demand = PAUSED
            self._allowance_s = max(0.0, self._timers.body - self._clock())
            self._timers.body = NEVER

    def switch_protocols(self, headers: Headers = ()) -> list[Event]:
        """Take the protocol that `Request.upgrade` named: queue the 101, or the 200 to a CONNECT.

        Returns [Switched] with the bytes that followed the request. From then on every deadline is off but the one for
        writing, and received bytes belong to the caller. Raises LocalError when nothing was offered, the request body
        is not over, or a response was begun.
        """
        if self._protocol is None:
            raise LocalError("the request offers no protocol that this Conn was told to take (see Conn(upgrades=...))")
        after = self._after(Step.SWITCH)
        head = writer.switch_head(self._protocol, headers)
        now = self._clock()
        self._state = after
        self._timers.stop_all()
        self._timers.write = now + self._timeouts.write_timeout
        self._out.add(head)
        return [Switched(self._protocol, self._buffer.take_all())]

    def begin_drain(self) -> None:
        """Shut down in order: an idle connection ends now, any other after the response in hand or coming. Never raises.

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
        elif state is not ENDING:
            self._close_reason = self._close_reason or CloseReason.DRAINING

    # Out

    def next_events(self) -> list[Event]:
        """What comes of the bytes that waited. Never raises.

        To be called after each response, and after each `data_sent`: no further request comes while more than
        `max_output_bytes` of earlier responses wait, or a peer could pile them up by never reading.
        """
        if self._state is not HEAD or not self._buffer.data or self._out.size > self._limits.max_output_bytes:
            return []
        return self._parse_buffered(self._clock())

    # Questions

    @property
    def wants_read(self) -> bool:
        """Whether to read from the transport: false when the buffer is full, the body is not wanted, or input is over."""
        state = self._state
        if self._input_ended or state is CLOSED or state is State.SWITCHED:
            return False
        if state is RECEIVING or state is DUPLEX:
            return self._demand is READING
        if state is HANDLING or state is RESPONDING:
            behind_close = self._close_reason is not None
            return self._discarded_bytes <= self._limits.max_linger_bytes if behind_close else self._buffer.room > 0
        if state is HEAD:
            return self._out.size <= self._limits.max_output_bytes
        return state is not ENDING or self._discarded_bytes <= self._limits.max_linger_bytes

    @property
    def receive_bytes(self) -> int:
        """How many bytes to read at a time: few at first, more when reads come full or a length was declared."""
        return self._buffer.room or self._limits.initial_buffer_bytes

    # Request heads

    def _parse_buffered(self, now: float) -> list[Event]:
        """Look for the next request in the buffer."""
        buffer = self._buffer
        if buffer.data and buffer.data[0] == CR and (empty := EMPTY_LINES.match(buffer.data)) and empty.end():
            buffer.discard(empty.end())
            self._scan = None
        if not buffer.data:
            return self._end_unasked(now) if self._input_ended else []
        end = buffer.find(END_OF_HEAD, self._limits.max_head_bytes)
        if end >= 0:
            head = buffer.take(end + 4)
            return self._receive_request(head[:-4], buffer.take_all(), now)
        self._scan = self._scan or HeadScan()
        reason = self._scan.judge(buffer.data, self._limits)
        if reason is None and self._input_ended:
            reason = RefuseReason.TRUNCATED_HEAD
        if reason is not None:
            return self._refuse(reason, now)
        timers = self._timers
        timers.keepalive = NEVER
        if timers.head == NEVER:
            timers.head = now + self._timeouts.head_timeout
        return []

    def _receive_request(self, head_bytes: bytes, rest: bytes, now: float) -> list[Event]:
        """Judge a head, and begin the request or refuse it."""
        self._scan = None
        intake = take_in(head_bytes, self._limits, self._upgrades)
        if not isinstance(intake, tuple):
            return self._refuse(intake, now)
        return self._begin_request(intake, rest, now)

    def _begin_request(self, intake: Intake, rest: bytes, now: float) -> list[Event]:
        """Take the step that an accepted head is, and go on with what lies behind it."""
        request, framing, persists, expects_continue = intake
        events: list[Event] = [request]
        self._method = request.method
        self._version = request.version
        self._protocol = request.upgrade
        self._requests_left -= 1
        timers = self._timers
        if not persists:
            self._close_reason = CloseReason.PEER_ASKED
        elif not self._requests_left:
            self._close_reason = CloseReason.MAX_REQUESTS if timers.drain == NEVER else CloseReason.DRAINING
        timers.head = timers.keepalive = NEVER
        if framing is NO_BODY:
            self._state = AFTER_HEAD[REQUEST]
            if rest:
                self._keep(rest)
        else:
            self._state = AFTER_HEAD[REQUEST_WITH_BODY]
            self._begin_body(framing, CONTINUE_OWED if expects_continue else READING, now)
            if rest:
                self._receive_body(rest, events, now)
        return events

    def _keep(self, data: bytes) -> None:
        """Let bytes behind the request in hand wait, or drop them when no request can follow."""
        if self._close_reason is None:
            self._buffer.append(data)
        else:
            self._discarded_bytes += len(data)

    # Request bodies

    def _begin_body(self, framing: Framing, demand: Demand, now: float) -> None:
        """Make ready for the body behind a head."""
        if framing.kind is Kind.LENGTH:
            self._reader = LengthReader(framing.length)
            self._buffer.expect(framing.length)
        else:
            self._reader = ChunkedReader(self._limits)
        self._unread_bytes = 0
        self._allowance_s = self._timeouts.body_timeout
        self._demand = demand
        if demand is READING:
            self._timers.body = now + self._allowance_s

    def _read_body(self, now: float) -> None:
        """Let the body's deadline run from where it stood."""
        self._demand = READING
        self._timers.body = now + self._allowance_s

    def _receive_body(self, data: bytes, events: list[Event], now: float) -> None:
        """Read body bytes; also those behind the end of the body."""
        assert self._reader is not None
        if self._demand is CONTINUE_OWED:
            self._read_body(now)  # RFC 9110 §10.1.1: 100 MAY be omitted once content has come
        part = self._reader.read(data)
        if part.content:
            self._take_content(part.content, events, now)
            if self._state is ENDING:
                return
        if part.refusal is not None:
            events += self._refuse(part.refusal, now)
        elif part.rest is not None:
            self._end_body(part.rest, part.trailers, events, now)

    def _take_content(self, content: bytes, events: list[Event], now: float) -> None:
        """Hand content on, or count what is thrown away; progress earns time."""
        timers = self._timers
        timeouts = self._timeouts
        if self._demand is READING:
            timers.body = min(now + timeouts.body_timeout, timers.body + len(content) / timeouts.min_body_rate)
        if self._state is not DRAINING:
            events.append(Data(content))
            return
        self._unread_bytes += len(content)
        if self._unread_bytes > self._limits.max_unread_body_bytes:
            self._end(CloseReason.BODY_UNREAD, now)

    def _end_body(self, rest: bytes, trailers: Headers, events: list[Event], now: float) -> None:
        """Finish the request; if it was only being drained, go on with the next."""
        self._timers.body = NEVER
        self._reader = None
        was_draining = self._state is DRAINING
        self._state = TABLE[self._state][Step.BODY_END]
        if rest:
            self._keep(rest)
        if was_draining:
            self._finish_exchange(now)
            events += self.next_events()
        else:
            events.append(EndOfMessage(trailers))

    def _receive_end(self, now: float) -> list[Event]:
        """Take the end of the peer's stream. The peer may still be reading: half-closed is not gone."""
        self._input_ended = True
        state = self._state
        if state is HEAD:
            must_wait = self._buffer.data and self._out.size > self._limits.max_output_bytes
            return [] if must_wait else self._parse_buffered(now)
        if state is RECEIVING or state is DUPLEX or state is DRAINING:
            return self._refuse(RefuseReason.TRUNCATED_BODY, now)
        if state is ENDING:
            self._settle(now)
        return []

    # Responses

    def _send_response(self, response: Response, now: float) -> None:
        """Queue a whole response, or the head of a streamed one."""
        body = response.body
        if body is None:
            self._begin_response(response, now)
            return
        if type(body) is not bytes:
            body = as_buffer(body)
        after = self._after(RESPONSE)
        plain = self._state is HANDLING and self._protocol is None
        close_reason = self._close_reason if plain else self._why_close(response)
        head, self._close_reason = writer.whole_head(
            response, len(body), self._method, self._version, close_reason, self._date.line(now)
        )
        # Nothing is raised from here on.
        self._state = after
        if len(body) <= SMALL_BYTES:
            self._queue(head + body, now)
        else:
            self._queue(head, now)
            self._out.add(body)
        if after is HEAD:
            self._finish_exchange(now)
        else:
            self._drain_body(now)

    def _begin_response(self, response: Response, now: float) -> None:
        """Queue the head of a streamed response."""
        after = self._after(RESPONSE_HEAD)
        head, framing, self._close_reason = writer.streamed_head(
            response, self._method, self._version, self._why_close(response), self._date.line(now)
        )
        # Nothing is raised from here on.
        self._state = after
        self._body_writer = writer.BodyWriter(framing)
        self._queue(head, now)
        if after is DUPLEX and self._demand is CONTINUE_OWED:
            self._give_up_body()

    def _why_close(self, response: Response) -> CloseReason | None:
        """Why the connection ends after this response: known now, so that the response can say it."""
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

    def _leaves_too_much(self) -> bool:
        """Whether it is known that more of the body is to come than is worth draining."""
        remaining = self._reader.remaining if self._reader is not None else None
        return remaining is not None and remaining > self._limits.max_unread_body_bytes

    def _send_data(self, event: Data, now: float) -> None:
        """Queue a piece of a streamed body."""
        after = self._after(Step.RESPONSE_DATA)
        assert self._body_writer is not None
        buffers = self._body_writer.data(event.data if type(event.data) is bytes else as_buffer(event.data))
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
        if after is HEAD:
            self._finish_exchange(now)
        else:
            self._drain_body(now)

    def _send_informational(self, event: InformationalResponse, now: float) -> None:
        """Queue an interim response, unless the peer would take it for the final one."""
        after = self._after(Step.INFORMATIONAL)
        head = writer.informational_head(event)
        self._state = after
        if self._version == b"1.0":
            return
        self._queue(head, now)
        if event.status == 100 and self._demand is CONTINUE_OWED and after is RECEIVING:
            self._read_body(now)

    def _drain_body(self, now: float) -> None:
        """The response is complete and the body is not: read the rest and throw it away, or end."""
        if self._close_reason is not None or self._leaves_too_much():
            self._end(self._close_reason or CloseReason.BODY_UNREAD, now)
        elif self._demand is PAUSED:
            self._read_body(now)

    def _finish_exchange(self, now: float) -> None:
        """Request and response are both over: wait for the next, or end."""
        buffer = self._buffer
        if self._close_reason is not None:
            self._end(self._close_reason, now)
        elif buffer.data:
            buffer.shrink()  # next_events looks at it
        elif self._input_ended:
            self._end(CloseReason.PEER_CLOSED, now)
        else:
            if buffer.capacity != self._limits.initial_buffer_bytes:
                buffer.shrink()
            if not self._out.size:
                self._output_done(now)

    # Ends

    def _refuse(self, reason: RefuseReason, now: float) -> list[Event]:
        """Answer a peer's mistake, unless a response is under way, and end."""
        if self._state is DUPLEX:
            self._close_reason = CloseReason.REFUSED
            self._give_up_body()
        else:
            if self._state is not DRAINING:
                self._queue_error(writer.refusal_response(reason), now)
            self._end(CloseReason.REFUSED, now)
        return [Refused(reason.status, reason)]

    def _queue_error(self, response: Response, now: float) -> None:
        """Queue an answer of our own to the request in hand, or to what was to become one."""
        assert type(response.body) is bytes
        is_head = self._state is not HEAD and self._method == b"HEAD"
        reason = CloseReason.REFUSED
        head, _ = writer.whole_head(response, len(response.body), b"GET", b"1.1", reason, self._date.line(now))
        self._queue(head if is_head else head + response.body, now)

    def _expire(self, timer: Timer, now: float) -> list[Event]:
        """Do what is due when a timer has run out."""
        match timer:
            case Timer.HEAD:
                if self._buffer.data:
                    self._queue_error(writer.error_response(408, "The request head took too long."), now)
                self._end(CloseReason.HEAD_TIMEOUT, now)
            case Timer.BODY:
                self._expire_body(now)
            case Timer.KEEPALIVE:
                self._end(CloseReason.KEEPALIVE_TIMEOUT, now)
            case Timer.WRITE:
                self._close(CloseReason.WRITE_TIMEOUT, Disposition.ABORT)
            case Timer.LINGER:
                self._close(None, Disposition.CLOSE)
                return []
            case Timer.DRAIN:
                self._close(CloseReason.DRAIN_TIMEOUT, Disposition.ABORT)
            case _:
                assert_never(timer)
        return [TimedOut(timer)]

    def _expire_body(self, now: float) -> None:
        """The body came too slowly: 408, unless a response is under way or done."""
        if self._state is DUPLEX:
            self._close_reason = CloseReason.BODY_TIMEOUT
            self._give_up_body()
            return
        if self._state is RECEIVING:
            self._queue_error(writer.error_response(408, "The request body came too slowly."), now)
        self._end(CloseReason.BODY_TIMEOUT, now)

    def _give_up_body(self) -> None:
        """Let the response go on without the rest of the body; the connection ends after it."""
        self._timers.body = NEVER
        self._reader = None
        self._state = TABLE[self._state][Step.GIVE_UP_BODY]

    def _end_unasked(self, now: float) -> list[Event]:
        """The peer closed between two requests."""
        self._end(CloseReason.PEER_CLOSED, now)
        return [Closed(CloseReason.PEER_CLOSED)]
