"""Storage for the body of a request: in memory while it is small, then in a temporary file."""

import contextlib
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from h1core.app.reply import own_response
from h1core.app.request_collector import RequestCollector
from h1core.events import Event, Request
from h1core.http1.output import Buffer
from h1core.http1.state import CloseReason
from h1core.http1.writer import error_response

if TYPE_CHECKING:
    from .own_answers import OwnAnswers
    from .session import Session


class BodySpool:
    """A body that is being received. Raises OSError when the temporary file cannot be written."""

    __slots__ = ("_file", "_max_memory_bytes", "_parts", "_size")

    def __init__(self, max_memory_bytes: int) -> None:
        self._max_memory_bytes = max_memory_bytes
        self._parts: list[Buffer] = []
        self._size = 0
        self._file: BinaryIO | None = None

    def add(self, data: Buffer) -> None:
        """Append the next piece."""
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
        """The whole body: bytes, or a file at its start, which the caller must close."""
        if self._file is None:
            return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)
        self._file.seek(0)  # this flushes its buffer, so it may fail like any write
        file, self._file = self._file, None
        return file

    def discard(self) -> None:
        """Free the body. Never raises."""
        self._parts.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # from flushing its buffer; it is closed anyway
                self._file.close()
            self._file = None


def collect(collector: RequestCollector, event: Event, session: "Session", own_answers: "OwnAnswers") -> Request | None:
    """Collect a part of a request; return the request once it is whole. If the disk fails, answer 500 and close."""
    try:
        return collector.take(event)
    except OSError as error:
        request = collector.give_up()
        assert request is not None
        own_answers.no_room(session, request, error)
        session.conn.close_after_response(CloseReason.APPLICATION_FAILED)
        session.conn.send(own_response(request, error_response(500, "The server cannot keep the request body.")))
        return None
