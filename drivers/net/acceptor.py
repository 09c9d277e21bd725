"""Accepting connections: within a budget, while policy wants them, and without spinning when the process is out of
descriptors.
"""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from h1core.server import ServerCore
from h1core.server.fairness import ACCEPTS_PER_TICK

from .transport import READ, Listener, Selector, Transport

logger = logging.getLogger("h1core.server")

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """The listeners of a server, registered with the selector exactly while newcomers may be accepted.

    One descriptor is held back. When there are no others it is given up for a moment, to take one newcomer from the
    backlog and let it go: the listener would else be ready for ever, and the newcomer would hang.
    """

    def __init__(self, listeners: Sequence[Listener], core: ServerCore, selector: Selector) -> None:
        self._listeners = list(listeners)
        self._core = core
        self._selector = selector
        self.is_listening = False
        self.is_stale = True
        """Whether newcomers may be accepted can have changed: `update_listening` is to be called."""
        self._is_reported = False
        self._spare_fd: int | None = None
        self._keep_spare_fd()

    def update_listening(self) -> None:
        """Wait for newcomers if they may be accepted, else wait for none."""
        self.is_stale = False
        may_accept = self._core.may_accept
        if may_accept is not self.is_listening:
            self.is_listening = may_accept
            for listener in self._listeners:
                if may_accept:
                    self._selector.register(listener, READ, listener)
                else:
                    self._selector.unregister(listener)

    def accept(self, listener: Listener) -> Iterator[tuple[Transport, object]]:
        """Newcomers and their addresses, until accepting would wait, or others should have their turn.

        Each must be made known to the ServerCore before the next is asked for.
        """
        for _ in range(ACCEPTS_PER_TICK):
            if not self._core.may_accept:
                self.is_stale = True
                return
            try:
                transport, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it was reset while it waited; the next one may be fine
            except OSError as error:
                self._pause_after(error)
                if error.errno in OUT_OF_RESOURCES:
                    self._refuse_one(listener)
                return
            self._is_reported = False
            if isinstance(transport, socket.socket):
                transport.setblocking(False)
                with contextlib.suppress(OSError):  # no TCP, or gone already, which reading will show
                    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield transport, peer

    def accept_all(self) -> Iterator[tuple[Transport, object]]:
        """All newcomers that wait, like `accept` but with no thought of others' turns."""
        for listener in self._listeners:
            found = True
            while found:
                found = False
                for newcomer in self.accept(listener):
                    found = True
                    yield newcomer

    def _pause_after(self, error: Exception) -> None:
        """Let accepting rest for a moment; said once, until it works again."""
        self._core.accept_failed()
        self.is_stale = True
        if not self._is_reported:
            logger.error("accepting connections rests until it works again: %s", error)
            self._is_reported = True

    def _refuse_one(self, listener: Listener) -> None:
        """Take a newcomer from the backlog by the descriptor that was held back, and close it."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
            with contextlib.suppress(OSError):
                transport, _ = listener.accept()
                transport.close()
        self._keep_spare_fd()

    def _keep_spare_fd(self) -> None:
        """Hold a descriptor back, if one is to be had."""
        with contextlib.suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close_listeners(self) -> None:
        """Accept nobody any more. A second call does nothing."""
        for listener in self._listeners:
            if self.is_listening:
                self._selector.unregister(listener)
            listener.close()
        self.is_listening = False
        self._listeners.clear()

    def close(self) -> None:
        """Give everything back. A second call does nothing."""
        self.close_listeners()
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
