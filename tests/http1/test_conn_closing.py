"""How connections end: who decides it, what the response says, and that nothing comes after it."""

from typing import Any

import pytest

from h1core import (
    Closed,
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    Event,
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
    CONNECT,
    EXPECTING,
    GET,
    LAST_GET,
    OK,
    OLD_GET,
    POST,
    START,
    STREAMED,
    a_conn,
    conn_at,
    due_in,
    each_state,
    end_of,
    flush,
    local_error,
    play,
    receive,
    request,
    serve,
    wants_read,
    where,
)

KEEP, LINGER, CLOSE, ABORT = Disposition.KEEP, Disposition.LINGER, Disposition.CLOSE, Disposition.ABORT
CLOSE_OK = Response(200, [(b"Connection", b"close")])
LAST_STREAM = Response(200, [(b"Connection", b"close")], None)


# Who decides it.


@pytest.mark.parametrize(
    ("line", "connection", "reason"),
    [
        ("GET / HTTP/1.1", [], None),
        ("GET / HTTP/1.1", ["Connection: keep-alive"], None),
        ("GET / HTTP/1.1", ["Connection: close"], CloseReason.PEER_ASKED),
        ("GET / HTTP/1.1", ["Connection: keep-alive", "Connection: Close"], CloseReason.PEER_ASKED),
        ("GET / HTTP/1.0", [], CloseReason.PEER_ASKED),
        ("GET / HTTP/1.0", ["Connection: keep-alive"], None),
        ("GET / HTTP/1.0", ["Connection: keep-alive, close"], CloseReason.PEER_ASKED),
    ],
)
@pytest.mark.parametrize("answer", [(OK,), (Response(200, [(b"Content-Length", b"0")], None), EndOfMessage())])
def test_the_peer_says_whether_the_connection_persists_and_the_answer_repeats_it(
    line: str, connection: list[str], reason: CloseReason | None, answer: tuple[Any, ...]
) -> None:
    conn = a_conn()
    play(conn, request(line, *connection), *answer)
    written = flush(conn).lower()
    assert end_of(conn) == (reason, LINGER if reason else KEEP)
    assert (b"\r\nconnection: close\r\n" in written) is bool(reason)
    assert (b"\r\nconnection: keep-alive\r\n" in written) is ("1.0" in line and not reason)
    assert play(conn, GET) == ([] if reason else [Request(b"GET", b"/", [(b"host", b"x")])])


@pytest.mark.parametrize("answer", [(CLOSE_OK,), (LAST_STREAM, EndOfMessage())])
@pytest.mark.parametrize("asked", [GET, OLD_GET, POST, POST + BODY])
def test_the_application_may_end_it(asked: bytes, answer: tuple[Any, ...]) -> None:
    conn = a_conn()
    play(conn, asked, *answer)
    expected = CloseReason.PEER_ASKED if asked is OLD_GET else CloseReason.APPLICATION_ASKED
    assert flush(conn).lower().count(b"connection:") == 1
    assert end_of(conn) == (expected, LINGER)


def test_a_refusal_ends_it_and_closes_at_once_when_the_peer_has_closed() -> None:
    conn = a_conn()
    play(conn, b"GET")
    assert conn.receive_data(b"") == [Refused(400, RefuseReason.TRUNCATED_HEAD)]
    assert end_of(conn) == (CloseReason.REFUSED, KEEP)
    flush(conn)
    assert end_of(conn) == (CloseReason.REFUSED, CLOSE)


# After a close is decided, no request ever comes again.

DECIDED: dict[str, tuple[Any, ...]] = {
    "the peer asked": (LAST_GET,),
    "the peer asked, and more waits": (LAST_GET + GET + POST,),
    "the peer asked, and its body comes": (request("POST / HTTP/1.1", "Content-Length: 10", "Connection: close"), BODY),
    "the peer is old": (OLD_GET + GET,),
    "the application asked": (GET, LAST_STREAM),
    "the application asked, and more waits": (GET + GET, LAST_STREAM),
    "the stream is delimited by the close": (request("GET / HTTP/1.0", "Connection: keep-alive") + GET, STREAMED),
    "the server drains": (GET + GET, Conn.begin_drain),
    "the tunnel was declined": (CONNECT + GET, Response(403, (), None)),
    "100 was owed": (EXPECTING, STREAMED),
    "the body was broken under the response": (CHUNKED, STREAMED, b"x\r\n" + GET),
}


@pytest.mark.parametrize("pieces", [[GET, POST], byte_by_byte(GET)], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("actions", DECIDED.values(), ids=DECIDED)
def test_no_request_comes_after_the_last_one(actions: tuple[Any, ...], pieces: list[bytes]) -> None:
    conn = a_conn(upgrades={b"connect"})
    assert sum(isinstance(event, Request) for event in play(conn, *actions)) == 1
    later = receive(conn, pieces) + conn.next_events()
    play(conn, EndOfMessage() if where(conn) is State.RESPONDING else OK)
    later += conn.next_events() + receive(conn, pieces)
    flush(conn)
    later += conn.next_events() + receive(conn, [*pieces, b""])
    assert later == []
    assert end_of(conn)[1] is CLOSE


def test_the_first_reason_stays() -> None:
    conn = a_conn()
    play(conn, request("POST / HTTP/1.1", "Content-Length: 10", "Expect: 100-continue", "Connection: close"), OK)
    assert end_of(conn)[0] is CloseReason.PEER_ASKED


# The body is broken or late while a response is under way.


@pytest.mark.parametrize("broken", [b"x\r\n", b"5\r\nhelloXX", b""])
def test_a_broken_body_lets_a_response_under_way_finish_and_then_ends(broken: bytes) -> None:
    conn = a_conn()
    play(conn, CHUNKED, STREAMED, flush)
    assert isinstance(conn.receive_data(broken)[-1], Refused)
    assert (where(conn), end_of(conn)) == (State.RESPONDING, (CloseReason.REFUSED, KEEP))
    assert conn.output_bytes == 0  # no second response
    play(conn, Data(b"x"), BODY, EndOfMessage())
    assert flush(conn) == b"1\r\nx\r\n0\r\n\r\n"
    assert end_of(conn) == (CloseReason.REFUSED, CLOSE if broken == b"" else LINGER)


def test_a_response_that_is_cut_after_the_last_word_shows_in_the_state() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, CHUNKED, STREAMED, b"x\r\n")
    clock.advance(30)
    assert conn.handle_deadline() == []
    assert end_of(conn) == (CloseReason.WRITE_TIMEOUT, ABORT)
    conn = a_conn(clock)
    play(conn, CHUNKED, STREAMED, b"x\r\n")
    assert conn.connection_lost() == []
    assert end_of(conn) == (CloseReason.CONNECTION_LOST, CLOSE)


def test_a_broken_body_that_is_being_drained_ends_without_a_second_response() -> None:
    for broken in (b"x\r\n", b""):
        conn = a_conn()
        play(conn, CHUNKED, OK, flush)
        assert isinstance(conn.receive_data(broken)[-1], Refused)
        assert (conn.output_bytes, end_of(conn)) == (0, (CloseReason.REFUSED, LINGER if broken else CLOSE))


def test_a_broken_body_before_the_response_takes_its_place() -> None:
    conn = a_conn()
    play(conn, CHUNKED + b"x\r\n")
    with local_error(conn, "RESPONSE is out of turn: the connection is ENDING because the client broke the protocol"):
        conn.send(OK)
    assert flush(conn).count(b"HTTP/1.1") == 1


# The peer closes its side.


@pytest.mark.parametrize("answer", [(OK,), (STREAMED, Data(b"x"), EndOfMessage())])
def test_half_closing_after_a_request_still_gets_the_answer(answer: tuple[Any, ...]) -> None:
    conn = a_conn()
    play(conn, GET)
    assert conn.receive_data(b"") == []
    assert wants_read(conn) is False
    play(conn, *answer)
    written = flush(conn)
    assert written.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in written
    assert end_of(conn) == (CloseReason.PEER_CLOSED, CLOSE)


def test_half_closing_after_a_batch_still_gets_all_answers_and_the_last_says_close() -> None:
    for pieces in ([(GET + POST + BODY) * 5, b""], [*byte_by_byte((GET + POST + BODY) * 5), b""]):
        conn = a_conn()
        assert len(serve(conn, pieces[:-1])) == 10
        assert len(serve(conn, pieces[-1:])) == 0
        assert end_of(conn)[0] is CloseReason.PEER_CLOSED
    conn = a_conn()
    play(conn, GET * 3, b"")
    for _ in range(3):
        play(conn, OK)
        conn.next_events()
    answers = flush(conn).split(b"HTTP/1.1")[1:]
    assert [b"\r\nconnection: close\r\n" in answer for answer in answers] == [False, False, True]
    assert end_of(conn) == (CloseReason.PEER_CLOSED, CLOSE)


AT_END: dict[State, tuple[list[Event], CloseReason | None, Disposition]] = {
    State.HEAD: ([Closed(CloseReason.PEER_CLOSED)], CloseReason.PEER_CLOSED, CLOSE),
    State.RECEIVING: ([Refused(400, RefuseReason.TRUNCATED_BODY)], CloseReason.REFUSED, KEEP),
    State.HANDLING: ([], CloseReason.PEER_CLOSED, KEEP),
    State.DUPLEX: ([Refused(400, RefuseReason.TRUNCATED_BODY)], CloseReason.REFUSED, KEEP),
    State.RESPONDING: ([], CloseReason.PEER_CLOSED, KEEP),
    State.DRAINING: ([Refused(400, RefuseReason.TRUNCATED_BODY)], CloseReason.REFUSED, CLOSE),
    State.ENDING: ([], CloseReason.PEER_ASKED, CLOSE),
    State.CLOSED: ([], CloseReason.CONNECTION_LOST, CLOSE),
}


@pytest.mark.parametrize("state", AT_END, ids=lambda state: state.name)
def test_the_end_of_the_stream_in_each_state(state: State) -> None:
    events, reason, disposition = AT_END[state]
    conn = conn_at(state)
    assert conn.receive_data(b"") == events
    assert end_of(conn) == (reason, disposition)
    assert wants_read(conn) is False
    assert conn.receive_data(b"") == []  # a second one is nothing new


def test_the_end_of_a_switched_stream_is_not_for_us() -> None:
    conn = conn_at(State.SWITCHED)
    with local_error(conn, "its bytes are not for h1core"):
        conn.receive_data(b"")


@pytest.mark.parametrize("answered", [False, True])
def test_closing_between_two_requests_is_no_fault(answered: bool) -> None:
    conn = a_conn()
    play(conn, *((GET, OK) if answered else ()), b"\r\n")
    assert conn.receive_data(b"") == [Closed(CloseReason.PEER_CLOSED)]
    assert b" 400 " not in flush(conn)
    assert end_of(conn) == (CloseReason.PEER_CLOSED, CLOSE)


def test_closing_within_an_empty_line_is_a_fault() -> None:
    conn = a_conn()
    play(conn, b"\r")
    assert conn.receive_data(b"") == [Refused(400, RefuseReason.TRUNCATED_HEAD)]


# The server drains.

DRAINED: dict[State, tuple[State, CloseReason | None, float | None]] = {
    State.HEAD: (State.ENDING, CloseReason.DRAINING, 2),
    State.RECEIVING: (State.RECEIVING, CloseReason.DRAINING, 30),
    State.HANDLING: (State.HANDLING, CloseReason.DRAINING, 30),
    State.DUPLEX: (State.DUPLEX, CloseReason.DRAINING, 30),
    State.RESPONDING: (State.RESPONDING, CloseReason.DRAINING, 30),
    State.DRAINING: (State.DRAINING, CloseReason.DRAINING, 30),
    State.ENDING: (State.ENDING, CloseReason.PEER_ASKED, 2),
    State.SWITCHED: (State.SWITCHED, None, None),
    State.CLOSED: (State.CLOSED, CloseReason.CONNECTION_LOST, None),
}


@each_state
def test_draining_in_each_state(state: State) -> None:
    clock = FakeClock(START)
    conn = conn_at(state, clock)
    conn.begin_drain()
    assert (where(conn), conn.close_reason, due_in(conn, clock)) == DRAINED[state]
    clock.advance(1)
    before = conn.next_deadline
    conn.begin_drain()
    assert conn.next_deadline == before


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n\r\n\r", b"\r"])
def test_empty_lines_that_waited_are_no_request_to_drain_for(empty: bytes) -> None:
    conn = a_conn(limits=Limits(max_output_bytes=1))
    play(conn, GET, OK, empty, Conn.begin_drain)
    assert flush(conn)
    assert conn.next_events() == []
    assert conn.close_reason is CloseReason.DRAINING
    assert conn.disposition is Disposition.LINGER


@pytest.mark.parametrize(
    ("actions", "rest"),
    [
        ((POST,), (BODY, OK)),
        ((GET,), (OK,)),
        ((GET,), (STREAMED, EndOfMessage())),
        ((POST, STREAMED), (BODY, EndOfMessage())),
        ((POST, STREAMED), (EndOfMessage(),)),
        ((GET, STREAMED), (EndOfMessage(),)),
        ((POST, OK), (BODY,)),
        ((GET[:5],), (GET[5:], OK)),
        ((GET + GET, OK), (Conn.next_events, OK)),
    ],
)
def test_draining_lets_the_request_in_hand_or_coming_finish(actions: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
    conn = a_conn()
    play(conn, *actions, flush, Conn.begin_drain)
    assert end_of(conn)[1] is KEEP
    play(conn, *rest)
    assert conn.next_events() == play(conn, GET) == []
    written = flush(conn)
    told_before = STREAMED in actions or rest == (BODY,)
    assert (b"\r\nconnection: close\r\n" in written) is not told_before
    assert end_of(conn) == (CloseReason.DRAINING, LINGER)


def test_draining_writes_what_is_owed_first() -> None:
    conn = a_conn()
    play(conn, GET, OK, Conn.begin_drain)
    assert end_of(conn) == (CloseReason.DRAINING, KEEP)
    assert flush(conn).startswith(b"HTTP/1.1 200 ")
    assert end_of(conn) == (CloseReason.DRAINING, LINGER)


def test_what_is_not_over_when_the_drain_is_is_reset() -> None:
    for state in (State.RECEIVING, State.HANDLING, State.RESPONDING, State.DUPLEX, State.DRAINING):
        clock = FakeClock(START)
        conn = conn_at(state, clock)
        conn.begin_drain()
        clock.advance(30)
        assert conn.handle_deadline() == [TimedOut(Timer.DRAIN)]
        assert end_of(conn) == (CloseReason.DRAIN_TIMEOUT, ABORT)


def test_a_peer_that_asks_to_close_while_draining_is_still_the_one_who_asked() -> None:
    conn = a_conn()
    play(conn, LAST_GET, Conn.begin_drain, OK)
    assert end_of(conn)[0] is CloseReason.PEER_ASKED


# The application fails.


def test_a_stream_that_is_aborted_is_visibly_truncated() -> None:
    conn = a_conn()
    play(conn, GET, STREAMED, Data(b"x"))
    flush(conn)
    conn.abort(CloseReason.APPLICATION_FAILED)
    assert (bytes(conn.data_to_send()), end_of(conn)) == (b"", (CloseReason.APPLICATION_FAILED, ABORT))


def test_an_aborted_connection_wants_nothing_and_says_why() -> None:
    conn = a_conn()
    conn.abort(CloseReason.APPLICATION_FAILED)
    with local_error(conn, "the connection is CLOSED because the application failed in the middle of its response"):
        conn.send(OK)


# Cut in the middle.

CLOSE_DELIMITED = Response(200, (), None)


@pytest.mark.parametrize(
    ("head", "piece"), [(STREAMED, b"4\r\nhalf\r\n"), (Response(200, [(b"Content-Length", b"9")], None), b"half")]
)
def test_a_response_that_is_cut_shows_it_and_its_client_can_read_what_was_sent(head: Response, piece: bytes) -> None:
    conn = a_conn()
    play(conn, GET)
    conn.send(head)
    conn.send(Data(b"half"))
    conn.cut_response(CloseReason.APPLICATION_FAILED)
    assert (conn.state, conn.disposition, conn.close_reason) == (State.ENDING, KEEP, CloseReason.APPLICATION_FAILED)
    assert flush(conn).endswith(piece)
    assert conn.disposition is LINGER
    assert play(conn, b"") == []
    assert conn.disposition is CLOSE


def test_where_the_end_would_look_like_that_of_the_body_the_cut_is_a_reset() -> None:
    conn = a_conn()
    play(conn, OLD_GET)
    conn.send(CLOSE_DELIMITED)
    conn.send(Data(b"half"))
    conn.cut_response(CloseReason.APPLICATION_FAILED)
    assert (conn.state, conn.disposition) == (State.CLOSED, ABORT)


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.DUPLEX, State.RESPONDING, State.ENDING, State.CLOSED)]
)
def test_without_a_response_in_progress_a_cut_is_an_abort(state: State) -> None:
    conn = conn_at(state)
    conn.cut_response(CloseReason.APPLICATION_FAILED)
    assert (conn.state, conn.disposition) == (State.CLOSED, ABORT)


def test_bytes_of_a_file_that_cannot_be_read_are_dropped() -> None:
    conn = a_conn()
    play(conn, GET)
    conn.send(STREAMED)
    conn.send(Data(b"unsendable"))
    conn.cut_response(CloseReason.APPLICATION_FAILED, unsendable=True)
    assert (conn.output_bytes, conn.disposition) == (0, LINGER)
