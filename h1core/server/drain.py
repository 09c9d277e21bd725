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

    __slots__ = ("_steps", "_stream_timeout_s", "_timeout_s", "deadline_at")

    def __init__(self, drain_timeout: float, stream_drain_timeout: float) -> None:
        self._timeout_s = drain_timeout
        # Half: they must have time to end before everything is reset.
        self._stream_timeout_s = min(stream_drain_timeout, drain_timeout / 2)
        self._steps: list[tuple[float, StreamStep]] = []
        self.deadline_at = NEVER

    def begin(self, now: float) -> bool:
        """Begin the drain. Returns False if it had begun before."""
        if self.deadline_at != NEVER:
            return False
        self.deadline_at = now + self._timeout_s
        tell_at = now + self._stream_timeout_s
        self._steps = [(tell_at, StreamStep.TELL), (tell_at + SILENCE_S, StreamStep.CUT)]
        return True

    @property
    def next_step_at(self) -> float | None:
        """The instant at which `stream_step` returns something, or None."""
        return self._steps[0][0] if self._steps else None

    def stream_step(self, now: float) -> StreamStep | None:
        """What is due for streamed responses, each step once."""
        return self._steps.pop(0)[1] if self._steps and self._steps[0][0] <= now else None

    @property
    def streams_are_cut(self) -> bool:
        """Whether all steps for streamed responses were taken."""
        return self.deadline_at != NEVER and not self._steps

    def phase(self, in_flight: int) -> Phase:
        """The phase, with `in_flight` open connections and applications that run without one."""
        if self.deadline_at == NEVER:
            return Phase.RUNNING
        return Phase.DRAINING if in_flight else Phase.STOPPED
