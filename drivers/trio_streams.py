"""Any trio stream as a transport of the engine: memory streams, `trio.SSLStream`, and those of users.

Theory
------
A trio stream waits and reads in one call. The engine first tries to read, and waits only if there is no input. Tasks
connect the two, and run only while the engine is interested: one receives when the engine waits to read, one sends what
the engine tried to write. When either has finished, the selector reports the stream as ready.

A write counts only when `send_all` has returned: bytes in the stream's own buffer are no progress of the peer. A write
that was cancelled leaves the stream in an unknown state, so the connection is lost.
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
"""Bytes in one `send_all`, as many as in a TLS record. A stream reports no progress within them."""

CLOSE_S: Final = 1.0
"""Seconds for a stream's own close; the peer already got its last response, and time to read it."""

LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises when it is broken, or when this side has closed it."""


class StreamSelector:
    """A selector for trio streams; `inner` is the selector for everything else.

    `on_event` is called when a stream becomes ready, and by each `select` that finds one ready.
    """

    def __init__(self, inner: Selector | None) -> None:
        self._inner = inner or default_selector()
        self._streams: dict[_Adapter, Registration] = {}
        self.on_event: Callable[[], None] = lambda: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> None:
        """Begin to wait for `events` on `fileobj`."""
        if isinstance(fileobj, _Adapter):
            self._streams[fileobj] = Registration(events, data)
            fileobj.watch(events, self._tell)
        else:
            self._inner.register(fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> None:
        """Wait for other events."""
        modify = self.register if isinstance(fileobj, _Adapter) else self._inner.modify
        modify(fileobj, events, data)

    def unregister(self, fileobj: Any) -> None:
        """Stop waiting for `fileobj`."""
        if isinstance(fileobj, _Adapter):
            del self._streams[fileobj]
            fileobj.watch(0, self._tell)
        else:
            self._inner.unregister(fileobj)

    def select(self, timeout: float | None = None) -> Sequence[tuple[Key, int]]:
        """Return what is ready now. It never waits: trio waits."""
        ready: list[tuple[Key, int]] = [
            (key, mask) for stream, key in self._streams.items() if (mask := stream.ready & key.events)
        ]
        if ready:
            self.on_event()  # it may still be ready after this round
        return [*ready, *self._inner.select(0)]

    def _tell(self) -> None:
        self.on_event()

    def fileno(self) -> int:
        """The descriptor of the selector for sockets."""
        return self._inner.fileno()  # type: ignore[attr-defined, no-any-return]  # `default_selector` has it

    def close(self) -> None:
        """Close the descriptor."""
        self._inner.close()


class _Adapter:
    """A trio object with tasks that wait for its events, at most one task for each event."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.ready = 0
        """The events that are ready."""
        self._nursery = nursery
        self._interest = 0
        self._tell: Callable[[], None] = lambda: None
        self._running: dict[int, trio.CancelScope] = {}

    def fileno(self) -> int:
        """Always -1: there is no descriptor."""
        return -1

    def watch(self, events: int, tell: Callable[[], None]) -> None:
        """Wait for these events from now on, and call `tell` when one is ready."""
        self._interest = events
        self._tell = tell
        self._go_on()
        if self.ready & events:
            tell()

    def _go_on(self) -> None:
        """Start a task for each event that the engine waits for, if it has none."""
        for event in (READ, WRITE):
            if self._interest & event & ~self.ready and event not in self._running and self._has_work(event):
                self._start(event)

    def _start(self, event: int) -> None:
        scope = self._running[event] = trio.CancelScope()

        async def run() -> None:
            with scope:
                came = await self._wait(event)
                self.ready |= came  # not in one line: that would read `ready` before it waits
            del self._running[event]
            if self.ready & self._interest:
                self._tell()

        self._nursery.start_soon(run)

    def _has_work(self, event: int) -> bool:
        """Whether a task for this event has work to do."""
        return event == READ

    async def _wait(self, event: int) -> int:
        """Wait for an event; return the events that are ready."""
        raise NotImplementedError

    def _cancel(self) -> None:
        for scope in self._running.values():
            scope.cancel()


class StreamListener(_Adapter):
    """A trio listener as a listener of the engine."""

    def __init__(self, listener: "trio.abc.Listener[Any]", nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self._listener = listener
        self._accepted: trio.abc.Stream | Exception | None = None

    @classmethod
    def adapt(cls, listener: Any, nursery: trio.Nursery) -> Listener:
        """Wrap a trio listener; return any other listener unchanged."""
        return cls(listener, nursery) if isinstance(listener, trio.abc.Listener) else listener

    async def _wait(self, event: int) -> int:
        try:
            self._accepted = await self._listener.accept()
        except trio.ClosedResourceError:
            return 0
        except (OSError, trio.BrokenResourceError) as error:
            self._accepted = error
        return READ

    def accept(self) -> tuple[Any, Any]:
        """The next stream. Raises BlockingIOError when there is none, and OSError when accepting has failed."""
        accepted, self._accepted = self._accepted, None
        self.ready = 0
        self._go_on()
        if accepted is None:
            raise BlockingIOError
        if isinstance(accepted, Exception):
            raise accepted if isinstance(accepted, OSError) else OSError(str(accepted))
        return StreamTransport(accepted, self._nursery), _stream_peer(accepted)

    def close(self) -> None:
        """Stop listening."""
        self._cancel()
        for resource in (self._accepted, self._listener):
            if isinstance(resource, trio.abc.AsyncResource):
                self._nursery.start_soon(trio.aclose_forcefully, resource)


class StreamTransport(_Adapter):
    """A trio stream as a transport of the engine."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self._stream = stream
        self._read_bytes = PIECE_BYTES
        self._received: bytes | None = None
        self._outgoing = b""
        self._written = 0
        self._is_lost = False
        self._is_ending = False
        self._resets = False

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of both ends, and the scheme. Never raises."""
        scheme = "https" if isinstance(self._stream, trio.SSLStream) else "http"
        return endpoints_of(getattr(_carrier(self._stream), "socket", None), _stream_peer(self._stream), scheme)

    def recv(self, size: int, /) -> bytes:
        """Return received bytes, `b""` at the end. Raises BlockingIOError when there are none, OSError when lost."""
        self._read_bytes = size
        received = self._received
        if received is None:
            self._check()
            self._go_on()
            raise BlockingIOError
        if len(received) > size:
            self._received = received[size:]
            return received[:size]
        if received:  # else it is the end, which every later call returns
            self._received = None
            self.ready &= ~READ
            self._go_on()
        return received

    def send(self, data: Buffer, /) -> int:
        """Return how many bytes of `data` were written. Raises BlockingIOError until then, OSError when lost."""
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
        """Note that `close` must reset: SO_LINGER is the only option that the engine sets here."""
        self._resets = self._resets or option == socket.SO_LINGER

    def close(self) -> None:
        """Close both sides; the stream gets `CLOSE_S` for its own close, such as TLS's close_notify.

        After a reset, a loss, or in the middle of a write it gets none: cut content must not look complete.
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

    def _has_work(self, event: int) -> bool:
        return event == READ or bool(self._outgoing)

    def _check(self) -> None:
        if self._is_lost:
            raise ConnectionResetError("the stream is broken")

    async def _wait(self, event: int) -> int:
        try:
            if event == READ:
                self._received = bytes(await self._stream.receive_some(self._read_bytes))
            elif self._outgoing:
                await self._send_all()
            elif self._is_ending and isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
        except LOST:
            self._is_lost = True
            return READ | WRITE
        return event

    async def _send_all(self) -> None:
        outgoing, self._outgoing = self._outgoing, b""
        try:
            await self._stream.send_all(outgoing)
        except BaseException:
            self._is_lost = True  # also when cancelled: some bytes may have been sent
            raise
        self._written = len(outgoing)


def _stream_peer(stream: trio.abc.Stream) -> Any:
    """The peer's address, or None when the stream has none. Never raises."""
    with contextlib.suppress(OSError, AttributeError):
        return _carrier(stream).socket.getpeername()
    return None


def _carrier(stream: Any) -> Any:
    """The stream that has the socket: under TLS, the inner one."""
    return getattr(stream, "transport_stream", stream)
