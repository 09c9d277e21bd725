"""Hostile input costs time in proportion to its bytes, however it comes: four times as much, four times as long.

What would be quadratic takes sixteen times as long. Nothing here knows how fast a machine is: the best of some runs of
one size is compared with the best of some runs of the other, until it fits or the runs are used up.
"""

from collections.abc import Callable, Iterable
from time import process_time

import pytest

from h1core import Conn, Data, EndOfMessage, Limits, Refused, RefuseReason, Request, Response
from h1core.testing import FakeClock
from tests.feed import byte_by_byte
from tests.kit import CHUNKED, GET, LAST_CHUNK, OK, STREAMED, a_conn, chunk, flush, play, request, serve

GROWTH = 4
ALLOWED = 8
RUNS = 5

HUGE = Limits(
    max_request_line_bytes=2**22,
    max_head_bytes=2**22,
    max_fields=10**6,
    max_buffer_bytes=2**24,
    max_trailer_bytes=2**20,
    max_trailer_fields=2**20,
    max_chunk_extension_bytes=2**20,
    max_chunk_extensions_bytes=2**20,
    max_requests_per_connection=10**6,
    max_output_bytes=2**24,
)

Feed = Callable[[Conn], object]


def seconds(feed: Feed) -> float:
    conn = Conn(HUGE, clock=FakeClock())
    start = process_time()
    feed(conn)
    return process_time() - start


def assert_linear(make_feed: Callable[[int], Feed], size: int) -> None:
    small, large = make_feed(size), make_feed(GROWTH * size)
    shortest = longest = float("inf")
    for _ in range(RUNS):
        shortest, longest = min(shortest, seconds(small)), min(longest, seconds(large))
        if longest < ALLOWED * shortest:
            return
    pytest.fail(f"{GROWTH} times the input took {longest / shortest:.1f} times as long")


def receive(pieces: Iterable[bytes]) -> Feed:
    pieces = list(pieces)

    def feed(conn: Conn) -> None:
        for piece in pieces:
            conn.receive_data(piece)

    return feed


def in_steps(wire: bytes, step: int) -> list[bytes]:
    return [wire[at : at + step] for at in range(0, len(wire), step)]


# Heads.


def test_a_head_of_one_byte_at_a_time() -> None:
    assert_linear(lambda size: receive(byte_by_byte(b"GET / HTTP/1.1\r\nA: " + b"x" * size)), 20_000)


def test_a_head_of_a_megabyte_in_small_pieces() -> None:
    assert_linear(lambda size: receive(in_steps(b"GET / HTTP/1.1\r\nA: " + b"x" * size, 32)), 2**18)


def test_a_request_line_of_one_byte_at_a_time() -> None:
    assert_linear(lambda size: receive(byte_by_byte(b"GET /" + b"x" * size)), 20_000)


def test_many_fields_of_one_byte_at_a_time() -> None:
    assert_linear(lambda size: receive(byte_by_byte(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * size)), 5_000)


@pytest.mark.parametrize("field", ["A: b", "A:", "X-{}: y", "Cookie: a"])
def test_a_hundred_thousand_fields_at_once(field: str) -> None:
    assert_linear(lambda size: receive([request("GET / HTTP/1.1", *map(field.format, range(size)))]), 25_000)


def test_a_hundred_thousand_fields_are_refused_by_default_without_a_look_at_them() -> None:
    conn = a_conn()
    wire = request("GET / HTTP/1.1", *["A: b"] * 100_000)
    assert conn.receive_data(wire) == [Refused(431, RefuseReason.HEAD_TOO_LARGE)]


@pytest.mark.parametrize("filler", [b" ", b"\t ", b"x", b"\xff", b",", b"x ", b"\x00", b":"])
def test_a_megabyte_in_one_value(filler: bytes) -> None:
    for name in (b"A", b"Connection", b"Host", b"Expect", b"Content-Length"):
        assert_linear(lambda size, name=name: receive([GET[:-2] + name + b": " + filler * size + b"\r\n\r\n"]), 2**17)  # type: ignore[misc]  # the default binds it


@pytest.mark.parametrize("filler", ["x", "/", "%41", "?", "a:", "@", ".", "[", ":", "0"])
def test_a_megabyte_of_target(filler: str) -> None:
    for start in ("/", "http://", "http://[", ""):
        assert_linear(lambda size, start=start: receive([request(f"GET {start}{filler * size} HTTP/1.1")]), 2**17)  # type: ignore[misc]  # the default binds it


@pytest.mark.parametrize("cut", [1, 2, 3, 10**9])
def test_a_long_run_of_empty_lines(cut: int) -> None:
    assert_linear(lambda size: receive(in_steps(b"\r\n" * size, cut)), 10_000 if cut < 10 else 500_000)


# Bodies.


@pytest.mark.parametrize("step", [64, 2**16, 10**9])
def test_a_million_tiny_chunks(step: int) -> None:
    assert_linear(lambda size: receive(in_steps(CHUNKED + chunk(b"x") * size + LAST_CHUNK, step)), 50_000)


def test_many_chunks_one_byte_at_a_time() -> None:
    assert_linear(lambda size: receive(byte_by_byte(CHUNKED + chunk(b"x") * size)), 4_000)


@pytest.mark.parametrize("extension", [b";a", b" ; a = b", b';a="\\""', b";" + b"a" * 100])
def test_many_extensions_in_one_line(extension: bytes) -> None:
    assert_linear(lambda size: receive([CHUNKED + b"1" + extension * size + b"\r\n"]), 2_000)


@pytest.mark.parametrize("trailer", [b"A: b\r\n", b"A:" + b"x" * 1000 + b"\r\n"])
def test_many_trailers_at_once(trailer: bytes) -> None:
    assert_linear(lambda size: receive([CHUNKED + b"0\r\n" + trailer * (size // len(trailer)) + b"\r\n"]), 2**17)


@pytest.mark.parametrize("start", [b"0\r\nA: ", b"1;a="], ids=["trailers", "extension"])
def test_a_trailer_section_or_an_extension_of_one_byte_at_a_time(start: bytes) -> None:
    assert_linear(lambda size: receive(byte_by_byte(CHUNKED + start + b"x" * size)), 1_000)


def test_a_large_body_in_small_pieces() -> None:
    head = request("POST / HTTP/1.1", "Content-Length: 10000000")
    assert_linear(lambda size: receive([head, *[b"x" * 16] * size]), 10_000)


# Pipelines and responses.

SHORT_POST = request("POST / HTTP/1.1", "Content-Length: 1") + b"x"
SHORT_CHUNKED = CHUNKED + chunk(b"x") + LAST_CHUNK


@pytest.mark.parametrize(
    "asked", [GET, SHORT_POST, SHORT_CHUNKED, b"\r\n" + GET], ids=["GET", "POST", "chunked", "CRLF"]
)
def test_a_long_pipeline_at_once(asked: bytes) -> None:
    assert_linear(lambda size: lambda conn: serve(conn, [asked * size]), 1_500)


def test_a_long_pipeline_that_waits_for_its_turn() -> None:
    def feed(size: int) -> Feed:
        def wait(conn: Conn) -> None:
            play(conn, *[GET] * (size + 1))
            for _ in range(size):
                play(conn, OK, Conn.next_events)

        return wait

    assert_linear(feed, 1_500)


def test_bodies_that_are_drained_in_a_pipeline() -> None:
    def feed(size: int) -> Feed:
        def answer_heads(conn: Conn) -> None:
            events = conn.receive_data(SHORT_POST * size)
            while events:
                conn.send(OK)
                events = conn.next_events()

        return answer_heads

    assert_linear(feed, 1_500)


@pytest.mark.parametrize("taken", [1, 100, 10**9])
def test_a_stream_of_many_small_pieces_however_little_is_taken_at_once(taken: int) -> None:
    def feed(size: int) -> Feed:
        def stream(conn: Conn) -> None:
            play(conn, GET, STREAMED, *[Data(b"x" * 10)] * size, EndOfMessage())
            while out := conn.data_to_send():
                conn.data_sent(min(taken, len(out)))

        return stream

    assert_linear(feed, 1_000 if taken == 1 else 5_000)


def test_a_large_response_that_is_taken_little_by_little() -> None:
    def feed(size: int) -> Feed:
        def send(conn: Conn) -> None:
            play(conn, GET, Response(200, (), bytes(size)))
            while out := conn.data_to_send():
                conn.data_sent(min(100, len(out)))

        return send

    assert_linear(feed, 500_000)


def test_what_is_thrown_away_is_not_looked_at() -> None:
    def feed(size: int) -> Feed:
        return lambda conn: play(conn, b"\x16", flush, *[b"GET / HTTP/1.1\r\n" * 10] * size)

    assert_linear(feed, 5_000)


def test_calls_to_python_do_not_grow_with_the_fields_of_a_head_that_was_seen_before() -> None:
    """The number of calls, where time would say little."""
    import sys

    counts = []
    for fields in (50, 90):
        conn = a_conn()
        head = request("GET / HTTP/1.1", *[f"X-Seen-{number}: x" for number in range(fields)])
        for _ in range(6):
            a_conn().receive_data(head)
        calls = 0

        def count(_frame: object, what: str, _argument: object) -> None:
            nonlocal calls
            calls += what == "call"

        sys.setprofile(count)
        try:
            [event] = conn.receive_data(head)
        finally:
            sys.setprofile(None)
        assert isinstance(event, Request)
        counts.append(calls)
    assert counts[0] == counts[1] < 20
