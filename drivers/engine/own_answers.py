"""The log of what the server does by itself, without the application.

It answers and cuts: one line each, and few in a flood. And it leaves out of responses what is not an application's to
say: one line for each kind, once in a process.
"""

import logging
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from h1core.app.reply import address_text, quoted_line
from h1core.events import Closed, Refused, Request, TimedOut
from h1core.http1.hop_fields import LeftOut
from h1core.http1.state import CloseReason, State
from h1core.http1.timers import Timer

if TYPE_CHECKING:
    from .engine import Engine
    from .session import Session

logger = logging.getLogger("h1core.server")

RequestLine: TypeAlias = tuple[bytes, bytes, bytes]
"""Method, target and version."""

RESPONDING: Final = State.RESPONDING
CUT: Final = frozenset({CloseReason.WRITE_TIMEOUT, CloseReason.DRAIN_TIMEOUT})
"""Why the server resets a connection by itself. Other resets have lines of their own, or were asked for by a signal."""


class _Kind(NamedTuple):
    """What the lines that are counted together say. Nothing of it comes from a client."""

    what: int | str
    """The status of the answer, or what became of the connection."""
    why: str
    level: int = logging.INFO


RESETS: Final = frozenset({Timer.WRITE, Timer.DRAIN})
LATE: Final = {
    Timer.HEAD: _Kind(408, "The request head took too long."),
    Timer.BODY: _Kind(408, "The request body came too slowly."),
}
NO_ROOM: Final = _Kind(500, "The server cannot keep the request body.", logging.ERROR)
FULL: Final = _Kind(503, "The server has more requests than it can handle.")
HELD: Final = _Kind("cut", CloseReason.HELD_WORKER.value)
OVERDUE: Final = _Kind(503, "No worker was free for the request in time.")


class OwnAnswers:
    """Writes the lines of one engine. Belongs to its thread; never raises."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._limit = engine.core.log_limit

    def ended(self, session: "Session", event: Refused | TimedOut | Closed) -> None:
        """Write the line for the last event of a connection, if the server has answered it or broken something off.

        What the client has ended, or what ends between two requests, is for who debugs.
        """
        kind = request = None
        if isinstance(event, Refused):
            kind = _Kind(event.status, event.reason.text)
        elif isinstance(event, TimedOut):
            if event.timer in RESETS:
                return  # `cut` comes next
            kind = LATE.get(event.timer)
        if kind is not None and not isinstance(event, Closed):
            request = event.head or _unanswered(session)
        if kind is None or request is None:
            logger.debug("%s", event)
            return
        if session.conn.state is RESPONDING:
            kind = _Kind("body given up", kind.why)  # a response is in progress, and goes on
        self._write(kind, session, request)

    def overloaded(self, session: "Session", request: Request, *, overdue: bool) -> None:
        """Write the line for a 503: the queue was full, or no worker was free in time."""
        self._write(OVERDUE if overdue else FULL, session, request)

    def no_room(self, session: "Session", request: Request, error: OSError) -> None:
        """Write the line, an error, for a 500: the body cannot be kept."""
        self._write(NO_ROOM, session, request, f" {error}")

    def cut(self, session: "Session") -> None:
        """Write the line for a connection that was reset because of a deadline; for other resets nothing."""
        reason = session.conn.close_reason
        if reason in CUT:
            self._write(_Kind("reset", reason.value), session, _current(session))

    def held_worker(self, session: "Session") -> None:
        """Write the line for a streamed response that is cut because its slow client holds a worker."""
        self._write(HELD, session, _current(session))

    def write_counts(self, now: float, *, at_end: bool = False) -> None:
        """Write how many lines of each kind were not written, where their time is over; `at_end` of all."""
        for kind, lines, seconds in self._limit.take_suppressed(now, at_end=at_end):
            assert isinstance(kind, _Kind)
            logger.log(kind.level, "and %d more in %.0f s: %s: %s", lines, seconds, kind.what, kind.why)

    def _write(self, kind: _Kind, session: "Session", request: Request | bytes | None, details: str = "") -> None:
        if not logger.isEnabledFor(kind.level):
            return
        engine = self._engine
        if self._limit.may_write(kind, engine.clock()):
            line = quoted_line(request)
            logger.log(kind.level, "%s %s %s: %s%s", address_text(session.peer), line, kind.what, kind.why, details)
            return
        next_deadline = self._limit.next_deadline
        if next_deadline is not None and next_deadline < engine.deadline_at:
            engine.deadline_at = next_deadline
            engine.wake()


_said: Final[set[LeftOut]] = set()


def say_left_out(what: LeftOut) -> None:
    """Write the line for something in a response that is not sent, unless this process has written it before."""
    if what not in _said:
        _said.add(what)
        logger.warning("not sent, though the application gave it (said once): %s", what.value)


def line_of(request: Request) -> RequestLine:
    """The request line, to be kept without the rest of a request: a body is the application's."""
    return request.method, request.target, request.version


def _unanswered(session: "Session") -> Request | None:
    """The request whose response is not complete, as far as the session knows it."""
    exchange = session.exchange
    if exchange is not None and not exchange.is_complete:
        return exchange.request
    holder = session.job or session.collector
    return holder.request if holder else None


def _current(session: "Session") -> Request | None:
    """The request whose response is not complete, or not written."""
    request = _unanswered(session) or (session.exchange.request if session.exchange else None)
    if request is None and session.answered is not None:
        method, target, version = session.answered
        request = Request(method, target, (), version=version)
    return request
