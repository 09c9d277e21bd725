"""What the server answers or cuts by itself is a line in the log, one for each, and no more than a few in a flood."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from h1core import Limits, Request, Response, Timeouts
from h1core.server.log_limit import LINES_PER_WINDOW, WINDOW_S
from h1core.testing import Client

from .world import GET, MakeWorld, World, get, hello

LARGE = b"x" * 300_000


def lines(caplog: pytest.LogCaptureFixture, least: int = logging.INFO) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.name == "h1core.server" and record.levelno >= least
    ]


# Applications of each kind: `/large` is a whole response, `/stream` one in pieces, all others are small.


def handler(request: Request) -> Response:
    if request.target == b"/stream":
        return Response(200, (), (b"x" * 1000 for _ in range(300)))
    return Response(200, (), LARGE if request.target == b"/large" else b"small")


async def async_handler(request: Request) -> Response:
    async def pieces() -> Any:
        for _ in range(300):
            yield b"x" * 1000

    if request.target == b"/stream":
        return Response(200, (), pieces())
    return handler(request)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200})
    for _ in range(300 if scope["path"] == "/stream" else 0):
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    await send({"type": "http.response.body", "body": LARGE if scope["path"] == "/large" else b"small"})


SERVERS: dict[str, dict[str, Any]] = {
    "selectors": {"app": handler},
    "selectors, threads": {"app": handler, "threads": 1},
    "asyncio": {"app": async_handler, "driver": "asyncio"},
    "asyncio, ASGI": {"app": asgi, "driver": "asyncio"},
    "trio": {"app": async_handler, "driver": "trio"},
    "trio, ASGI": {"app": asgi, "driver": "trio"},
}
LIMITS = Limits(max_body_bytes=1000, max_method_bytes=10, max_fields=5, max_output_bytes=1 << 20)
TIMEOUTS = Timeouts(body_timeout=30.0, write_timeout=60.0, drain_timeout=50.0)
CHUNKED = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


APPLICATION_TOLD = ("GET ", "POST ", "a client went away")


class Case(NamedTuple):
    wire: bytes
    says: str
    seconds: float = 0.0
    window_bytes: int = 1 << 20


CASES = {
    "400": Case(b"GET /x HTTP/1.1\r\n\r\n", '"GET /x HTTP/1.1" 400: An HTTP/1.1 request needs a Host field.'),
    "400 in a body": Case(
        CHUNKED + b"five\r\n", '"POST /up HTTP/1.1" 400: A chunk size is not a plain hexadecimal number.'
    ),
    "408 for a head": Case(b"GET /slow HT", '"GET /slow HT" 408: The request head took too long.', 11.0),
    "408 for a body": Case(
        CHUNKED + b"5\r\nhe", '"POST /up HTTP/1.1" 408: The request body came too slowly.', 31.0
    ),
    "413": Case(
        b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n",
        '"POST /up HTTP/1.1" 413: The request body is too large.',
    ),
    "413 in a body": Case(CHUNKED + b"3e9\r\n", '"POST /up HTTP/1.1" 413: The request body is too large.'),
    "414": Case(b"GET /" + b"x" * 9000, '"GET /' + "x" * 195 + '..." 414: The request line is too long.'),
    "417": Case(
        b"POST /up HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 5\r\n\r\n",
        '"POST /up HTTP/1.1" 417: The expectation is not one this server can meet.',
    ),
    "431": Case(
        b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 6 + b"\r\n",
        '"GET /x HTTP/1.1" 431: The request head has too many fields.',
    ),
    "501": Case(
        b"ABCDEFGHIJK / HTTP/1.1\r\n",
        '"ABCDEFGHIJK / HTTP/1.1" 501: The method is longer than any this server knows.',
    ),
    "505": Case(b"GET / HTTP/2.0\r\n\r\n", '"GET / HTTP/2.0" 505: This server speaks HTTP/1.0 and HTTP/1.1.'),
    "write deadline": Case(
        get(b"/large"), '"GET /large HTTP/1.1" reset: the client took none of the bytes it was owed', 61.0, 1000
    ),
    "write deadline of a stream": Case(
        get(b"/stream"), '"GET /stream HTTP/1.1" reset: the client took none of the bytes it was owed', 61.0, 1000
    ),
    "write deadline of the last response": Case(
        b"GET /large HTTP/1.0\r\n\r\n",
        '"GET /large HTTP/1.0" reset: the client took none of the bytes it was owed',
        61.0,
        1000,
    ),
}  # fmt: skip


@pytest.fixture(params=SERVERS)
def start(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Starts a server."""
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(limits=LIMITS, timeouts=TIMEOUTS, **SERVERS[request.param]))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("name", CASES)
def test_each_answer_and_each_reset_of_the_server_is_one_line(
    name: str, start: Callable[[], Client], caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    caplog.set_level(logging.DEBUG)
    client = start()
    peer = client.connect(case.window_bytes)
    peer.send(GET)
    assert peer.answer().status == 200
    caplog.clear()
    peer.send(case.wire)
    client.wait(case.seconds)
    # An application that waits for the rest of its body, or for its client, says to who debugs that it was told.
    [line] = [line for line in lines(caplog, logging.DEBUG) if not line.startswith(APPLICATION_TOLD)]
    address, _, rest = line.partition(" ")
    assert re.fullmatch(r"127\.0\.0\.1:\d+|unix", address)
    assert rest == case.says


def quiet_ends() -> dict[str, Callable[[Client], None]]:
    """What ends connections without being the server's doing, or anybody's loss."""

    def keepalive(client: Client) -> None:
        client.connect().send(GET)
        client.wait(100.0)

    def silence(client: Client) -> None:
        client.connect()
        client.wait(100.0)

    def an_empty_line(client: Client) -> None:
        client.connect().send(b"\r\n")
        client.wait(100.0)

    def leaving(client: Client) -> None:
        peer = client.connect()
        peer.send(GET)
        peer.end()
        client.wait(100.0)

    def breaking(client: Client) -> None:
        peer = client.connect(1000)
        peer.send(get(b"/large"))
        peer.reset()
        client.wait(100.0)

    def the_last_response(client: Client) -> None:
        client.connect().send(b"GET / HTTP/1.0\r\n\r\n")
        client.wait(100.0)

    def drain(client: Client) -> None:
        client.connect().send(GET)
        client.begin_drain()
        client.wait(100.0)

    ends = (keepalive, silence, an_empty_line, leaving, breaking, the_last_response, drain)
    return {end.__name__: end for end in ends}


@pytest.mark.parametrize("name", quiet_ends())
def test_an_ordinary_end_is_no_line(name: str, start: Callable[[], Client], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quiet_ends()[name](start())
    assert lines(caplog) == []


def test_what_the_drain_cuts_is_a_line(start: Callable[[], Client], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = start()
    peer = client.connect(1000)
    peer.send(get(b"/stream"))
    client.begin_drain()
    client.wait(51.0)
    told = "server is shutting down: streamed responses must end, 1 of them"  # not where a worker is through with it
    heard = [line.partition(" ")[2] for line in lines(caplog)]
    assert [line for line in heard if line != told] == [
        '"GET /stream HTTP/1.1" reset: the server\'s time to shut down ran out'
    ]


def test_who_has_its_answer_and_lingers_in_a_drain_is_no_line(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(timeouts=Timeouts(linger_timeout=50.0, drain_timeout=5.0))
    client = world.connect(b"GET / HTTP/1.0\r\n\r\n")
    world.tick(2)
    assert client.read().startswith(b"HTTP/1.1 200 ")
    world.server.begin_drain()
    world.run_out()
    assert client.sees_reset
    assert lines(caplog) == []


@pytest.mark.parametrize("threads", [0, 1])
def test_a_request_line_is_kept_no_longer_than_its_response(make_world: MakeWorld, threads: int) -> None:
    world = make_world(handler, threads=threads)
    client = world.connect(get(b"/large"), window_bytes=1000)
    world.tick(2)
    if threads:
        world.work()

    def kept() -> tuple[bytes, bytes, bytes] | None:
        [session] = world.server.engine.sessions.values()
        return session.answered

    assert kept() == (b"GET", b"/large", b"1.1")
    while client.read():
        world.tick()
    assert kept() is None
    client.send(GET)  # on a connection that is idle
    world.tick()
    if threads:
        world.work()
    assert client.read().startswith(b"HTTP/1.1 200 ")
    assert kept() is None


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize("bad", [b"five\r\n", b""])
def test_a_body_that_is_given_up_beside_its_response_is_a_line(
    driver: str, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await receive()
            await receive()

    caplog.set_level(logging.INFO)
    with Client(app, driver=driver, timeouts=TIMEOUTS) as client:
        peer = client.connect()
        peer.send(CHUNKED + b"2\r\nhe\r\n")
        peer.send(bad)
        client.wait(40.0)
    why = "A chunk size is not a plain hexadecimal number." if bad else "The request body came too slowly."
    assert lines(caplog)[0].partition(" ")[2] == f'"POST /up HTTP/1.1" body given up: {why}'


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
@pytest.mark.parametrize("ends", [True, False])
def test_what_becomes_of_a_body_after_its_response_is_no_line(
    driver: str, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 413})
            await send({"type": "http.response.body", "body": b"too large"})

    caplog.set_level(logging.INFO)
    with Client(app, driver=driver) as client:
        peer = client.connect()
        peer.send(CHUNKED + b"2\r\nhe\r\n")
        assert peer.answer("POST").status == 413
        if ends:
            peer.end()
        client.wait(100.0)
    assert lines(caplog) == []


# Overload. A 503 begins like any response, so it is in the access log, too.


def test_a_full_queue_is_a_line(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(hello, threads=1, access_log=True, max_queued_requests=1)
    for number in range(3):
        world.connect(get(b"/%d" % number))
    world.tick(2)
    assert lines(caplog) == ['127.0.0.1:40006 "GET /2 HTTP/1.1" 503: The server has more requests than it can handle.']
    [access] = [record.getMessage() for record in caplog.records if record.name == "h1core.access"]
    assert "GET /2 HTTP/1.1 503" in access


def test_a_request_that_has_waited_too_long_is_a_line(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(hello, Timeouts(queue_timeout=5.0), threads=1)
    world.connect(get(b"/late"))
    world.tick(2)
    world.wait(5.0)
    assert lines(caplog) == ['127.0.0.1:40004 "GET /late HTTP/1.1" 503: No worker was free for the request in time.']


# What a client may write into the log.


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        (b"GET /\r\n2030-01-01 h1core.server INFO all is well\r\n\r\n", r"GET /"),
        (b"GET /\n2030-01-01 h1core.server INFO all is well\r\n\r\n", r"GET /"),
        (b"GET /\r2030-01-01 all is well\r\n\r\n", r"GET /\r2030-01-01 all is well"),
        (b"\nGET / HTTP/1.1\r\n\r\n", r"\n"),
        (b"GET /\x1b[2J\x00\x7f\x9b HTTP/1.1\r\n\r\n", r"GET /\x1b[2J\x00\x7f\x9b HTTP/1.1"),
        ("GET /ü\u2028 HTTP/1.1\r\n\r\n".encode(), r"GET /\xc3\xbc\xe2\x80\xa8 HTTP/1.1"),
        (b'GET /\\" 200: fine HTTP/1.1\r\n\r\n', r"GET /\\\" 200: fine HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01", r"\x16\x03\x01\x02\x00\x01"),
        (b"GET /" + b"\xff" * 300 + b" HTTP/1.1\r\n\r\n", "GET /" + r"\xff" * 195 + "..."),
    ],
)
def test_a_line_of_the_log_is_the_servers_own(
    wire: bytes, shown: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.talk(world.connect(), wire)
    [line] = lines(caplog)
    assert line.startswith("127.0.0.1:40004 " + f'"{shown}" 400: ')
    assert line.isprintable()
    assert line.isascii()


# Floods.

BAD = b"GET /x HTTP/1.1\r\n\r\n"
WORSE = b"\0"


def flood(world: World, count: int, wire: bytes = BAD) -> None:
    for _ in range(count):
        client = world.connect(wire)
        world.tick(2)
        client.reset()
        world.tick()


def test_a_flood_is_a_few_lines_and_a_count_that_comes_by_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    flood(world, LINES_PER_WINDOW + 312)
    flood(world, 2, WORSE)
    assert len(lines(caplog, logging.DEBUG)) == LINES_PER_WINDOW + 2
    caplog.clear()
    world.wait(WINDOW_S - 0.1)
    assert lines(caplog) == []
    world.wait(0.1)
    assert lines(caplog) == ["and 312 more in 10 s: 400: An HTTP/1.1 request needs a Host field."]
    assert world.core.next_deadline is None, "nobody is woken without a reason"
    caplog.clear()
    flood(world, 1)
    assert len(lines(caplog)) == 1


def test_the_count_waits_for_no_other_deadline(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(timeouts=Timeouts(head_timeout=500.0, linger_timeout=500.0))
    for _ in range(LINES_PER_WINDOW + 2):
        world.connect(BAD)
    world.tick(5)
    caplog.clear()
    world.server.tick(WINDOW_S)  # as long as nothing is due
    world.tick()
    assert lines(caplog) == ["and 2 more in 10 s: 400: An HTTP/1.1 request needs a Host field."]


def test_what_is_not_counted_yet_is_counted_in_the_end(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = make_world()
    flood(world, LINES_PER_WINDOW + 3)
    world.clock.advance(2.0)
    world.server.close()
    assert lines(caplog)[-1] == "and 3 more in 2 s: 400: An HTTP/1.1 request needs a Host field."


def test_who_does_not_want_the_lines_is_not_woken_for_their_count(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    flood(world, 2 * LINES_PER_WINDOW)
    assert world.core.log_limit.next_deadline is None


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_the_count_comes_by_itself_on_each_host(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Client(asgi, driver=driver) as client:
        for _ in range(LINES_PER_WINDOW + 5):
            client.connect().send(BAD)
        caplog.clear()
        client.wait(9.0)
        assert lines(caplog) == []
        client.wait(2.0)
        assert lines(caplog) == ["and 5 more in 10 s: 400: An HTTP/1.1 request needs a Host field."]
