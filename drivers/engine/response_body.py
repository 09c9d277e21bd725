"""Sources of a streamed response body for the engine: one class for each way of producing pieces.

A coroutine needs none: it sends its pieces itself (exchange.py).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import chain
from typing import Final, Protocol

from h1core.app.handler import FileBody
from h1core.errors import Disconnected
from h1core.events import Data, EndOfMessage, FileSlice, Request
from h1core.http1.conn import Conn
from h1core.server.fairness import PIECES_PER_TURN

from .responses import close_quietly, release

logger = logging.getLogger("h1core.server")


class NoPiece(Enum):
    """What a source returns when it has no piece."""

    PENDING = "there is none yet"
    END = "there will be none"
    MORE = "there may be one, but not now"


PENDING: Final = NoPiece.PENDING
END: Final = NoPiece.END
MORE: Final = NoPiece.MORE


class BodyFailed(Exception):
    """The application's body raised in a worker; `__cause__` is that error."""


class BodySource(Protocol):
    """The rest of a body, as the engine takes it."""

    is_by_reference: bool
    """A piece must be written before the next one is asked for."""

    def next_piece(self) -> bytes | FileSlice | NoPiece:
        """The next piece, PENDING or END. Raises what the application raised."""

    def close(self) -> None:
        """No further piece is wanted. Never raises."""


def send_pieces(conn: Conn, source: BodySource, max_output_bytes: int) -> NoPiece:
    """Send pieces of a body for one turn, while output has room; return PENDING, END or MORE.

    Raises what the application raises, and LocalError for a piece that may not be sent.
    """
    most = 0 if source.is_by_reference else max_output_bytes
    for _ in range(PIECES_PER_TURN):
        if conn.output_bytes > most:
            return MORE
        piece = source.next_piece()
        if piece is PENDING:
            return PENDING
        if isinstance(piece, NoPiece):
            conn.send(EndOfMessage())
            return END
        conn.send(piece if type(piece) is FileSlice else Data(piece))
    return MORE


class IteratorSource:
    """Pieces that the engine takes from the application's iterator."""

    __slots__ = ("_all", "_pieces", "_request")
    is_by_reference = False

    def __init__(self, pieces: Iterator[bytes], request: Request, first: Sequence[bytes] = ()) -> None:
        self._pieces = pieces
        self._request = request
        self._all = chain(first, pieces)

    def next_piece(self) -> bytes | NoPiece:
        """The next piece, or END. Raises what the application raised."""
        return next(self._all, END)

    def close(self) -> None:
        """Let the application's iterator clean up. Never raises."""
        close_quietly(self._pieces)
        release(self._request)


class FileSource:
    """One piece, a part of a file; the engine sends it by reference."""

    __slots__ = ("_body", "_is_taken")
    is_by_reference = True

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._is_taken = False

    def next_piece(self) -> FileSlice | NoPiece:
        """The piece, then END."""
        if self._is_taken:
            return END
        self._is_taken = True
        return self._body.part

    def close(self) -> None:
        """Close the file. Never raises."""
        close_quietly(self._body)


class WorkerSource:
    """Pieces that a worker thread takes from the application, and the engine takes from here.

    The worker waits while more than `max_bytes` are queued here. `post` asks the engine to check this source.
    """

    is_by_reference = False

    def __init__(self, max_bytes: int, post: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._post = post
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._end: NoPiece = PENDING
        self._failure: BaseException | None = None
        self._is_wanted = True

    def feed(self, pieces: Iterator[bytes], first: Sequence[bytes] = ()) -> None:
        """Queue all pieces of the application; in the worker. Waits while the client is too slow. Never raises.

        `first` are those that were taken already. When the client is gone, the iterator is closed and this returns.
        """
        try:
            for piece in chain(first, pieces):
                self.put(piece)
        except BaseException as error:  # noqa: BLE001 - kept for the engine, which handles it
            if isinstance(error, Disconnected) and not self._is_wanted:
                logger.debug("a client went away in the middle of its response")
            else:
                self._failure = error
        with self._changed:
            self._end = END
        self._post()  # before the application cleans up: its client need not wait for that
        close_quietly(pieces, BaseException)

    def put(self, piece: bytes) -> None:
        """Queue a piece, once there is room; in the worker. Raises Disconnected when no piece is wanted any more."""
        size = len(piece)
        with self._changed:
            while self._waiting_bytes > self._max_bytes and self._is_wanted:
                self._changed.wait()
            if not self._is_wanted:
                raise Disconnected("the client is gone; what is left of the response cannot be delivered")
            if not size:
                return  # it adds no content, and `max_bytes` would not limit how many are queued
            was_empty = not self._waiting
            self._waiting.append(piece)
            self._waiting_bytes += size
        if was_empty:
            self._post()

    def next_piece(self) -> bytes | NoPiece:
        """The next piece, PENDING or END; in the engine. Raises what the application raised."""
        with self._changed:
            if self._waiting:
                piece = self._waiting.popleft()
                self._waiting_bytes -= len(piece)
                self._changed.notify()
                return piece
            if self._end is END and self._failure is not None:
                raise BodyFailed from self._failure
            return self._end

    def close(self) -> None:
        """Release the worker; in the engine. Never raises."""
        with self._changed:
            self._is_wanted = False
            self._waiting.clear()
            self._changed.notify()
