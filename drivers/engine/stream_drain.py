"""How streamed responses end while the server drains (`Timeouts.stream_drain_timeout`).

First each application is told: an iterator is closed, a coroutine that receives or sends learns that it must end, as if
its client had left. A coroutine that does neither cannot be told; its response is cut a moment later, and it is
cancelled at the end of the server. Ordinary requests have until the end of the drain.
"""

import logging
from typing import TYPE_CHECKING

from h1core.app.reply import own_response
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, State
from h1core.server.backlog import overload_response
from h1core.server.drain import StreamStep

if TYPE_CHECKING:
    from .engine import Engine
    from .exchange import EngineExchange
    from .session import Session

logger = logging.getLogger("h1core.server")


def end_streams(engine: "Engine", step: StreamStep) -> None:
    """Take a step with all streamed responses of a server. Never raises. One line of the log says so."""
    take = _tell if step is StreamStep.TELL else _cut
    count = sum(take(session) for session in list(engine.sessions.values()))
    if count:
        logger.info("the server is shutting down: %s, %d of them", step.value, count)


def stream_begins(engine: "Engine") -> None:
    """Note that a streamed response begins; if the server drains, it must end in its time. Never raises."""
    if not engine.is_ending:
        return
    must_end_at = engine.core.stream_begins()
    if must_end_at is not None and must_end_at < engine.deadline_at:
        engine.deadline_at = must_end_at
        engine.wake()


def _tell(session: "Session") -> bool:
    """Tell the application of a session that it must end; return whether that concerns it."""
    if session.exchange is not None:
        return session.exchange.ask_to_end()
    if session.source is None or session.source.is_complete:
        return False
    session.cut_response(CloseReason.STREAM_ENDED)
    return True


def _cut(session: "Session") -> bool:
    """Cut the response of a coroutine that could not be told; return whether it is one."""
    if session.exchange is None or not session.exchange.is_silent:
        return False
    session.cut_response(CloseReason.STREAM_ENDED)
    return True


def end_response(exchange: "EngineExchange", conn: Conn) -> None:
    """End a response that its application has left because it must end: with a 503 if none has begun."""
    if conn.state in (State.RECEIVING, State.HANDLING):
        exchange.respond(own_response(exchange.request, overload_response()))
    elif conn.state in (State.DUPLEX, State.RESPONDING):
        conn.cut_response(CloseReason.STREAM_ENDED)
