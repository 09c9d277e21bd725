"""The readiness loop in memory: one clock, one listener, one server, and as many clients as one likes; and handlers.

Questions are functions here where a type checker would take the answer, once given, to stay as it was.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from h1core.drivers.engine.pool import Job
from h1core.drivers.selectors_driver import Server

from h1core import Limits, Request, Response, State, Timeouts
from h1core.app.handler import Handler
from h1core.server import Phase
from h1core.testing import FakeClock, FakeWorkers, MemoryClient, MemoryNetwork
from h1core.testing.network import _Stream

KIB = 1024
HUGE_WINDOW = 1 << 30

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


def get(target: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target


def post(body: bytes, *fields: bytes) -> bytes:
    lines = (b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields, b"", body)
    return b"\r\n".join(lines)


def numbered(count: int) -> bytes:
    """Pipelined requests, each for its own number."""
    return b"".join(get(b"/%d" % number) for number in range(count))


# Handlers.


def hello(request: Request) -> Response:
    return Response(200, [(b"content-type", b"text/plain")], b"hello")


def target_echo(request: Request) -> Response:
    return Response(200, (), request.target)


def body_echo(request: Request) -> Response:
    return Response(200, (), request.body)


def large(request: Request) -> Response:
    """Larger than what may wait to be written before the next request is looked at."""
    return Response(200, (), b"x" * 70_000)


class Stream:
    """A handler whose body is pieces, as many as there are `sizes`; it remembers what became of them."""

    def __init__(self, sizes: Iterator[int] | list[int], *, raises: Exception | None = None) -> None:
        self.sizes = sizes
        self.raises = raises
        self.pulled = 0
        self.pulled_bytes = 0
        self.ended: list[str] = []

    def __call__(self, request: Request) -> Response:
        return Response(200, (), self.pieces())

    def pieces(self) -> Iterator[bytes]:
        try:
            for size in self.sizes:
                self.pulled += 1
                self.pulled_bytes += size
                yield b"s" * size
            if self.raises:
                raise self.raises
            self.ended.append("complete")
        finally:
            self.ended.append("closed")


def forever(size: int) -> Iterator[int]:
    while True:
        yield size


# The world.


class World:
    """`server.tick` goes through here, so that what must hold after every tick is looked at after every tick."""

    def __init__(
        self,
        handler: Handler = hello,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        access_log: bool = False,
        threads: int = 0,
    ) -> None:
        self.clock = FakeClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        self.selector = self.network.selector
        self.listener = self.network.listen()
        self.workers = FakeWorkers[Job]()
        self.server = Server(
            handler,
            listeners=[self.listener],
            limits=limits,
            timeouts=timeouts,
            clock=self.clock,
            wall_clock=lambda: 0.0,
            selector=self.selector,
            access_log=access_log,
            threads=threads,
            workers=self.workers if threads else None,
        )
        self.core = self.server.core
        self.ticks = 0

    def connect(self, wire: bytes = b"", window_bytes: int = 1 << 20) -> MemoryClient:
        """A client that has sent `wire`; the server has not looked yet."""
        client = self.listener.connect(window_bytes)
        client.send(wire)
        return client

    def tick(self, times: int = 1, max_wait: float | None = 0) -> None:
        for _ in range(times):
            self.server.tick(max_wait)
            self.ticks += 1
            self._check()

    def _check(self) -> None:
        """Whose turn it is to do something has a deadline, unless it is the server's."""
        busy = {session.conn for session in self.server.engine.unfinished}
        busy.update(conn for conn, session in self.server.engine.sessions.items() if session.job is not None)
        for conn in self.core.connections:
            servers_turn = conn in busy or conn.state is State.RESPONDING
            assert servers_turn or conn.next_deadline is not None, f"nothing ends a {conn.state!r}"

    def talk(self, client: MemoryClient, wire: bytes) -> bytes:
        """Send, let the server work, and give what it has sent since."""
        client.send(wire)
        self.tick(2)
        return client.read()

    def work(self, jobs: int = 1) -> None:
        """Let the worker do so many jobs, and the server take note of each."""
        for _ in range(jobs):
            self.workers.run_next()
            self.tick()

    def wait(self, seconds: float) -> None:
        """Let time pass in the way in which it passes for a server: from deadline to deadline."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.tick(max_wait=until - self.clock.now)
        self.tick()

    def run_out(self, most_ticks: int = 200) -> int:
        """Let a drain come to its end; how many ticks that took."""
        ticks = 0
        while self.phase() is not Phase.STOPPED:
            self.tick(max_wait=None)
            ticks += 1
            assert ticks < most_ticks, "the loop spins"
        return ticks

    def phase(self) -> Phase:
        return self.core.phase

    @property
    def open_connections(self) -> int:
        return len(self.core.connections)


def ended(client: MemoryClient) -> bool:
    return client.sees_end


MakeWorld = Callable[..., World]


@contextmanager
def worlds() -> Iterator[MakeWorld]:
    """Makes worlds, and closes their servers in the end; then nothing may be left that a selector waits for."""
    made: list[World] = []

    def make(
        handler: Handler = hello,
        timeouts: Timeouts | None = None,
        access_log: bool = False,
        threads: int = 0,
        **limits: int,
    ) -> World:
        made.append(World(handler, Limits(**limits), timeouts, access_log, threads))
        return made[-1]

    yield make
    for world in made:
        world.server.close()
        assert world.selector.watched == 0
        assert world.open_connections == 0


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all writes that streams in memory take from now on."""
    writes: list[int] = []
    original = _Stream.send

    def send(stream: _Stream, data: bytes) -> int:
        taken = original(stream, data)
        writes.append(taken)
        return taken

    monkeypatch.setattr(_Stream, "send", send)
    return writes


def error_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
