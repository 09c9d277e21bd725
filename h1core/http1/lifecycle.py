"""A connection without its messages: its buffers, its timers, and how it ends.

`Receiving` and `Conn` add the messages. Nothing here knows what a request is. They decide that a connection is to end;
this file decides when it is over.

Theory of the write deadline
----------------------------
A response begins with an allowance of `write_timeout` seconds. While bytes wait to be sent the allowance decreases, and
each byte taken adds 1 / `min_write_rate` seconds to it, up to `write_timeout`: megabytes that a kernel takes at once do
not add an hour. So a peer is in time if it takes bytes at that rate on average, in portions of any size that are less
than `write_timeout` apart. While nothing waits to be sent the allowance does not change: a slow application costs the
peer nothing, and a stream that is taken as fast as it is made does not renew the allowance with each piece.
"""

from collections.abc import Callable
from typing import Final, NoReturn

from h1core.config import Limits, Timeouts
from h1core.errors import LocalError
from h1core.events import Closed, Event, FileSlice
from h1core.http1.buffer import ReceiveBuffer
from h1core.http1.output import Buffer, OutputQueue
from h1core.http1.state import APPLICATION_STEPS, TABLE, CloseReason, Disposition, State, Step
from h1core.http1.timers import NEVER, Timers

# Aliases for the hot paths: reading a member through its class costs six times as much.
HEAD: Final = State.HEAD
ENDING: Final = State.ENDING
CLOSED: Final = State.CLOSED
STREAMS: Final = (State.DUPLEX, State.RESPONDING)
KEEP: Final = Disposition.KEEP
LINGER: Final = Disposition.LINGER


LAST_EVENT_REASONS: Final = frozenset({CloseReason.REFUSED, CloseReason.BODY_TIMEOUT})
"""Reasons that come with the last event of a connection, also when a response is in progress."""


class Lifecycle:
    """Base of `Conn`: its state, buffers and timers, and the way from the last response to the closed transport."""

    __slots__ = (
        "_buffer",
        "_clock",
        "_close_reason",
        "_discarded_bytes",
        "_ended_with",
        "_input_ended",
        "_limits",
        "_out",
        "_state",
        "_timeouts",
        "_timers",
        "_write_allowance_s",
    )

    def __init__(
        self, limits: Limits, timeouts: Timeouts, clock: Callable[[], float], buffer: ReceiveBuffer | None
    ) -> None:
        self._limits = limits
        self._timeouts = timeouts
        self._clock = clock
        if buffer is None:
            buffer = ReceiveBuffer(limits.initial_buffer_bytes, limits.max_buffer_bytes)
        self._buffer = buffer
        self._out = OutputQueue()
        self._timers = Timers()
        self._write_allowance_s = timeouts.write_timeout
        """Seconds from the next queued bytes to their write deadline."""
        self._state = State.HEAD
        self._close_reason: CloseReason | None = None
        self._ended_with = Disposition.CLOSE
        self._input_ended = False
        self._discarded_bytes = 0
        """Bytes that were received after it was decided that no request will follow."""

    # In

    def connection_lost(self) -> list[Event]:
        """Close the connection because its transport broke. Never raises."""
        if self._state is CLOSED:
            return []
        had_last_word = self._last_event_returned
        self._close(CloseReason.CONNECTION_LOST, Disposition.CLOSE)
        return [] if had_last_word else [Closed(CloseReason.CONNECTION_LOST)]

    def abort(self, reason: CloseReason) -> None:
        """Close the connection with a reset: a response in progress is visibly truncated. Never raises."""
        if self._state is not CLOSED:
            self._close(reason, Disposition.ABORT)

    def release_buffer(self) -> ReceiveBuffer:
        """Return the receive buffer for a later connection; this one is aborted unless it is over. Never raises."""
        if self._state is not CLOSED:
            self._close(CloseReason.CONNECTION_LOST, Disposition.ABORT)
        return self._buffer

    # Out

    def data_to_send(self) -> Buffer:
        """The next buffer to write, empty when there is none. The same bytes come again until `data_sent`.

        It is also empty when a FileSlice is to be written next, which only happens when the caller has sent one.
        """
        buffers = self._out.buffers
        return buffers[0] if len(buffers) == 1 and type(buffers[0]) is bytes else self._out.front()

    def file_to_send(self) -> FileSlice | None:
        """The part of a file to write next, if no buffer comes before it. Report its bytes to `data_sent`, too."""
        return self._out.front_file()

    def data_sent(self, count: int) -> None:
        """Report how many of the bytes to send the transport took. Each extends the write deadline.

        Raises LocalError when that is more than were queued.
        """
        out = self._out
        if count == out.size:
            if count:
                # Fast path: `out.clear` and `_output_done`, without the calls.
                out.buffers.clear()
                out.size = 0
                timers = self._timers
                if self._state is HEAD and not self._buffer.data:
                    timers.write = NEVER
                    timers.keepalive = self._clock() + self._timeouts.keepalive_timeout
                else:
                    now = self._clock()
                    if self._state in STREAMS:
                        self._extend_write_deadline(count, now)
                        self._write_allowance_s = max(0.0, timers.write - now)
                    timers.write = NEVER
                    self._output_done(now)
        elif not 0 <= count < out.size:
            raise LocalError(f"{out.size} bytes wait to be sent, and {count} were said to be")
        elif count:
            out.sent(count)
            self._extend_write_deadline(count, self._clock())

    # Questions

    @property
    def output_bytes(self) -> int:
        """How many bytes wait to be sent; past `Limits.max_output_bytes`, a streamed body should wait."""
        return self._out.size

    @property
    def next_deadline(self) -> float | None:
        """The instant for `handle_deadline` on the given clock, or None; it may have passed."""
        timers = self._timers
        keepalive = timers.keepalive
        if keepalive == NEVER:
            return timers.next
        # Fast path: between two requests only the keep-alive and the drain timer run. 0.4 µs.
        return keepalive if keepalive < timers.drain else timers.drain

    @property
    def is_idle(self) -> bool:
        """Whether the connection is between two requests, with no response bytes queued.

        Then there is nothing to send and nothing in `next_events`; `wants_read` is True, and `disposition` is KEEP.
        """
        return self._timers.keepalive != NEVER

    @property
    def state(self) -> State:
        """The state of the connection; the meaning and order of states are in state.py."""
        return self._state

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection ends, or will end after the current response; None while it persists."""
        return self._close_reason

    @property
    def disposition(self) -> Disposition:
        """What to do with the transport once `data_to_send` is empty."""
        state = self._state
        if state is CLOSED:
            return self._ended_with
        return LINGER if state is ENDING and not self._out.size else KEEP

    @property
    def _last_event_returned(self) -> bool:
        """Whether the last event was returned. A response may still be in progress after it."""
        return self._state is ENDING or self._close_reason in LAST_EVENT_REASONS

    # Steps

    def _after(self, step: Step) -> State:
        """The state after a step of the application. Raises LocalError when the step is out of turn."""
        after = TABLE[self._state].get(step)
        if after is None:
            self._raise_out_of_turn(step)
        return after

    def _raise_out_of_turn(self, step: Step) -> NoReturn:
        possible = ", ".join(other.name for other in TABLE[self._state] if other in APPLICATION_STEPS)
        why = f" because {self._close_reason.value}" if self._close_reason else ""
        raise LocalError(
            f"{step.name} is out of turn: the connection is {self._state.name}{why}; "
            f"the application's turn is: {possible or 'none, until the next Request'}"
        )

    def _queue(self, buffer: Buffer | FileSlice, now: float) -> None:
        """Queue bytes to send, and start the write deadline if it does not run."""
        if not self._out.size:
            self._timers.write = now + self._write_allowance_s
        self._out.add(buffer)

    def _extend_write_deadline(self, count: int, now: float) -> None:
        """Extend the write deadline by the time that `count` bytes may take."""
        timeouts = self._timeouts
        self._timers.write = min(now + timeouts.write_timeout, self._timers.write + count / timeouts.min_write_rate)

    def _output_done(self, now: float) -> None:
        """Start the keep-alive timer, or linger, once all output is written."""
        state = self._state
        if state is HEAD:
            if not self._buffer.data:
                self._timers.keepalive = now + self._timeouts.keepalive_timeout
        elif state is ENDING:
            self._settle(now)

    # Ends

    def _end(self, reason: CloseReason, now: float) -> None:
        """Accept no further request: queued bytes are written, then the peer gets time to read them."""
        self._close_reason = reason
        self._state = TABLE[self._state][Step.END]
        self._discarded_bytes += len(self._buffer.data)
        self._buffer.clear()
        timers = self._timers
        timers.head = timers.body = timers.keepalive = NEVER
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Linger once all is written, or close at once when the peer has closed its side or sent too much."""
        if self._out.size:
            return
        if self._input_ended or self._discarded_bytes > self._limits.max_linger_bytes:
            self._close(None, Disposition.CLOSE)
        else:
            self._timers.linger = now + self._timeouts.linger_timeout

    def _discard(self, count: int) -> None:
        """Discard what the peer still sends; beyond the limit, close once all is written."""
        self._discarded_bytes += count
        self._buffer.grow_after(count)  # the next read may be larger: there may be much to discard
        if self._discarded_bytes > self._limits.max_linger_bytes and not self._out.size:
            self._close(None, Disposition.CLOSE)

    def _close(self, reason: CloseReason | None, disposition: Disposition) -> None:
        """Stop reading and writing, and drop what is buffered."""
        self._close_reason = reason or self._close_reason
        self._ended_with = disposition
        self._state = TABLE[self._state][Step.CLOSE]
        self._out.clear()
        self._buffer.clear()
        self._timers.stop_all()
