"""Every limit that a connection keeps: one below it, at it and one above it, in one read and byte by byte."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from h1core import (
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    Event,
    InformationalResponse,
    Limits,
    Refused,
    RefuseReason,
    Request,
    Response,
    State,
)
from tests.feed import byte_by_byte
from tests.kit import (
    BODY,
    CHUNKED,
    GET,
    LAST_CHUNK,
    LAST_GET,
    OK,
    POST,
    STREAMED,
    Cut,
    a_conn,
    chunk,
    conn_at,
    each_cut,
    end_of,
    flush,
    play,
    receive,
    request,
    serve,
    wants_read,
    where,
)

# Limits whose excess is refused.


class Bounded(NamedTuple):
    """A limit, what makes a request that uses so much of it, the refusal of more, and limits that would come first."""

    field: str
    wire: Callable[[int], bytes]
    reason: RefuseReason
    others: tuple[tuple[str, int], ...] = ()


def padded(length: int) -> bytes:
    """A head of this length."""
    return request("GET / HTTP/1.1", "X: ".ljust(length - len(GET) - 2, "x"))


def request_line(length: int) -> bytes:
    return request("GET /".ljust(length - 9, "x") + " HTTP/1.1")


def extensions(*lengths: int) -> bytes:
    return CHUNKED + b"".join(chunk(b"x", b";".ljust(length, b"x")) for length in lengths) + LAST_CHUNK


def declared(length: int) -> bytes:
    return request("POST / HTTP/1.1", f"Content-Length: {length}") + bytes(length)


def chunked(length: int) -> bytes:
    return CHUNKED + chunk(bytes(length - 10)) + chunk(bytes(10)) + LAST_CHUNK


def trailers(section: bytes) -> bytes:
    return CHUNKED + b"0\r\n" + section + b"\r\n"


BOUNDED = {
    "request line": Bounded("max_request_line_bytes", request_line, RefuseReason.REQUEST_LINE_TOO_LONG),
    "head": Bounded("max_head_bytes", padded, RefuseReason.HEAD_TOO_LARGE, (("max_request_line_bytes", 20),)),
    "fields": Bounded(
        "max_fields", lambda n: request("GET / HTTP/1.1", *["A: b"] * (n - 1)), RefuseReason.TOO_MANY_FIELDS
    ),
    "method": Bounded("max_method_bytes", lambda n: request("G" * n + " / HTTP/1.1"), RefuseReason.METHOD_TOO_LONG),
    "chunk extension": Bounded("max_chunk_extension_bytes", extensions, RefuseReason.CHUNK_EXTENSION_TOO_LARGE),
    "chunk extensions": Bounded(
        "max_chunk_extensions_bytes",
        lambda n: extensions(n // 2, n - n // 2),
        RefuseReason.CHUNK_EXTENSION_TOO_LARGE,
        (("max_chunk_extension_bytes", 2**12),),
    ),
    "trailers": Bounded(
        "max_trailer_bytes", lambda n: trailers(b"A: ".ljust(n - 4, b"x") + b"\r\n"), RefuseReason.TRAILERS_TOO_LARGE
    ),
    "trailer fields": Bounded(
        "max_trailer_fields", lambda n: trailers(b"A: b\r\n" * n), RefuseReason.TOO_MANY_TRAILERS
    ),
    "declared body": Bounded("max_body_bytes", declared, RefuseReason.BODY_TOO_LARGE),
    "chunked body": Bounded("max_body_bytes", chunked, RefuseReason.BODY_TOO_LARGE),
}
each_bounded = pytest.mark.parametrize("bounded", BOUNDED.values(), ids=BOUNDED)
LIMIT = 60


def is_served(conn: Conn, bounded: Bounded, pieces: list[bytes]) -> bool:
    events: list[Event] = []
    for piece in pieces:
        events += conn.receive_data(piece)
    if events[-1] == Refused(bounded.reason.status, bounded.reason):
        assert flush(conn).startswith(b"HTTP/1.1 %d " % bounded.reason.status)
        assert receive(conn, [GET, GET]) == []
        return False
    assert isinstance(events[-1], Request | EndOfMessage), events[-1]
    play(conn, OK, GET)
    assert where(conn) is State.HANDLING
    return True


@each_cut
@pytest.mark.parametrize("used", [LIMIT - 1, LIMIT, LIMIT + 1])
@each_bounded
def test_up_to_its_limit_a_request_is_served_and_above_it_is_refused(bounded: Bounded, used: int, cut: Cut) -> None:
    conn = a_conn(limits=Limits(**{bounded.field: LIMIT}, **dict(bounded.others)))
    assert is_served(conn, bounded, cut(bounded.wire(used))) is (used <= LIMIT)


@pytest.mark.parametrize("more", [-1, 0, 1])
@each_bounded
def test_the_default_limit_is_kept_too(bounded: Bounded, more: int) -> None:
    wire = bounded.wire(getattr(Limits(), bounded.field) + more)
    for step in (len(wire), 1000 if len(wire) < 10**6 else 10**6):
        pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
        assert is_served(a_conn(limits=Limits(**dict(bounded.others))), bounded, pieces) is (more <= 0)


def test_a_declared_body_that_is_too_large_is_refused_before_it_comes() -> None:
    conn = a_conn(limits=Limits(max_body_bytes=9))
    assert conn.receive_data(POST) == [Refused(413, RefuseReason.BODY_TOO_LARGE)]
    conn = a_conn(limits=Limits(max_body_bytes=9))
    assert conn.receive_data(CHUNKED + b"a\r\n")[1:] == [Refused(413, RefuseReason.BODY_TOO_LARGE)]


def test_limits_begin_anew_with_each_request() -> None:
    limits = Limits(max_body_bytes=10, max_chunk_extensions_bytes=5, max_chunk_extension_bytes=5, max_trailer_fields=1)
    wire = CHUNKED + chunk(BODY, b";abcd") + b"0\r\nA: b\r\n\r\n"
    assert len(serve(a_conn(limits=limits), [wire * 5])) == 5
    assert len(serve(a_conn(limits=limits), byte_by_byte(wire * 5))) == 5


# A body that the application did not read.


@each_cut
@pytest.mark.parametrize("unread", [99, 100, 101])
def test_an_unread_body_is_drained_up_to_its_limit_and_else_the_connection_ends(unread: int, cut: Cut) -> None:
    """A declared length is known at the response, which can say so; of a chunked one it turns out later."""
    keeps = unread <= 100
    for wire in (declared(unread), chunked(unread)):
        conn = a_conn(limits=Limits(max_unread_body_bytes=100))
        head = wire.index(b"\r\n\r\n") + 4
        play(conn, wire[:head], OK)
        says_close = b"\r\nconnection: close\r\n" in flush(conn)
        assert says_close is (not keeps and not wire.startswith(CHUNKED))
        events = receive(conn, cut(wire[head:] + GET))
        assert events == ([Request(b"GET", b"/", [(b"host", b"x")])] if keeps else [])
        assert end_of(conn) == ((None, Disposition.KEEP) if keeps else (CloseReason.BODY_UNREAD, Disposition.LINGER))


def test_what_was_not_read_of_one_body_does_not_count_for_the_next() -> None:
    conn = a_conn(limits=Limits(max_unread_body_bytes=100))
    for _ in range(3):
        play(conn, CHUNKED, OK, chunk(bytes(60)), LAST_CHUNK)
    assert where(conn) is State.HEAD


@pytest.mark.parametrize("unread", [100, 101])
def test_what_the_application_did_read_of_a_body_does_not_count(unread: int) -> None:
    for finish in ((OK,), (STREAMED, EndOfMessage())):
        conn = a_conn(limits=Limits(max_unread_body_bytes=100))
        play(conn, request("POST / HTTP/1.1", "Content-Length: 1000") + bytes(1000 - unread), *finish)
        assert where(conn) is (State.DRAINING if unread == 100 else State.ENDING)
        assert end_of(conn)[0] is (None if unread == 100 else CloseReason.BODY_UNREAD)


# Lingering.


@each_cut
@pytest.mark.parametrize("sent", [99, 100, 101])
def test_an_ending_connection_discards_up_to_its_limit(sent: int, cut: Cut) -> None:
    conn = conn_at(State.ENDING, limits=Limits(max_linger_bytes=100))
    assert receive(conn, cut(bytes(sent))) == []
    assert (conn.disposition, wants_read(conn)) == (
        (Disposition.LINGER, True) if sent <= 100 else (Disposition.CLOSE, False)
    )


@each_cut
@pytest.mark.parametrize("sent", [100, 101])
@pytest.mark.parametrize("actions", [(LAST_GET,), (LAST_GET, STREAMED)])
def test_what_comes_behind_the_last_request_counts_too(actions: tuple[Any, ...], sent: int, cut: Cut) -> None:
    conn = a_conn(limits=Limits(max_linger_bytes=100))
    play(conn, *actions)
    receive(conn, cut(bytes(sent)))
    assert wants_read(conn) is (sent == 100)
    play(conn, *([OK] if len(actions) == 1 else [EndOfMessage()]))
    assert (where(conn), wants_read(conn)) == (State.ENDING, sent == 100)
    flush(conn)
    assert conn.disposition is (Disposition.LINGER if sent == 100 else Disposition.CLOSE)


def test_an_answer_that_is_still_owed_is_written_before_the_connection_closes() -> None:
    conn = a_conn(limits=Limits(max_linger_bytes=100))
    play(conn, LAST_GET, OK, bytes(101))
    assert (conn.disposition, wants_read(conn)) == (Disposition.KEEP, False)
    assert flush(conn).startswith(b"HTTP/1.1 200 ")
    assert conn.disposition is Disposition.CLOSE


# The receive buffer.

SMALL_BUFFER = Limits(
    max_request_line_bytes=64, max_head_bytes=64, initial_buffer_bytes=64, max_buffer_bytes=256, max_linger_bytes=10
)


@each_cut
@pytest.mark.parametrize("state", [State.HANDLING, State.RESPONDING])
@pytest.mark.parametrize("waiting", [255, 256, 257])
def test_no_more_is_read_behind_a_request_than_the_buffer_holds(waiting: int, state: State, cut: Cut) -> None:
    conn = conn_at(state, limits=SMALL_BUFFER)
    receive(conn, cut((GET * 20)[:waiting]))
    assert wants_read(conn) is (waiting < 256)
    play(conn, OK if state is State.HANDLING else EndOfMessage())
    assert len(conn.next_events()) == 1
    assert wants_read(conn) is True


def test_a_full_buffer_is_not_read_into_before_its_requests_are_taken() -> None:
    """Simulation, seed 100196: each further read added more than a turn of small requests took away."""
    conn = conn_at(State.RESPONDING, limits=replace(SMALL_BUFFER, max_output_bytes=10))
    receive(conn, [(GET * 20)[:256]])
    play(conn, Data(bytes(50)), EndOfMessage())
    assert (where(conn), wants_read(conn)) == (State.HEAD, False)
    conn.data_sent(conn.output_bytes - 10)
    assert wants_read(conn) is False
    assert len(conn.next_events()) == 1
    assert wants_read(conn) is True


def test_what_was_read_beyond_the_buffer_is_served_all_the_same() -> None:
    assert len(serve(a_conn(limits=SMALL_BUFFER), [GET * 100])) == 100


def test_reads_double_when_they_come_full_and_begin_small_again() -> None:
    conn = a_conn(limits=SMALL_BUFFER)
    assert conn.receive_bytes == 64
    play(conn, CHUNKED + b"1000\r\n")
    sizes = []
    for full in (63, 64, 127, 128, 256, 256):
        play(conn, bytes(full))
        sizes.append(conn.receive_bytes)
    assert sizes == [64, 128, 128, 256, 256, 256]
    play(conn, bytes(4096 - 894), b"\r\n" + LAST_CHUNK, OK)
    assert conn.receive_bytes == 64


@pytest.mark.parametrize(("length", "size"), [(100, 128), (129, 129), (200, 200), (256, 256), (5000, 256)])
def test_a_declared_length_is_read_in_steps_as_large_once_a_read_comes_full(length: int, size: int) -> None:
    conn = a_conn(limits=SMALL_BUFFER)
    sizes = []
    for piece in (declared(length)[:-length], bytes(64), b"x", bytes(64)):
        sizes.append(conn.receive_bytes)
        play(conn, piece[:length])
        length -= len(piece) if len(sizes) > 1 else 0
    assert sizes == [64, 64, size, 64]


def test_what_was_declared_of_one_body_is_not_expected_of_the_next() -> None:
    conn = a_conn(limits=SMALL_BUFFER)
    play(conn, declared(200), OK, CHUNKED + b"1000\r\n", bytes(64))
    assert conn.receive_bytes == 128


def test_what_is_thrown_away_is_read_in_larger_steps_too() -> None:
    conn = conn_at(State.ENDING, limits=Limits(initial_buffer_bytes=100))
    sizes = [conn.receive_bytes]
    for _ in range(3):
        play(conn, bytes(conn.receive_bytes))
        sizes.append(conn.receive_bytes)
    assert sizes == [100, 200, 400, 800]


def test_no_more_is_asked_for_than_the_buffer_has_room_for() -> None:
    conn = conn_at(State.HANDLING, limits=SMALL_BUFFER)
    sizes = []
    while wants_read(conn):
        sizes.append(conn.receive_bytes)
        play(conn, b"x" * min(50, conn.receive_bytes))
    assert sizes == [64, 14, 64, 14, 128, 78, 28]


def test_reads_begin_small_again_as_far_as_what_waits_allows() -> None:
    conn = conn_at(State.HANDLING, limits=SMALL_BUFFER)
    play(conn, *[GET] * 9)
    assert conn.receive_bytes == 256 - 9 * len(GET)
    for _ in range(6):
        play(conn, OK, Conn.next_events)
    play(conn, OK)
    assert conn.receive_bytes == 128 - 3 * len(GET)


def test_a_full_buffer_still_says_how_much_to_read_once_it_is_not() -> None:
    conn = conn_at(State.HANDLING, limits=SMALL_BUFFER)
    play(conn, bytes(256))
    assert (wants_read(conn), conn.receive_bytes) == (False, 64)


# Output, requests, memory.


@pytest.mark.parametrize("waiting", [999, 1000, 1001])
def test_no_request_is_taken_while_more_waits_than_the_output_limit(waiting: int) -> None:
    conn = a_conn(limits=Limits(max_output_bytes=1000))
    head = len(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
    play(conn, GET + GET, Response(200, (), bytes(waiting - head)))
    assert conn.output_bytes == waiting
    assert (len(conn.next_events()), wants_read(conn)) == ((1, True) if waiting <= 1000 else (0, False))
    conn = a_conn(limits=Limits(max_output_bytes=1000))
    play(conn, GET, Response(200, (), bytes(waiting - head)))
    assert (wants_read(conn), len(conn.receive_data(GET))) == ((True, 1) if waiting <= 1000 else (False, 0))


@each_cut
@pytest.mark.parametrize("many", [1, 2, 5])
def test_the_last_request_of_a_connection_is_told_so(many: int, cut: Cut) -> None:
    conn = a_conn(limits=Limits(max_requests_per_connection=many))
    assert len(serve(conn, cut(GET * (many + 1)))) == many
    answers = flush(conn).split(b"HTTP/1.1 ")[1:]
    assert [b"\r\nconnection: close\r\n" in answer for answer in answers] == [False] * (many - 1) + [True]
    assert end_of(conn) == (CloseReason.MAX_REQUESTS, Disposition.LINGER)


def hostile_heads() -> list[bytes]:
    field = b"A:\r\n"
    return [GET[:-2] + field * 99 + b"\r\n", padded(2**14), padded(2**14)[:-1]]


def pipelined(conn: Conn) -> None:
    """The buffer is full behind a request, and the output is full of a stream."""
    play(conn, GET, STREAMED)
    while wants_read(conn):
        conn.receive_data(b"x" * min(1000, conn.receive_bytes))
    while conn.output_bytes <= Limits().max_output_bytes:
        conn.send(Data(b"y" * 1000))


def unread_answers(conn: Conn) -> None:
    """A thousand pipelined requests whose answers are not read."""
    serve(conn, [GET * 1000], lambda _: Response(200, (), bytearray(60_000)))


def half_a_trailer_section(conn: Conn) -> None:
    play(conn, CHUNKED + b"0\r\n", *byte_by_byte(b"A:\r\n" * 1000))


def half_a_chunk_line(conn: Conn) -> None:
    play(conn, CHUNKED, *byte_by_byte(b"1;" + b"x" * 250))


def interim_responses(conn: Conn) -> None:
    play(conn, GET)
    while conn.output_bytes <= Limits().max_output_bytes:
        conn.send(InformationalResponse(102))


def half_a_head(conn: Conn) -> None:
    play(conn, GET, OK, flush, *byte_by_byte(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 4090))


HOSTILE = [pipelined, unread_answers, half_a_trailer_section, half_a_chunk_line, interim_responses, half_a_head]


@pytest.mark.parametrize("feed", HOSTILE, ids=lambda feed: feed.__name__)
def test_a_hostile_peer_makes_a_connection_hold_no_more_than_the_formula_says(feed: Callable[[Conn], None]) -> None:
    feed(a_conn())  # so that what is remembered for all connections is not counted
    tracemalloc.start()
    try:
        conn = a_conn()
        feed(conn)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < conn._limits.connection_bytes


@pytest.mark.parametrize("head", hostile_heads(), ids=["many fields", "large", "incomplete"])
def test_a_hostile_head_costs_no_more_than_the_formula_says(head: bytes) -> None:
    limits = Limits()
    a_conn(limits=limits).receive_data(head)
    conn = a_conn(limits=limits)
    tracemalloc.start()
    try:
        events = conn.receive_data(head)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * limits.max_head_bytes + 256 * limits.max_fields, events
