"""WSGI applications on real sockets, inline and on worker threads, asked by http.client."""

import http.client
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from h1core.drivers.engine.files import as_file

from h1core.app.wsgi import wsgi_handler

from .test_pool import PATIENCE_S
from .test_selectors_pool_sockets import Running, Serve, serve

__all__ = ["serve"]  # the fixture

TEXT = ("Content-Type", "text/plain")
MIB = 1024 * 1024

Start = Callable[..., Callable[[bytes], object]]

each_threads = pytest.mark.parametrize("threads", [0, 4])


def connect(running: Running) -> http.client.HTTPConnection:
    host, port = running.address
    return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)


def ask(running: Running, method: str, target: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
    connection = connect(running)
    connection.request(method, target, body, **options)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def checksum(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Answers a body with its size and its last bytes, read in pieces."""
    size, last = 0, b""
    while block := environ["wsgi.input"].read(100_000):
        size += len(block)
        last = block
    start_response("200 OK", [TEXT])
    yield b"%d " % size
    yield last[-3:]


@each_threads
def test_a_large_body_is_read_from_a_file(threads: int, serve: Serve) -> None:
    running = serve(wsgi_handler(validator(checksum)), threads=threads)
    assert ask(running, "POST", "/", b"x" * 3 * MIB + b"end") == (200, b"%d end" % (3 * MIB + 3))


@each_threads
def test_a_body_in_chunks_is_read_like_any_other(threads: int, serve: Serve) -> None:
    running = serve(wsgi_handler(validator(checksum)), threads=threads)
    pieces = iter([b"x" * 1000] * 1000 + [b"end"])
    assert ask(running, "POST", "/", pieces, encode_chunked=True) == (200, b"1000003 end")


@each_threads
def test_the_addresses_are_those_of_the_sockets(threads: int, serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])
        names = "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT"
        return [" ".join(environ[name] for name in names).encode()]

    running = serve(wsgi_handler(app), threads=threads)
    connection = connect(running)
    connection.connect()
    own = connection.sock.getsockname()
    connection.request("GET", "/")
    assert connection.getresponse().read().decode() == "{} {} {} {}".format(*own, *running.address)
    connection.close()


@each_threads
def test_a_large_response_arrives_whole(threads: int, serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [TEXT])
        for number in range(100):
            yield b"%05d" % number * 10_000

    running = serve(wsgi_handler(validator(app)), threads=threads)
    status, body = ask(running, "GET", "/")
    assert (status, len(body)) == (200, 5_000_000)
    assert body == b"".join(b"%05d" % number * 10_000 for number in range(100))


def test_requests_meet_in_threads(serve: Serve) -> None:
    meeting = threading.Barrier(4, timeout=PATIENCE_S)

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        meeting.wait()
        start_response("200 OK", [TEXT])
        return [b"met"]

    running = serve(wsgi_handler(app, multithread=True), threads=4)
    found: list[tuple[int, bytes]] = []
    clients = [threading.Thread(target=lambda: found.append(ask(running, "GET", "/"))) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert found == [(200, b"met")] * 4


def test_close_is_called_in_the_thread_that_ran_the_application(serve: Serve) -> None:
    threads: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one", b"two"])

        def close(self) -> None:
            threads.append(threading.current_thread().name)

    def app(environ: dict[str, Any], start_response: Start) -> Body:
        threads.append(threading.current_thread().name)
        start_response("200 OK", [TEXT])
        return Body()

    running = serve(wsgi_handler(app), threads=2)
    assert ask(running, "GET", "/") == (200, b"onetwo")
    running.drain()
    assert threads[0].startswith("h1core-worker-")
    assert threads == [threads[0]] * 2


@pytest.mark.parametrize("headers", [[TEXT], [TEXT, ("Content-Length", "6")]], ids=["chunked", "length"])
def test_a_client_has_its_response_before_the_application_is_closed(headers: Any, serve: Serve) -> None:
    has_come = threading.Event()
    closed: list[bool] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(has_come.wait(PATIENCE_S))

    def app(environ: dict[str, Any], start_response: Start) -> Body:
        start_response("200 OK", headers)
        return Body([b"onetwo"])

    running = serve(wsgi_handler(app), threads=1)
    connection = connect(running)
    connection.request("GET", "/")
    assert connection.getresponse().read(6) == b"onetwo"
    has_come.set()
    connection.close()
    running.drain()
    assert closed == [True]


# Files.


class Files:
    """Answers with a file, which it closes when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", [TEXT])
        return environ["wsgi.file_wrapper"](self.path.open("rb"))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the system sent of files by itself."""
    counts: list[int] = []
    original = os.sendfile

    def sendfile(*arguments: Any) -> int:
        counts.append(original(*arguments))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    return counts


@each_threads
def test_the_system_sends_files_by_itself(threads: int, serve: Serve, sent: list[int], tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(1000) * 10_000
    path.write_bytes(content)
    running = serve(wsgi_handler(Files(path), as_file=as_file), threads=threads)
    connection = connect(running)
    for _ in range(2):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.getheader("Content-Length"), response.read() == content) == ("10000000", True)
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.getheader("Content-Length"), response.read(), response.will_close) == ("10000000", b"", False)
    connection.close()
    assert sum(sent) == 20_000_000


@each_threads
def test_clients_that_do_not_want_all_of_a_file_leave_nothing_behind(
    threads: int, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    running = serve(wsgi_handler(Files(path), as_file=as_file), threads=threads)
    clients = [running.connect(receive_buffer=4096) for _ in range(8)]  # more than there are threads
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    running.drain()
