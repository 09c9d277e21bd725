"""The readiness loop with real sockets, real threads and a real clock: a server runs in a thread of its own."""

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from h1core.drivers.net.listeners import close_listener, listen
from h1core.drivers.selectors_driver import Server

from h1core import Limits, Request, Response, Timeouts
from h1core.addresses import TcpAddress
from h1core.app.handler import Handler, SpooledRequest

from ..wire import answers
from .test_pool import PATIENCE_S, wait_for
from .world import GET, LAST_GET, error_lines, get, hello, post, target_echo

MIB = 1024 * 1024


class Running:
    """A server with worker threads, running."""

    def __init__(self, handler: Handler, threads: int, limits: Limits, timeouts: Timeouts | None) -> None:
        self._listener = listen(TcpAddress("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.server = Server(handler, listeners=[self._listener], limits=limits, timeouts=timeouts, threads=threads)
        self._loop = threading.Thread(target=self.server.run)

    def start(self) -> None:
        self._loop.start()

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE_S)
        sock.connect(self.address)
        return sock

    def drain(self) -> None:
        """Let the server end in order, and its threads."""
        self.server.begin_drain()
        self._join()

    def end(self) -> None:
        self.server.stop()
        if self._loop.ident is None:
            self.server.close()
        else:
            self._join()
        close_listener(self._listener)

    def _join(self) -> None:
        self._loop.join(PATIENCE_S)
        assert not self._loop.is_alive()
        assert not [thread for thread in worker_threads() if not ends(thread)], "a worker is held"


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("h1core-worker-")]


def ends(thread: threading.Thread) -> bool:
    thread.join(PATIENCE_S)
    return not thread.is_alive()


Serve = Callable[..., Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes servers, which end with all their threads, and leaves no descriptor behind."""
    before = os.listdir("/dev/fd")
    with ExitStack() as at_exit:

        def make(
            handler: Handler,
            *,
            threads: int = 4,
            starts: bool = True,
            timeouts: Timeouts | None = None,
            **limits: int,
        ) -> Running:
            running = Running(handler, threads, Limits(**limits), timeouts)
            at_exit.callback(running.end)
            if starts:
                running.start()
            return running

        yield make
    assert os.listdir("/dev/fd") == before


def exchange(sock: socket.socket, wire: bytes, count: int = 1) -> bytes:
    """Send, and read until so many answers of a length that they say have come."""
    sock.sendall(wire)
    received = b""
    while True:
        received += sock.recv(1 << 16)
        try:
            if len(answers(received)) >= count:
                return received
        except Exception:  # noqa: BLE001 - half an answer: http.client has many ways to say so
            continue


def read_to_end(sock: socket.socket, at_a_time: int = 1 << 16) -> bytes:
    received = bytearray()
    while data := sock.recv(at_a_time):
        received += data
    return bytes(received)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do some work in so many threads at once. Raises what the first of them raised."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert ends(thread)
    if failures:
        raise failures[0]


def test_two_hundred_requests_over_ten_connections_are_all_answered_right(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve(target_echo)

    def ask(client: int) -> None:
        with running.connect() as sock:
            for number in range(20):
                target = b"/%d/%d" % (client, number)
                [answer] = answers(exchange(sock, get(target)))
                assert (answer.status, answer.body) == (200, target)

    in_threads(10, ask)
    running.drain()
    assert running.server.core.backlog.dropped == 0
    assert running.server.core.backlog.outstanding == 0
    assert running.server.core.backlog.shed == 0
    assert error_lines(caplog) == []


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    running = serve(target_echo)

    def ask(client: int) -> None:
        with running.connect() as sock:
            sock.sendall(b"".join(get(b"/%d/%d" % (client, number)) for number in range(100)))
            sock.shutdown(socket.SHUT_WR)
            received = answers(read_to_end(sock))
        assert [answer.body for answer in received] == [b"/%d/%d" % (client, number) for number in range(100)]

    in_threads(8, ask)


def test_a_streamed_body_that_is_read_slowly_arrives_whole(serve: Serve) -> None:
    piece = os.urandom(50_000)
    running = serve(lambda request: Response(200, (), (piece for _ in range(100))), threads=1)
    with running.connect(receive_buffer=4096) as sock:
        sock.sendall(LAST_GET)
        [answer] = answers(read_to_end(sock, 3000))
    assert len(answer.body) == 5_000_000
    assert answer.body == piece * 100


class Endless:
    """A handler whose body goes on until it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.pulled_bytes = 0

    def __call__(self, request: Request) -> Response:
        return Response(200, (), self.pieces()) if request.target == b"/endless" else hello(request)

    def pieces(self) -> Iterator[bytes]:
        try:
            while True:
                self.pulled_bytes += 10_000
                yield b"x" * 10_000
        finally:
            self.closed.set()


@pytest.mark.parametrize("go", [reset, socket.socket.close])
def test_a_client_that_goes_in_the_middle_of_a_stream_releases_the_worker(
    serve: Serve, go: Callable[[socket.socket], None]
) -> None:
    endless = Endless()
    running = serve(endless, threads=1)
    sock = running.connect(receive_buffer=4096)
    sock.sendall(get(b"/endless"))
    assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    go(sock)
    wait_for(endless.closed)
    with running.connect() as other:
        assert [answer.status for answer in answers(exchange(other, GET))] == [200]
    running.drain()
    assert running.server.core.backlog.dropped == 1
    assert running.server.core.backlog.outstanding == 0


def test_a_client_that_stops_reading_a_stream_releases_the_worker_at_the_write_deadline(serve: Serve) -> None:
    endless = Endless()
    running = serve(endless, threads=2, max_spooled_response_bytes=100_000, timeouts=Timeouts(write_timeout=0.1))
    with running.connect(receive_buffer=4096) as sock, running.connect() as other:
        sock.sendall(get(b"/endless"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        wait_for(endless.closed)
        assert [answer.status for answer in answers(exchange(other, GET))] == [200]
    running.drain()
    assert running.server.core.backlog.dropped == 1
    assert running.server.core.backlog.outstanding == 0


def test_a_stream_whose_head_cannot_be_sent_releases_the_worker(serve: Serve) -> None:
    endless = Endless()
    running = serve(lambda request: Response(99, (), endless.pieces()), threads=1)
    with running.connect() as sock:
        assert [answer.status for answer in answers(exchange(sock, GET))] == [500]
        wait_for(endless.closed)
        assert [answer.status for answer in answers(exchange(sock, GET))] == [500]


def test_a_server_that_stops_in_the_middle_of_a_stream_releases_the_worker(serve: Serve) -> None:
    endless = Endless()
    running = serve(endless, threads=1)
    with running.connect(receive_buffer=4096) as sock:
        sock.sendall(get(b"/endless"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        running.end()
    assert endless.closed.is_set()


def test_a_stream_that_begins_after_the_server_has_stopped_holds_no_worker(serve: Serve) -> None:
    endless = Endless()
    runs, goes_on = threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        runs.set()
        wait_for(goes_on)
        return endless(request)

    running = serve(handler, threads=1)
    with running.connect() as sock:
        sock.sendall(get(b"/endless"))
        wait_for(runs)
        running.server.stop()
        with pytest.raises(ConnectionResetError):
            sock.recv(1000)
        goes_on.set()
        running.end()
    assert endless.closed.is_set()


def test_a_drain_waits_for_a_worker(serve: Serve) -> None:
    runs, goes_on = threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        runs.set()
        wait_for(goes_on)
        return hello(request)

    running = serve(handler, threads=1)
    with running.connect() as idle, running.connect() as sock:
        sock.sendall(GET)
        wait_for(runs)
        running.server.begin_drain()
        assert read_to_end(idle) == b"", "the drain has begun"
        goes_on.set()
        [answer] = answers(read_to_end(sock))
    assert (answer.status, answer.fields["connection"]) == (200, "close")
    running.drain()
    assert running.server.core.backlog.dropped == 0


def test_requests_past_the_queue_are_turned_away_while_all_workers_are_held(serve: Serve) -> None:
    goes_on = threading.Event()
    together = threading.Barrier(3)

    def handler(request: Request) -> Response:
        if request.target == b"/held":
            together.wait(PATIENCE_S)
            wait_for(goes_on)
        return hello(request)

    running = serve(handler, threads=2, max_queued_requests=1)
    with ExitStack() as at_exit:
        held = [at_exit.enter_context(running.connect()) for _ in range(2)]
        for sock in held:
            sock.sendall(get(b"/held"))
        together.wait(PATIENCE_S)
        others = [at_exit.enter_context(running.connect()) for _ in range(2)]
        for sock in others:
            sock.sendall(LAST_GET)
        said: list[int] = []

        def read(number: int) -> None:
            [answer] = answers(read_to_end(others[number]))
            said.append(answer.status)
            goes_on.set()

        in_threads(2, read)
        assert said == [503, 200], "the one past the queue did not wait for the others"
        for sock in held:
            assert [answer.status for answer in answers(exchange(sock, b""))] == [200]


def test_a_thousand_connections_that_were_reset_before_accept_leave_the_server_serving(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve(hello, starts=False)
    for _ in range(1000):
        reset(running.connect())
    running.start()
    with running.connect() as sock:
        assert [answer.status for answer in answers(exchange(sock, GET))] == [200]
    running.drain()
    assert not running.server.core.connections
    assert running.server.core.backlog.outstanding == 0
    assert error_lines(caplog) == []


def test_a_large_body_reaches_a_worker_as_a_file(serve: Serve) -> None:
    seen: list[SpooledRequest] = []

    def keep(request: Request) -> Response:
        assert isinstance(request, SpooledRequest)
        seen.append(request)
        file = request.open_body()
        pieces = iter(lambda: file.read(100_000), b"")
        return Response(200, (), pieces)

    body = os.urandom(MIB) * 2
    running = serve(keep)
    with running.connect() as sock:
        sender = threading.Thread(target=sock.sendall, args=(post(body, b"Connection: close"),))
        sender.start()
        [answer] = answers(read_to_end(sock))
        assert ends(sender)
    assert answer.body == body
    running.drain()
    [request] = seen
    with pytest.raises(ValueError, match="closed file"):
        request.open_body()


def test_a_body_that_finds_no_room_is_one_500_and_the_others_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    running = serve(hello, max_memory_body_bytes=1000)
    with running.connect() as sock, running.connect() as other:
        sock.sendall(post(bytes(5000)))
        [answer] = answers(read_to_end(sock))
        assert (answer.status, answer.fields["connection"]) == (500, "close")
        assert [answer.status for answer in answers(exchange(other, post(bytes(1000))))] == [200]
