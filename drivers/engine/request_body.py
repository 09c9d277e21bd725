"""Collecting the body of a request before it is answered, so that no slow sender holds up a handler or a thread."""

import contextlib
import logging
import tempfile
from typing import BinaryIO, assert_never

from h1core.app.handler import SpooledRequest
from h1core.app.reply import own_response, request_line
from h1core.events import Closed, Data, EndOfMessage, Event, Headers, Refused, Request, Switched, TimedOut
from h1core.http1.conn import Conn
from h1core.http1.output import Buffer
from h1core.http1.state import CloseReason
from h1core.http1.writer import error_response

logger = logging.getLogger("h1core.server")


class RequestBody:
    """Collects the body of a session's request; what comes out are whole requests."""

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
        logger.error("the body of %s cannot be kept: %s", request_line(request), error)
        conn.close_after_response(CloseReason.APPLICATION_FAILED)
        conn.send(own_response(request, error_response(500, "The server cannot keep the request body.")))

    def give_up(self) -> Request | None:
        """Stop collecting; the request that was begun, if one was."""
        request = self._request
        if self._spool is not None:
            self._spool.discard()
        self._request = self._spool = None
        return request


class BodySpool:
    """A body on its way in. Raises OSError when the temporary file cannot be written."""

    __slots__ = ("_file", "_max_memory_bytes", "_parts", "_size")

    def __init__(self, max_memory_bytes: int) -> None:
        self._max_memory_bytes = max_memory_bytes
        self._parts: list[Buffer] = []
        self._size = 0
        self._file: BinaryIO | None = None

    def add(self, data: Buffer) -> None:
        """Take the next piece."""
        self._size += len(data)
        if self._file is not None:
            self._file.write(data)
            return
        self._parts.append(data)
        if self._size > self._max_memory_bytes:
            self._file = tempfile.TemporaryFile(prefix="h1core-")  # noqa: SIM115 - outlives this method
            self._file.writelines(self._parts)
            self._parts.clear()

    def finish(self) -> bytes | BinaryIO:
        """The whole body: bytes, or a file at its begin, which is the caller's to close."""
        if self._file is None:
            return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)
        self._file.seek(0)  # this writes what was buffered, so it may fail like any write
        file, self._file = self._file, None
        return file

    def discard(self) -> None:
        """Forget the body. Never raises."""
        self._parts.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # of writing what was buffered; it is closed all the same
                self._file.close()
            self._file = None
