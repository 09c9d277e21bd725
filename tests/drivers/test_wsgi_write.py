"""`write`, as a WSGI application gets it: on its way at once from a worker, kept on the loop, and the same bytes."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from h1core import Request
from h1core.app import wsgi
from h1core.app.wsgi import FileWrapper, wsgi_handler
from h1core.errors import Disconnected, LocalError

from .test_pool import PATIENCE_S, Bench, make_bench, wait_for
from .test_selectors_pool_sockets import Running, read_to_end, reset
from .test_selectors_pool_sockets import serve as serve_sockets
from .test_wsgi import Body, Serve, serve, told
from .world import GET, HEAD, LAST_GET, MakeWorld, error_lines

__all__ = ["make_bench", "serve", "serve_sockets"]  # the fixtures

TEXT = ("Content-Type", "text/plain")

Start = Callable[..., Callable[[bytes], object]]


def writing(*pieces: Any, result: Any = (), headers: Any = (), status: str = "200 OK") -> Any:
    """An application that writes, and then returns something."""

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        write = start_response(status, [TEXT, *headers])
        for piece in pieces:
            write(piece)
        return result() if callable(result) else result

    return app


# What goes out, on the loop and from a worker.


@pytest.mark.parametrize(
    "result",
    [lambda: [b"four", b"five"], lambda: iter([b"four", b"", b"five"]), lambda: Body(b"four", b"five")],
    ids=["list", "iterator", "iterable"],
)
def test_what_is_written_goes_before_what_is_returned(serve: Serve, result: Any) -> None:
    out = serve(writing(b"one", b"", b"two", b"three", result=result)).talk(GET, LAST_GET)
    assert told(out) == [(200, b"onetwothreefourfive")] * 2
    assert out.count(b"transfer-encoding: chunked\r\n") == 2


def test_nothing_need_be_returned(serve: Serve) -> None:
    assert told(serve(writing(b"hello", result=[])).talk(GET, LAST_GET)) == [(200, b"hello")] * 2


def test_a_file_may_follow(serve: Serve, tmp_path: Any) -> None:
    (tmp_path / "a").write_bytes(b" and a file")
    out = serve(writing(b"hello", result=lambda: FileWrapper((tmp_path / "a").open("rb")))).talk(GET)
    assert told(out) == [(200, b"hello and a file")]


def test_with_a_length_it_goes_out_as_it_is(serve: Serve) -> None:
    out = serve(writing(b"one", b"two", result=[b"!"], headers=[("Content-Length", "7")])).talk(GET, LAST_GET)
    assert told(out) == [(200, b"onetwo!")] * 2
    assert (out.count(b"content-length: 7\r\n"), out.count(b"chunked")) == (2, 0)


@pytest.mark.parametrize(("headers", "says"), [([], b""), ([("Content-Length", "6")], b"content-length: 6\r\n")])
def test_head_gets_the_head_that_get_would_get(serve: Serve, headers: Any, says: bytes) -> None:
    out = serve(writing(b"one", b"two", headers=headers)).talk(HEAD, HEAD)
    assert out.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert (out.count(b"content-length"), out.count(says or b"HTTP")) == (2 * bool(says), 2)
    assert out.endswith(b"\r\n\r\n")
    assert b"one" not in out


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_content_has_none(serve: Serve, status: str) -> None:
    out = serve(writing(b"one", result=[b"two"], status=status)).talk(GET, LAST_GET)
    assert told(out) == [(int(status[:3]), b"")] * 2


def test_the_judge_of_the_standard_library_finds_nothing_wrong(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve(validator(writing(b"one", b"two", result=[b"three"])))
    assert told(served.talk(GET, LAST_GET)) == [(200, b"onetwothree")] * 2
    assert served.talk(HEAD).startswith(b"HTTP/1.1 200 OK\r\n")
    assert "garbage collected" not in capsys.readouterr().err


# What goes wrong.


def raise_again(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [TEXT])(b"one")
    try:
        raise ValueError("the cause")
    except ValueError:
        start_response("500 Oh No", [TEXT], sys.exc_info())
    return [b"sorry"]


def fail(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [TEXT])(b"one")
    raise ValueError("the cause")


@pytest.mark.parametrize("app", [raise_again, fail, writing(b"one", "the cause"), writing(b"one", result=None)])
def test_what_fails_cuts_a_response_that_has_begun_and_is_a_500_before(
    app: Any, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(app)
    client = served.connect(GET)
    served.settle()
    [line] = error_lines(caplog)
    if served.threads:
        assert client.sees_end
        assert not client.sees_reset
        assert line.startswith("the handler's body failed; the connection to ")
    else:
        assert told(client.read()) == [(500, b"The application failed.\n")]
        assert line == "the handler failed on GET / HTTP/1.1"


def test_an_application_that_exits_in_a_worker_ends_its_request_only(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])(b"one")
        sys.exit("the cause")

    world = make_world(wsgi_handler(app), threads=1)
    client = world.connect(GET)
    world.tick(2)
    world.work()
    world.tick(2)
    assert client.sees_end
    assert not client.sees_reset
    assert "SystemExit: the cause" in caplog.text


@pytest.mark.parametrize(
    ("pieces", "rest", "length", "says"),
    [
        ((b"one", b"two"), (b"!",), 10, "the body is 3 bytes shorter than Content-Length said"),
        ((b"one", b"two"), (b"three",), 7, "the body is 4 bytes longer than Content-Length said"),
    ],
)
def test_a_body_of_another_length_than_was_said_cuts_the_connection(
    pieces: Any, rest: Any, length: int, says: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body(*rest)
    served = serve(writing(*pieces, result=body, headers=[("Content-Length", str(length))]))
    client = served.connect(GET)
    served.settle()
    assert client.sees_end
    assert not client.sees_reset
    assert len(error_lines(caplog)) == 1
    assert says in caplog.text
    assert body.closed == 1


def test_a_piece_beyond_the_length_is_an_error_where_it_is_written(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[str] = []

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [TEXT, ("Content-Length", "7")])
        for piece in (b"one", b"two", b"three", b"!"):
            try:
                write(piece)
            except LocalError as error:
                raised.append(str(error))
        return []

    assert told(serve(app).talk(GET, GET)) == [(200, b"onetwo!")] * 2
    assert raised == ["write goes beyond the Content-Length of 7; this piece is not sent"] * 2


def test_a_first_piece_beyond_the_length_leaves_the_application_its_turn(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        try:
            start_response("200 OK", [TEXT, ("Content-Length", "2")])(b"one")
        except LocalError:
            start_response("500 Oh No", [TEXT], sys.exc_info())
        return [b"sorry"]

    assert told(serve(app).talk(GET, GET)) == [(500, b"sorry")] * 2


def test_who_goes_on_when_the_client_has_gone_harms_nobody(make_bench: Callable[[int], Bench]) -> None:
    raised: list[type[Exception]] = []
    begun, may_write = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        begun.set()
        wait_for(may_write)
        for _ in range(2):
            try:
                write(b"one")
            except Disconnected as error:
                raised.append(type(error))
        return rest

    class Rest(Body):
        taken = 0

        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            self.taken += 1
            return b"two"

    rest = Rest()
    bench = make_bench(1)
    job = bench.job(wsgi_handler(app))
    wait_for(begun)
    job.abandon()
    may_write.set()
    bench.take_until(lambda: job.is_over)
    assert raised == [Disconnected] * 2
    assert (rest.taken, rest.closed) == (1, 1)


def test_the_result_is_closed_once_also_when_it_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [Body(b"two"), Body(fails=True), Body(b"two", fails=True)]
    for body in bodies:
        served = serve(writing(b"one", result=body))
        client = served.connect(GET)
        served.settle()
        assert client.sees_end == body.fails
    assert [body.closed for body in bodies] == [1, 1, 1]
    assert len(error_lines(caplog)) == 2


def test_who_writes_too_much_where_it_is_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "MAX_KEPT_BYTES", 10)
    written: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [TEXT])
        for piece in (b"12345", b"67890", b"!"):
            write(piece)
            written.append(piece)
        return []

    with pytest.raises(LocalError, match=r"^without worker threads, write keeps .* 10 bytes at most; return an iter"):
        wsgi_handler(app)(Request(b"GET", b"/", [(b"host", b"a")]))
    assert written == [b"12345", b"67890"]
    wsgi_handler(app)(Request(b"HEAD", b"/", [(b"host", b"a")]))  # nothing of it is wanted
    assert len(written) == 5


# Real threads.


def test_it_is_on_its_way_before_the_application_returns(serve_sockets: Callable[..., Running]) -> None:
    has_come = threading.Event()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"first")
        assert has_come.wait(PATIENCE_S)
        write(b"second")
        return [b"third"]

    running = serve_sockets(wsgi_handler(app), threads=1)
    sock = running.connect()
    sock.sendall(LAST_GET)
    received = b""
    while b"first" not in received:
        received += sock.recv(1 << 16)
    has_come.set()
    assert told(received + read_to_end(sock)) == [(200, b"firstsecondthird")]
    sock.close()


@pytest.mark.parametrize("leaves", ["before", "while it is written"])
def test_a_client_that_has_gone_is_an_error_where_it_is_written(
    leaves: str, serve_sockets: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[BaseException] = []
    begun, has_gone, has_ended = threading.Event(), threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/other":
            start_response("200 OK", [TEXT])
            return [b"hello"]
        write = start_response("200 OK", [TEXT])
        begun.set()
        if leaves == "before":
            assert has_gone.wait(PATIENCE_S)
        try:
            while True:
                write(b"x" * 10_000)
        except Disconnected as error:
            raised.append(error)
            raise
        finally:
            has_ended.set()

    running = serve_sockets(wsgi_handler(app), threads=1)
    sock = running.connect()
    sock.sendall(GET)
    wait_for(begun)
    if leaves != "before":
        assert sock.recv(1000)
    reset(sock)
    has_gone.set()
    wait_for(has_ended)
    other = running.connect()
    other.sendall(LAST_GET.replace(b"/ ", b"/other ", 1))
    assert told(read_to_end(other)) == [(200, b"hello")]  # by the same worker
    other.close()
    assert [type(error) for error in raised] == [Disconnected]
    assert error_lines(caplog) == []


def test_it_waits_while_the_client_is_behind(make_bench: Callable[[int], Bench]) -> None:
    written = 0

    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes] | list[bytes]:
        nonlocal written
        write = start_response("200 OK", [TEXT])
        for _ in range(200):
            write(b"x" * 100)
            written += 100
        return []

    bench = make_bench(1)
    job = bench.job(wsgi_handler(app), max_bytes=1000)
    taken = 0

    def takes_one() -> bool:
        nonlocal taken
        if job.source is None:
            return False
        while isinstance(piece := job.source.next_piece(), bytes):
            taken += len(piece)
            assert written - taken <= 1000 + 100  # what may wait, and the piece that goes beyond it
        return taken == 20_000

    bench.take_until(takes_one)
