"""How a server ends: RUNNING → DRAINING → STOPPED, and never back."""

from enum import Enum
from typing import Final

from h1core.http1.timers import NEVER

SILENCE_S: Final = 0.5
"""How long a stream that must end may send nothing, and ask for nothing, before it is cut: longer than most streams are
silent, and short, since nobody can tell such an application that it must end."""


class Phase(Enum):
    """The phases of a server."""

    RUNNING = "accepting and serving"
    DRAINING = "finishing what is in flight; nothing new is accepted"
    STOPPED = "nothing is left"


class StreamStep(Enum):
    """What is due for streamed responses in a drain."""

    TELL = "streamed responses must end"
    CUT = "streamed responses are cut, because nobody could tell their applications"


class Drain:
    """The shutdown of a server. Never raises.

    Each connection ends itself, by its own drain deadline at the latest; the deadline here is for work that has no
    connection any more, such as a handler that never returns.
    """

    __slots__ = (
        "_late_at",
        "_step",
        "_stream_timeout_s",
        "_timeout_s",
        "deadline_at",
        "next_step_at",
        "streams_are_cut",
    )

    def __init__(self, drain_timeout: float, stream_drain_timeout: float) -> None:
        self._timeout_s = drain_timeout
        # Half: they must have time to end before everything is reset.
        self._stream_timeout_s = min(stream_drain_timeout, drain_timeout / 2)
        self._step = StreamStep.TELL
        self._late_at: float | None = None
        """When streams must be told that have begun between TELL and CUT, or None."""
        self.next_step_at: float | None = None
        """The instant at which `stream_step` returns something, or None."""
        self.streams_are_cut = False
        """Whether those that were there when the drain began were told, and cut if they had to be."""
        self.deadline_at = NEVER

    def begin(self, now: float) -> bool:
        """Begin the drain. Returns False if it had begun before."""
        if self.deadline_at != NEVER:
            return False
        self.deadline_at = now + self._timeout_s
        self._step, self.next_step_at = StreamStep.TELL, now + self._stream_timeout_s
        return True

    def stream_step(self, now: float) -> StreamStep | None:
        """What is due for streamed responses: TELL, then CUT; the same again for those of `stream_begins`."""
        if self.next_step_at is None or now < self.next_step_at:
            return None
        step = self._step
        if step is StreamStep.TELL:
            self._step, self.next_step_at = StreamStep.CUT, now + SILENCE_S
        else:
            self._step, self.next_step_at, self._late_at = StreamStep.TELL, self._late_at, None
            self.streams_are_cut = True
        return step

    def stream_begins(self, now: float) -> None:
        """Note that a streamed response begins: in a drain it has its time from now on."""
        must_end_at = now + self._stream_timeout_s
        if self._step is StreamStep.CUT and self._late_at is None:
            self._late_at = must_end_at
        elif self.streams_are_cut and self.next_step_at is None:
            self.next_step_at = must_end_at

    def phase(self, in_flight: int) -> Phase:
        """The phase, with `in_flight` open connections and applications that run without one."""
        if self.deadline_at == NEVER:
            return Phase.RUNNING
        return Phase.DRAINING if in_flight else Phase.STOPPED
