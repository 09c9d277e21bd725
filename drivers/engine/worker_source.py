"""A streamed response body on its way from a worker thread to the engine.

Theory
------
A worker should be free as soon as its application is through, however slow the client is. So it runs ahead of its
client: into memory, up to `max_memory_bytes`; then, if the client is behind, into a temporary file, up to
`max_spooled_bytes`. While the client keeps up, the worker waits for the engine instead, and nothing goes to the disk.
When the file is full too, the worker waits for the client. `waits_for_client` says so, because such waits are limited
(h1core/server/held_workers.py).

Pieces in memory are always older than those in the file: once there is a file, new pieces go there until all of it
was taken.
"""

import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final

from h1core.errors import Disconnected
from h1core.http1.output import own_copy

from .response_body import END, PENDING, BodyFailed, NoPiece
from .responses import close_quietly

if TYPE_CHECKING:
    from .pool import Job

logger = logging.getLogger("h1core.server")

READ_BYTES: Final = 64 * 1024
"""Bytes read from the file at once: about what a socket takes."""


class WorkerSource:
    """Pieces that a worker thread takes from the application, and the engine takes from here.

    `post` asks the engine to check the job. `put` and `feed` belong to the worker, all other methods to the engine.
    """

    is_by_reference = False

    def __init__(
        self, job: "Job", max_memory_bytes: int, max_spooled_bytes: int, post: Callable[["Job"], None]
    ) -> None:
        self.job = job
        self._max_memory_bytes = max_memory_bytes
        self._post = post
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._file = PieceFile(max_spooled_bytes)
        self._client_is_behind = False
        self._end: NoPiece = PENDING
        self._failure: BaseException | None = None
        self._is_wanted = True
        self.taken_bytes = 0
        """How much the engine has taken so far."""
        self.waits_for_client = False
        """The worker waits until the client has taken more."""

    # In the worker

    def feed(self, pieces: Iterator[bytes], first: Sequence[bytes] = ()) -> None:
        """Queue all pieces of the application. Waits while the client is too slow. Never raises.

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
        self._post(self.job)  # before the application cleans up: its client need not wait for that
        close_quietly(pieces, in_worker=True)

    def put(self, piece: bytes) -> None:
        """Queue a piece, once there is room. Raises Disconnected when no piece is wanted any more, and LocalError."""
        if type(piece) is not bytes:
            piece = own_copy(piece)
        is_kept = False
        while not is_kept:
            # The lock is not held while the disk writes: the engine would wait for it, and all clients with it.
            is_kept = self._keep_in_memory(piece) or self._keep_in_file(piece)

    def _keep_in_memory(self, piece: bytes) -> bool:
        """Wait for room, and keep a piece if that is in memory; return whether it was. Raises Disconnected."""
        size = len(piece)
        with self._changed:
            while self._is_wanted and size and not (has_memory := self._has_memory) and not self._has_file:
                if self._client_is_behind and not self.waits_for_client:
                    self.waits_for_client = True
                    self._post(self.job)
                self._changed.wait()
            self.waits_for_client = False
            if not self._is_wanted:
                raise Disconnected("the client is gone; what is left of the response cannot be delivered")
            if not size:
                return True  # it adds no content, and no limit would count it
            if not has_memory:
                self._file.is_in_use = True
                return False
            was_empty = not self._waiting
            self._waiting.append(piece)
            self._waiting_bytes += size
        if was_empty:
            self._post(self.job)
        return True

    def _keep_in_file(self, piece: bytes) -> bool:
        """Write a piece to the file; return whether that was possible."""
        is_written = self._file.write(piece)
        with self._changed:
            was_empty = not (self._waiting or self._file.unread_bytes)
            self._file.is_in_use = False
            if not self._is_wanted:
                self._file.close()
            elif is_written:
                self._file.added_bytes += len(piece)
        if was_empty:
            self._post(self.job)
        return is_written

    @property
    def _has_memory(self) -> bool:
        return not self._file.unread_bytes and self._waiting_bytes <= self._max_memory_bytes

    @property
    def _has_file(self) -> bool:
        return (self._client_is_behind or self._file.unread_bytes > 0) and not self._file.is_full

    # In the engine

    def next_piece(self) -> bytes | NoPiece:
        """The next piece, PENDING or END. Raises what the application raised, and OSError when the file fails."""
        with self._changed:
            self._client_is_behind = False
            if self._waiting:
                piece = self._waiting.popleft()
                self._waiting_bytes -= len(piece)
            elif self._file.unread_bytes:
                piece = self._file.take()
            elif self._end is END and self._failure is not None:
                raise BodyFailed from self._failure
            else:
                return self._end
            self.taken_bytes += len(piece)
            self._changed.notify()
            return piece

    def client_is_behind(self) -> None:
        """Note that the client takes no more for now: the worker need not wait for it."""
        with self._changed:
            self._client_is_behind = True
            self._changed.notify()

    @property
    def is_complete(self) -> bool:
        """Whether the application is through."""
        return self._end is END

    @property
    def is_full(self) -> bool:
        """Whether there is no room in memory."""
        return self._file.unread_bytes > 0 or self._waiting_bytes > self._max_memory_bytes

    def close(self) -> None:
        """Drop what is queued, and release the worker. Never raises."""
        with self._changed:
            self._is_wanted = False
            self._waiting.clear()
            self._file.close()
            self._changed.notify()


class PieceFile:
    """Bytes in a temporary file, first in, first out. The file is there only while it has unread bytes.

    `write` belongs to the worker, which sets `is_in_use` before and adds to `added_bytes` after it, under the lock of
    `WorkerSource`. That lock is held around all other methods.
    """

    __slots__ = ("_file", "_max_bytes", "_taken_bytes", "added_bytes", "is_in_use")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        self._taken_bytes = 0
        self.added_bytes = 0
        """The size of the file: what was added since it was empty the last time."""
        self.is_in_use = False
        """The worker writes: the file must not be closed."""

    @property
    def unread_bytes(self) -> int:
        """How many bytes were added and not taken."""
        return self.added_bytes - self._taken_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing can be added until all of it was taken."""
        return self.added_bytes >= self._max_bytes

    def write(self, piece: bytes) -> bool:
        """Write a piece behind the others; return whether it was written. After an error of the disk it is full."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="h1core-", buffering=0)  # noqa: SIM115 - outlives this call
            left, at = memoryview(piece), self.added_bytes
            while left:
                written = os.pwrite(self._file.fileno(), left, at)
                left, at = left[written:], at + written
        except OSError as error:
            logger.error("a response cannot be kept in a file, its worker waits for the client: %s", error)
            self._max_bytes = 0
            return False
        return True

    def take(self) -> bytes:
        """Some of the bytes that were added first. Raises OSError."""
        assert self._file is not None
        data = os.pread(self._file.fileno(), min(READ_BYTES, self.unread_bytes), self._taken_bytes)
        if not data:
            raise OSError("a temporary file is shorter than it was")
        self._taken_bytes += len(data)
        if not self.unread_bytes:
            self.close()
        return data

    def close(self) -> None:
        """Drop everything, unless the worker writes: then it calls this again, if nothing is wanted. Never raises."""
        if self.is_in_use:
            return
        self.added_bytes = self._taken_bytes = 0
        file, self._file = self._file, None
        if file is not None:
            file.close()  # unbuffered: there is nothing to flush
