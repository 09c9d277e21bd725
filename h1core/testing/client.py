r"""A client and a server in memory: the real connection, the real driver, and a fake clock.

    client = Client(app)
    assert client.get("/").text == "hello"

    peer = client.connect()
    peer.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
    client.wait(40)  # takes no real time
    peer.send(b"llo")
    assert peer.answer().status == 200

No socket and no sleep. The server has handled what a client does before the call returns; time passes in `wait` only,
from one deadline to the next.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from h1core.config import Limits, Timeouts
from h1core.errors import LocalError
from h1core.testing.answers import Answer, answers
from h1core.testing.network import MemoryClient

Fields = Iterable[tuple[str, str]]

DEFAULT_WINDOW_BYTES = 1 << 20

DRIVERS = ("auto", "selectors", "asyncio", "trio")


class Backend(Protocol):
    """A server in memory."""

    @property
    def now(self) -> float:
        """Its clock, in seconds."""

    def connect(self, window_bytes: int) -> MemoryClient:
        """Make a connection. Raises ConnectionRefusedError when the server has drained."""

    def settle(self) -> None:
        """Let the server do all that it can do now."""

    def settle_threads(self, is_done: Callable[[], bool]) -> None:
        """Wait for threads that the application has started itself, until `is_done`. Takes a little real time."""

    def wait(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""

    def begin_drain(self) -> None:
        """Begin to drain the server."""

    @property
    def is_over(self) -> bool:
        """Whether the server has ended."""

    def close(self) -> None:
        """End the server now."""


class Peer:
    """One connection to the server, seen from its client's end."""

    def __init__(self, backend: Backend, end: MemoryClient) -> None:
        self._backend = backend
        self._end = end
        self._methods: list[str] = []

    def send(self, data: bytes) -> None:
        """Send bytes, in one piece."""
        self._end.send(data)
        self._backend.settle()

    def read(self, size: int | None = None) -> bytes:
        """Read what has arrived, or the first `size` bytes of it; then the server may write more."""
        data = self._end.read(size)
        self._backend.settle()
        return data

    def answer(self, method: str = "GET") -> Answer:
        """The one answer that has arrived since the last `read` or `answer`, to a request of `method`.

        Raises ValueError when there is none, or more; and what http.client raises when it is incomplete.
        """
        found = self.answers(method)
        if len(found) != 1:
            raise ValueError(f"one answer was expected, and {len(found)} have come")
        return found[0]

    def answers(self, *methods: str) -> list[Answer]:
        """All answers that have arrived since the last `read` or `answer`, to requests of `methods`, else GET."""
        wire = b""
        while data := self.read():
            wire += data
        return answers(wire, *methods)

    def end(self) -> None:
        """Close the client's writing side."""
        self._end.end()
        self._backend.settle()

    def reset(self) -> None:
        """Break the connection."""
        self._end.reset()
        self._backend.settle()

    def widen(self, window_bytes: int) -> None:
        """Change how many unread bytes the client accepts; 0 is a client that never reads."""
        self._end.widen(window_bytes)
        self._backend.settle()

    @property
    def sees_end(self) -> bool:
        """Whether the server has closed its side, gracefully or by a reset."""
        return self._end.sees_end

    @property
    def sees_reset(self) -> bool:
        """Whether the server has reset the connection."""
        return self._end.sees_reset


class Client:
    """A client of an application: a handler, WSGI or ASGI, detected as on the command line, or given by `interface`.

    `driver` is as on the command line. Sync applications run on the selectors driver unless another is given: inline,
    or with `threads` as if on so many worker threads, one request after the other. Async ones run on asyncio, or on
    trio if that is given, with their lifespan: asyncio in this thread, trio in one that runs only while a call here
    waits for it. `limits` and `timeouts` are the server's. To be closed in the end, or used in a `with`.

    Raises LocalError when `app` is no application or the driver cannot run it, RuntimeError when it does not start.
    """

    def __init__(
        self,
        app: Any,
        *,
        driver: str = "auto",
        interface: str = "auto",
        root_path: str = "",
        threads: int = 0,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        # Imported here and not above, so that h1core.testing alone loads no driver.
        from h1core.drivers.app_interface import handler_of, runs_on_a_loop

        if driver not in DRIVERS:
            raise LocalError(f"driver is one of {', '.join(DRIVERS)}, not {driver!r}")
        handler = handler_of(app, interface, threads=threads, root_path=root_path)
        is_async = runs_on_a_loop(handler)
        self._backend: Backend
        if driver == "trio":
            from h1core.testing.trio_loop import TrioBackend

            self._backend = TrioBackend(handler, threads, limits, timeouts)
        elif driver == "asyncio" or (driver == "auto" and is_async):
            from h1core.testing.asyncio_loop import AsyncioBackend

            self._backend = AsyncioBackend(handler, threads, limits, timeouts)
        else:
            from h1core.testing.selectors_loop import SelectorsBackend

            self._backend = SelectorsBackend(handler, threads, limits, timeouts)

    def connect(self, window_bytes: int = DEFAULT_WINDOW_BYTES) -> Peer:
        """Open a connection. `window_bytes` is what the server may write before the client reads."""
        peer = Peer(self._backend, self._backend.connect(window_bytes))
        self._backend.settle()
        return peer

    def request(self, method: str, target: str, headers: Fields = (), body: bytes = b"") -> Answer:
        """Send a request on a new connection; returns the answer. Raises ValueError when none comes without `wait`."""
        fields = [("Host", "testserver"), ("Connection", "close"), *headers]
        if body:
            fields.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        peer = self.connect()
        peer.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        self._backend.settle_threads(lambda: peer.sees_end)
        return peer.answer(method)

    def get(self, target: str, headers: Fields = ()) -> Answer:
        """GET."""
        return self.request("GET", target, headers)

    def post(self, target: str, body: bytes, headers: Fields = ()) -> Answer:
        """POST."""
        return self.request("POST", target, headers, body)

    @property
    def now(self) -> float:
        """The server's clock, in seconds."""
        return self._backend.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._backend.wait(seconds)

    def begin_drain(self) -> None:
        """Begin to drain the server, as on SIGTERM."""
        self._backend.begin_drain()
        self._backend.settle()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended."""
        return self._backend.is_over

    def close(self) -> None:
        """End the server. A second call does nothing."""
        self._backend.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
