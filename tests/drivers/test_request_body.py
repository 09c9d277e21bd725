"""Request bodies on their way in: in memory, then in a file, and what becomes of the file."""

import errno
import re
import tempfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from h1core.drivers.engine.engine import Engine
from h1core.drivers.engine.request_body import BodySpool

from h1core import Limits, Request, Response, Timeouts
from h1core.app.handler import SpooledRequest
from h1core.testing import FakeClock, MemoryNetwork

from ..wire import answers, statuses
from .world import GET, MakeWorld, World, body_echo, ended, error_lines, hello, post

MOST = 1000
"""Of a body in memory, in these worlds."""

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[BinaryIO]:
    """All temporary files that are made."""
    made: list[BinaryIO] = []
    make = tempfile.TemporaryFile

    def remember(**options: Any) -> Any:
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    return made


# The spool.


@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST])
@pytest.mark.parametrize("piece_bytes", [1, 300, 2 * MOST])
def test_a_body_up_to_the_threshold_stays_in_memory(files: list[BinaryIO], size: int, piece_bytes: int) -> None:
    body = bytes(range(256)) * 8
    spool = BodySpool(MOST)
    for at in range(0, size, piece_bytes):
        spool.add(body[at : min(at + piece_bytes, size)])
    assert spool.finish() == body[:size]
    assert files == []


@pytest.mark.parametrize("size", [MOST + 1, 5 * MOST])
@pytest.mark.parametrize("piece_bytes", [1, 300, 10 * MOST])
def test_a_body_past_the_threshold_is_a_file_at_its_begin(files: list[BinaryIO], size: int, piece_bytes: int) -> None:
    body = bytes(range(250)) * (size // 250 + 1)
    spool = BodySpool(MOST)
    for at in range(0, size, piece_bytes):
        spool.add(memoryview(body)[at : min(at + piece_bytes, size)])
    file = spool.finish()
    assert not isinstance(file, bytes)
    assert file.read() == body[:size]
    assert files == [file]
    spool.discard()
    assert not file.closed, "whoever took it closes it"
    file.close()


def test_what_was_in_a_buffer_is_bytes_when_it_is_taken() -> None:
    spool = BodySpool(MOST)
    spool.add(bytearray(b"body"))
    assert type(spool.finish()) is bytes


@pytest.mark.parametrize("size", [1, MOST + 1])
def test_a_body_may_be_discarded_at_any_time(files: list[BinaryIO], size: int) -> None:
    spool = BodySpool(MOST)
    spool.add(bytes(size))
    spool.discard()
    spool.discard()
    assert all(file.closed for file in files)


# From the client to the handler.


class Keeper:
    """A handler that remembers requests, and what their bodies were."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        self.bodies.append(request.open_body().read())
        return Response(200)


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize(("size", "kind"), [(MOST - 1, Request), (MOST, Request), (MOST + 1, SpooledRequest)])
def test_a_handler_gets_a_file_past_the_threshold(
    make_world: MakeWorld, files: list[BinaryIO], threads: int, size: int, kind: type[Request]
) -> None:
    keeper = Keeper()
    world = make_world(keeper, threads=threads, max_memory_body_bytes=MOST)
    body = b"x" * (size - 1) + b"y"
    client = world.connect(post(body))
    world.tick(2)
    if threads:
        world.work()
    assert statuses(client.read()) == [200]
    assert [type(request) for request in keeper.requests] == [kind]
    assert keeper.bodies == [body]
    assert [file.closed for file in files] == [True] * (kind is SpooledRequest)


def test_the_trailers_of_a_body_in_a_file_are_kept(make_world: MakeWorld) -> None:
    keeper = Keeper()
    world = make_world(keeper, max_memory_body_bytes=MOST)
    world.talk(world.connect(), CHUNKED + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\nX-Sum: 1\r\n\r\n")
    [request] = keeper.requests
    assert type(request) is SpooledRequest
    assert list(request.trailers) == [(b"x-sum", b"1")]


def test_a_body_in_a_file_and_what_is_pipelined_behind_it_are_told_apart(make_world: MakeWorld) -> None:
    world = make_world(body_echo, max_memory_body_bytes=MOST)
    wire = world.talk(world.connect(), post(b"x" * 3000) + GET + post(b"y" * 2000))
    assert [answer.body for answer in answers(wire)] == [b"x" * 3000, b"", b"y" * 2000]


# The file is closed when the response is over, and not before.


class StreamedEcho:
    """A handler that streams the body back out of its file."""

    def __init__(self) -> None:
        self.closed_while_streaming: list[bool] = []

    def __call__(self, request: Request) -> Response:
        return Response(200, (), self.pieces(request))

    def pieces(self, request: Request) -> Iterator[bytes]:
        file = request.open_body()
        while piece := file.read(100):
            self.closed_while_streaming.append(file.closed)
            yield piece


@pytest.mark.parametrize("threads", [0, 1])
def test_the_file_is_there_while_a_response_is_streamed_and_closed_after_it(
    make_world: MakeWorld, files: list[BinaryIO], threads: int
) -> None:
    echo = StreamedEcho()
    world = make_world(echo, threads=threads, max_memory_body_bytes=MOST)
    body = bytes(range(200)) * 20
    client = world.connect(post(body))
    world.tick(2)
    if threads:
        world.work()
    world.tick(3)
    [answer] = answers(client.read())
    assert answer.body == body
    assert echo.closed_while_streaming == [False] * 40
    assert [file.closed for file in files] == [True]


def test_the_file_is_closed_when_the_client_of_a_stream_is_gone(make_world: MakeWorld, files: list[BinaryIO]) -> None:
    world = make_world(StreamedEcho(), max_memory_body_bytes=MOST, max_output_bytes=200)
    client = world.connect(post(bytes(4000)), window_bytes=300)
    world.tick(3)
    assert [file.closed for file in files] == [False]
    client.reset()
    world.tick()
    assert [file.closed for file in files] == [True]


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
def test_the_file_is_closed_when_the_handler_raises_or_has_no_body_to_send(
    make_world: MakeWorld, files: list[BinaryIO], threads: int, method: bytes
) -> None:
    def fail(request: Request) -> Response:
        if request.method == b"HEAD":
            return StreamedEcho()(request)
        raise ValueError("no")

    world = make_world(fail, threads=threads, max_memory_body_bytes=MOST)
    client = world.connect(post(bytes(4000)).replace(b"POST", method))
    world.tick(2)
    if threads:
        world.work()
    assert statuses(client.read(), method.decode()) == [200 if method == b"HEAD" else 500]
    assert [file.closed for file in files] == [True]


def test_the_file_of_a_request_that_is_turned_away_is_closed(make_world: MakeWorld, files: list[BinaryIO]) -> None:
    world = make_world(hello, threads=1, max_queued_requests=1, max_memory_body_bytes=MOST)
    clients = [world.connect(GET), world.connect(GET), world.connect(post(bytes(4000)))]
    world.tick(2)
    assert statuses(clients[2].read()) == [503]
    assert [file.closed for file in files] == [True]


def test_the_file_of_a_request_that_waited_too_long_is_closed(make_world: MakeWorld, files: list[BinaryIO]) -> None:
    world = make_world(hello, threads=1, max_memory_body_bytes=MOST)
    client = world.connect(post(bytes(4000)))
    world.tick(2)
    world.clock.advance(10.5)
    world.work()
    assert statuses(client.read()) == [503]
    assert [file.closed for file in files] == [True]


@pytest.mark.parametrize("ending", ["reset", "end", "deadline", "close"])
def test_the_file_of_a_body_that_never_came_whole_is_closed(
    make_world: MakeWorld, files: list[BinaryIO], ending: str
) -> None:
    keeper = Keeper()
    world = make_world(keeper, max_memory_body_bytes=MOST, timeouts=Timeouts(body_timeout=5.0))
    client = world.connect(post(bytes(4000))[:-1])
    world.tick(2)
    assert [file.closed for file in files] == [False]
    if ending == "reset":
        client.reset()
    elif ending == "end":
        client.end()
    elif ending == "deadline":
        world.wait(5.0)
    else:
        world.server.close()
    world.tick()
    assert [file.closed for file in files] == [True]
    assert keeper.requests == []


def test_a_handler_that_has_filled_the_disk_by_its_file_disturbs_nobody(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_close(request: SpooledRequest) -> None:
        close(request)
        raise OSError(errno.ENOSPC, "the disk is full")

    close = SpooledRequest.close
    monkeypatch.setattr(SpooledRequest, "close", fail_to_close)
    world = make_world(body_echo, threads=1, max_memory_body_bytes=MOST)
    client = world.connect(post(bytes(4000)))
    world.tick(2)
    world.work()
    assert statuses(client.read()) == [200]
    assert not ended(client)


# No room.


class FullDisk:
    """Temporary files that can be made and written as often as it says; then there is no room left."""

    def __init__(self, writes: int) -> None:
        self.writes_left = writes
        self.closed = 0

    def __call__(self, **options: Any) -> "FullDisk":
        self._take_room()
        return self

    def _take_room(self) -> None:
        if not self.writes_left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes_left -= 1

    def write(self, data: bytes) -> None:
        self._take_room()

    def writelines(self, parts: list[bytes]) -> None:
        self._take_room()

    def seek(self, offset: int) -> None:
        self._take_room()

    def close(self) -> None:
        self.closed += 1
        raise OSError(errno.ENOSPC, "what was buffered found no room either")


Feed = Callable[[World, bytes], bytes]


def at_once(world: World, wire: bytes) -> bytes:
    return world.talk(world.connect(), wire)


def in_pieces(world: World, wire: bytes) -> bytes:
    client = world.connect()
    return b"".join(world.talk(client, wire[at : at + 700]) for at in range(0, len(wire), 700))


@pytest.mark.parametrize("feed", [at_once, in_pieces])
@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_without_room_for_a_body_the_answer_is_500_and_the_last(
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    feed: Feed,
    threads: int,
    writes: int,
) -> None:
    disk = FullDisk(writes)
    monkeypatch.setattr(tempfile, "TemporaryFile", disk)
    keeper = Keeper()
    world = make_world(keeper, threads=threads, max_memory_body_bytes=MOST)
    other = world.connect(post(b"small"))
    world.tick(2)
    [answer] = answers(feed(world, post(bytes(3000)) + GET))
    assert (answer.status, answer.fields["connection"]) == (500, "close")
    assert disk.closed == (writes > 0)
    [line] = error_lines(caplog)
    says = r'127.0.0.1:\d+ "POST / HTTP/1.1" 500: The server cannot keep the request body. \[Errno 28\] .*'
    assert re.fullmatch(says, line)
    if threads:
        world.work()
    assert statuses(other.read()) == [200]
    assert keeper.bodies == [b"small"]
    assert statuses(world.talk(other, post(b"again")) if not threads else b"") == [200] * (not threads)
    world.wait(10.0)
    assert world.open_connections == 1, "only the other is left"


def test_a_client_that_waits_to_continue_is_told_that_there_is_no_room(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", FullDisk(0))
    world = make_world(hello, max_memory_body_bytes=MOST)
    client = world.connect()
    head, _, body = post(bytes(3000), b"Expect: 100-continue").partition(b"\r\n\r\n")
    assert world.talk(client, head + b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert statuses(world.talk(client, body)) == [500]
    assert ended(client)


def test_the_file_of_a_request_whose_coroutine_was_never_started_is_closed(files: list[BinaryIO]) -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError("nobody runs it")

    clock = FakeClock()
    network = MemoryNetwork(clock)
    host: Any = SimpleNamespace(wake=lambda: None)
    listener = network.listen()
    engine = Engine(
        handler,
        host,
        listeners=[listener],
        limits=Limits(max_memory_body_bytes=MOST),
        clock=clock,
        selector=network.selector,
    )
    client = listener.connect()
    client.send(post(bytes(2 * MOST)))
    while not engine.new_exchanges:
        engine.tick()
    engine.close()
    assert [file.closed for file in files] == [True]
    assert engine.core.connections == []
    assert client.sees_end
