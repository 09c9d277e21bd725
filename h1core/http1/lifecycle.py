"""The life of a connection without its messages: bytes waiting on both sides, timers, and how it ends.

`Conn` adds the messages. The line between the two: nothing here knows what a request is, and nothing there decides when
a connection is over, only that it is to be.

Theory of the write deadline
----------------------------
A response begins with an allowance of `write_timeout` seconds. While bytes are owed the allowance runs down, and each
byte taken earns 1 / `min_write_rate` seconds of it back, never beyond the whole: megabytes that a kernel takes at once
buy no hour. So a peer lives that takes its bytes at that rate in the long run, in lumps however coarse, if no two of
them are `write_timeout` apart. While nothing is owed the allowance stands still: an application that is slow to make
its bytes costs the peer nothing, and a stream that is taken as fast as it is made gives no fresh time with each piece.
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


LAST_WORDS: Final = frozenset({CloseReason.REFUSED, CloseReason.BODY_TIMEOUT})
"""Reasons that come with the last event of a connection, also when a response is under way."""


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
        """What the write deadline starts from when something is owed next."""
        self._state = State.HEAD
        self._close_reason: CloseReason | None = None
        self._ended_with = Disposition.CLOSE
        self._input_ended = False
        self._discarded_bytes = 0
        """Bytes that came after it was decided that no request will follow."""

    # In

    def connection_lost(self) -> list[Event]:
        """Take note that the transport broke: nothing can be read or written any more. Never raises."""
        if self._state is CLOSED:
            return []
        had_last_word = self._had_last_word
        self._close(CloseReason.CONNECTION_LOST, Disposition.CLOSE)
        return [] if had_last_word else [Closed(CloseReason.CONNECTION_LOST)]

    def abort(self, reason: CloseReason) -> None:
        """Cut the connection where it is: a response under way is visibly truncated. Never raises."""
        if self._state is not CLOSED:
            self._close(reason, Disposition.ABORT)

    def release_buffer(self) -> ReceiveBuffer:
        """Give the receive buffer to a later connection; this one is aborted unless it is over. Never raises."""
        if self._state is not CLOSED:
            self._close(CloseReason.CONNECTION_LOST, Disposition.ABORT)
        return self._buffer

    # Out

    def data_to_send(self) -> Buffer:
        """The next buffer to write, empty when there is none. The same bytes come again until `data_sent`.

        It is also empty when a FileSlice is to be written next, which only happens to who has sent one.
        """
        buffers = self._out.buffers
        return buffers[0] if len(buffers) == 1 and type(buffers[0]) is bytes else self._out.front()

    def file_to_send(self) -> FileSlice | None:
        """The part of a file to write next, if there is one and no buffer before it. `data_sent` counts it likewise."""
        return self._out.front_file()

    def data_sent(self, count: int) -> None:
        """Say how many of the bytes to send the transport took. Each puts the write deadline off.

        Raises LocalError when that is more than there were.
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
                        self._earn_time(count, now)
                        self._write_allowance_s = max(0.0, timers.write - now)
                    timers.write = NEVER
                    self._output_done(now)
        elif not 0 <= count < out.size:
            raise LocalError(f"{out.size} bytes wait to be sent, and {count} were said to be")
        elif count:
            out.sent(count)
            self._earn_time(count, self._clock())

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
        # Fast path: between two requests nothing else runs, but the time for a drain. 0.4 µs.
        return keepalive if keepalive < timers.drain else timers.drain

    @property
    def is_idle(self) -> bool:
        """Whether the connection is between two requests: neither side owes the other anything.

        Then there is nothing to send and nothing in `next_events`; `wants_read` holds, and `disposition` is KEEP.
        """
        return self._timers.keepalive != NEVER

    @property
    def state(self) -> State:
        """Where the connection is; the meaning and order of states are in state.py."""
        return self._state

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection ends, or will after the response in hand; None while it persists."""
        return self._close_reason

    @property
    def disposition(self) -> Disposition:
        """What to do with the transport once `data_to_send` is empty."""
        state = self._state
        if state is CLOSED:
            return self._ended_with
        return LINGER if state is ENDING and not self._out.size else KEEP

    @property
    def _had_last_word(self) -> bool:
        """Whether the last event has come out. The peer's half can be over while a response is still under way."""
        return self._state is ENDING or self._close_reason in LAST_WORDS

    # Steps

    def _after(self, step: Step) -> State:
        """The state after a step of the application. Raises LocalError when it is not its turn."""
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
        """Owe the peer some bytes."""
        if not self._out.size:
            self._timers.write = now + self._write_allowance_s
        self._out.add(buffer)

    def _earn_time(self, count: int, now: float) -> None:
        """Put the write deadline off by what the bytes that were taken are worth."""
        timeouts = self._timeouts
        self._timers.write = min(now + timeouts.write_timeout, self._timers.write + count / timeouts.min_write_rate)

    def _output_done(self, now: float) -> None:
        """Nothing is owed to the peer any more: it is idle, or should close its side."""
        state = self._state
        if state is HEAD:
            if not self._buffer.data:
                self._timers.keepalive = now + self._timeouts.keepalive_timeout
        elif state is ENDING:
            self._settle(now)

    # Ends

    def _end(self, reason: CloseReason, now: float) -> None:
        """No further request: what is owed is written, then the peer gets time to read it."""
        self._close_reason = reason
        self._state = TABLE[self._state][Step.END]
        self._discarded_bytes += len(self._buffer.data)
        self._buffer.clear()
        timers = self._timers
        timers.head = timers.body = timers.keepalive = NEVER
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Move an ending connection on: to lingering once all is written, or past it when nobody is left to read."""
        if self._out.size:
            return
        if self._input_ended or self._discarded_bytes > self._limits.max_linger_bytes:
            self._close(None, Disposition.CLOSE)
        else:
            self._timers.linger = now + self._timeouts.linger_timeout

    def _discard(self, count: int) -> None:
        """Throw away what an ending connection still sends; past the limit it is closed, once nothing is owed."""
        self._discarded_bytes += count
        self._buffer.grow_after(count)  # the next read may be larger: there is much to be rid of
        if self._discarded_bytes > self._limits.max_linger_bytes and not self._out.size:
            self._close(None, Disposition.CLOSE)

    def _close(self, reason: CloseReason | None, disposition: Disposition) -> None:
        """Nothing is read or written any more."""
        self._close_reason = reason or self._close_reason
        self._ended_with = disposition
        self._state = TABLE[self._state][Step.CLOSE]
        self._out.clear()
        self._buffer.clear()
        self._timers.stop_all()
