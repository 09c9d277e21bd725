"""What waits on both sides of a connection, and how it ends."""

import pytest

from h1core import Closed, CloseReason, Conn, Data, Disposition, LocalError, Response, State
from h1core.http1.buffer import ReceiveBuffer
from h1core.testing import FakeClock
from tests.kit import (
    BODY,
    GET,
    LAST_GET,
    OK,
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
    where,
)

LARGE = bytes(100_000)


# What is owed to the peer.


def test_nothing_is_owed_at_first() -> None:
    conn = a_conn()
    assert (bytes(conn.data_to_send()), conn.output_bytes) == (b"", 0)


def test_a_response_waits_until_it_is_said_to_be_sent() -> None:
    conn = a_conn()
    play(conn, GET, Response(200, (), b"hello"))
    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert bytes(conn.data_to_send()) == bytes(conn.data_to_send()) == expected
    assert conn.output_bytes == len(expected)
    conn.data_sent(10)
    assert bytes(conn.data_to_send()) == expected[10:]
    conn.data_sent(len(expected) - 10)
    assert (bytes(conn.data_to_send()), conn.output_bytes) == (b"", 0)


def test_pipelined_answers_are_one_write() -> None:
    conn = a_conn()
    play(conn, GET * 2, OK, Conn.next_events, OK)
    assert len(conn.data_to_send()) == conn.output_bytes
    assert bytes(conn.data_to_send()).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("body", [LARGE, bytearray(LARGE), memoryview(LARGE)], ids=lambda body: type(body).__name__)
def test_a_large_body_is_not_copied(body: bytes | bytearray | memoryview) -> None:
    for actions in ((Response(200, (), body),), (Response(200, [(b"Content-Length", b"100000")], None), Data(body))):
        conn = a_conn()
        play(conn, GET, *actions)
        conn.data_sent(len(conn.data_to_send()))
        waiting = conn.data_to_send()
        assert waiting is body or (isinstance(waiting, memoryview) and isinstance(body, memoryview))
        assert not isinstance(waiting, memoryview) or waiting.obj is LARGE
        assert conn.output_bytes == len(LARGE)


def idle(conn: Conn) -> bool:
    return conn.is_idle


def test_a_connection_is_idle_from_the_last_byte_of_a_response_to_the_first_of_the_next_request() -> None:
    conn = a_conn()
    assert not idle(conn)  # a newcomer owes a head
    play(conn, GET, OK)
    assert not idle(conn)
    flush(conn)
    assert idle(conn)
    play(conn, b"G")
    assert not idle(conn)


@pytest.mark.parametrize("too_much", [1, 1000])
def test_more_cannot_be_sent_than_waits(too_much: int) -> None:
    conn = a_conn()
    with local_error(conn, f"^0 bytes wait to be sent, and {too_much} were said to be$"):
        conn.data_sent(too_much)
    play(conn, GET, OK)
    with local_error(conn, rf"^\d+ bytes wait to be sent, and {conn.output_bytes + too_much} were said to be$"):
        conn.data_sent(conn.output_bytes + too_much)
    with local_error(conn, "were said to be"):
        conn.data_sent(-1)


def test_nothing_may_be_sent_of_nothing() -> None:
    conn = a_conn()
    conn.data_sent(0)
    play(conn, GET, OK)
    conn.data_sent(0)
    assert conn.output_bytes > 0


# What the driver must do.


@each_state
def test_each_state_has_its_disposition(state: State) -> None:
    last = {State.ENDING: Disposition.LINGER, State.CLOSED: Disposition.CLOSE}
    assert conn_at(state).disposition is last.get(state, Disposition.KEEP)


def test_an_ending_connection_lingers_when_all_is_written_and_closes_when_the_peer_does() -> None:
    conn = a_conn()
    play(conn, LAST_GET, OK)
    assert end_of(conn) == (CloseReason.PEER_ASKED, Disposition.KEEP)
    flush(conn)
    assert end_of(conn) == (CloseReason.PEER_ASKED, Disposition.LINGER)
    assert conn.receive_data(b"") == []
    assert end_of(conn) == (CloseReason.PEER_ASKED, Disposition.CLOSE)


def test_a_peer_that_has_closed_needs_no_lingering() -> None:
    conn = a_conn()
    play(conn, LAST_GET, b"", OK)
    assert end_of(conn) == (CloseReason.PEER_ASKED, Disposition.KEEP)
    flush(conn)
    assert end_of(conn) == (CloseReason.PEER_ASKED, Disposition.CLOSE)


@each_state
def test_a_lost_connection_is_news_unless_it_was_ending(state: State) -> None:
    conn = conn_at(state)
    was_over = state in {State.ENDING, State.CLOSED}
    assert conn.connection_lost() == ([] if was_over else [Closed(CloseReason.CONNECTION_LOST)])
    assert conn.connection_lost() == []
    assert (where(conn), *end_of(conn)) == (State.CLOSED, CloseReason.CONNECTION_LOST, Disposition.CLOSE)
    assert (conn.next_deadline, conn.output_bytes, conn.wants_read) == (None, 0, False)


@each_state
def test_an_aborted_connection_is_reset_with_nothing_left_to_write(state: State) -> None:
    conn = conn_at(state)
    conn.abort(CloseReason.APPLICATION_FAILED)
    expected = (CloseReason.CONNECTION_LOST, Disposition.CLOSE)  # it was over before
    assert end_of(conn) == (expected if state is State.CLOSED else (CloseReason.APPLICATION_FAILED, Disposition.ABORT))
    assert (where(conn), conn.next_deadline, conn.wants_read) == (State.CLOSED, None, False)
    assert conn.receive_data(GET) == conn.receive_data(b"") == conn.next_events() == conn.handle_deadline() == []


def test_what_waits_is_dropped_when_the_connection_is_cut() -> None:
    for cut in (Conn.connection_lost, lambda conn: conn.abort(CloseReason.APPLICATION_FAILED)):
        conn = a_conn()
        play(conn, GET + GET, STREAMED, Data(LARGE), cut)
        assert (bytes(conn.data_to_send()), conn.output_bytes) == (b"", 0)
        with pytest.raises(LocalError, match=r"^RESPONSE_DATA is out of turn: the connection is CLOSED because "):
            conn.send(Data(b"x"))


# Buffers that are used again.


@each_state
def test_a_buffer_can_be_had_back_and_then_the_connection_is_over(state: State) -> None:
    conn = conn_at(state)
    buffer = conn.release_buffer()
    assert (len(buffer), buffer.capacity, where(conn)) == (0, 16384, State.CLOSED)
    assert end_of(conn)[1] is (Disposition.CLOSE if state is State.CLOSED else Disposition.ABORT)


def test_a_buffer_is_used_again() -> None:
    first = a_conn()
    play(first, b"GET")
    buffer = first.release_buffer()
    play(Conn(clock=FakeClock(START), buffer=buffer), b"GET / HT")
    assert buffer.take_all() == b"GET / HT"


def test_what_one_connection_left_is_nothing_to_the_next() -> None:
    buffer = ReceiveBuffer(16384, 2**20)
    conn = Conn(clock=FakeClock(START), buffer=buffer)
    play(conn, b"GET /secret HTTP")
    conn.release_buffer()
    assert [type(event).__name__ for event in Conn(clock=FakeClock(START), buffer=buffer).receive_data(GET)] == [
        "Request"
    ]


# Lingering.


def test_an_ending_connection_keeps_nothing_of_what_came() -> None:
    conn = a_conn()
    play(conn, GET + GET, Conn.begin_drain, OK)
    assert (where(conn), len(conn._buffer)) == (State.ENDING, 0)


def test_what_an_ending_connection_still_gets_is_thrown_away() -> None:
    conn = conn_at(State.ENDING)
    for piece in (BODY, GET, b"\x00" * 1000):
        assert conn.receive_data(piece) == conn.next_events() == []
    assert (end_of(conn)[1], conn.wants_read) == (Disposition.LINGER, True)


def test_lingering_has_a_deadline_that_what_comes_does_not_move() -> None:
    clock = FakeClock(START)
    conn = conn_at(State.ENDING, clock)
    assert due_in(conn, clock) == 2.0
    clock.advance(1.0)
    conn.receive_data(BODY)
    assert due_in(conn, clock) == 1.0
