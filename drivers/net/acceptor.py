"""Accept connections: a limited number per round, only while the policy allows it, and without a busy loop when the
process is out of descriptors.
"""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from h1core.server import ServerCore
from h1core.server.fairness import ACCEPTS_PER_TICK

from .transport import READ, Listener, Selector, Transport

logger = logging.getLogger("h1core.server")

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """The listeners of a server, registered with the selector exactly while connections may be accepted.

    One descriptor is kept in reserve. When no other is free, it is closed for a moment, to accept one connection from
    the backlog and close that: otherwise the listener would stay ready for ever, and the client would wait.
    """

    def __init__(
        self, listeners: Sequence[Listener], core: ServerCore, selector: Selector, make_room: Callable[[], bool]
    ) -> None:
        self._listeners = list(listeners)
        self._core = core
        self._selector = selector
        self._make_room = make_room
        self.is_listening = False
        self.is_stale = True
        """Whether connections may be accepted can have changed: `update_listening` must be called."""
        self._error_is_logged = False
        self._spare_fd: int | None = None
        self._keep_spare_fd()

    def update_listening(self) -> None:
        """Register the listeners if connections may be accepted, else unregister them."""
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
        """Yield new connections and their peers' addresses, `ACCEPTS_PER_TICK` at most, until accepting would wait.

        The caller must report each to the ServerCore before it asks for the next. `listener` is ready: if there is no
        place, the first newcomer gets that of an idle connection.
        """
        for count in range(ACCEPTS_PER_TICK):
            is_full = self._core.is_full
            if not self._core.may_accept or (is_full and not (count == 0 and self._find_place())):
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
            self._error_is_logged = False
            if not is_full and self._core.limit_ends():
                logger.info("max_connections is not reached any more")
            if isinstance(transport, socket.socket):
                transport.setblocking(False)
                with contextlib.suppress(OSError):  # not TCP, or closed already, which reading will show
                    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield transport, peer

    def _find_place(self) -> bool:
        """Let an idle connection make room; return whether one did."""
        if self._core.limit_begins():
            most = self._core.limits.max_connections
            logger.warning("max_connections is reached, %d: idle connections make room, or newcomers wait", most)
        if self._make_room():
            return True
        self._core.waits_for_room = True
        return False

    def accept_all(self) -> Iterator[tuple[Transport, object]]:
        """Yield all connections that wait, like `accept` but without its limit."""
        for listener in self._listeners:
            found = True
            while found and not self._core.is_full:
                found = False
                for newcomer in self.accept(listener):
                    found = True
                    yield newcomer

    def _pause_after(self, error: Exception) -> None:
        """Pause accepting; log this once, until accepting works again."""
        self._core.accept_failed()
        self.is_stale = True
        if not self._error_is_logged:
            logger.error("accepting connections rests until it works again: %s", error)
            self._error_is_logged = True

    def _refuse_one(self, listener: Listener) -> None:
        """Accept one connection with the reserved descriptor, and close it."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
            with contextlib.suppress(OSError):
                transport, _ = listener.accept()
                transport.close()
        self._keep_spare_fd()

    def _keep_spare_fd(self) -> None:
        """Reserve a descriptor, if one is free."""
        with contextlib.suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close_listeners(self) -> None:
        """Accept no more connections. A second call does nothing."""
        for listener in self._listeners:
            if self.is_listening:
                self._selector.unregister(listener)
            listener.close()
        self.is_listening = False
        self._listeners.clear()

    def close(self) -> None:
        """Close the listeners and the reserved descriptor. A second call does nothing."""
        self.close_listeners()
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
