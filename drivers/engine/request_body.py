"""Collecting the body of a request before it is answered, so that no slow sender holds up a handler or a thread."""

import logging
from typing import assert_never

from h1core.app.handler import SpooledRequest
from h1core.events import Closed, Data, EndOfMessage, Event, Headers, Refused, Request, Switched, TimedOut
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason
from h1core.http1.writer import error_response

from .body_spool import BodySpool
from .responses import in_words, own_answer

logger = logging.getLogger("h1core.server")


class Collector:
    """What a connection does with events: it makes whole requests of them."""

    __slots__ = ("_max_memory_bytes", "_request", "_spool")

    def __init__(self, max_memory_bytes: int) -> None:
        self._max_memory_bytes = max_memory_bytes
        self._request: Request | None = None
        self._spool: BodySpool | None = None

    def take(self, event: Event, conn: Conn) -> Request | None:
        """Take in an event of `conn`; the request that is whole now, if one is.

        When there is no room for a body, that is answered here, and it is the last answer.
        """
        match event:
            case Request():
                if event.end_stream:
                    return event
                self._request = event
                self._spool = BodySpool(self._max_memory_bytes)
                conn.resume_body()
            case Data():
                try:
                    if self._spool is not None:  # else the request was given up
                        self._spool.add(event.data)
                except OSError as error:
                    self._fail(error, conn)
            case EndOfMessage():
                try:
                    return self._end(event.trailers)
                except OSError as error:
                    self._fail(error, conn)
            case Refused() | TimedOut() | Closed():
                self.give_up()
                logger.debug("%s", event)
            case Switched():
                raise AssertionError("no protocol was offered to be taken")
            case _:
                assert_never(event)
        return None

    def _end(self, trailers: Headers) -> Request | None:
        """The request with its body, or None when it was given up. Raises OSError when there is no room for it."""
        request, spool = self._request, self._spool
        if request is None or spool is None:
            return None
        request.trailers = trailers
        body = spool.finish()
        self._request = self._spool = None
        if not isinstance(body, bytes):
            return SpooledRequest(request, body)
        request.body = body
        return request

    def _fail(self, error: OSError, conn: Conn) -> None:
        """There is no room for a body: answer for that."""
        request = self.give_up()
        assert request is not None
        logger.error("the body of %s cannot be kept: %s", in_words(request), error)
        conn.close_after_response(CloseReason.APPLICATION_FAILED)
        conn.send(own_answer(request, error_response(500, "The server cannot keep the request body.")))

    def give_up(self) -> Request | None:
        """Stop collecting; the request that was begun, if one was."""
        request = self._request
        if self._spool is not None:
            self._spool.discard()
        self._request = self._spool = None
        return request
