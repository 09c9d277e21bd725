"""Wake the selector from another thread or from a signal handler."""

import contextlib
import os
import socket
import threading


class WakeChannel:
    """A descriptor that becomes readable when `wake` is called.

    An eventfd where there is one, a socket pair elsewhere. `wake` may be called from any thread and from a signal
    handler, also after `close`; the other methods belong to the loop's thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt the thread that holds it
        self._eventfd: int | None = None
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if hasattr(os, "eventfd"):
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        if self._eventfd is not None:
            return self._eventfd
        return self._pair[0].fileno() if self._pair is not None else -1

    def wake(self) -> None:
        """Make the descriptor readable; once is enough until `clear`. Never raises."""
        with self._lock, contextlib.suppress(OSError):  # when it is full, it is readable already
            if self._eventfd is not None:
                os.eventfd_write(self._eventfd, 1)
            elif self._pair is not None:
                self._pair[1].send(b"\0")

    def clear(self) -> None:
        """Make the descriptor unreadable until the next `wake`. Never raises."""
        with contextlib.suppress(OSError):  # nothing is left to read
            if self._eventfd is not None:
                os.eventfd_read(self._eventfd)
            while self._pair is not None:
                self._pair[0].recv(4096)

    def close(self) -> None:
        """Close the descriptor. A `wake` in another thread ends before this, or does nothing."""
        with self._lock:
            eventfd, self._eventfd = self._eventfd, None
            pair, self._pair = self._pair, None
            if eventfd is not None:
                os.close(eventfd)
            for end in pair or ():
                end.close()
