"""I/O on one connection's transport: one read, one write, what the selector waits for, and the close."""

import contextlib
import logging
import socket
import struct
from typing import Final

from h1core.events import Event
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, Disposition

from ..net.transport import READ, Selector, Transport
from .files import FileFailed, send_file

logger = logging.getLogger("h1core.server")

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds


class ConnectionIO:
    """Moves bytes between a transport and its `Conn`. A lost transport becomes an event or a state of the `Conn`.

    `owner` is what the selector reports when the transport is ready.
    """

    __slots__ = ("_conn", "_owner", "_selector", "_transport", "interest", "last_read_was_full", "sees_end")

    def __init__(self, transport: Transport, conn: Conn, selector: Selector, owner: object) -> None:
        self._transport = transport
        self._conn = conn
        self._selector = selector
        self._owner = owner
        self.interest = 0
        """The events that the selector waits for; 0 when the transport is not registered."""
        self.sees_end = False
        """The peer has closed its side, or the connection is lost."""
        self.last_read_was_full = False
        """The last read filled its buffer, so there is probably more."""

    def receive(self, size: int) -> list[Event]:
        """Read at most `size` bytes, and return the events of the `Conn`."""
        try:
            data = self._transport.recv(size)
        except (BlockingIOError, InterruptedError):
            self.last_read_was_full = False
            return []
        except OSError:
            self.sees_end = True
            return self._conn.connection_lost()
        self.last_read_was_full = len(data) == size
        if not data:
            self.sees_end = True
        return self._conn.receive_data(data)

    def write(self) -> bool:
        """Write the next buffer, or some of a file; return whether the transport would take more.

        When the transport is lost, or the file cannot be read, the `Conn` is closed.
        """
        conn = self._conn
        data = conn.data_to_send()
        try:
            if data:
                sent = self._transport.send(data)
                has_room = sent == len(data)
            else:
                part = conn.file_to_send()
                assert part is not None, "something is to be written"
                sent, has_room = send_file(self._transport, part)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.sees_end = True
            conn.connection_lost()
            return False
        except FileFailed as error:
            logger.error("a file cannot be sent to its end, its connection is cut: %s", error)
            conn.cut_response(CloseReason.APPLICATION_FAILED, unsendable=True)
            return False
        conn.data_sent(sent)
        return has_room

    def wait_for(self, interest: int) -> None:
        """Change what the selector waits for."""
        if not self.interest:
            self._selector.register(self._transport, interest, self._owner)
        elif interest:
            self._selector.modify(self._transport, interest, self._owner)
        else:
            self._selector.unregister(self._transport)
        self.interest = interest

    def stop_reading(self) -> None:
        """Stop waiting for input."""
        if self.interest & READ:
            self.wait_for(self.interest & ~READ)

    def end_output(self) -> None:
        """Close the writing side."""
        with contextlib.suppress(OSError):  # the peer may have closed first
            self._transport.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both sides, with a reset where the `Conn` was aborted."""
        if self.interest:
            self._selector.unregister(self._transport)
            self.interest = 0
        if self._conn.disposition is Disposition.ABORT:
            with contextlib.suppress(OSError):
                self._transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        with contextlib.suppress(OSError):
            self._transport.close()
        self._owner = None  # it refers to this object: the garbage collector would have to free the cycle
