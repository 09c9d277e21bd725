"""The client in memory: what users' tests can say of a server, with time in it."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from h1core import Exchange, Limits, LocalError, Request, Response, StreamingHandler, Timeouts
from h1core.app.handler import AsyncHandler, Handler
from h1core.testing import Client


def echo(request: Request) -> Response:
    return Response(200, [(b"x-method", request.method)], request.body or request.target)


Kind = Callable[[Handler], Any]


def sync(handler: Handler) -> Handler:
    """On the readiness loop."""
    return handler


def as_async(handler: Handler) -> AsyncHandler:
    async def runs(request: Request) -> Response:
        return handler(request)

    return runs


KINDS: dict[str, tuple[Kind, str]] = {
    "sync": (sync, "auto"),
    "sync on asyncio": (sync, "asyncio"),
    "sync on trio": (sync, "trio"),
    "asyncio": (as_async, "auto"),
    "trio": (as_async, "trio"),
}


@pytest.fixture(params=KINDS)
def make_client(request: pytest.FixtureRequest) -> Callable[..., Client]:
    """Makes a client of a handler, for each way of running it."""
    kind, driver = KINDS[request.param]
    return lambda handler, **options: Client(kind(handler), driver=driver, **options)


on_both = pytest.mark.parametrize("driver", ["asyncio", "trio"])


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Iterator[Client]:
    with make_client(echo) as client:
        yield client


def test_it_asks_and_is_answered(client: Client) -> None:
    answer = client.get("/a?b")
    assert (answer.status, answer.text, answer.fields["x-method"]) == (200, "/a?b", "GET")
    assert client.post("/", b"body").body == b"body"
    assert client.request("HEAD", "/").body == b""
    assert client.request("DELETE", "/", [("X-Reason", "none")]).fields["x-method"] == "DELETE"


def test_a_client_may_stall_for_forty_seconds_in_the_middle_of_an_upload(client: Client) -> None:
    began_at = time.monotonic()
    peer = client.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
    client.wait(40)
    peer.send(b"llo")
    assert peer.answer().text == "hello"
    assert client.now == 40
    assert time.monotonic() - began_at < 20  # not that it slept


def test_deadlines_come_when_they_are_due(client: Client) -> None:
    peer = client.connect()
    peer.send(b"GET / HT")
    client.wait(9.9)
    assert peer.answers() == []
    client.wait(0.1)
    assert peer.answer().status == 408
    assert peer.sees_end


def test_the_date_moves_with_the_clock(client: Client) -> None:
    assert client.get("/").fields["date"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    client.wait(3600)
    assert client.get("/").fields["date"] == "Sun, 09 Sep 2001 02:46:40 GMT"


def large(request: Request) -> Response:
    return Response(200, (), bytes(100_000))


def test_a_client_that_never_reads_is_reset(make_client: Callable[..., Client]) -> None:
    with make_client(large, timeouts=Timeouts(write_timeout=5)) as client:
        peer = client.connect(window_bytes=1 << 15)
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(4)
        assert len(peer.read(1 << 15)) == 1 << 15
        client.wait(4)
        assert not peer.sees_end
        client.wait(1)
        assert peer.sees_reset


def test_what_the_window_holds_back_comes_as_it_is_read(make_client: Callable[..., Client]) -> None:
    with make_client(large) as client:
        peer = client.connect(window_bytes=7)
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(peer.answer().body) == 100_000


def test_answers_are_told_apart_and_none_or_two_are_not_one(client: Client) -> None:
    peer = client.connect()
    peer.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [answer.body for answer in peer.answers("GET", "HEAD")] == [b"/1", b""]
    with pytest.raises(ValueError, match="one answer was expected, and 0 have come"):
        peer.answer()


def test_a_peer_may_close_its_side_or_break_the_connection(client: Client) -> None:
    half, broken = client.connect(), client.connect()
    half.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    half.end()
    assert half.answer().status == 200
    assert half.sees_end
    broken.reset()
    assert broken.sees_end


def over(client: Client) -> bool:
    return client.is_over


def test_a_drain_ends_the_server_when_all_is_answered(client: Client) -> None:
    idle, busy = client.connect(), client.connect()
    busy.send(b"GET / HTTP/1.1\r\n")
    client.begin_drain()
    assert idle.sees_end
    assert not over(client)
    busy.send(b"Host: a\r\n\r\n")
    assert busy.answer().fields["connection"] == "close"
    busy.end()
    idle.end()
    assert over(client)
    client.wait(1)
    assert client.now == 1
    client.close()
    with pytest.raises(ConnectionRefusedError):
        client.connect()


@pytest.mark.parametrize("threads", [0, 2])
def test_it_starts_no_thread_and_opens_no_socket(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*args: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket.socket, "__init__", no_socket)
    before = threading.active_count()
    with Client(echo, threads=threads, limits=Limits(max_queued_requests=1)) as client:
        assert client.get("/").status == 200
        assert threading.active_count() == before


# On both event loops.


@on_both
@pytest.mark.parametrize("threads", [0, 2])
def test_workers_of_an_event_loop_are_none_either(driver: str, threads: int) -> None:
    counts: list[int] = []

    def handler(request: Request) -> Response:
        counts.append(threading.active_count())
        return echo(request)

    with Client(handler, driver=driver, threads=threads, timeouts=Timeouts(keepalive_timeout=5)) as client:
        before = threading.active_count()
        peer = client.connect()
        for target in (b"/a", b"/b"):
            peer.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            assert peer.answer().body == target
        client.wait(5)
        assert peer.sees_end
    assert counts == [before] * 2


async def clock(request: Request) -> Response:
    async def ticks() -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(1)
            yield b"tick\n"

    return Response(200, (), ticks())


@on_both
def test_an_hour_of_ticks_passes_at_once(driver: str) -> None:
    with Client(clock, driver=driver) as client:
        peer = client.connect()
        peer.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        client.wait(3600)
        assert 3599 <= peer.read().count(b"tick\n") <= 3600
        peer.reset()


@on_both
def test_a_handler_that_streams_sees_what_a_client_sends_as_it_comes(driver: str) -> None:
    seen: list[tuple[float, bytes]] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        async for piece in exchange:
            seen.append((anyio.current_time(), piece))
        return Response(200)

    with Client(handler, driver=driver) as client:
        peer = client.connect()
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        client.wait(30)
        peer.send(b"b")
        assert peer.answer().status == 200
    assert seen == [(0, b"a"), (30, b"b")]


def test_a_server_that_does_not_start_says_why() -> None:
    class Odd:
        async def __call__(self, request: Request) -> Response:
            raise AssertionError

    with pytest.raises(RuntimeError, match="did not start") as raised:
        Client(Odd(), limits=Limits(max_connections=1), timeouts=object())  # type: ignore[arg-type]  # on purpose
    assert raised.value.__cause__ is not None


# WSGI and ASGI.


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} ".encode(), environ["wsgi.input"].read()]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["started_at"] = anyio.current_time()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await anyio.sleep(3)
        await send({"type": "lifespan.shutdown.complete"})
        return
    message = await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": f"{scope['path']} {scope['state']} ".encode() + message["body"]})


def test_a_wsgi_application_is_told_by_its_arguments() -> None:
    with Client(wsgi, root_path="/shop") as client:
        assert client.post("/shop/a", b"body").text == "/shop /a body"


@on_both
def test_an_asgi_application_has_its_lifespan(driver: str) -> None:
    with Client(asgi, driver=driver) as client:
        assert client.post("/a", b"body").text == "/a {'started_at': 0.0} body"


@on_both
def test_closing_lets_an_asgi_application_shut_down_and_takes_no_real_time(driver: str) -> None:
    steps: list[tuple[str, float]] = []

    async def slow_to_stop(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await anyio.sleep(60)
            steps.append(("started", anyio.current_time()))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await anyio.sleep(3)
            steps.append(("stopped", anyio.current_time()))
            await send({"type": "lifespan.shutdown.complete"})

    began_at = time.monotonic()
    with Client(slow_to_stop, driver=driver) as client:
        assert client.now == 60
        client.wait(40)
    assert steps == [("started", 60), ("stopped", 103)]
    assert time.monotonic() - began_at < 20


@on_both
def test_an_application_that_cannot_start_says_so(driver: str) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="did not start") as raised:
        Client(fails, driver=driver)
    assert "no database" in str(raised.value.__cause__)


def test_what_is_no_application_is_a_local_error() -> None:
    with pytest.raises(LocalError, match="cannot tell what kind of application this is"):
        Client(lambda: None)


def test_a_driver_that_does_not_exist_or_does_not_fit_is_a_local_error() -> None:
    with pytest.raises(LocalError, match="driver is one of auto, selectors, asyncio, trio, not 'gevent'"):
        Client(echo, driver="gevent")
    with pytest.raises(LocalError, match="needs the asyncio or the trio driver"):
        Client(asgi, driver="selectors")


@on_both
def test_a_plain_function_of_fastapi_is_answered(driver: str) -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/{name}")  # type: ignore[untyped-decorator]  # fastapi may be missing, and is Any
    def hello(name: str) -> dict[str, bool | str]:
        return {"hello": name, "is_elsewhere": threading.current_thread() is not here}

    here = threading.current_thread()
    with Client(app, driver=driver) as client:
        for name in ("a", "b"):
            assert client.get(f"/{name}").text == f'{{"hello":"{name}","is_elsewhere":true}}'


@on_both
def test_what_no_time_can_bring_is_not_waited_for_in_real_time(driver: str) -> None:
    async def sleepy(request: Request) -> Response:
        await anyio.sleep(3600)
        return Response(200)

    began_at = time.monotonic()
    with Client(sleepy, driver=driver) as client, pytest.raises(ValueError, match="0 have come"):
        client.get("/")
    assert time.monotonic() - began_at < 5


# On asyncio.


async def patient(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await asyncio.sleep(3600)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"at last"})


def test_an_hour_of_sleep_is_over_when_the_test_says_so_and_not_before() -> None:
    with Client(patient) as client:
        peer = client.connect()
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(3599)
        assert peer.answers() == []
        client.wait(1)
        assert peer.answer().text == "at last"


async def in_a_thread(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": name.encode()})


def test_a_thread_of_the_application_is_waited_for() -> None:
    with Client(in_a_thread) as client:
        assert client.get("/").text.startswith("asyncio_")


def test_a_year_passes_as_well() -> None:
    with Client(patient) as client:
        client.wait(365 * 24 * 3600)
        peer = client.connect()
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(3600)
        assert peer.answer().text == "at last"


def test_a_startup_in_a_thread_is_waited_for_while_another_task_ticks() -> None:
    may_end = threading.Event()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(asyncio.get_running_loop().time())
            if len(ticks) == 3:
                may_end.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            ticking = asyncio.create_task(tick())
            await asyncio.to_thread(may_end.wait)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            ticking.cancel()
            await send({"type": "lifespan.shutdown.complete"})

    with Client(app) as client:
        assert ticks[:3] == [1, 2, 3]
        assert client.now < 60  # it did not run away while the thread ended


def test_closing_leaves_no_task_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    left_open: list[AsyncIterator[int]] = []
    closed: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    async def leaves_much(request: Request) -> Response:
        loops.append(asyncio.get_running_loop())
        left_open.append(numbers())
        await anext(left_open[0])
        background.append(asyncio.create_task(asyncio.sleep(3600)))
        await asyncio.sleep(3600)
        return Response(200)

    background: list[asyncio.Task[None]] = []
    client = Client(leaves_much)
    client.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.close()
    client.close()
    assert asyncio.all_tasks(loops[0]) == set()
    assert loops[0].is_closed()
    assert background[0].cancelled()
    assert closed == [True]
    gc.collect()
    assert recwarn.list == []
