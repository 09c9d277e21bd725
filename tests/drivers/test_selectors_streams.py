"""Streamed answers: what is asked of the handler's iterator, and that it is closed, whatever happens."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h1core.drivers.engine.responses import close_quietly

from h1core import Limits, Response
from h1core.testing import MemoryClient

from ..wire import answers, statuses
from .world import (
    GET,
    HEAD,
    MakeWorld,
    Stream,
    ended,
    error_lines,
    forever,
)


def test_a_stream_arrives_whole_and_is_closed(make_world: MakeWorld) -> None:
    stream = Stream([1, 0, 20_000, 3])
    world = make_world(stream)
    client = world.connect()
    for round_ in (1, 2):
        [answer] = answers(world.talk(client, GET))
        assert len(answer.body) == 20_004
        assert stream.ended == ["complete", "closed"] * round_


def test_what_is_pipelined_behind_a_stream_waits_for_its_end(make_world: MakeWorld) -> None:
    stream = Stream([5] * 1000)
    world = make_world(stream)
    client = world.connect(GET * 3)
    world.tick(100)
    assert [len(answer.body) for answer in answers(client.read())] == [5000] * 3


def test_small_pieces_leave_together(make_world: MakeWorld, writes: list[int]) -> None:
    world = make_world(Stream([10] * 60))
    world.talk(world.connect(), GET)
    assert len(writes) == 1


@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_a_stream_is_asked_for_no_more_than_the_client_takes(make_world: MakeWorld, size: int) -> None:
    stream = Stream(forever(size))
    world = make_world(stream)
    client = world.connect(GET, window_bytes=5000)
    most = Limits().max_output_bytes
    read = 0
    for _ in range(400):
        world.tick()
        framing = 300 + 10 * stream.pulled  # the head, and the size lines of the chunks
        assert stream.pulled_bytes <= read + 5000 + most + size
        [conn] = world.core.connections
        assert conn.output_bytes <= most + size + framing
        read += len(client.read(100))
    assert read > 10_000


def test_a_client_that_takes_nothing_stops_its_stream(make_world: MakeWorld) -> None:
    stream = Stream(forever(1000))
    world = make_world(stream)
    client = world.connect(GET, window_bytes=0)
    world.tick(200)
    pulled = stream.pulled
    assert 64 <= pulled <= 67
    world.tick(10)
    assert stream.pulled == pulled
    client.widen(10_000)
    world.tick(2)
    assert stream.pulled > pulled


@pytest.mark.parametrize("way", [MemoryClient.reset, MemoryClient.end], ids=["reset", "end"])
def test_a_stream_is_closed_when_its_client_goes(make_world: MakeWorld, way: Callable[[MemoryClient], None]) -> None:
    stream = Stream(forever(1000))
    world = make_world(stream)
    client = world.connect(GET, window_bytes=5000)
    world.tick(3)
    assert stream.ended == []
    way(client)
    world.wait(31.0)
    assert stream.ended == ["closed"]
    assert world.open_connections == 0


def test_a_stream_is_closed_when_its_client_stops_reading(make_world: MakeWorld) -> None:
    stream = Stream(forever(1000))
    world = make_world(stream)
    client = world.connect(GET, window_bytes=5000)
    world.tick(3)
    world.wait(29.9)
    assert (stream.ended, ended(client)) == ([], False)
    world.wait(0.1)
    assert stream.ended == ["closed"]
    assert client.sees_reset


def test_a_stream_that_raises_cuts_its_connection_visibly(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream([10] * 100, raises=ZeroDivisionError("in the middle"))
    world = make_world(stream)
    client = world.connect(GET)
    other = world.connect()
    world.tick(4)
    assert client.sees_end
    assert not client.sees_reset
    assert not client.read().endswith(b"0\r\n\r\n")
    assert stream.ended == ["closed"]
    assert error_lines(caplog) == [f"the handler's body failed; the connection to 127.0.0.1:{40004} is cut"]
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert not ended(other)


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        ((), ["text"]),
        ((), [b"good", None]),
        ([(b"content-length", b"3")], [b"four"]),
        ([(b"content-length", b"5")], [b"four"]),
    ],
    ids=["text", "nothing", "too long", "too short"],
)
def test_a_stream_of_the_wrong_things_cuts_its_connection(
    make_world: MakeWorld, headers: list[tuple[bytes, bytes]], pieces: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(lambda request: Response(200, headers, iter(pieces)))
    client = world.connect(GET)
    world.tick(3)
    assert client.sees_end
    assert not client.sees_reset
    assert len(error_lines(caplog)) == 1


def test_a_body_that_is_no_generator_has_its_close_called(make_world: MakeWorld) -> None:
    closed: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one", b"two"])

        def close(self) -> None:
            closed.append(1)

    world = make_world(lambda request: Response(200, (), Body()))
    client = world.connect()
    [answer] = answers(world.talk(client, GET))
    assert (answer.body, len(closed)) == (b"onetwo", 1)
    [answer] = answers(world.talk(client, HEAD), "HEAD")
    assert (answer.body, len(closed)) == (b"", 2)


def test_a_stream_whose_close_fails_is_logged_and_complete(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one"])

        def close(self) -> None:
            raise ZeroDivisionError

    world = make_world(lambda request: Response(200, (), Body()))
    assert statuses(world.talk(world.connect(), GET + GET)) == [200, 200]
    assert error_lines(caplog) == ["closing the handler's body failed"] * 2


def test_a_stream_is_closed_when_its_head_may_not_be_sent(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream([10])
    world = make_world(lambda request: Response(200, [(b"x", b"a\r\nb: c")], stream.pieces()))
    assert statuses(world.talk(world.connect(), GET)) == [500]
    assert stream.pulled == 1
    assert stream.ended == ["closed"]
    closed: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one"])

        def close(self) -> None:
            closed.append(1)

    world = make_world(lambda request: Response(200, [(b"content-length", b"x")], Body()))
    assert statuses(world.talk(world.connect(), GET)) == [500]
    assert closed == [1]


def test_closing_nothing_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    close_quietly(None)
    assert error_lines(caplog) == []


@pytest.mark.parametrize("threads", [0, 1])
def test_a_stream_that_raises_before_its_first_piece_is_a_500(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, threads: int
) -> None:
    stream = Stream([], raises=ZeroDivisionError())
    world = make_world(stream, threads=threads)
    client = world.connect(GET)
    world.tick(2)
    if threads:
        world.work()
    world.tick()
    assert statuses(client.read()) == [500]
    assert not ended(client)
    assert stream.ended == ["closed"]
    assert len(error_lines(caplog)) == 1
