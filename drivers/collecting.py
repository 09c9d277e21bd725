"""Collecting the body of a request before it is answered, so that no slow sender holds up a handler or a thread."""

from h1core.events import Headers, Request
from h1core.handler import SpooledRequest
from h1core.output import Buffer

from .spool import BodySpool


class Collector:
    """The request whose body a connection is collecting, if it is collecting one."""

    __slots__ = ("_request", "_spool")

    def __init__(self) -> None:
        self._request: Request | None = None
        self._spool: BodySpool | None = None

    def begin(self, request: Request, max_memory_bytes: int) -> None:
        """Begin to collect the body of a request."""
        self._request = request
        self._spool = BodySpool(max_memory_bytes)

    def add(self, data: Buffer) -> None:
        """Keep a piece of body, unless the request was given up. Raises OSError when there is no room for it."""
        if self._spool is not None:
            self._spool.add(data)

    def end(self, trailers: Headers) -> Request | None:
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

    def give_up(self) -> Request | None:
        """Stop collecting; the request that was begun, if one was."""
        request = self._request
        if self._spool is not None:
            self._spool.discard()
        self._request = self._spool = None
        return request
