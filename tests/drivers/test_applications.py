"""What applications say and do (docs/applications.md): served where it can be, and told once, on every host."""

import asyncio
import functools
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from h1core.drivers import asyncio_driver, selectors_driver, trio_driver
from h1core.drivers.app_interface import choose_interface
from h1core.drivers.engine import own_answers
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, StreamingResponse
from starlette.routing import Route
from werkzeug import Request as WerkzeugRequest
from werkzeug import Response as WerkzeugResponse

from h1core import LeftOut, LocalError, Request, Response
from h1core.app.wsgi import FileWrapper
from h1core.testing import Client

Fields = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process of its own to what is said once in one."""
    monkeypatch.setattr(own_answers, "_said", set())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.partition(": ")[2] for line in caplog.messages if line.startswith("not sent")]


# An application of each kind that answers with a status, fields and a body, whole or in pieces.


def wsgi(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(f"{status} Word", fields)
        return pieces

    return app


def wsgi_stream(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(f"{status} Word", fields)
        yield from pieces

    return app


def encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


def handler(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    return lambda request: Response(status, encoded(fields), b"".join(pieces))


def handler_stream(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    return lambda request: Response(status, encoded(fields), iter(pieces))


def async_handler(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    async def app(request: Any) -> Response:
        return Response(status, encoded(fields), iter(pieces))

    return app


def asgi(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": encoded(fields)})
        await send({"type": "http.response.body", "body": b"".join(pieces)})

    return app


def asgi_stream(status: int, fields: Fields, pieces: list[bytes]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": encoded(fields)})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


Make = Callable[[int, Fields, list[bytes]], Any]
HOSTS: list[tuple[Make, str, int]] = [
    *((make, "selectors", threads) for make in (wsgi, wsgi_stream, handler, handler_stream) for threads in (0, 2)),
    *((make, driver, 0) for make in (async_handler, asgi, asgi_stream) for driver in ("asyncio", "trio")),
]
everywhere = pytest.mark.parametrize(
    ("make", "driver", "threads"), HOSTS, ids=[f"{make.__name__}-{driver}-{threads}" for make, driver, threads in HOSTS]
)


def talk(app: Any, driver: str, threads: int, *requests: bytes) -> tuple[bytes, bool]:
    """All that comes back for requests that are sent at once, and whether the connection has ended."""
    with Client(app, driver=driver, threads=threads) as client:
        peer = client.connect()
        peer.send(b"".join(requests))
        client.wait(1)
        return peer.read(), peer.sees_end


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OLD_GET = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


@everywhere
@pytest.mark.parametrize(
    ("field", "what"),
    [
        (("Connection", "keep-alive"), LeftOut.CONNECTION),
        (("Keep-Alive", "timeout=5"), LeftOut.KEEP_ALIVE),
        (("Transfer-Encoding", "chunked"), LeftOut.TRANSFER_ENCODING),
        (("TE", "trailers"), LeftOut.TE),
        (("Upgrade", "h2c"), LeftOut.UPGRADE),
    ],
    ids=lambda it: it[0] if isinstance(it, tuple) else "",
)
def test_a_field_of_the_connection_is_left_out_and_told_once(
    make: Make, driver: str, threads: int, field: tuple[str, str], what: LeftOut, caplog: pytest.LogCaptureFixture
) -> None:
    out, is_over = talk(make(200, [("X-A", "  padded "), field], [b"hel", b"lo"]), driver, threads, GET, GET)
    assert out.count(b"HTTP/1.1 200 ") == 2
    assert out.count(b"X-A: padded\r\n") == 2
    assert b"onnection:" not in out
    assert field[0].encode() + b":" not in out
    assert said(caplog) == [what.value]
    assert not is_over


@everywhere
@pytest.mark.parametrize("asked", [GET, LAST_GET, OLD_GET])
def test_close_ends_the_connection_after_the_response(make: Make, driver: str, threads: int, asked: bytes) -> None:
    out, is_over = talk(make(200, [("Connection", "close")], [b"hello"]), driver, threads, asked, GET)
    assert out.count(b"HTTP/1.1 ") == 1
    assert out.lower().count(b"connection: close\r\n") == out.lower().count(b"connection:") == 1
    assert is_over


@everywhere
@pytest.mark.parametrize(("asked", "own"), [(LAST_GET, b"close"), (OLD_GET, None)])
def test_there_is_one_connection_field_and_it_says_what_will_happen(
    make: Make, driver: str, threads: int, asked: bytes, own: bytes | None
) -> None:
    out, is_over = talk(make(200, [("Connection", "keep-alive")], [b"hello"]), driver, threads, asked)
    expected = own or (b"close" if is_over else b"keep-alive")
    assert out.lower().count(b"connection: %b\r\n" % expected) == out.lower().count(b"connection:") == 1
    assert is_over == (expected == b"close")


@everywhere
@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("length", [None, "0", "4"])
def test_what_has_no_content_is_served_without_it(
    make: Make, driver: str, threads: int, status: int, length: str | None
) -> None:
    fields = [] if length is None else [("Content-Length", length)]
    for pieces in ([b"null"], [b"nu", b"ll"], []):
        if length is not None and make is wsgi and int(length) != len(b"".join(pieces)):
            continue  # a mistake in WSGI, whatever the status
        out, is_over = talk(make(status, fields, pieces), driver, threads, GET, GET)
        heads = out.split(b"\r\n\r\n")
        assert [head[:12] for head in heads] == [b"HTTP/1.1 %d" % status] * 2 + [b""]
        lengths = [line for line in heads[0].lower().split(b"\r\n") if line.startswith(b"content-length")]
        if status == 205:
            assert lengths == [b"content-length: 0"]
        elif status == 204:
            assert lengths == []
        assert not is_over


@everywhere
def test_a_length_that_is_given_twice_is_sent_once(make: Make, driver: str, threads: int) -> None:
    out, _ = talk(make(200, [("Content-Length", "5"), ("content-length", "5")], [b"hello"]), driver, threads, GET)
    assert out.lower().count(b"content-length: 5\r\n") == 1
    assert out.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("make", [wsgi, wsgi_stream])
def test_the_reason_phrase_is_the_applications(make: Make, threads: int) -> None:
    out, _ = talk(make(299, [], [b"hello"]), "selectors", threads, GET)
    assert out.startswith(b"HTTP/1.1 299 Word\r\n")


@pytest.mark.parametrize(("driver", "threads"), [("selectors", 0), ("selectors", 2)])
def test_the_reason_phrase_is_the_handlers(driver: str, threads: int) -> None:
    for body in (b"hello", [b"hello"]):
        out, _ = talk(lambda request, body=body: Response(299, (), body, b"Word"), driver, threads, GET)
        assert out.startswith(b"HTTP/1.1 299 Word\r\n")


# A first look at the head.


def refuse_large(request: Request) -> Response | None:
    is_large = any(name == b"content-length" and len(value) > 4 for name, value in request.headers)
    return Response(401, (), b"no") if is_large or request.target == b"/no" else None


UPLOAD = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
SYNC_HOSTS = [host for host in HOSTS if host[0] not in (asgi, asgi_stream)]
for_sync = pytest.mark.parametrize(
    ("make", "driver", "threads"), SYNC_HOSTS, ids=[f"{host[0].__name__}-{host[1]}-{host[2]}" for host in SYNC_HOSTS]
)


def with_on_head(make: Make, on_head: Any) -> Any:
    app = make(200, [], [b"hello"])
    app.on_head = on_head
    return app


@for_sync
def test_a_first_look_refuses_before_the_body_is_sent(make: Make, driver: str, threads: int) -> None:
    out, is_over = talk(with_on_head(make, refuse_large), driver, threads, UPLOAD % 50_000)
    assert out.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in out
    assert out.endswith(b"\r\n\r\nno")
    assert is_over, "what the client sends now would be taken for its next request"


@for_sync
def test_a_first_look_lets_others_pass(make: Make, driver: str, threads: int) -> None:
    app = with_on_head(make, refuse_large)
    out, is_over = talk(app, driver, threads, UPLOAD % 5 + b"12345", GET, b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n", GET)
    statuses = [int(part[:3]) for part in out.split(b"HTTP/1.1 ")[1:]]
    assert [status for status in statuses if status != 100] == [200, 200, 401, 200]
    assert not is_over
    out, is_over = talk(app, driver, threads, b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345", GET)
    assert [part[:3] for part in out.split(b"HTTP/1.1 ")[1:]] == [b"401", b"200"]


@for_sync
@pytest.mark.parametrize(
    "on_head", [lambda request: 1 / 0, lambda request: "text", lambda request: Response(200, (), [])]
)
def test_a_first_look_that_fails_is_a_500(make: Make, driver: str, threads: int, on_head: Any) -> None:
    out, _ = talk(with_on_head(make, on_head), driver, threads, GET, GET)
    assert [part[:3] for part in out.split(b"HTTP/1.1 ")[1:]] == [b"500", b"500"]


# What applications raise.


SERIOUS = [SystemExit(1), GeneratorExit(), asyncio.CancelledError()]


def raises(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("error", SERIOUS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["call", "piece", "close"])
@pytest.mark.parametrize(("driver", "threads"), [("selectors", 0), ("selectors", 2), ("asyncio", 0), ("trio", 0)])
def test_what_a_sync_application_raises_ends_its_request_only(
    driver: str, threads: int, place: str, error: BaseException
) -> None:
    class Body:
        def __iter__(self) -> Any:
            yield b"one"
            if place == "piece":
                raises(error)

        def close(self) -> None:
            if place == "close":
                raises(error)

    def app(request: Request) -> Response:
        if request.target != b"/bad":
            return Response(204)
        return raises(error) if place == "call" else Response(200, (), Body())

    with Client(app, driver=driver, threads=threads) as client:
        peer = client.connect()
        peer.send(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(1)
        out = peer.read()
        assert out.startswith(b"HTTP/1.1 500 " if place == "call" else b"HTTP/1.1 200 ")
        assert out.endswith(b"\r\n0\r\n\r\n") == (place == "close")
        assert client.get("/").status == 204


@pytest.mark.parametrize("error", SERIOUS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize("is_asgi", [False, True])
def test_what_a_coroutine_raises_ends_its_request_only(driver: str, is_asgi: bool, error: BaseException) -> None:
    async def take(request: Request) -> Response:
        return raises(error) if request.target == b"/bad" else Response(204)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            raise error
        await asgi(204, [], [])(scope, receive, send)

    with Client(app if is_asgi else take, driver=driver) as client:
        assert client.get("/bad").status == 500
        assert client.get("/").status == 204


# Which interface an application has.


def test_a_signature_that_is_borrowed_is_a_guess_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    @WerkzeugRequest.application
    def app(request: WerkzeugRequest) -> WerkzeugResponse:
        return WerkzeugResponse("hello")

    assert choose_interface(app) == "handler"
    assert caplog.messages == ["app takes any number of arguments: taken for handler, or say --interface"]
    assert choose_interface(app, "wsgi") == "wsgi"
    with Client(app, interface="wsgi") as client:
        assert client.get("/").text == "hello"


def test_a_wrapper_of_any_arguments_is_what_it_wraps() -> None:
    def wrap(app: Any) -> Any:
        @functools.wraps(app)
        def wrapper(*args: Any, **options: Any) -> Any:
            return app(*args, **options)

        return wrapper

    assert choose_interface(wrap(wsgi(200, [], []))) == "wsgi"
    assert choose_interface(wrap(asgi(200, [], []))) == "asgi"
    assert choose_interface(wrap(handler(200, [], []))) == "handler"


def test_an_interface_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(LocalError, match="--interface wsgi"):
        choose_interface(handler(200, [], []), "wsgi")


# Files.


def test_a_wrapped_file_can_be_sought() -> None:
    wrapped = FileWrapper(io.BytesIO(b"hello"))
    assert wrapped.seekable()
    assert wrapped.seek(3) == wrapped.tell() == 3
    assert list(wrapped) == [b"lo"]
    assert not FileWrapper(object()).seekable()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"0123456789" * 20_000)
    return tmp_path / "file"


def told_by(client: Client, method: str = "GET", fields: Iterable[tuple[str, str]] = ()) -> tuple[int, str | None, int]:
    answer = client.request(method, "/", headers=fields)
    return answer.status, dict(answer.headers).get("content-length"), len(answer.body)


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_starlette_sends_files_by_path(driver: str, file: Path) -> None:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

        async def seen(message: Any) -> None:
            paths.extend([message["path"]] if message["type"] == "http.response.pathsend" else [])
            await send(message)

        await FileResponse(file)(scope, receive, seen)

    with Client(app, driver=driver) as client:
        assert told_by(client) == (200, "200000", 200_000)
        assert paths == [str(file)]
        assert told_by(client, "HEAD") == (200, "200000", 0)
        assert told_by(client, fields=[("Range", "bytes=199990-")]) == (206, "10", 10)


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, slice(0, None)),
        ({"offset": 5}, slice(5, None)),
        ({"count": 7}, slice(0, 7)),
        ({"offset": 199_995, "count": 100}, slice(199_995, None)),
        ({"offset": 300_000}, slice(0, 0)),
    ],
    ids=str,
)
def test_an_application_sends_a_part_of_an_open_file(
    driver: str, part: dict[str, int], expected: slice, file: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.zerocopysend" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200})
        with file.open("rb") as opened:
            await send({"type": "http.response.zerocopysend", "file": opened, **part})

    with Client(app, driver=driver) as client:
        answer = client.get("/")
        assert answer.body == file.read_bytes()[expected]
        assert dict(answer.headers).get("content-length") == str(len(answer.body))


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_a_file_may_stand_between_pieces(driver: str, file: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"<", "more_body": True})
        with file.open("rb") as opened:
            await send({"type": "http.response.zerocopysend", "file": opened, "count": 5, "more_body": True})
        await send({"type": "http.response.body", "body": b">"})

    with Client(app, driver=driver) as client:
        assert client.get("/").body == b"<01234>"


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.pathsend", "path": "/does/not/exist"},
        {"type": "http.response.pathsend", "path": "/"},
        {"type": "http.response.zerocopysend", "file": io.BytesIO(b"x")},
    ],
    ids=lambda message: str(message.get("path", "file")),
)
def test_a_file_that_cannot_be_sent_is_a_500(driver: str, message: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send(message)

    with Client(app, driver=driver) as client:
        assert client.get("/").status == 500


# A body that streams back.


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize("is_split", [False, True])
def test_starlette_streams_a_request_back(driver: str, is_split: bool) -> None:
    async def echo(request: StarletteRequest) -> StreamingResponse:
        return StreamingResponse(request.stream())

    with Client(Starlette(routes=[Route("/", echo, methods=["POST"])]), driver=driver) as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        for piece in (b"hello", b"world"):
            peer.send(piece)
            if is_split:
                client.wait(1)
        assert peer.answer().body == b"helloworld"


# What reaches an application, and comes back.


def wsgi_echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-Echo", environ["HTTP_X_ECHO"])])
    return [f"{environ['PATH_INFO']} {environ['QUERY_STRING']}".encode("latin-1")]


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    value = next(value for name, value in scope["headers"] if name == b"x-echo")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Echo", value)]})
    await send({"type": "http.response.body", "body": f"{scope['path']} ".encode() + scope["query_string"]})


ECHOES = [(wsgi_echo, "selectors", 0), (wsgi_echo, "selectors", 2), (asgi_echo, "asyncio", 0), (asgi_echo, "trio", 0)]
echoes = pytest.mark.parametrize(("app", "driver", "threads"), ECHOES, ids=lambda it: getattr(it, "__name__", str(it)))


@echoes
@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%2Fb", b"/a/b", b""),
        (b"/a%00b", b"/a\x00b", b""),
        (b"/%C3%A9", "/\xe9".encode(), b""),
        (b"/a;b=c", b"/a;b=c", b""),
        (b"//a//b", b"//a//b", b""),
        (b"/a/../b/.", b"/a/../b/.", b""),
        (b"/a?", b"/a", b""),
        (b"/?a=%2F&b", b"/", b"a=%2F&b"),
        (b"http://a/b?c", b"/b", b"c"),
    ],
)
def test_a_target_reaches_applications_alike(
    app: Any, driver: str, threads: int, target: bytes, path: bytes, query: bytes
) -> None:
    out, _ = talk(app, driver, threads, b"GET %b HTTP/1.1\r\nHost: a\r\nX-Echo: 1\r\n\r\n" % target)
    assert out.partition(b"\r\n\r\n")[2] == path + b" " + query


@echoes
def test_a_byte_that_is_no_utf_8_is_kept_by_wsgi_and_replaced_for_asgi(app: Any, driver: str, threads: int) -> None:
    out, _ = talk(app, driver, threads, b"GET /%FF HTTP/1.1\r\nHost: a\r\nX-Echo: 1\r\n\r\n")
    assert out.endswith(b"/\xff " if app is wsgi_echo else b"/\xef\xbf\xbd ")


@echoes
@pytest.mark.parametrize("value", [b"\xe9", "\xe9\u20ac".encode()], ids=["latin-1", "utf-8"])
def test_a_value_goes_in_and_out_as_it_is(app: Any, driver: str, threads: int, value: bytes) -> None:
    out, _ = talk(app, driver, threads, b"GET / HTTP/1.1\r\nHost: a\r\nX-Echo: %b\r\n\r\n" % value)
    assert b"\r\nX-Echo: %b\r\n" % value in out


@everywhere
def test_many_cookies_are_all_set(make: Make, driver: str, threads: int) -> None:
    cookies = [("Set-Cookie", f"c{number}=v") for number in range(30)]
    out, _ = talk(make(200, cookies, [b"hello"]), driver, threads, GET)
    assert [line for line in out.split(b"\r\n") if line.startswith(b"Set-Cookie")] == [
        b"Set-Cookie: c%d=v" % number for number in range(30)
    ]


@everywhere
def test_a_date_and_a_server_of_its_own_are_sent_as_they_are(make: Make, driver: str, threads: int) -> None:
    out, _ = talk(make(200, [("Date", "then"), ("Server", "mine")], [b"hello"]), driver, threads, GET)
    assert out.lower().count(b"\r\ndate:") == out.count(b"\r\nDate: then\r\n") == 1
    assert out.lower().count(b"\r\nserver:") == out.count(b"\r\nServer: mine\r\n") == 1


LIST_SOCKETS = """
import os
paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
print(sum("socket" in os.readlink(path) for path in paths if os.path.islink(path)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed in /proc")
@pytest.mark.parametrize("module", [selectors_driver, asyncio_driver, trio_driver], ids=lambda it: it.__name__)
def test_a_process_that_an_application_starts_gets_no_socket_of_the_server(module: Any) -> None:
    def count() -> bytes:
        # Not closed by the parent: only close-on-exec keeps descriptors from the child.
        command = [sys.executable, "-c", LIST_SOCKETS]
        return subprocess.run(command, stdout=subprocess.PIPE, close_fds=False, check=True).stdout

    before = count()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = module.Server(lambda request: Response(200, (), count()), listeners=[listener])
    address = listener.getsockname()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with socket.create_connection(address) as idle, socket.create_connection(address) as client:
            client.sendall(LAST_GET)
            with client.makefile("rb") as answer:
                assert answer.read().endswith(b"\r\n\r\n" + before)
            idle.sendall(LAST_GET)
            with idle.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 200 ")
    finally:
        server.begin_drain()
        thread.join()


# Serving inside a program.


def lifespan_app(seen: list[str]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        await asgi(204, [], [])(scope, receive, send)

    return app


def test_serve_on_trio_runs_the_lifespan_of_any_asgi_application() -> None:
    seen: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ((host, port),) = await nursery.start(trio_driver.serve, lifespan_app(seen), ["127.0.0.1:0"])
            stream = await trio.open_tcp_stream(host, port)
            await stream.send_all(LAST_GET)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 204 ")
            await stream.aclose()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert seen == ["lifespan", "http"]


def test_serve_on_asyncio_runs_the_lifespan_of_any_asgi_application() -> None:
    seen: list[str] = []

    async def main() -> None:
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(asyncio_driver.serve(lifespan_app(seen), ["127.0.0.1:0"], ready=ready.set_result))
        ((host, port),) = await ready
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(LAST_GET)
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
        writer.close()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert seen == ["lifespan", "http"]
