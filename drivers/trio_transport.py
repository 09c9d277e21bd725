"""What a connection's task needs of the world: read or write at once, or wait until that is possible.

To try first and to wait only when it would block is what makes a keep-alive request cost one wake-up. Sockets can do
that as they are; any other trio stream is made to look like it.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import trio

from h1core.events import Endpoints
from h1core.http1.output import Buffer

from .net.transport import endpoints_of
from .trio_poller import Poller, Readiness

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time
PIECE_BYTES: Final = 16 * 1024
"""Written to a stream at a time. A stream says nothing of progress within a piece; a TLS record has as much."""

CLOSE_S: Final = 1.0
"""For a stream to close in its own way; the peer has had its last response, and time to read it."""


LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises that is broken, or that this side has closed."""


class TrioTransport(Protocol):
    """A connection's byte stream. One task may wait to read while another waits to write."""

    def recv(self, size: int, /) -> bytes:
        """Read at most `size` bytes; `b""` at the end. Raises BlockingIOError when it would wait, OSError when lost."""
        ...

    def send(self, data: Buffer, /) -> int:
        """Write some of `data`, and say how much. Raises like `recv`, and then the same data must come again."""
        ...

    async def wait_readable(self) -> None:
        """Wait until `recv` may have something. May return too early."""
        ...

    async def wait_writable(self) -> None:
        """Wait until `send` may take something. May return too early."""
        ...

    def wake_reader(self) -> None:
        """Let `wait_readable` return."""
        ...

    def wake_all(self) -> None:
        """Let both waits return; nothing will be written any more."""
        ...

    async def end_output(self) -> None:
        """Close the writing side."""
        ...

    async def close(self, *, reset: bool) -> None:
        """Close both sides, at once if what was not sent may be lost."""
        ...


class SocketTransport:
    """A non-blocking socket. Its readiness comes from the server's `poller`, where there is one."""

    __slots__ = ("_fd", "_poller", "_readiness", "_sock", "recv", "send", "wait_readable")

    def __init__(self, sock: socket.socket, poller: Poller | None = None) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._poller = poller
        self._readiness: Readiness | None = None
        self.recv = sock.recv
        self.send = sock.send
        self.wait_readable: Callable[[], Coroutine[Any, Any, None]] = self._wait_by_trio
        if poller is not None:
            self.wait_readable = self._begin_to_wait

    async def _begin_to_wait(self) -> None:
        """Wait for the first time: a connection that never waits need not be registered."""
        assert self._poller is not None
        try:
            self._readiness = self._poller.watch(self._fd)
        except OSError:  # the kernel watches no more
            self.wait_readable = self._wait_by_trio
        else:
            self.wait_readable = self._readiness.wait
        await self.wait_readable()

    async def _wait_by_trio(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError:  # by `wake_reader`
            pass

    async def wait_writable(self) -> None:
        """Wait until `send` may take something."""
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except trio.ClosedResourceError:
            pass

    def wake_reader(self) -> None:
        """Let `wait_readable` return."""
        if self._readiness is not None:
            self._readiness.wake()
        else:
            trio.lowlevel.notify_closing(self._fd)  # `wait_writable` returns, too, which is harmless

    def wake_all(self) -> None:
        """Let both waits return."""
        if self._readiness is not None:
            self._readiness.wake()
        trio.lowlevel.notify_closing(self._fd)

    async def end_output(self) -> None:
        """Close the writing side."""
        with contextlib.suppress(OSError):  # the peer may have gone first
            self._sock.shutdown(socket.SHUT_WR)

    async def close(self, *, reset: bool) -> None:
        """Close both sides."""
        if reset:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.wake_all()
        if self._readiness is not None:
            self._readiness.forget()
            self._readiness = None
        with contextlib.suppress(OSError):
            self._sock.close()


class StreamTransport:
    """Any trio stream.

    The waits do the work, and `recv` and `send` only pass on what came of it. A read that is broken off loses nothing;
    a write that is broken off leaves the stream in an unknown state, so the connection is lost: at the end of all, or
    when an application cancels what it is sending.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._read_bytes = 1
        self._received: bytes | None = None
        self._outgoing = b""
        self._written = 0
        self._is_lost = False
        self._reading: trio.CancelScope | None = None
        self._writing: trio.CancelScope | None = None

    def recv(self, size: int, /) -> bytes:
        """What `wait_readable` has received. Raises BlockingIOError when that is nothing, OSError when lost."""
        received, self._received = self._received, None
        if received is not None:
            return received
        self._check()
        self._read_bytes = size
        raise BlockingIOError

    def send(self, data: Buffer, /) -> int:
        """How much of `data` `wait_writable` has written. Raises BlockingIOError before that, OSError when lost."""
        self._check()
        written, self._written = self._written, 0
        if not written:
            self._outgoing = self._outgoing or bytes(data[:PIECE_BYTES])
            raise BlockingIOError
        return written

    def _check(self) -> None:
        if self._is_lost:
            raise ConnectionResetError("the stream is broken")

    async def wait_readable(self) -> None:
        """Receive, unless there is something to receive already."""
        if self._received is not None or self._is_lost:
            return
        try:
            with trio.CancelScope() as self._reading:
                self._received = bytes(await self._stream.receive_some(self._read_bytes))
        except LOST:
            self._is_lost = True
        finally:
            self._reading = None

    async def wait_writable(self) -> None:
        """Write what `send` was given."""
        if not self._outgoing:
            return
        outgoing, self._outgoing = self._outgoing, b""
        try:
            with trio.CancelScope() as self._writing:
                await self._stream.send_all(outgoing)
                self._written = len(outgoing)
        except LOST:
            pass
        finally:
            self._writing = None
            self._is_lost = self._is_lost or not self._written  # also when cancelled: some of it may have gone

    def wake_reader(self) -> None:
        """Let `wait_readable` return."""
        if self._reading is not None:
            self._reading.cancel()

    def wake_all(self) -> None:
        """Let both waits return; the stream cannot be written to after that."""
        self.wake_reader()
        if self._writing is not None:
            self._writing.cancel()

    async def end_output(self) -> None:
        """Close the writing side, where the stream can."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            try:
                with trio.CancelScope() as self._writing:
                    await self._stream.send_eof()
            except LOST:
                self._is_lost = True
            finally:
                self._writing = None

    async def close(self, *, reset: bool) -> None:
        """Close both sides; a stream that has farewells to exchange, as TLS has, gets a moment for them.

        One that was lost in the middle of a write gets none: what was cut off must not look as if it had ended.
        """
        if reset or self._is_lost:
            with contextlib.suppress(*LOST):
                await trio.aclose_forcefully(self._stream)
        else:
            with trio.move_on_after(CLOSE_S), contextlib.suppress(*LOST):
                await self._stream.aclose()


def stream_peer(stream: trio.abc.Stream) -> Any:
    """The address at the other end of a stream, or None when it has none. Never raises."""
    with contextlib.suppress(OSError, AttributeError):
        return _carrier(stream).socket.getpeername()
    return None


def _carrier(stream: Any) -> Any:
    """The stream that has the socket, below TLS."""
    return getattr(stream, "transport_stream", stream)


def stream_endpoints(stream: trio.abc.Stream) -> Endpoints:
    """Who talks to whom over a stream. Never raises."""
    scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
    return endpoints_of(getattr(_carrier(stream), "socket", None), stream_peer(stream), scheme)
