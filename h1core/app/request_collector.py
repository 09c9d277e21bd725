"""Whole requests from the events of a connection, so that no handler or thread waits for a slow sender."""

from collections.abc import Callable
from typing import BinaryIO, Protocol

from h1core.app.handler import SpooledRequest
from h1core.events import Data, EndOfMessage, Event, Request


class Spool(Protocol):
    """Stores one body while it arrives."""

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Store the next piece. Raises OSError when there is no room."""

    def finish(self) -> bytes | BinaryIO:
        """The whole body: bytes, or a file at its start, which the caller must close. Raises OSError like `add`."""

    def discard(self) -> None:
        """Delete the body. Never raises."""


class RequestCollector:
    """Collects the body of one request at a time. `new_spool` makes the store for a body."""

    __slots__ = ("_new_spool", "_request", "_spool")

    def __init__(self, new_spool: Callable[[], Spool]) -> None:
        self._new_spool = new_spool
        self._request: Request | None = None
        self._spool: Spool | None = None

    @property
    def request(self) -> Request | None:
        """The request whose body is being collected, if there is one."""
        return self._request

    def take(self, event: Event) -> Request | None:
        """Process an event. Returns the request if it is complete now. Raises OSError when there is no room for it."""
        if type(event) is Request:
            if event.end_stream:
                return event
            self._request = event
            self._spool = self._new_spool()
        elif type(event) is Data:
            if self._spool is not None:  # else the request was given up
                self._spool.add(event.data)
        elif type(event) is EndOfMessage:
            return self._end(event)
        else:
            self.give_up()  # it was the last event
        return None

    def _end(self, end: EndOfMessage) -> Request | None:
        """The request with its body, or None when it was given up."""
        request, spool = self._request, self._spool
        if request is None or spool is None:
            return None
        request.trailers = end.trailers
        body = spool.finish()
        self._request = self._spool = None
        if not isinstance(body, bytes):
            return SpooledRequest(request, body)
        request.body = body
        return request

    def give_up(self) -> Request | None:
        """Stop collecting. Returns the incomplete request, if there was one."""
        request = self._request
        if self._spool is not None:
            self._spool.discard()
        self._request = self._spool = None
        return request
