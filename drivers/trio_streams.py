"""Any trio stream as a transport of the engine: memory streams, `trio.SSLStream`, and what users make.

Theory
------
A trio stream is waited for and read in one step, while the engine asks first and waits after that. Between the two
stand two tasks for each stream, which work only while the engine is interested: one receives when the engine waits to
read, one sends what the engine tried to write. When either is through, the selector reports the stream as ready.

A write counts as taken only when `send_all` has returned: what a stream has taken in is no progress of the peer. One
that was broken off leaves the stream in an unknown state, so the connection is lost.
"""

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from h1core.events import Endpoints
from h1core.http1.output import Buffer

from .net.selector import Registration, default_selector
from .net.transport import READ, WRITE, Key, Listener, Selector, endpoints_of

PIECE_BYTES: Final = 16 * 1024
"""Written to a stream at a time. A stream says nothing of progress within a piece; a TLS record has as much."""

CLOSE_S: Final = 1.0
"""For a stream to close in its own way; the peer has had its last response, and time to read it."""

LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises that is broken, or that this side has closed."""


class StreamSelector:
    """A selector that knows trio streams as well as what `inner` knows, by default sockets.

    `on_event` is called when a stream has become ready.
    """

    def __init__(self, inner: Selector | None, nursery: trio.Nursery) -> None:
        self._inner = inner or default_selector()
        self._nursery = nursery
        self._streams: dict[_Adapter, Registration] = {}
        self.on_event: Callable[[], None] = lambda: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Begin to wait for `events` on `fileobj`."""
        if not isinstance(fileobj, _Adapter):
            return self._inner.register(fileobj, events, data)
        self._streams[fileobj] = Registration(events, data)
        fileobj.watch(self, events)
        return None

    def modify(self, fileobj: Any, events: int, data: Any = None) -> object:
        """Wait for other events."""
        if not isinstance(fileobj, _Adapter):
            return self._inner.modify(fileobj, events, data)
        return self.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> object:
        """Wait no more."""
        if not isinstance(fileobj, _Adapter):
            return self._inner.unregister(fileobj)
        del self._streams[fileobj]
        fileobj.watch(self, 0)
        return None

    def select(self, timeout: float | None = None) -> Sequence[tuple[Key, int]]:
        """What is ready now; it never waits, because trio does."""
        ready: list[tuple[Key, int]] = [
            (key, mask) for stream, key in self._streams.items() if (mask := stream.ready & key.events)
        ]
        return [*ready, *self._inner.select(0)]

    def start(self, task: Callable[[], Any]) -> None:
        """Run a task for a stream."""
        self._nursery.start_soon(task)

    def fileno(self) -> int:
        """The descriptor of the selector for sockets."""
        return self._inner.fileno()  # type: ignore[attr-defined, no-any-return]  # `watch` asks whether it is there

    def close(self) -> None:
        """Give the descriptor back."""
        self._inner.close()


class _Adapter:
    """Something of trio that is waited for by tasks, made ready or not."""

    def __init__(self) -> None:
        self.ready = 0
        """The events that have come."""
        self._interest = 0
        self._selector: StreamSelector | None = None
        self._running: dict[int, trio.CancelScope] = {}

    def watch(self, selector: StreamSelector, events: int) -> None:
        """Wait for these events from now on."""
        self._selector = selector
        self._interest = events
        for event in (READ, WRITE):
            if events & event and not self.ready & event and event not in self._running and self._has_work(event):
                self._start(event)
        if self.ready & events:
            selector.on_event()

    def _start(self, event: int) -> None:
        """Run the task that makes an event come."""
        assert self._selector is not None
        scope = self._running[event] = trio.CancelScope()

        async def run() -> None:
            with scope:
                await self._make_ready(event)
            del self._running[event]

        self._selector.start(run)

    def _has_work(self, event: int) -> bool:
        """Whether there is something to do to make an event come."""
        return event == READ

    async def _make_ready(self, event: int) -> None:
        raise NotImplementedError

    def _tell(self, event: int) -> None:
        """Let the selector report an event."""
        self.ready |= event
        if self._selector is not None and self._interest & event:
            self._selector.on_event()

    def _cancel(self) -> None:
        for scope in self._running.values():
            scope.cancel()


class StreamListener(_Adapter):
    """A trio listener as a listener of the engine."""

    def __init__(self, listener: "trio.abc.Listener[Any]", nursery: trio.Nursery) -> None:
        super().__init__()
        self._listener = listener
        self._nursery = nursery
        self._accepted: trio.abc.Stream | Exception | None = None

    @classmethod
    def adapt(cls, listener: Any, nursery: trio.Nursery) -> Listener:
        """A listener that is the engine's already, or this one around a trio listener."""
        return cls(listener, nursery) if isinstance(listener, trio.abc.Listener) else listener

    def fileno(self) -> int:
        """There is none."""
        return -1

    async def _make_ready(self, event: int) -> None:
        try:
            self._accepted = await self._listener.accept()
        except trio.ClosedResourceError:
            return
        except (OSError, trio.BrokenResourceError) as error:
            self._accepted = error
        self._tell(READ)

    def accept(self) -> tuple[Any, Any]:
        """The next stream. Raises BlockingIOError when there is none, and OSError when accepting has failed."""
        accepted, self._accepted = self._accepted, None
        self.ready = 0
        if self._selector is not None:
            self.watch(self._selector, self._interest)
        if accepted is None:
            raise BlockingIOError
        if isinstance(accepted, Exception):
            raise accepted if isinstance(accepted, OSError) else OSError(str(accepted))
        return StreamTransport(accepted, self._nursery), _stream_peer(accepted)

    def close(self) -> None:
        """Stop listening."""
        self._cancel()
        accepted = self._accepted
        if isinstance(accepted, trio.abc.AsyncResource):
            self._nursery.start_soon(trio.aclose_forcefully, accepted)
        self._nursery.start_soon(trio.aclose_forcefully, self._listener)


class StreamTransport(_Adapter):
    """A trio stream as a transport of the engine."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        super().__init__()
        self._stream = stream
        self._nursery = nursery
        self._read_bytes = PIECE_BYTES
        self._received: bytes | None = None
        self._outgoing = b""
        self._written = 0
        self._is_lost = False
        self._is_ending = False
        self._resets = False

    def fileno(self) -> int:
        """There is none."""
        return -1

    @property
    def endpoints(self) -> Endpoints:
        """Who talks to whom. Never raises."""
        scheme = "https" if isinstance(self._stream, trio.SSLStream) else "http"
        return endpoints_of(getattr(_carrier(self._stream), "socket", None), _stream_peer(self._stream), scheme)

    def recv(self, size: int, /) -> bytes:
        """What was received. Raises BlockingIOError when that is nothing, OSError when the stream is lost."""
        self._read_bytes = size
        received = self._received
        if received is None:
            self._check()
            self._go_on()
            raise BlockingIOError
        if len(received) > size:
            self._received = received[size:]
            return received[:size]
        if received:  # else it is the end, which stays
            self._received = None
            self.ready &= ~READ
            self._go_on()
        return received

    def send(self, data: Buffer, /) -> int:
        """How much of `data` was written. Raises BlockingIOError before that, OSError when the stream is lost."""
        self._check()
        written, self._written = self._written, 0
        self.ready &= ~WRITE
        if WRITE not in self._running:
            self._outgoing = bytes(data[written : written + PIECE_BYTES])
            self._go_on()
        if not written:
            raise BlockingIOError
        return written

    def shutdown(self, how: int, /) -> None:
        """Close the writing side, where the stream can."""
        self._is_ending = True
        if isinstance(self._stream, trio.abc.HalfCloseableStream) and WRITE not in self._running:
            self._start(WRITE)

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        """Take note that the connection is to be reset: that is all the engine sets on a connection."""
        self._resets = self._resets or option == socket.SO_LINGER

    def close(self) -> None:
        """Close both sides; a stream that has farewells to exchange, as TLS has, gets a moment for them.

        One that was lost in the middle of a write gets none: what was cut off must not look as if it had ended.
        """
        is_cut = self._resets or self._is_lost or (WRITE in self._running and not self._is_ending)
        self._cancel()
        self._nursery.start_soon(self._close, is_cut)

    async def _close(self, is_cut: bool) -> None:
        with contextlib.suppress(*LOST):
            if is_cut:
                await trio.aclose_forcefully(self._stream)
            else:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await self._stream.aclose()

    def _check(self) -> None:
        if self._is_lost:
            raise ConnectionResetError("the stream is broken")

    def _go_on(self) -> None:
        """Receive more, if that is waited for."""
        if self._selector is not None:
            self.watch(self._selector, self._interest)

    def _has_work(self, event: int) -> bool:
        return event == READ or bool(self._outgoing)

    async def _make_ready(self, event: int) -> None:
        try:
            if event == READ:
                self._received = bytes(await self._stream.receive_some(self._read_bytes))
            elif self._outgoing:
                outgoing, self._outgoing = self._outgoing, b""
                try:
                    await self._stream.send_all(outgoing)
                except BaseException:
                    self._is_lost = True  # also when this is cancelled: some of it may have gone
                    raise
                self._written = len(outgoing)
            elif self._is_ending and isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
        except LOST:
            self._is_lost = True
            self._tell(READ)
        self._tell(event)


def _stream_peer(stream: trio.abc.Stream) -> Any:
    """The address at the other end of a stream, or None when it has none. Never raises."""
    with contextlib.suppress(OSError, AttributeError):
        return _carrier(stream).socket.getpeername()
    return None


def _carrier(stream: Any) -> Any:
    """The stream that has the socket, below TLS."""
    return getattr(stream, "transport_stream", stream)
