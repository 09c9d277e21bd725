"""Bodies in files: `Conn` counts them, and says when it is their turn; it never has their bytes."""

import pytest

from h1core import Conn, EndOfMessage, FileSlice, Response, State, Timeouts
from h1core.testing import FakeClock
from tests.kit import GET, LAST_GET, OLD_GET, START, a_conn, flush, local_error, play, request, where

PART = FileSlice(7, 100, 1 << 33)
DECLARED = Response(200, [(b"content-length", b"%d" % PART.size)], None)
STREAMED = Response(200, (), None)


def in_turn(conn: Conn) -> list[bytes | FileSlice]:
    """What is to be written, all of it."""
    found: list[bytes | FileSlice] = []
    while conn.output_bytes:
        data = bytes(conn.data_to_send())
        part = conn.file_to_send()
        assert bool(data) is not bool(part), "either bytes or a file have their turn"
        found.append(part or data)
        conn.data_sent(len(found[-1]))
    assert conn.file_to_send() is None
    return found


def test_a_part_of_a_file_follows_its_head() -> None:
    conn = a_conn()
    play(conn, GET, DECLARED, PART, EndOfMessage())
    assert conn.output_bytes > PART.size
    head, part = in_turn(conn)
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 8589934592\r\n\r\n"
    assert part is PART
    assert where(conn) is State.HEAD


def test_parts_and_pieces_may_be_mixed_and_come_in_chunks() -> None:
    conn = a_conn()
    play(conn, GET, STREAMED, FileSlice(7, 0, 10), FileSlice(7, 50, 0), FileSlice(8, 5, 255), EndOfMessage())
    _, *rest = in_turn(conn)
    assert rest == [FileSlice(7, 0, 10), b"\r\nff\r\n", FileSlice(8, 5, 255), b"\r\n0\r\n\r\n"]


def test_an_old_client_gets_it_until_the_end() -> None:
    conn = a_conn()
    play(conn, OLD_GET, STREAMED, PART, EndOfMessage())
    assert in_turn(conn)[1:] == [PART]
    assert where(conn) is State.ENDING


def test_some_of_it_may_be_sent_at_a_time_and_each_is_progress() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, timeouts=Timeouts(write_timeout=5.0))
    play(conn, GET, DECLARED)
    flush(conn)
    play(conn, PART, EndOfMessage())
    assert conn.next_deadline == START + 5
    clock.advance(3)
    conn.data_sent(10)
    assert conn.file_to_send() == FileSlice(7, 110, PART.size - 10)
    assert conn.next_deadline == START + 5 + 10 / 2048
    clock.advance(5)
    conn.handle_deadline()
    assert where(conn) is State.CLOSED
    assert (conn.file_to_send(), conn.output_bytes) == (None, 0)


def test_the_next_request_waits_until_most_of_it_is_sent() -> None:
    conn = a_conn()
    assert len(play(conn, GET + GET, DECLARED, PART, EndOfMessage())) == 1
    assert conn.next_events() == []
    in_turn(conn)
    assert len(conn.next_events()) == 1


def test_more_than_was_declared_is_a_mistake() -> None:
    conn = a_conn()
    play(conn, GET, Response(200, [(b"content-length", b"9")], None))
    with local_error(conn, "the body is 1 bytes longer than Content-Length said"):
        conn.send(FileSlice(7, 0, 10))


def test_less_than_was_declared_is_a_mistake() -> None:
    conn = a_conn()
    play(conn, GET, Response(200, [(b"content-length", b"11")], None), FileSlice(7, 0, 10))
    with pytest.raises(Exception, match="the body is 1 bytes shorter than Content-Length said"):
        conn.send(EndOfMessage())


def test_there_is_none_for_head() -> None:
    conn = a_conn()
    play(conn, request("HEAD / HTTP/1.1"), DECLARED)
    with local_error(conn, "a response to HEAD has no body"):
        conn.send(PART)


def test_it_has_its_turn_like_any_piece() -> None:
    conn = a_conn()
    with local_error(conn, "RESPONSE_DATA is out of turn"):
        conn.send(PART)


def test_a_connection_that_is_lost_forgets_it() -> None:
    conn = a_conn()
    play(conn, LAST_GET, DECLARED, PART)
    conn.connection_lost()
    assert (conn.file_to_send(), conn.output_bytes) == (None, 0)
