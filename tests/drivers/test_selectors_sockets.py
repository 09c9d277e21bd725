"""The readiness loop on real sockets, loopback and unix, with a fake clock wherever time matters."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from h1core.drivers.net.listeners import close_listener, listen
from h1core.drivers.selectors_driver import Server

from h1core import Endpoints, Request, Response
from h1core.addresses import TcpAddress, UnixAddress
from h1core.app.handler import Handler
from h1core.server import Phase
from h1core.testing import FakeClock

from ..wire import answers, statuses
from .test_listeners import needs_ipv6
from .world import GET, LAST_GET, hello, post

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0
"""When a test that waits for something gives up; nothing waits for it to pass."""

MIB = 1024 * 1024


class Client:
    """A client that never waits. Its connection is made at once: the kernel shakes hands for a listener."""

    def __init__(
        self, address: tuple[str, int] | str, family: int = socket.AF_INET, receive_buffer: int | None = None
    ) -> None:
        self.sock = socket.socket(family)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.received = bytearray()
        self.sees_end = self.sees_reset = False

    def send(self, data: bytes) -> None:
        assert self.sock.send(data) == len(data)

    def read(self) -> None:
        try:
            while not self.sees_end:
                data = self.sock.recv(1 << 20)
                self.received += data
                self.sees_end = not data
        except BlockingIOError:
            pass
        except ConnectionError:
            self.sees_end = self.sees_reset = True

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Loop:
    """A server on real sockets with a fake clock, and its clients, all in this thread."""

    def __init__(self, at_exit: ExitStack) -> None:
        self.at_exit = at_exit
        self.clock = FakeClock(1000.0)
        self.listeners: list[socket.socket] = []
        self.server: Server

    def serve(self, *addresses: TcpAddress | UnixAddress, handler: Handler = hello) -> None:
        for address in addresses or (TcpAddress("127.0.0.1", 0),):
            self.listeners.append(listen(address))
            self.at_exit.callback(close_listener, self.listeners[-1])
        self.server = Server(handler, listeners=self.listeners, clock=self.clock)
        self.at_exit.callback(self.server.close)

    def connect(self, listener: int = 0, receive_buffer: int | None = None) -> Client:
        sock = self.listeners[listener]
        client = Client(sock.getsockname(), sock.family, receive_buffer)
        self.at_exit.callback(client.sock.close)
        return client

    def until(self, condition: Callable[[], bool]) -> int:
        """Tick until it is so; how many ticks that took."""
        give_up_at = time.monotonic() + PATIENCE_S
        ticks = 0
        while not condition():
            assert time.monotonic() < give_up_at, "it never came to that"
            self.server.tick(0.05)
            ticks += 1
        return ticks

    def until_read(self, client: Client, count: int) -> list[int]:
        """Tick until so many answers have come; their statuses."""

        def has_come() -> bool:
            client.read()
            return client.received.count(b"HTTP/1.1 ") >= count

        self.until(has_come)
        return statuses(client.received)

    def until_end(self, client: Client) -> None:
        def has_ended() -> bool:
            client.read()
            return client.sees_end

        self.until(has_ended)

    @property
    def open_connections(self) -> int:
        return len(self.server.core.connections)

    def accepted(self) -> socket.socket:
        """The server's end of its only connection."""
        [session] = self.server.engine.sessions.values()
        assert isinstance(session.io._transport, socket.socket)
        return session.io._transport


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Leaves no descriptor behind."""
    before = os.listdir("/dev/fd")
    with ExitStack() as at_exit:
        yield Loop(at_exit)
    assert os.listdir("/dev/fd") == before


# Addresses.


@pytest.mark.parametrize(
    "make_address",
    [
        lambda folder: TcpAddress("127.0.0.1", 0),
        pytest.param(lambda folder: TcpAddress("::1", 0), marks=needs_ipv6),
        lambda folder: UnixAddress(f"{folder}/h1core.sock"),
    ],
    ids=["IPv4", "IPv6", "unix"],
)
def test_requests_are_answered_on_every_kind_of_address(
    loop: Loop, tmp_path: Path, make_address: Callable[[Path], TcpAddress | UnixAddress]
) -> None:
    loop.serve(make_address(tmp_path))
    client = loop.connect()
    for count in (1, 2, 3):
        client.send(GET)
        assert loop.until_read(client, count) == [200] * count
    client.send(LAST_GET)
    loop.until_end(client)
    assert [answer.body for answer in answers(client.received)] == [b"hello"] * 4
    assert not client.sees_reset
    client.sock.close()
    loop.until(lambda: loop.open_connections == 0)


@needs_ipv6
def test_a_request_knows_who_talks_to_whom(loop: Loop, tmp_path: Path) -> None:
    seen: list[Endpoints] = []

    def handler(request: Request) -> Response:
        seen.append(request.endpoints)
        return Response(200)

    path = f"{tmp_path}/h1core.sock"
    loop.serve(TcpAddress("127.0.0.1", 0), TcpAddress("::1", 0), UnixAddress(path), handler=handler)
    for number in range(3):
        client = loop.connect(number)
        client.send(GET)
        loop.until_read(client, 1)
        own, peer = client.sock.getsockname(), client.sock.getpeername()
        assert seen.pop() == (Endpoints(own[:2], peer[:2]) if number < 2 else Endpoints(None, (path, None)))


def test_two_addresses_are_served_at_once(loop: Loop, tmp_path: Path) -> None:
    loop.serve(TcpAddress("127.0.0.1", 0), UnixAddress(f"{tmp_path}/h1core.sock"))
    clients = [loop.connect(0), loop.connect(1), loop.connect(0)]
    for client in clients:
        client.send(GET)
    assert [loop.until_read(client, 1) for client in clients] == [[200]] * 3


def test_answers_leave_without_a_delay_and_sockets_never_block(loop: Loop) -> None:
    loop.serve()
    client = loop.connect()
    client.send(GET)
    loop.until_read(client, 1)
    sock = loop.accepted()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()
    assert not sock.get_inheritable()


# Much data.


def test_a_large_answer_arrives_whole(loop: Loop) -> None:
    body = os.urandom(1000) * 8000
    loop.serve(handler=lambda request: Response(200, (), body))
    client = loop.connect()
    client.send(LAST_GET)
    loop.until_end(client)
    assert answers(client.received)[0].body == body


def test_a_stream_arrives_whole(loop: Loop) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(3000):
            yield b"%d," % number * 100

    loop.serve(handler=lambda request: Response(200, (), pieces()))
    client = loop.connect(receive_buffer=4096)
    client.send(LAST_GET)
    loop.until_end(client)
    assert answers(client.received)[0].body == b"".join(pieces())


def test_a_large_body_reaches_the_handler_whole(loop: Loop) -> None:
    seen: list[bytes] = []

    def keep(request: Request) -> Response:
        seen.append(request.body)
        return Response(200)

    loop.serve(handler=keep)
    body = os.urandom(1000) * 8000
    left = memoryview(post(body))
    client = loop.connect()

    def send() -> bool:
        nonlocal left
        try:
            while left:
                left = left[client.sock.send(left) :]
        except BlockingIOError:
            pass
        return bool(seen)

    loop.until(send)
    assert loop.until_read(client, 1) == [200]
    assert seen == [body]


def test_hundreds_of_pipelined_large_answers_all_arrive(loop: Loop) -> None:
    loop.serve(handler=lambda request: Response(200, (), request.target * 35_000))
    client = loop.connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(100)))
    client.sock.shutdown(socket.SHUT_WR)
    loop.until_end(client)
    assert [answer.body for answer in answers(client.received)] == [b"/%d" % number * 35_000 for number in range(100)]


def test_a_client_that_first_sends_all_of_a_body_that_is_too_large_still_reads_why(loop: Loop) -> None:
    """It sits in a blocking `sendall`: a server that closed would have it read a reset, and nothing else."""
    loop.serve()
    size = 20 * MIB
    received: list[bytes] = []

    def send_then_read() -> None:
        with socket.create_connection(loop.listeners[0].getsockname(), timeout=PATIENCE_S) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            sock.sendall(bytes(size))
            while data := sock.recv(1 << 16):
                received.append(data)

    client = threading.Thread(target=send_then_read)
    client.start()
    loop.until(lambda: not client.is_alive())
    client.join()
    [answer] = answers(b"".join(received))
    assert (answer.status, answer.fields["connection"]) == (413, "close")
    loop.until(lambda: loop.open_connections == 0)


def test_a_client_that_never_reads_is_cut_at_the_write_deadline(loop: Loop) -> None:
    loop.serve(handler=lambda request: Response(200, (), bytes(64 * MIB)))
    client = loop.connect(receive_buffer=4096)
    client.send(GET)
    loop.until(lambda: loop.open_connections == 1)
    [conn] = loop.server.core.connections

    def is_stuck() -> bool:
        before = conn.output_bytes
        loop.server.tick(0.05)
        return 0 < conn.output_bytes == before

    loop.until(is_stuck)
    loop.clock.advance(29.9)
    loop.server.tick(0)
    assert loop.open_connections == 1
    loop.clock.advance(0.1)
    loop.server.tick(0)
    assert loop.open_connections == 0
    loop.until_end(client)
    assert client.sees_reset
    assert len(client.received) < 64 * MIB


# Ends.


def test_who_closes_the_sending_side_still_gets_every_answer(loop: Loop) -> None:
    loop.serve()
    client = loop.connect()
    client.send(GET * 100)
    client.sock.shutdown(socket.SHUT_WR)
    loop.until_end(client)
    assert statuses(client.received) == [200] * 100
    assert not client.sees_reset
    loop.until(lambda: loop.open_connections == 0)


def test_an_idle_connection_is_let_go_in_order(loop: Loop) -> None:
    loop.serve()
    client = loop.connect()
    client.send(GET)
    loop.until_read(client, 1)
    loop.clock.advance(74.9)
    loop.server.tick(0)
    client.read()
    assert not client.sees_end
    loop.clock.advance(0.1)
    loop.server.tick(0)
    loop.until_end(client)
    assert not client.sees_reset
    assert loop.open_connections == 1, "lingering, for the client may have sent a request just now"
    client.send(GET)
    client.sock.shutdown(socket.SHUT_WR)
    loop.until(lambda: loop.open_connections == 0)
    client.read()
    assert not client.sees_reset


def test_clients_that_reset_at_any_moment_leave_nothing_behind(loop: Loop) -> None:
    """waitress's CVE-2024-49769: a peer gone before it was looked at made the loop spin."""
    loop.serve()
    for wire in (b"", b"GET / HT", GET, GET * 50):
        client = loop.connect()  # gone before it is accepted
        if wire:
            client.send(wire)
        client.reset()
        client = loop.connect()  # gone after it was
        if wire:
            client.send(wire)
        loop.server.tick(0.05)
        client.reset()
    loop.until(lambda: loop.open_connections == 0)
    assert loop.server.engine.selector.select(0) == []
    client = loop.connect()
    client.send(GET)
    assert loop.until_read(client, 1) == [200]


def test_a_drain_ends_idle_connections_and_finishes_others(loop: Loop) -> None:
    loop.serve()
    idle, coming = loop.connect(), loop.connect()
    idle.send(GET)
    coming.send(GET[:-1])
    loop.until_read(idle, 1)
    loop.until(lambda: loop.open_connections == 2)
    loop.server.tick(0.01)
    address = loop.listeners[0].getsockname()
    loop.server.begin_drain()
    loop.until_end(idle)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE_S)
    coming.send(GET[-1:])
    loop.until_end(coming)
    assert answers(coming.received)[0].fields["connection"] == "close"
    assert not idle.sees_reset
    assert not coming.sees_reset
    for client in (idle, coming):
        client.sock.close()
    loop.until(lambda: loop.server.core.phase is Phase.STOPPED)


def test_closing_resets_every_connection(loop: Loop) -> None:
    loop.serve(handler=lambda request: Response(200, (), iter(lambda: b"x" * 1000, b"")))
    idle, streaming = loop.connect(), loop.connect(receive_buffer=4096)
    streaming.send(GET)
    loop.until(lambda: loop.open_connections == 2)
    loop.server.tick(0)
    loop.server.close()
    for client in (idle, streaming):
        while not client.sees_end:
            client.read()
        assert client.sees_reset


# Running in a thread.


class Running:
    """A server in a thread, on the real clock, with one connection that has been served."""

    def __init__(self, with_client: bool) -> None:
        self.listener = listen(TcpAddress("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.server = Server(hello, listeners=[self.listener])
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.client = socket.create_connection(self.address, timeout=PATIENCE_S) if with_client else None
        if self.client:
            self.client.sendall(GET)
            assert statuses(self.client.recv(1 << 16)) == [200]

    def join(self) -> None:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        assert self.listener.fileno() == -1


def test_another_thread_begins_the_drain() -> None:
    running = Running(with_client=True)
    assert running.client
    with running.client:
        running.server.begin_drain()
        assert running.client.recv(1) == b""
    running.join()


def test_another_thread_drains_a_server_that_waits_for_its_first_client() -> None:
    running = Running(with_client=False)
    running.server.begin_drain()
    running.join()


def test_another_thread_stops_the_server() -> None:
    running = Running(with_client=True)
    assert running.client
    with running.client:
        running.server.stop()
        with pytest.raises(ConnectionResetError):
            running.client.recv(1)
    running.join()
    running.server.stop()
    running.server.begin_drain()


def test_a_server_told_to_drain_before_it_runs_ends_at_once() -> None:
    server = Server(hello, listeners=[listen(TcpAddress("127.0.0.1", 0))])
    server.begin_drain()
    server.run()
    assert server.core.phase is Phase.STOPPED


# Out of descriptors.

OUT_OF_DESCRIPTORS = """
import json, os, resource, socket
from h1core import Response
from h1core.drivers.selectors_driver import Server
from h1core.testing import FakeClock

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
clock = FakeClock()
listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
address = listener.getsockname()
server = Server(lambda request: Response(200, (), b"hello"), listeners=[listener], clock=clock)
first, second, third = clients = [socket.socket() for _ in range(3)]
said = []

def ask(client):
    if client.gettimeout() is None:
        client.connect(address)
        client.setblocking(False)
    client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")

def hear(client):
    for _ in range(4):
        server.tick(0.02)
    try:
        said.append(client.recv(1000).decode()[:15] or "closed")
    except BlockingIOError:
        said.append("nothing")
    except ConnectionResetError:
        said.append("closed")

ask(first)
hear(first)
eaten = []
try:
    while True:
        eaten.append(os.dup(0))
except OSError:
    pass
ask(second)
hear(second)
ask(first)
hear(first)
ask(third)
hear(third)
for fd in eaten:
    os.close(fd)
hear(third)
clock.advance(0.1)
hear(third)
server.close()
for client in clients:
    client.close()
print(json.dumps(said))
"""


def test_a_process_out_of_descriptors_lets_a_newcomer_go_and_recovers() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OUT_OF_DESCRIPTORS],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    ok = "HTTP/1.1 200 OK"
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [ok, "closed", ok, "nothing", "nothing", ok]
    assert done.stderr == "accepting connections rests until it works again: [Errno 24] Too many open files\n"
