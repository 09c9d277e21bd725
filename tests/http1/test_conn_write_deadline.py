"""The write deadline: a peer takes what it is owed at a minimum rate, in lumps as coarse as they come."""

from typing import Any

import pytest

from h1core import (
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    FileSlice,
    InformationalResponse,
    Response,
    Timeouts,
)
from h1core.testing import FakeClock
from tests.kit import GET, OK, POST, START, STREAMED, a_conn, due_in, flush, play

KIB = 1024
LARGE = Response(200, (), bytes(8 * KIB * KIB))
FILE = FileSlice(0, 0, 8 * KIB * KIB)


def seconds_until_cut(lump_bytes: int, every_s: float) -> float | None:
    """When a peer is cut that takes a lump of a large response now and then, if it is cut at all."""
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, LARGE)
    while (due_s := due_in(conn, clock)) is not None and conn.output_bytes:
        clock.advance(min(due_s, every_s))
        if due_s < every_s:
            conn.handle_deadline()
            assert (conn.close_reason, conn.disposition) == (CloseReason.WRITE_TIMEOUT, Disposition.ABORT)
            return round(clock.now - START)
        conn.data_sent(min(lump_bytes, conn.output_bytes))
        assert conn.handle_deadline() == []
    return None


def test_a_reader_is_cut_when_it_falls_behind_the_rate() -> None:
    assert [seconds_until_cut(pace, 1) for pace in (1, KIB, 1536, 2 * KIB, 10 * KIB)] == [30, 60, 118, None, None]


def test_a_reader_that_keeps_the_rate_may_take_its_bytes_in_coarse_lumps() -> None:
    assert [seconds_until_cut(2 * KIB * gap, gap) for gap in (5, 10, 30)] == [None, None, None]
    assert [seconds_until_cut(10 * KIB * gap, gap) for gap in (30, 31)] == [None, 30], "but not too far apart"


def test_a_reader_of_one_byte_a_second_has_all_its_time_where_that_is_the_rate() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, timeouts=Timeouts(min_write_rate=1e-300))
    play(conn, GET, LARGE)
    for _ in range(100):
        clock.advance(29)
        conn.data_sent(1)
        assert due_in(conn, clock) == 30


@pytest.mark.parametrize("owed", [(LARGE,), (STREAMED, Data(bytes(1 << 20))), (STREAMED, FILE)])
def test_what_a_kernel_takes_at_once_buys_no_more_than_the_whole_allowance(owed: tuple[Response | Data, ...]) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, *owed)
    clock.advance(29)
    conn.data_sent(1_000_000)
    assert due_in(conn, clock) == 30


def test_whoever_was_looked_at_late_is_in_time_if_it_took_its_bytes_meanwhile() -> None:
    for taken_bytes, in_time in ((60 * KIB, True), (30 * KIB, False)):
        clock = FakeClock(START)
        conn = a_conn(clock)
        play(conn, GET, LARGE)
        clock.advance(50)  # a handler had the loop
        conn.data_sent(taken_bytes)
        assert (not conn.handle_deadline()) is in_time


def take(conn: Conn, size: int) -> None:
    """Owe a piece of a stream, and have it taken whole."""
    conn.send(Data(bytes(size)))
    conn.data_sent(conn.output_bytes)


def test_a_stream_gives_no_fresh_time_with_each_piece() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, STREAMED, flush)
    for _ in range(2):
        conn.send(Data(bytes(KIB - 7)))  # "3f9\r\n", and "\r\n"
        clock.advance(10)
        conn.data_sent(KIB)
    conn.send(Data(b"x"))
    assert due_in(conn, clock) == 30 - 2 * 10 + 2 * 0.5
    clock.advance(11)
    conn.handle_deadline()
    assert conn.close_reason is CloseReason.WRITE_TIMEOUT


def test_while_a_stream_owes_nothing_its_peer_loses_and_gains_no_time() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, STREAMED, Data(b"a"))
    clock.advance(20)
    flush(conn)
    left_s = 10 + (len(b"1\r\na\r\n") + 47) / 2048
    for _ in range(3):
        assert conn.next_deadline is None
        clock.advance(1000)
        conn.send(Data(b"a"))
        due_s = due_in(conn, clock)
        assert due_s is not None
        assert left_s - 0.01 < due_s < left_s + 0.1
        flush(conn)


def test_server_sent_events_to_a_prompt_reader_have_the_whole_allowance_each() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, STREAMED, flush)
    for _ in range(1000):
        clock.advance(25)
        take(conn, 20)
    conn.send(Data(b"x"))
    assert due_in(conn, clock) == 30


@pytest.mark.parametrize(
    "next_", [(GET, OK), (GET, STREAMED), (GET, InformationalResponse(103)), (b"nonsense\r\n\r\n",)], ids=repr
)
def test_whatever_is_owed_behind_a_stream_begins_with_the_whole_allowance(next_: tuple[Any, ...]) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, STREAMED, flush, Data(b"a"))
    clock.advance(25)
    play(conn, flush, EndOfMessage(), flush, *next_)
    assert due_in(conn, clock) == 30


def test_a_stream_that_began_before_its_request_was_over_owes_like_any_other() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, POST, STREAMED, flush, Data(b"a"))
    clock.advance(25)
    play(conn, flush, Data(b"b"))
    due_s = due_in(conn, clock)
    assert due_s is not None
    assert 5 < due_s < 5.1
