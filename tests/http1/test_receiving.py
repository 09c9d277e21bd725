"""The peer's half of a connection: requests, their bodies, and those that wait for their turn."""

from typing import Any

import pytest

from h1core import (
    Closed,
    CloseReason,
    Conn,
    Data,
    EndOfMessage,
    Limits,
    Refused,
    RefuseReason,
    Request,
    Response,
    State,
    TimedOut,
    Timer,
)
from h1core.testing import FakeClock
from tests.feed import byte_by_byte
from tests.kit import (
    BODY,
    CHUNKED,
    EXPECTING,
    GET,
    LAST_CHUNK,
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
    local_error,
    play,
    receive,
    request,
    sent_by,
    serve,
    wants_read,
    where,
)

HOST = [(b"host", b"x")]


# Requests.


@each_cut
def test_a_request_without_a_body_is_one_event(cut: Cut) -> None:
    conn = a_conn()
    assert receive(conn, cut(GET)) == [Request(b"GET", b"/", HOST)]
    assert where(conn) is State.HANDLING


@each_cut
def test_a_body_is_data_and_an_end(cut: Cut) -> None:
    head = Request(b"POST", b"/", [*HOST, (b"content-length", b"10")], end_stream=False)
    assert receive(a_conn(), cut(POST + BODY)) == [head, Data(BODY), EndOfMessage()]


@each_cut
def test_a_chunked_body_ends_with_its_trailers(cut: Cut) -> None:
    wire = CHUNKED + chunk(b"hello") + chunk(b"!") + b"0\r\nA: b\r\n\r\n"
    events = receive(a_conn(), cut(wire))
    assert events[1:] == [Data(b"hello!"), EndOfMessage([(b"a", b"b")])]


@each_cut
def test_an_empty_body_that_was_announced_ends_all_the_same(cut: Cut) -> None:
    assert receive(a_conn(), cut(CHUNKED + LAST_CHUNK))[1:] == [EndOfMessage()]


@each_cut
def test_empty_lines_before_a_request_are_passed_over(cut: Cut) -> None:
    assert serve(a_conn(), cut(b"\r\n\r\n" + GET + b"\r\n" + GET)) == [Request(b"GET", b"/", HOST)] * 2


@pytest.mark.parametrize("data", [bytearray(GET), memoryview(GET), type("Bytes", (bytes,), {})(GET)])
def test_bytes_may_come_in_anything_like_bytes(data: Any) -> None:
    assert a_conn().receive_data(data) == [Request(b"GET", b"/", HOST)]


@pytest.mark.parametrize("data", ["GET", None, 5])
def test_anything_else_is_a_mistake_of_the_driver(data: Any) -> None:
    conn = a_conn()
    with local_error(conn, "^receive_data takes bytes"):
        conn.receive_data(data)


@each_cut
def test_a_refusal_is_the_last_word_with_its_answer_queued(cut: Cut) -> None:
    conn = a_conn()
    refused = [Refused(400, RefuseReason.BAD_FIELD_LINE)]
    assert receive(conn, cut(b"GET / HTTP/1.1\r\nno colon\r\n\r\n" + GET)) == refused
    assert conn.close_reason is CloseReason.REFUSED
    answer = flush(conn)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ")
    assert answer.endswith("\r\nconnection: close\r\n\r\nA field line has no colon. (RFC 9112 §5)\n".encode())


def test_a_refused_body_of_a_head_request_is_answered_without_a_body() -> None:
    head = request("HEAD / HTTP/1.1", "Transfer-Encoding: chunked")
    answer = sent_by(head + b"x\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\nconnection: close\r\n\r\n")
    for refused in (head.replace(b"chunked", b"unheard-of"), head.replace(b"1.1", b"2.0"), b"HEAD / HTTP/1.1\n"):
        for pieces in ([refused], byte_by_byte(refused)):
            assert sent_by(*pieces).endswith(b"\r\nconnection: close\r\n\r\n")
            assert sent_by(GET, OK, *pieces).endswith(b"\r\nconnection: close\r\n\r\n")


def test_a_refusal_after_a_head_request_has_its_body_again() -> None:
    assert sent_by(request("HEAD / HTTP/1.1"), OK, b"\x16").endswith(b"(RFC 9112 \xc2\xa73)\n")


def test_each_head_is_judged_from_its_first_byte() -> None:
    conn = a_conn()
    play(conn, *byte_by_byte(GET), OK)
    assert conn.receive_data(b" ") == [Refused(400, RefuseReason.NOT_HTTP)]
    conn = a_conn()
    play(conn, *byte_by_byte(GET), OK, b"GET")
    assert receive(conn, byte_by_byte(b" /\n")) == [Refused(400, RefuseReason.BARE_LF)]


# Pipelining.


def test_one_request_is_in_hand_at_a_time() -> None:
    conn = a_conn()
    assert len(conn.receive_data(GET + GET + GET)) == 1
    assert conn.next_events() == []
    play(conn, STREAMED, Data(b"x"))
    assert conn.receive_data(GET) == conn.next_events() == []
    play(conn, EndOfMessage())
    for _ in range(3):
        assert conn.next_events() == [Request(b"GET", b"/", HOST)]
        assert conn.next_events() == []
        play(conn, OK)
    assert conn.next_events() == []


BATCH = b"".join(
    (request(f"GET /{number} HTTP/1.1"), request(f"POST /{number} HTTP/1.1", "Content-Length: 3") + b"a\r\n")[
        number % 2
    ]
    for number in range(16)
)


def echo(asked: Request) -> Response:
    return Response(200, (), asked.target)


def test_a_batch_is_answered_in_its_order_wherever_it_is_cut() -> None:
    whole = a_conn()
    assert [asked.target for asked in serve(whole, [BATCH], echo)] == [b"/%d" % number for number in range(16)]
    answers = flush(whole)
    for at in range(1, len(BATCH)):
        conn = a_conn()
        serve(conn, [BATCH[:at], BATCH[at:]], echo)
        assert len(conn.data_to_send()) == conn.output_bytes  # one buffer, one write
        assert flush(conn) == answers
    conn = a_conn()
    serve(conn, byte_by_byte(BATCH), echo)
    assert flush(conn) == answers


def test_no_more_answers_pile_up_than_the_output_limit() -> None:
    conn = a_conn(limits=Limits(max_output_bytes=1000))
    answer = Response(200, (), bytes(800))
    assert len(serve(conn, [GET * 10], lambda _: answer)) == 2
    assert (conn.next_events(), wants_read(conn), conn.receive_data(GET)) == ([], False, [])
    conn.data_sent(conn.output_bytes - 1000)
    assert wants_read(conn)
    assert conn.next_events() == [Request(b"GET", b"/", HOST)]


def test_a_peer_that_has_closed_meanwhile_is_answered_when_it_reads_on() -> None:
    conn = a_conn(limits=Limits(max_output_bytes=1000))
    serve(conn, [GET * 4, b""], lambda _: Response(200, (), bytes(1000)))
    for _ in range(3):
        flush(conn)
        assert conn.next_events() == [Request(b"GET", b"/", HOST)]
        play(conn, OK)
    assert end_of(conn)[0] is CloseReason.PEER_CLOSED
    conn = a_conn(limits=Limits(max_output_bytes=10))
    play(conn, GET, OK, GET)
    assert (conn.receive_data(b""), where(conn)) == ([], State.HEAD)
    flush(conn)
    assert conn.next_events() == [Request(b"GET", b"/", HOST)]
    conn = a_conn(limits=Limits(max_output_bytes=10))
    play(conn, GET, OK)
    assert conn.receive_data(b"") == [Closed(CloseReason.PEER_CLOSED)]


@pytest.mark.parametrize("truncated", [POST, POST + BODY[:5], CHUNKED + b"5\r\nhel", EXPECTING])
def test_a_truncated_body_that_waited_is_refused_when_its_turn_comes(truncated: bytes) -> None:
    conn = a_conn()
    play(conn, GET, truncated, b"", OK)
    assert conn.next_events()[-1] == Refused(400, RefuseReason.TRUNCATED_BODY)


def test_a_truncated_head_that_waited_is_refused_when_its_turn_comes() -> None:
    conn = a_conn()
    play(conn, GET, GET[:-1], b"", OK)
    assert conn.next_events() == [Refused(400, RefuseReason.TRUNCATED_HEAD)]


def test_a_bad_request_that_waited_is_refused_behind_the_answer_to_the_good_one() -> None:
    conn = a_conn()
    play(conn, GET + b"\x16", OK)
    assert conn.next_events() == [Refused(400, RefuseReason.NOT_HTTP)]
    written = flush(conn)
    assert written.index(b"HTTP/1.1 200 ") < written.index(b"HTTP/1.1 400 ")


# Bodies and their reader.


def test_a_body_is_wanted_from_the_start_and_not_while_it_is_paused() -> None:
    conn = conn_at(State.RECEIVING)
    asked = [wants_read(conn)]
    for turn in (Conn.pause_body, Conn.pause_body, Conn.resume_body, Conn.resume_body):
        turn(conn)
        asked.append(wants_read(conn))
    assert asked == [True, False, False, True, True]


def test_what_was_read_while_paused_comes_out_all_the_same() -> None:
    assert play(conn_at(State.RECEIVING), Conn.pause_body, BODY) == [Data(BODY), EndOfMessage()]


@pytest.mark.parametrize(
    "state", [State.HEAD, State.HANDLING, State.RESPONDING, State.DRAINING, State.ENDING, State.CLOSED]
)
def test_pausing_no_body_does_nothing(state: State) -> None:
    conn = conn_at(state)
    before = wants_read(conn), conn.next_deadline
    play(conn, Conn.pause_body)
    assert (wants_read(conn), conn.next_deadline) == before
    play(conn, Conn.resume_body)
    assert (wants_read(conn), conn.next_deadline) == before


@each_cut
def test_a_body_that_was_not_read_is_drained_and_the_next_request_comes(cut: Cut) -> None:
    for wire in (POST + BODY, CHUNKED + chunk(BODY) + b"0\r\nA: b\r\n\r\n"):
        conn = a_conn()
        head = wire.index(b"\r\n\r\n") + 4
        play(conn, wire[:head], OK)
        assert (where(conn), wants_read(conn), end_of(conn)[0]) == (State.DRAINING, True, None)
        assert receive(conn, cut(wire[head:] + GET)) == [Request(b"GET", b"/", HOST)]
        assert b"connection: close" not in flush(conn)


def test_a_paused_body_is_drained_too() -> None:
    conn = a_conn()
    play(conn, POST, Conn.pause_body, OK)
    assert wants_read(conn)
    assert play(conn, BODY + GET) == [Request(b"GET", b"/", HOST)]
    conn = a_conn()
    play(conn, POST, STREAMED, Conn.pause_body, EndOfMessage())
    assert wants_read(conn)


def test_request_and_response_may_overlap() -> None:
    conn = a_conn()
    play(conn, POST, STREAMED)
    assert play(conn, BODY[:5], Data(b"a"), BODY[5:]) == [Data(BODY), EndOfMessage()]
    play(conn, Data(b"b"), EndOfMessage(), GET)
    assert where(conn) is State.HANDLING
    assert flush(conn).endswith(b"\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


# What is given on for a log.


@pytest.mark.parametrize(
    ("wire", "head"),
    [
        (b"GET /x HTTP/1.1\r\nA: b\r\n\r\n", b"GET /x HTTP/1.1"),
        (b"\r\n\r\nGET /x HTTP/1.1\r\nA: b\r\n\r\n", b"GET /x HTTP/1.1"),
        (b"GET /x HTTP/1.1\nCookie: secret\n\n", b"GET /x HTTP/1.1"),
        (b"GET /x HTTP/1.1\rA: b", b"GET /x HTTP/1.1\rA: b"),
        (b"\n", b"\n"),
        (b"\n\nGET /", b"\n"),
        (b"\rGET /", b"\rGET /"),
        (b"GET /" + b"x" * 9000, b"GET /" + b"x" * 195),
        (b"GET /" + b"x" * 7000 + b"\r\n\r\n", b"GET /" + b"x" * 195),
        (b"\x16\x03\x01", b"\x16\x03\x01"),
    ],
)
def test_a_refused_head_shows_its_first_line_as_far_as_it_had_come(wire: bytes, head: bytes) -> None:
    [event] = a_conn().receive_data(wire)
    assert type(event) is Refused
    assert event.head == head
    assert event == Refused(event.status, event.reason), "how much had come depends on how the bytes were cut"
    assert "secret" not in repr(event)


def test_a_refused_body_shows_no_head_because_its_request_is_known() -> None:
    event = receive(a_conn(), [CHUNKED, b"five\r\n"])[-1]
    assert type(event) is Refused
    assert event.head == b""


@pytest.mark.parametrize(("wire", "head"), [(b"", b""), (b"\r", b""), (b"GET /sl", b"GET /sl")])
def test_a_head_that_takes_too_long_is_shown_as_far_as_it_had_come(wire: bytes, head: bytes) -> None:
    clock = FakeClock()
    conn = a_conn(clock=clock)
    if wire:
        conn.receive_data(wire)
    clock.advance(100.0)
    [event] = conn.handle_deadline()
    assert type(event) is TimedOut
    assert (event.timer, event.head) == (Timer.HEAD, head)
