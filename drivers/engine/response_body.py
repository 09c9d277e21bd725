"""Sources of a streamed response body for the engine: one class for each way of producing pieces.

A coroutine needs none: it sends its pieces itself (exchange.py).
"""

from collections.abc import Iterator, Sequence
from contextvars import Context
from enum import Enum
from itertools import chain
from typing import Final, Protocol

from h1core.app.handler import FileBody
from h1core.events import Data, EndOfMessage, FileSlice, Request
from h1core.http1.conn import Conn
from h1core.http1.output import own_copy
from h1core.server.fairness import PIECES_PER_TURN

from .responses import close_quietly, release


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

    @property
    def is_complete(self) -> bool:
        """Whether the application has nothing more to do for it but to clean up."""

    def next_piece(self) -> bytes | FileSlice | NoPiece:
        """The next piece, PENDING or END. Raises what the application raised."""

    def client_is_behind(self) -> None:
        """Note that the client takes no more for now. Never raises."""

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
        if type(piece) is FileSlice:
            conn.send(piece)
        else:
            conn.send(Data(piece if type(piece) is bytes else own_copy(piece)))
    return MORE


class IteratorSource:
    """Pieces that the engine takes from the application's iterator."""

    __slots__ = ("_all", "_context", "_pieces", "_request")
    is_by_reference = False
    is_complete = False

    def __init__(self, pieces: Iterator[bytes], request: Request, first: Sequence[bytes], context: Context) -> None:
        self._pieces = pieces
        self._request = request
        self._all = chain(first, pieces)
        self._context = context

    def next_piece(self) -> bytes | NoPiece:
        """The next piece, or END. Raises what the application raised."""
        return self._context.run(next, self._all, END)

    def client_is_behind(self) -> None:
        """Nothing to do: the engine asks for the next piece when there is room."""

    def close(self) -> None:
        """Let the application's iterator clean up. Never raises."""
        self._context.run(close_quietly, self._pieces)
        release(self._request)


class FileSource:
    """One piece, a part of a file; the engine sends it by reference."""

    __slots__ = ("_body", "_is_taken")
    is_by_reference = True
    is_complete = True

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._is_taken = False

    def next_piece(self) -> FileSlice | NoPiece:
        """The piece, then END."""
        if self._is_taken:
            return END
        self._is_taken = True
        return self._body.part

    def client_is_behind(self) -> None:
        """Nothing to do: the file waits."""

    def close(self) -> None:
        """Close the file. Never raises."""
        close_quietly(self._body)
