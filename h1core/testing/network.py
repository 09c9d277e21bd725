r"""A network in memory: listeners, connections and a selector that the engine uses like real ones.

    clock = FakeClock()
    network = MemoryNetwork(clock)
    listener = network.listen()
    server = Server(app, listeners=[listener], selector=network.selector, clock=clock)
    client = listener.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.tick(0)
    assert client.read().startswith(b"HTTP/1.1 200")

Nothing blocks and nothing sleeps. `server.tick()` without a limit lets the clock jump to the server's next deadline
when nothing is ready.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from h1core.testing.clock import FakeClock

READ = 1
WRITE = 2
SO_LINGER = 13  # Linux; the memory transport only compares it


class Deadlock(Exception):
    """A selector would wait for ever: nothing is ready, and it has no timeout."""


class _Stream:
    """The server's end of a connection."""

    def __init__(self, fd: int, window_bytes: int) -> None:
        self._fd = fd
        self.window_bytes = window_bytes
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.input_ended = False
        self.output_ended = False
        self.is_reset = False
        self.is_closed = False
        self.resets_on_close = False

    def fileno(self) -> int:
        return -1 if self.is_closed else self._fd

    def _check(self) -> None:
        if self.is_closed:
            raise OSError(errno.EBADF, "the server has closed this transport")
        if self.is_reset:
            raise ConnectionResetError(errno.ECONNRESET, "the client has reset the connection")

    def recv(self, size: int, /) -> bytes:
        """Read what the client has sent, like a non-blocking socket."""
        self._check()
        if not self.inbox:
            if self.input_ended:
                return b""
            raise BlockingIOError
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """Write as much as the client's window takes, like a non-blocking socket."""
        self._check()
        if self.output_ended:
            raise BrokenPipeError(errno.EPIPE, "the server has shut its side down")
        room = self.window_bytes - len(self.outbox)
        if room <= 0:
            raise BlockingIOError
        self.outbox += data[:room]
        return min(room, len(data))

    def shutdown(self, how: int, /) -> None:
        self._check()
        self.output_ended = True

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        self._check()
        if option == SO_LINGER:
            self.resets_on_close = True

    def close(self) -> None:
        self.is_closed = self.output_ended = True

    @property
    def ready(self) -> int:
        """The events that a selector would report."""
        if self.is_reset:
            return READ | WRITE
        writable = WRITE if len(self.outbox) < self.window_bytes else 0
        return writable | READ if self.inbox or self.input_ended else writable


class MemoryClient:
    """The client's end of a connection. Each call takes effect at once."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self.received = bytearray()
        """Everything that was read so far."""

    def send(self, data: bytes) -> None:
        """Send bytes; those sent after the server has closed are lost, as on a real network."""
        if not self._stream.is_closed:
            self._stream.inbox += data

    def read(self, size: int | None = None) -> bytes:
        """Read what the server has sent, or its first `size` bytes: frees the window, and is added to `received`."""
        data = bytes(self._stream.outbox[:size])
        del self._stream.outbox[: len(data)]
        self.received += data
        return data

    def end(self) -> None:
        """Close the client's writing side."""
        self._stream.input_ended = True

    def reset(self) -> None:
        """Break the connection."""
        self._stream.is_reset = True
        self._stream.inbox.clear()

    def widen(self, window_bytes: int) -> None:
        """Change how many unread bytes the server may have sent; 0 is a client that never reads."""
        self._stream.window_bytes = window_bytes

    @property
    def sees_end(self) -> bool:
        """Whether the server has closed its side, gracefully or by a reset."""
        return self._stream.output_ended

    @property
    def sees_reset(self) -> bool:
        """Whether the server has reset the connection."""
        return self._stream.is_closed and (self._stream.resets_on_close or bool(self._stream.inbox))

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._stream.is_closed


class MemoryListener:
    """A listening socket."""

    def __init__(self, network: "MemoryNetwork", fd: int) -> None:
        self._network = network
        self._fd = fd
        self._backlog: deque[_Stream | OSError] = deque()
        self.is_closed = False

    def connect(self, window_bytes: int = 1 << 20) -> MemoryClient:
        """Make a connection, which waits to be accepted. `window_bytes` is what the server may write unread.

        Raises ConnectionRefusedError when the listener is closed.
        """
        if self.is_closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the listener is closed")
        stream = self._network.make_stream(window_bytes)
        self._backlog.append(stream)
        return MemoryClient(stream)

    def fail(self, error: OSError) -> None:
        """Let accepting raise `error`, once, when it comes to this place in the backlog."""
        self._backlog.append(error)

    def fileno(self) -> int:
        """A descriptor, which is no more than a number here."""
        return -1 if self.is_closed else self._fd

    def accept(self) -> tuple[_Stream, tuple[str, int]]:
        """Take the next connection and a made-up address. Raises BlockingIOError when there is none."""
        if not self._backlog:
            raise BlockingIOError
        item = self._backlog.popleft()
        if isinstance(item, OSError):
            raise item
        return item, ("127.0.0.1", 40000 + item.fileno() % 20000)

    def close(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        self.is_closed = True
        for item in self._backlog:
            if isinstance(item, _Stream):
                item.resets_on_close = True
                item.close()
        self._backlog.clear()

    @property
    def waiting(self) -> int:
        """How many connections were made and not accepted."""
        return len(self._backlog)

    @property
    def ready(self) -> int:
        """The events that a selector would report."""
        return READ if self._backlog else 0


class MemoryKey(NamedTuple):
    """The registration of an object in a selector."""

    fileobj: Any
    events: int
    data: Any


def _ready_events(key: MemoryKey) -> int:
    """The registered events that are ready. A wake channel has none: a single thread never needs to be woken."""
    ready: int = getattr(key.fileobj, "ready", 0)
    return ready & key.events


class MemorySelector:
    """A selector over memory objects; ready ones come in the order of their registration."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._keys: dict[Any, MemoryKey] = {}
        self.on_event: Callable[[], None] = lambda: None
        """Called when something may be ready, for an event loop that has no descriptor to wait for."""
        self.calls = 0
        """How often something was registered, modified or unregistered."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> MemoryKey:
        """Register an object. Raises KeyError when it is registered, ValueError for a closed object or no events."""
        if fileobj in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        return self._set(fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> MemoryKey:
        """Change the events. Raises KeyError when it is not registered, ValueError like `register`."""
        if fileobj not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return self._set(fileobj, events, data)

    def _set(self, fileobj: Any, events: int, data: Any) -> MemoryKey:
        if fileobj.fileno() < 0 or not events:
            raise ValueError(f"cannot wait for events {events} of {fileobj!r}")
        self.calls += 1
        self._keys[fileobj] = MemoryKey(fileobj, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> MemoryKey:
        """Unregister an object. Raises KeyError when it is not registered."""
        self.calls += 1
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[MemoryKey, int]]:
        """What is ready; if nothing is, the clock advances by `timeout`. Raises Deadlock when there is none."""
        ready = [(key, events) for key in self._keys.values() if (events := _ready_events(key))]
        if not ready:
            if timeout is None:
                raise Deadlock("nothing is ready, and nothing will be")
            self._clock.advance(max(0.0, timeout))
        else:
            self.on_event()  # what is still ready after this is to be reported again
        return ready

    def close(self) -> None:
        """Forget everything."""
        self._keys.clear()

    @property
    def has_ready(self) -> bool:
        """Whether something is ready."""
        return any(_ready_events(key) for key in self._keys.values())

    @property
    def watched(self) -> int:
        """How many objects are waited for."""
        return len(self._keys)


class MemoryNetwork:
    """Listeners, and the selector that knows them and their connections."""

    def __init__(self, clock: FakeClock) -> None:
        self.selector = MemorySelector(clock)
        self._last_fd = 2

    def listen(self) -> MemoryListener:
        """A new listener."""
        return MemoryListener(self, self.next_fd())

    def wake(self) -> None:
        """Let an event loop check what clients have done: they act at once, and wake no loop."""
        self.selector.on_event()

    def make_stream(self, window_bytes: int) -> _Stream:
        """The server's end of a new connection; a subclass may make one that fails more often."""
        return _Stream(self.next_fd(), window_bytes)

    def next_fd(self) -> int:
        """A descriptor that was not given out before."""
        self._last_fd += 1
        return self._last_fd
