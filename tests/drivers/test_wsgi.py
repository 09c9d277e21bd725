"""WSGI applications on the readiness loop in memory, inline and on workers: the same bytes either way."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import WSGIApplication

import pytest
from h1core.drivers.engine.files import as_file

from h1core import Timeouts
from h1core.app.wsgi import wsgi_handler
from h1core.testing import MemoryClient

from ..wire import answers
from .world import GET, HEAD, LAST_GET, MakeWorld, World, error_lines, get, post

TEXT = ("Content-Type", "text/plain")
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n"
DATE = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

Start = Callable[..., Callable[[bytes], object]]
Serve = Callable[..., "Served"]


class Served:
    """An application in a world, inline or with workers that do what there is to do at once."""

    def __init__(self, world: World, threads: int) -> None:
        self.world = world
        self.threads = threads

    def connect(self, wire: bytes = b"", window_bytes: int = 1 << 20) -> MemoryClient:
        return self.world.connect(wire, window_bytes)

    def settle(self) -> None:
        """Let everything happen that can."""
        self.world.tick(2)
        while self.world.workers.jobs:
            self.world.work()
            self.world.tick(2)

    def talk(self, *wires: bytes) -> bytes:
        """What one client gets for all it sends."""
        client = self.connect()
        for wire in wires:
            client.send(wire)
            self.settle()
            client.read()
        return bytes(client.received)


@pytest.fixture(params=[0, 4], ids=["inline", "threads"])
def serve(request: pytest.FixtureRequest, make_world: MakeWorld) -> Serve:
    def make(app: Any, **options: Any) -> Served:
        threads: int = request.param
        return Served(make_world(wsgi_handler(app, as_file=as_file), threads=threads, **options), threads)

    return make


def hello(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return [b"hello"]


def returning(result: Any, *headers: tuple[str, str], status: str = "200 OK") -> WSGIApplication:
    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response(status, [TEXT, *headers])
        return result() if callable(result) else result

    return app


def told(wire: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer."""
    return [(answer.status, answer.body) for answer in answers(wire)]


def bodies(wire: bytes) -> list[bytes]:
    return [answer.body for answer in answers(wire)]


class Body:
    """Blocks, which remember how often they were closed."""

    def __init__(self, *blocks: bytes, fails: bool = False) -> None:
        self.blocks = blocks
        self.fails = fails
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.blocks
        if self.fails:
            raise ValueError("the application's own")

    def close(self) -> None:
        self.closed += 1


def test_a_block_goes_out_with_its_length(serve: Serve) -> None:
    assert serve(hello).talk(GET) == HELLO + DATE + b"\r\nhello"


def test_requests_follow_each_other_on_a_connection(serve: Serve) -> None:
    served = serve(hello)
    assert bodies(served.talk(GET * 3, GET, get(b"/other"))) == [b"hello"] * 5


def test_an_iterator_goes_out_in_chunks(serve: Serve) -> None:
    out = serve(returning(lambda: iter([b"one", b"", b"two"]))).talk(GET, LAST_GET)
    assert out.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ntransfer-encoding: chunked\r\n")
    assert bodies(out) == [b"onetwo", b"onetwo"]


def test_an_old_client_gets_an_iterator_until_the_end(serve: Serve) -> None:
    served = serve(returning(lambda: iter([b"one", b"two"])))
    client = served.connect(b"GET / HTTP/1.0\r\n\r\n")
    served.settle()
    assert client.read().endswith(b"connection: close\r\n\r\nonetwo")
    assert client.sees_end


def test_an_iterator_whose_length_the_application_says_goes_out_as_it_is(serve: Serve) -> None:
    body = Body(b"one", b"two")
    out = serve(returning(body, ("Content-Length", "6"))).talk(GET)
    assert out == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 6\r\n" + DATE + b"\r\nonetwo"
    assert body.closed == 1


def test_an_iterable_with_its_length_in_one_block_goes_out_in_one_write(serve: Serve, writes: list[int]) -> None:
    body = Body(b"hello")
    out = serve(returning(body, ("Content-Length", "5"))).talk(GET, GET)
    assert bodies(out) == [b"hello", b"hello"]
    assert (len(writes), body.closed) == (2, 2)


def test_what_comes_after_its_length_is_not_sent_but_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(b"hello", b"you")
    assert bodies(serve(returning(body, ("Content-Length", "5"))).talk(GET, GET)) == [b"hello", b"hello"]
    assert body.closed == 2
    assert error_lines(caplog) == ["closing the handler's body failed"] * 2
    assert "the body is longer than Content-Length said" in caplog.text


@pytest.mark.parametrize("make", [lambda: [b"hello"], lambda: Body(b"hello")], ids=["list", "iterable"])
def test_head_gets_the_head(serve: Serve, make: Callable[[], Any]) -> None:
    result = make()
    out = serve(returning(result, ("Content-Length", "5"))).talk(HEAD, HEAD)
    assert out.count(b"content-length: 5\r\n") == 2
    assert out.endswith(b"\r\n\r\n")
    assert b"hello" not in out
    assert getattr(result, "closed", 2) == 2


def test_a_request_body_is_read(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])
        return [environ["CONTENT_LENGTH"].encode(), b" ", environ["wsgi.input"].read()]

    for limit in (1 << 20, 3):
        served = serve(app, max_memory_body_bytes=limit)
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        assert bodies(served.talk(post(b"hello"), chunked)) == [b"5 hello"] * 2


# Failures.


def failing(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    raise ValueError("the application's own")


def never_starting(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    return [b"hello"]


FAILING = [
    failing,
    never_starting,
    returning(lambda: iter([b"", "text"])),
    returning(None),
    returning(lambda: Body(fails=True)),
    returning([b"hello"], ("Content-Length", "4")),
    returning([b"hello"], ("Content-Length", "6")),
    returning(lambda: Body(b"hello"), ("Content-Length", "five")),
    returning([b"hello"], ("Content-Length", "5"), ("content-length", "6")),
    returning([b"hello"], ("Set-Cookie", "a\r\nb: c")),
    returning([b"hello"], status="101 Switching Protocols"),
]


@pytest.mark.parametrize("app", FAILING)
def test_what_fails_before_the_first_block_is_a_500(app: Any, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    out = serve(app).talk(GET, LAST_GET)
    assert told(out) == [(500, b"The application failed.\n")] * 2
    assert len(error_lines(caplog)) == 2


@pytest.mark.parametrize(
    ("blocks", "length", "says"),
    [
        ((b"one", b"failing"), "10", "the application's own"),
        ((b"one", b"two"), "10", "the body is 4 bytes shorter than Content-Length said"),
        ((b"one", b"two"), "5", "the body is 1 bytes longer than Content-Length said"),
        ((b"one", "text"), "10", "each block of a WSGI body is bytes, not str"),
    ],
)
def test_what_fails_later_cuts_the_connection(
    blocks: tuple[Any, ...], length: str, says: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body(*blocks, fails=b"failing" in blocks)
    served = serve(returning(body, ("Content-Length", length)))
    client = served.connect(GET)
    served.settle()
    assert client.sees_end
    assert not client.sees_reset
    assert body.closed == 1
    assert [line.split(";")[0] for line in error_lines(caplog)] == ["the handler's body failed"]
    assert says in caplog.text


def test_an_error_after_the_head_raises_in_the_application_and_cuts(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        try:
            start_response("200 OK", [TEXT])
            yield b"one"
            raise ValueError("the cause")
        except ValueError:
            start_response("500 Oh No", [TEXT], sys.exc_info())

    served = serve(app)
    client = served.connect(GET)
    served.settle()
    assert client.sees_end
    assert not client.sees_reset
    assert "ValueError: the cause" in caplog.text


def test_an_error_before_the_head_is_the_applications_to_word(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        try:
            start_response("200 OK", [TEXT])
            raise ValueError("the cause")
        except ValueError:
            start_response("500 Oh No", [TEXT], sys.exc_info())
            return [b"sorry"]

    assert told(serve(app).talk(GET)) == [(500, b"sorry")]


def test_a_closing_that_fails_is_logged_and_no_more(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Body):
        def close(self) -> None:
            raise ValueError("it will not close")

    out = serve(returning(lambda: Failing(b"one", b"two"))).talk(GET, GET)
    assert told(out) == [(200, b"onetwo")] * 2
    assert "it will not close" in caplog.text


# Clients that go.


def test_the_body_is_closed_when_the_client_has_gone(make_world: MakeWorld) -> None:
    made = [Body(*[b"x" * 1000] * 1000) for _ in range(3)]
    waiting = iter(made)
    world = make_world(
        wsgi_handler(returning(lambda: next(waiting))), Timeouts(write_timeout=5.0), max_output_bytes=5000
    )
    gone = world.connect(GET, window_bytes=1000)
    never_reading = world.connect(GET, window_bytes=1000)
    world.tick(5)
    assert [body.closed for body in made] == [0, 0, 0]
    gone.reset()
    world.tick(2)
    assert [body.closed for body in made] == [1, 0, 0]
    world.wait(6.0)
    assert [body.closed for body in made] == [1, 1, 0]
    assert never_reading.sees_reset


def test_a_request_whose_client_has_gone_before_its_turn_is_not_run(make_world: MakeWorld) -> None:
    body = Body(b"one", b"two")
    world = make_world(wsgi_handler(returning(body)), threads=4)
    client = world.connect(GET)
    world.tick(2)
    client.reset()
    world.tick(2)
    world.work()
    world.tick(2)
    assert body.closed == 0, "it was not called for"
    assert world.server.core.backlog.left == 1
