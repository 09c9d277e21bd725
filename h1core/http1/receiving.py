"""The peer's half of a connection: bytes and the time → events.

It parses heads and bodies, refuses what is invalid, and handles expired timers. `conn.py` adds the application's half,
`lifecycle.py` is the base of both.
"""

from collections.abc import Callable, Container
from enum import IntEnum
from typing import Final, assert_never

from h1core.config import Limits, Timeouts
from h1core.errors import LocalError, RefuseReason
from h1core.events import MAX_SHOWN_BYTES, Closed, Data, EndOfMessage, Event, Refused, Response, TimedOut
from h1core.http1 import writer
from h1core.http1.body import ChunkedReader, LengthReader
from h1core.http1.buffer import ReceiveBuffer
from h1core.http1.date import DateField
from h1core.http1.framing import LENGTH, NO_BODY, Framing, Kind
from h1core.http1.grammar import EMPTY_LINES
from h1core.http1.head import HeadScan, why_no_head
from h1core.http1.head_cache import parse_cached
from h1core.http1.lifecycle import CLOSED, ENDING, HEAD, Lifecycle
from h1core.http1.output import as_bytes
from h1core.http1.request_head import ParsedHead
from h1core.http1.state import TABLE, CloseReason, Disposition, State, Step
from h1core.http1.timers import NEVER, Timer

CR: Final = 0x0D
LF: Final = 0x0A
ZERO: Final = 0x30
END_OF_HEAD: Final = b"\r\n\r\n"

# More aliases for the hot paths, like those in lifecycle.py.
AFTER_REQUEST: Final = TABLE[HEAD][Step.REQUEST]
AFTER_HEAD_OF_BODY: Final = TABLE[HEAD][Step.REQUEST_WITH_BODY]
AFTER_BODY: Final = TABLE[AFTER_HEAD_OF_BODY][Step.BODY_END]
RECEIVING: Final = State.RECEIVING
HANDLING: Final = State.HANDLING
DUPLEX: Final = State.DUPLEX
RESPONDING: Final = State.RESPONDING
DRAINING: Final = State.DRAINING
SWITCHED: Final = State.SWITCHED


class Demand(IntEnum):
    """Whether the application wants the request body."""

    CONTINUE_OWED = 0
    """The peer waits for 100 Continue, and the application has not asked for the body yet."""
    READING = 1
    """The body is read as it arrives; its deadline runs."""
    PAUSED = 2
    """The application is behind (backpressure); nothing is read, and the deadline is stopped."""


CONTINUE_OWED: Final = Demand.CONTINUE_OWED
READING: Final = Demand.READING
PAUSED: Final = Demand.PAUSED


class Receiving(Lifecycle):
    """Base of `Conn`: from bytes and the time to events."""

    __slots__ = (
        "_allowance_s",
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
        limits: Limits,
        timeouts: Timeouts,
        clock: Callable[[], float],
        date: DateField,
        upgrades: Container[bytes],
        buffer: ReceiveBuffer | None,
    ) -> None:
        super().__init__(limits, timeouts, clock, buffer)
        self._timers.head = clock() + timeouts.head_timeout
        self._date = date
        self._upgrades = upgrades
        self._requests_left = limits.max_requests_per_connection
        self._scan: HeadScan | None = None
        # The current request
        self._method = b""
        self._version = b"1.1"
        self._protocol: bytes | None = None
        self._reader: LengthReader | ChunkedReader | None = None
        self._demand = READING
        self._allowance_s = timeouts.body_timeout
        self._unread_bytes = 0

    # In

    def receive_data(self, data: bytes) -> list[Event]:
        """Process bytes from the transport; `b""` is the end of the peer's stream. Never raises on peer input.

        Returns the events in order: at most one Request, Data, one EndOfMessage, and one last event. Data that arrives
        at the instant of a deadline is in time. Raises LocalError when `data` is not bytes-like, or after
        `switch_protocols`.
        """
        if type(data) is not bytes:
            data = as_bytes(data)
        state = self._state
        limits = self._limits
        has_turn = state is HEAD and self._out.size <= limits.max_output_bytes and not self._buffer.data
        # Fast path: most reads are one head. Two heads do not parse as one, nor does an invalid one: those are handled
        # below, and so is what ends like a chunked body. 0.3 of 4 µs.
        if (
            has_turn
            and 5 < len(data) <= limits.max_head_bytes
            and data.endswith(END_OF_HEAD)
            and (data[-5] != ZERO or data[-6] != LF)
        ):
            parsed = parse_cached(data, limits, self._upgrades)
            if isinstance(parsed, tuple):
                events = self._begin_request(parsed)
                if parsed[1] is not NO_BODY:
                    self._process_after_head(parsed, b"", events, self._clock())
                return events
        now = self._clock()
        if state is HEAD and data:
            if has_turn and data[0] != CR and (end := data.find(END_OF_HEAD, 0, limits.max_head_bytes)) > 0:
                return self._receive_request(data[: end + 4], data[end + 4 :], now)
            self._buffer.append(data)
            return self._parse_buffered(now) if self._may_parse() else []
        if state is SWITCHED:
            raise LocalError("the connection was switched to another protocol; its bytes are not for h1core")
        if not data:
            return self._receive_end(now)
        events = []
        if state is RECEIVING or state is DUPLEX or state is DRAINING:
            self._buffer.grow_after(len(data))
            self._receive_body(data, events, now)
        elif state is HANDLING or state is RESPONDING:
            self._keep(data)
        elif state is ENDING:
            self._discard(len(data))
        return events

    def handle_deadline(self) -> list[Event]:
        """Handle expired timers. Never raises; too early it does nothing, late it does the same as on time."""
        now = self._clock()
        events: list[Event] = []
        for timer in self._timers.expired(now):
            if self._timers.at(timer) <= now:  # unless the one handled before has stopped it
                events += self._expire(timer, now)
        return events

    # Out

    def next_events(self) -> list[Event]:
        """The events from buffered bytes. Never raises.

        To be called after each response, and after each `data_sent`: no further request is parsed while more than
        `max_output_bytes` of responses wait, or they would grow without limit for a peer that never reads.
        """
        if not self._buffer.data or not self._may_parse():
            return []
        return self._parse_buffered(self._clock())

    def _may_parse(self) -> bool:
        """Whether buffered bytes may be parsed."""
        return self._state is HEAD and self._out.size <= self._limits.max_output_bytes

    # Questions

    @property
    def wants_read(self) -> bool:
        """Whether to read from the transport: not when the buffer is full, the body unwanted, or the input ended."""
        state = self._state
        if self._input_ended:
            return False
        if state is HEAD:
            buffer = self._buffer  # when that is full, a whole head is in it: see next_events
            return buffer.capacity > len(buffer.data) and self._out.size <= self._limits.max_output_bytes
        if state is CLOSED or state is SWITCHED:
            return False
        if state is RECEIVING or state is DUPLEX:
            return self._demand is READING
        if state is HANDLING or state is RESPONDING:
            behind_close = self._close_reason is not None and self._protocol is None
            return self._discarded_bytes <= self._limits.max_linger_bytes if behind_close else self._buffer.room > 0
        return state is not ENDING or self._discarded_bytes <= self._limits.max_linger_bytes

    @property
    def owes_continue(self) -> bool:
        """Whether the peer waits for 100 Continue, or waited and got a final response instead."""
        return self._demand is CONTINUE_OWED

    @property
    def receive_bytes(self) -> int:
        """How many bytes to read at a time: few at first, more after full reads or when a length was declared."""
        buffer = self._buffer
        return buffer.room or self._limits.initial_buffer_bytes if buffer.data else buffer.capacity

    # Request heads

    def _parse_buffered(self, now: float) -> list[Event]:
        """Parse the next request in the buffer, if it is complete."""
        buffer = self._buffer
        if buffer.data and buffer.data[0] == CR and (empty := EMPTY_LINES.match(buffer.data)) and empty.end():
            buffer.discard(empty.end())
            self._scan = None
        if not buffer.data:
            if self._input_ended:
                return self._end_between_requests(now)
            self._keep_idle_timer(now)
            return []
        if buffer.data == b"\r" and not self._input_ended:
            self._keep_idle_timer(now)  # probably half an empty line
            return []
        end = buffer.find(END_OF_HEAD, self._limits.max_head_bytes)
        if end >= 0:
            events = self._receive_request(buffer.take(end + 4), b"", now)
            self._read_buffered_body(events, now)
            if self._input_ended and self._state is RECEIVING:
                events += self._refuse(RefuseReason.TRUNCATED_BODY, now)
            self._note_last_request()
            return events
        self._scan = self._scan or HeadScan()
        reason = self._scan.check(buffer.data, self._limits)
        if reason is None and self._input_ended:
            reason = RefuseReason.TRUNCATED_HEAD
        if reason is not None:
            return self._refuse(reason, now, self._note_head(buffer.data))
        timers = self._timers
        timers.keepalive = NEVER
        if timers.head == NEVER:
            timers.head = now + self._timeouts.head_timeout
        return []

    def _keep_idle_timer(self, now: float) -> None:
        """Stay idle after empty lines. They are no progress: a running timer is not restarted."""
        timers = self._timers
        if timers.drain != NEVER:  # they were buffered when the drain began, and could have been a request
            self._end(CloseReason.DRAINING, now)
        elif not self._out.size and timers.head == NEVER and timers.keepalive == NEVER:
            timers.keepalive = now + self._timeouts.keepalive_timeout

    def _receive_request(self, head_bytes: bytes, rest: bytes, now: float) -> list[Event]:
        """Parse a complete head, and begin the request or refuse it."""
        self._scan = None
        limits = self._limits
        parsed = parse_cached(head_bytes, limits, self._upgrades)
        if not isinstance(parsed, tuple):
            reason = parsed or why_no_head(head_bytes, limits)
            return self._refuse(reason, now, self._note_head(head_bytes))
        events = self._begin_request(parsed)
        if rest or parsed[1] is not NO_BODY:
            self._process_after_head(parsed, rest, events, now)
        return events

    def _begin_request(self, parsed: ParsedHead) -> list[Event]:
        """Set the state for an accepted head."""
        request, framing, persists, _ = parsed
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
        self._state = AFTER_REQUEST if framing is NO_BODY else AFTER_HEAD_OF_BODY
        return [request]

    def _process_after_head(self, parsed: ParsedHead, rest: bytes, events: list[Event], now: float) -> None:
        """Prepare for the body of an accepted head, and process `rest`, the bytes after the head."""
        _, framing, _, expects_continue = parsed
        if framing is NO_BODY:
            self._keep(rest)
        elif framing.kind is LENGTH and len(rest) == framing.length:
            # Fast path: the whole body came with its head. 2 of 7 µs.
            self._demand = READING
            self._state = AFTER_BODY
            events += (Data(rest), EndOfMessage())
        else:
            self._begin_body(framing, CONTINUE_OWED if expects_continue else READING, now)
            if rest:
                self._receive_body(rest, events, now)

    def _note_head(self, head: bytes | bytearray) -> bytes:
        """Note the method of a head that will be refused: the answer to HEAD has no content. Return what to show."""
        self._method = b"HEAD" if head.startswith(b"HEAD ") else b""
        shown = bytes(head[:MAX_SHOWN_BYTES])
        line, _, _ = shown.partition(b"\n")
        return line.removesuffix(b"\r") or shown[:1]

    def _keep(self, data: bytes) -> None:
        """Buffer bytes after the current request, or discard them when no request can follow."""
        if self._close_reason is None or self._protocol is not None:
            self._buffer.append(data)
        else:
            self._discarded_bytes += len(data)

    # Request bodies

    def _begin_body(self, framing: Framing, demand: Demand, now: float) -> None:
        """Prepare for the body after a head."""
        if framing.kind is Kind.LENGTH:
            self._reader = LengthReader(framing.length)
            self._buffer.expect(framing.length)
        else:
            self._reader = ChunkedReader(self._limits)
            self._buffer.expect(0)
        self._unread_bytes = 0
        self._allowance_s = self._timeouts.body_timeout
        self._demand = demand
        if demand is READING:
            self._timers.body = now + self._allowance_s

    def _resume_reading(self, now: float) -> None:
        """Read the body; its deadline goes on from where it stopped."""
        self._demand = READING
        self._timers.body = now + self._allowance_s

    def _receive_body(self, data: bytes, events: list[Event], now: float) -> None:
        """Read received body bytes; bytes after the body are buffered, or are the next request."""
        was_draining = self._state is DRAINING
        rest = self._read_body(data, events, now)
        if rest:
            self._keep(rest)
        if was_draining and self._state is HEAD:
            self._finish_exchange(now)
            if self._buffer.data and self._may_parse():
                events += self._parse_buffered(now)

    def _read_buffered_body(self, events: list[Event], now: float) -> None:
        """Read buffered body bytes; bytes after the body stay in the buffer.

        In pieces: to take all and put the rest back for each of a thousand small requests would be quadratic.
        """
        buffer = self._buffer
        while self._state is RECEIVING and buffer.data:
            piece = bytes(buffer.data[: self._limits.initial_buffer_bytes])
            rest = self._read_body(piece, events, now)
            buffer.discard(len(piece) - len(rest))

    def _read_body(self, data: bytes, events: list[Event], now: float) -> bytes:
        """Read body bytes, and return those after its end."""
        assert self._reader is not None
        if self._demand is CONTINUE_OWED:
            self._resume_reading(now)  # RFC 9110 §10.1.1: 100 MAY be omitted once content has come
        part = self._reader.read(data)
        if part.content:
            self._take_content(part.content, events, now)
        if self._state is ENDING:  # too much was discarded
            return b""
        if part.refusal is not None:
            events += self._refuse(part.refusal, now)
            return b""
        if part.rest is None:
            return b""
        self._timers.body = NEVER
        self._reader = None
        if self._state is not DRAINING:
            events.append(EndOfMessage(part.trailers))
        self._state = TABLE[self._state][Step.BODY_END]
        return part.rest

    def _take_content(self, content: bytes, events: list[Event], now: float) -> None:
        """Return content as Data, or count what is discarded; content extends the body's deadline."""
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

    def _receive_end(self, now: float) -> list[Event]:
        """Handle the end of the peer's stream: a half-close, after which the peer may still read."""
        self._input_ended = True
        state = self._state
        if state is HEAD:
            must_wait = self._buffer.data and not self._may_parse()
            return [] if must_wait else self._parse_buffered(now)
        if state is RECEIVING or state is DUPLEX or state is DRAINING:
            return self._refuse(RefuseReason.TRUNCATED_BODY, now)
        if state is ENDING:
            self._settle(now)
        self._note_last_request()
        return []

    def _note_last_request(self) -> None:
        """Set the close reason for the last request of a peer that has closed its side: its response must say so."""
        if self._input_ended and not self._buffer.data and (self._state is HANDLING or self._state is RESPONDING):
            self._close_reason = self._close_reason or CloseReason.PEER_CLOSED

    def _leaves_too_much(self) -> bool:
        """Whether the rest of the body is known to be longer than `max_unread_body_bytes`."""
        remaining = self._reader.remaining if self._reader is not None else None
        return remaining is not None and remaining > self._limits.max_unread_body_bytes

    def _finish_exchange(self, now: float) -> None:
        """Wait for the next request after a complete exchange, or end."""
        if self._close_reason is not None:
            self._end(self._close_reason, now)
            return
        if self._buffer.capacity != self._limits.initial_buffer_bytes:
            self._buffer.shrink()
        if not self._out.size:
            self._output_done(now)

    # Ends

    def _refuse(self, reason: RefuseReason, now: float, head: bytes = b"") -> list[Event]:
        """Answer a peer's mistake, unless a response is in progress, and end."""
        if self._state is DUPLEX:
            self._close_reason = CloseReason.REFUSED
            self._give_up_body()
        else:
            if self._state is not DRAINING:
                self._queue_error(writer.refusal_response(reason), now)
            self._end(CloseReason.REFUSED, now)
        return [Refused(reason.status, reason, head)]

    def _queue_error(self, response: Response, now: float) -> None:
        """Queue the server's own error response, to the current request or to an incomplete head."""
        assert type(response.body) is bytes
        reason = CloseReason.REFUSED
        head, _ = writer.whole_head(response, len(response.body), b"GET", b"1.1", reason, self._date.line(now))
        self._queue(head if self._method == b"HEAD" else head + response.body, now)

    def _expire(self, timer: Timer, now: float) -> list[Event]:
        """Handle an expired timer."""
        had_last_word = self._last_event_returned
        head = b""
        match timer:
            case Timer.HEAD:
                if self._buffer.data and self._buffer.data != b"\r":  # half an empty line is no request
                    head = self._note_head(self._buffer.data)
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
            case Timer.DRAIN:
                self._close(CloseReason.DRAIN_TIMEOUT, Disposition.ABORT)
            case _:
                assert_never(timer)
        return [] if had_last_word else [TimedOut(timer, head)]

    def _expire_body(self, now: float) -> None:
        """Answer 408 to a slow body, unless a response is in progress or complete."""
        if self._state is DUPLEX:
            self._close_reason = CloseReason.BODY_TIMEOUT
            self._give_up_body()
            return
        if self._state is RECEIVING:
            self._queue_error(writer.error_response(408, "The request body came too slowly."), now)
        self._end(CloseReason.BODY_TIMEOUT, now)

    def _give_up_body(self) -> None:
        """Read no more of the body; the response goes on, and the connection ends after it."""
        self._timers.body = NEVER
        self._reader = None
        self._state = TABLE[self._state][Step.GIVE_UP_BODY]

    def _end_between_requests(self, now: float) -> list[Event]:
        """End, because the peer closed its side between two requests."""
        self._end(CloseReason.PEER_CLOSED, now)
        return [Closed(CloseReason.PEER_CLOSED)]
