"""The response of a session: how it begins, where the rest of its body comes from, and how it is cut.

Base of `Session`, which adds the turns in which this happens.
"""

import logging
from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Final

from h1core.app.reply import address_text
from h1core.events import Event, Request, Response
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, State

from .access_log import log_response
from .connection_io import ConnectionIO
from .own_answers import RequestLine
from .response_body import END, MORE, BodySource, send_pieces
from .responses import is_interrupt, send_first
from .stream_drain import stream_begins
from .worker_source import WorkerSource

if TYPE_CHECKING:
    from .engine import Engine
    from .pool import Job

logger = logging.getLogger("h1core.server")

OVER: Final = frozenset({State.ENDING, State.CLOSED})

HALF_CLOSE_S: Final = 0.05
"""A peer that closes its side so soon after its request has ended its input together with it, and waits for the
response. One that closes it later has left: nobody does that to say that no request will follow."""


class Responding(ABC):
    """A connection, and the work on its response. Belongs to the engine's thread."""

    __slots__ = ("_engine", "_input_ended_at", "answered", "began_at", "conn", "io", "job", "peer", "source")

    def __init__(self, engine: "Engine", conn: Conn, io: ConnectionIO, peer: object) -> None:
        self._engine = engine
        self.conn = conn
        self.io = io
        self.peer = peer
        self.began_at = 0.0
        """When the current request was complete, for the access log and the workers; inline, when its body began."""
        self._input_ended_at = inf
        self.job: Job | None = None
        """The request that a worker has, or will get, until its response begins."""
        self.source: BodySource | None = None
        """The rest of the body."""
        self.answered: RequestLine | None = None
        """Of the last response that began here, which may wait to be written; those of an exchange have their own."""

    @abstractmethod
    def pump(self, events: list[Event] | None) -> None:
        """Give the session its turn."""

    def begin_response(self, request: Request, first: Response, source: BodySource | None) -> None:
        """Queue the first part of a response; the engine takes the rest of the body from `source`."""
        self.answered = request.method, request.target, request.version  # not its body: that is the application's
        sent = send_first(self.conn, request, first)
        if sent is first:
            self.source = source
            if source is not None:
                stream_begins(self._engine)
        elif source is not None:
            source.close()
        if self._engine.access_log:
            log_response(self, request, sent, self._engine.clock())

    def end_source(self) -> None:
        """Close the source of the body, however the response ended, so that the application can clean up."""
        source, self.source = self.source, None
        if source is not None:
            workers = self._engine.workers
            if workers is not None and isinstance(source, WorkerSource) and not source.is_complete:
                workers.note_left(source.job)
            source.close()

    def cut_response(self, reason: CloseReason) -> None:
        """End the response in its middle, so that the client can see it. Never raises."""
        self.conn.cut_response(reason)
        self.pump([])

    def _see_left(self) -> None:
        """End the work for a peer that has closed its side, if that was later than with its request."""
        if self._input_ended_at == inf:
            self._input_ended_at = self._engine.clock()
        if self._input_ended_at <= self.began_at + HALF_CLOSE_S:
            return
        if (self.source is not None and not self.source.is_complete) or (self.job is not None and self.job.is_waiting):
            self.conn.abort(CloseReason.PEER_CLOSED)

    def _stream(self) -> bool:
        """Send more of the body; return whether more may follow at once. A failure cuts the connection."""
        source = self.source
        assert source is not None
        if self.conn.state in OVER:
            self.end_source()
            return False
        try:
            state = send_pieces(self.conn, source, self._engine.core.limits.max_output_bytes)
        except BaseException as error:
            if is_interrupt(error):
                raise
            logger.exception("the handler's body failed; the connection to %s is cut", address_text(self.peer))
            self.conn.cut_response(CloseReason.APPLICATION_FAILED)
            state = END
        if state is END:
            self.end_source()
        return state is MORE
