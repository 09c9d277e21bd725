"""Every deadline of a connection just before, at and after its instant, and what starts, moves and stops it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from h1core import (
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    Event,
    Limits,
    Request,
    Response,
    State,
    TimedOut,
    Timeouts,
    Timer,
)
from h1core.testing import FakeClock
from tests.kit import (
    BODY,
    CHUNKED,
    EXPECTING,
    GET,
    INSTANT,
    LAST_GET,
    OK,
    POST,
    START,
    STREAMED,
    UPGRADE,
    a_conn,
    conn_at,
    due_in,
    each_state,
    end_of,
    flush,
    play,
    request,
    wants_read,
    where,
)

LONG_POST = request("POST / HTTP/1.1", "Content-Length: 10000000")


class Late(NamedTuple):
    """A peer that is late: how it got there, when it is cut off, and what becomes of it."""

    timer: Timer
    actions: tuple[Any, ...]
    after_s: float
    status: bytes
    reason: CloseReason
    disposition: Disposition


LINGER, CLOSE, ABORT = Disposition.LINGER, Disposition.CLOSE, Disposition.ABORT

LATE = {
    "says nothing": Late(Timer.HEAD, (), 10, b"", CloseReason.HEAD_TIMEOUT, LINGER),
    "says nothing but empty lines": Late(Timer.HEAD, (b"\r\n",), 10, b"", CloseReason.HEAD_TIMEOUT, LINGER),
    "says half an empty line": Late(Timer.HEAD, (b"\r",), 10, b"", CloseReason.HEAD_TIMEOUT, LINGER),
    "begins a head": Late(Timer.HEAD, (GET[:-1],), 10, b"408", CloseReason.HEAD_TIMEOUT, LINGER),
    "begins a later head": Late(Timer.HEAD, (GET, OK, flush, b"G"), 10, b"408", CloseReason.HEAD_TIMEOUT, LINGER),
    "left a later head half": Late(
        Timer.HEAD, (GET + b"G", OK, Conn.next_events, flush), 10, b"408", CloseReason.HEAD_TIMEOUT, LINGER
    ),
    "sends no body": Late(Timer.BODY, (POST,), 60, b"408", CloseReason.BODY_TIMEOUT, LINGER),
    "sends no chunk": Late(Timer.BODY, (CHUNKED,), 60, b"408", CloseReason.BODY_TIMEOUT, LINGER),
    "sends no body after 100": Late(
        Timer.BODY, (EXPECTING, Conn.resume_body, flush), 60, b"408", CloseReason.BODY_TIMEOUT, LINGER
    ),
    "leaves a body that is drained": Late(Timer.BODY, (POST, OK, flush), 60, b"", CloseReason.BODY_TIMEOUT, LINGER),
    "is idle": Late(Timer.KEEPALIVE, (GET, OK, flush), 75, b"", CloseReason.KEEPALIVE_TIMEOUT, LINGER),
    "does not read": Late(Timer.WRITE, (GET, OK), 30, b"", CloseReason.WRITE_TIMEOUT, ABORT),
    "does not read a stream": Late(Timer.WRITE, (GET, STREAMED), 30, b"", CloseReason.WRITE_TIMEOUT, ABORT),
    "does not read its 101": Late(
        Timer.WRITE, (UPGRADE, Conn.switch_protocols), 30, b"", CloseReason.WRITE_TIMEOUT, ABORT
    ),
    "is in hand when the server must go": Late(
        Timer.DRAIN, (GET, Conn.begin_drain), 30, b"", CloseReason.DRAIN_TIMEOUT, ABORT
    ),
}
each_late = pytest.mark.parametrize("late", LATE.values(), ids=LATE)


def late_conn(late: Late, clock: FakeClock) -> Conn:
    conn = a_conn(clock, upgrades={b"chat"})
    play(conn, *late.actions)
    return conn


def expire(conn: Conn, clock: FakeClock, seconds: float) -> list[Event]:
    clock.advance(seconds)
    return conn.handle_deadline()


@each_late
def test_just_before_its_instant_nothing_happens(late: Late) -> None:
    clock = FakeClock(START)
    conn = late_conn(late, clock)
    before = (where(conn), end_of(conn), conn.output_bytes)
    assert conn.handle_deadline() == []
    assert due_in(conn, clock) == late.after_s
    assert expire(conn, clock, late.after_s - INSTANT) == []
    assert due_in(conn, clock) == INSTANT
    assert (where(conn), end_of(conn), conn.output_bytes) == before


@each_late
@pytest.mark.parametrize("later", [0.0, INSTANT, 1.5], ids=["at", "just after", "late"])
def test_from_its_instant_on_the_peer_is_cut_off(late: Late, later: float) -> None:
    clock = FakeClock(START)
    conn = late_conn(late, clock)
    assert expire(conn, clock, late.after_s + later) == [TimedOut(late.timer)]
    written = flush(conn)
    assert written[9:12] == late.status
    assert (b"\r\nconnection: close\r\n" in written) is bool(late.status)
    assert end_of(conn) == (late.reason, late.disposition)
    assert conn.handle_deadline() == []  # once is enough
    assert conn.receive_data(GET) == conn.next_events() == []


@each_late
def test_a_cut_off_peer_is_let_go_in_two_seconds(late: Late) -> None:
    clock = FakeClock(START)
    conn = late_conn(late, clock)
    expire(conn, clock, late.after_s)
    flush(conn)
    lingers = late.disposition is LINGER
    assert due_in(conn, clock) == (2.0 if lingers else None)
    assert expire(conn, clock, 2.0 - INSTANT) == []
    assert conn.disposition is late.disposition
    assert expire(conn, clock, INSTANT) == []
    assert end_of(conn) == (late.reason, CLOSE if lingers else late.disposition)
    assert conn.next_deadline is None


@each_state
def test_there_is_a_deadline_when_the_peer_owes_something_and_none_while_the_application_works(state: State) -> None:
    clock = FakeClock(START)
    owed = {State.HEAD: 10, State.RECEIVING: 60, State.DUPLEX: 60, State.DRAINING: 60, State.ENDING: 2}
    assert due_in(conn_at(state, clock), clock) == owed.get(state)


@pytest.mark.parametrize("timer", Timer, ids=lambda timer: timer.name)
def test_each_timeout_can_be_set(timer: Timer) -> None:
    clock = FakeClock(START)
    timeouts = Timeouts(**{f"{timer.value}_timeout": 0.5})
    actions: dict[Timer, tuple[Any, ...]] = {
        late.timer: late.actions for late in LATE.values() if late.timer is not Timer.WRITE
    }
    actions |= {Timer.WRITE: (GET, OK), Timer.LINGER: (LAST_GET, OK, flush)}
    conn = a_conn(clock, timeouts=timeouts, upgrades={b"chat"})
    play(conn, *actions[timer])
    assert due_in(conn, clock) == 0.5


def test_lingering_ends_without_a_word() -> None:
    clock = FakeClock(START)
    conn = conn_at(State.ENDING, clock)
    assert (expire(conn, clock, 2.0 - INSTANT), end_of(conn)) == ([], (CloseReason.PEER_ASKED, LINGER))
    assert (expire(conn, clock, INSTANT), end_of(conn)) == ([], (CloseReason.PEER_ASKED, CLOSE))


# What comes in the same instant wins when it is given first.

IN_TIME: dict[str, tuple[tuple[Any, ...], float, bytes]] = {
    "head": ((GET[:-1],), 10, GET[-1:]),
    "first head": ((), 10, GET),
    "body": ((POST, BODY[:9]), 60, BODY[9:]),
    "drained body": ((POST, OK, flush), 60, BODY + GET),
    "keepalive": ((GET, OK, flush), 75, GET),
    "linger": ((LAST_GET, OK, flush), 2, b""),
    "drain": ((GET, Conn.begin_drain, b"", OK, lambda conn: conn.data_sent(1)), 30, b""),
}


@pytest.mark.parametrize(("actions", "after_s", "data"), IN_TIME.values(), ids=IN_TIME)
def test_data_in_the_instant_of_the_deadline_wins(actions: tuple[Any, ...], after_s: float, data: bytes) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, *actions)
    clock.advance(after_s)
    events = conn.receive_data(data)
    flush(conn)
    state = where(conn)
    assert conn.handle_deadline() == []
    assert (where(conn), bool(events)) == (state, bool(data))
    assert state is (State.HANDLING if data else State.CLOSED)


@pytest.mark.parametrize(("actions", "after_s", "data"), IN_TIME.values(), ids=IN_TIME)
def test_data_behind_the_deadline_of_the_same_instant_loses(
    actions: tuple[Any, ...], after_s: float, data: bytes
) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, *actions)
    expire(conn, clock, after_s)
    assert conn.receive_data(data or GET) == []
    assert where(conn) in {State.ENDING, State.CLOSED}


def test_a_write_in_the_instant_of_the_deadline_wins() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK)
    clock.advance(30)
    conn.data_sent(1)
    assert (conn.handle_deadline(), due_in(conn, clock)) == ([], 1 / 2048)


# Heads: absolute.


@pytest.mark.parametrize("later", [False, True])
def test_a_head_that_drips_is_cut_off_at_ten_seconds(later: bool) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    if later:
        play(conn, GET, OK, flush)
        clock.advance(70)
    begun = clock.now
    for byte in request("GET / HTTP/1.1", "X: " + "x" * 100):
        conn.receive_data(bytes([byte]))
        if conn.handle_deadline():
            break
        clock.advance(1)
    assert clock.now - begun == 10
    assert flush(conn).startswith(b"HTTP/1.1 408 ")


def test_empty_lines_do_not_keep_a_connection() -> None:
    for actions, seconds in (((), 10), ((GET, OK, flush), 75)):
        clock = FakeClock(START)
        conn = a_conn(clock)
        play(conn, *actions)
        while not conn.handle_deadline():
            conn.receive_data(b"\r\n")
            clock.advance(1)
        assert clock.now - START == seconds


def test_a_head_that_waited_has_its_time_from_its_turn_on() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET + GET[:5])
    clock.advance(1000)
    play(conn, OK, Conn.next_events, flush)
    assert due_in(conn, clock) == 10


# Bodies: a minimum rate.


def test_progress_of_a_body_earns_its_time_up_to_the_timeout() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, LONG_POST)
    clock.advance(30)
    assert due_in(conn, clock) == 30
    play(conn, bytes(10 * 1024))
    assert due_in(conn, clock) == 40
    play(conn, bytes(512))
    assert due_in(conn, clock) == 40.5
    play(conn, bytes(2**20))
    assert due_in(conn, clock) == 60


def seconds_until_cut(bytes_a_second: int) -> float | None:
    """How long a body of that pace is read, or None when ten minutes are not enough to tell."""
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, LONG_POST)
    while clock.now < START + 600:
        clock.advance(1)
        conn.receive_data(bytes(bytes_a_second))
        if conn.handle_deadline():
            return clock.now - START
    return None


def test_a_body_is_cut_off_when_it_falls_behind_its_rate() -> None:
    assert [seconds_until_cut(pace) for pace in (1, 512, 1023, 1024, 2000)] == [61, 120, None, None, None]


def test_a_faster_rate_can_be_asked_for() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, timeouts=Timeouts(min_body_rate=10.0, body_timeout=5))
    play(conn, LONG_POST)
    clock.advance(4)
    play(conn, bytes(20))
    assert due_in(conn, clock) == 3


def test_only_content_is_progress() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, CHUNKED)
    clock.advance(30)
    play(conn, b"1024;" + b"x" * 200)
    assert due_in(conn, clock) == 30
    play(conn, b"\r\n" + bytes(1024))
    assert due_in(conn, clock) == 31


@pytest.mark.parametrize("actions", [(LONG_POST,), (LONG_POST, STREAMED, flush), (EXPECTING, Conn.resume_body, flush)])
def test_the_deadline_of_a_paused_body_stands_still(actions: tuple[Any, ...]) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, *actions)
    clock.advance(20)
    play(conn, Conn.pause_body, Conn.pause_body)
    assert expire(conn, clock, 1000) == []
    assert (conn.next_deadline, wants_read(conn)) == (None, False)
    play(conn, Conn.resume_body, Conn.resume_body)
    assert (due_in(conn, clock), wants_read(conn)) == (40, True)


def test_a_body_paused_past_its_deadline_is_due_when_it_is_resumed_unless_it_has_come() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, LONG_POST)
    clock.advance(61)
    play(conn, Conn.pause_body, Conn.resume_body)
    assert due_in(conn, clock) == 0
    play(conn, bytes(1024))
    assert (conn.handle_deadline(), due_in(conn, clock)) == ([], 1)


def test_each_body_has_its_own_allowance() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, POST)
    clock.advance(50)
    play(conn, Conn.pause_body, Conn.resume_body, BODY, OK, flush, POST)
    assert due_in(conn, clock) == 60


def test_a_peer_that_waits_for_100_has_no_deadline_and_one_whose_body_came_has() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, EXPECTING)
    clock.advance(1000)
    assert conn.next_deadline is None
    play(conn, BODY[:1])
    assert due_in(conn, clock) == 60


def test_the_deadline_of_a_body_that_is_left_goes_on() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, POST)
    clock.advance(20)
    play(conn, OK, flush)
    assert due_in(conn, clock) == 40
    paused = a_conn(clock)
    play(paused, POST, Conn.pause_body)
    clock.advance(100)
    play(paused, OK, flush)
    assert due_in(paused, clock) == 60


def test_a_late_body_lets_a_response_under_way_finish_and_then_ends() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, POST, STREAMED, flush)
    assert expire(conn, clock, 60) == [TimedOut(Timer.BODY)]
    assert (where(conn), end_of(conn)) == (State.RESPONDING, (CloseReason.BODY_TIMEOUT, Disposition.KEEP))
    assert conn.next_deadline is None
    assert play(conn, BODY + GET, Data(b"x"), EndOfMessage()) == []
    assert flush(conn) == b"1\r\nx\r\n0\r\n\r\n"
    assert end_of(conn) == (CloseReason.BODY_TIMEOUT, LINGER)


def test_the_408_to_a_head_request_has_no_body() -> None:
    for wire in (request("HEAD / HTTP/1.1", "Content-Length: 5"), b"HEAD / HTTP/1.1\r\n"):
        clock = FakeClock(START)
        conn = a_conn(clock)
        play(conn, wire)
        expire(conn, clock, 60)
        assert flush(conn).endswith(b"\r\nconnection: close\r\n\r\n")


# Writes: progress.


def test_only_what_the_peer_took_gives_it_time_to_take_more() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, STREAMED)
    steps: list[Callable[[], object]] = [
        lambda: conn.send(Data(b"x" * 100)),
        conn.data_to_send,
        lambda: conn.data_sent(0),
        lambda: conn.send(EndOfMessage()),
        lambda: conn.receive_data(GET),
        lambda: conn.send(OK),
    ]
    for number, step in enumerate(steps, 1):
        clock.advance(1)
        step()
        assert due_in(conn, clock) == 30 - number
    conn.data_sent(1)
    assert due_in(conn, clock) == 24 + 1 / 2048


def test_switching_protocols_gives_no_time_to_write() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, upgrades={b"chat"})
    play(conn, GET, OK, UPGRADE)
    clock.advance(20)
    play(conn, Conn.switch_protocols)
    assert due_in(conn, clock) == 10


def test_a_protocol_that_was_taken_has_no_deadline_but_for_writing() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, upgrades={b"chat"})
    play(conn, UPGRADE, Conn.begin_drain)
    clock.advance(20)
    play(conn, Conn.switch_protocols)
    assert due_in(conn, clock) == 30
    flush(conn)
    assert conn.next_deadline is None


def test_a_response_that_is_all_written_has_no_deadline() -> None:
    clock = FakeClock(START)
    conn = conn_at(State.RESPONDING, clock)
    assert conn.next_deadline is None
    clock.advance(1000)
    play(conn, Data(b"x"))
    assert due_in(conn, clock) == 30


def test_a_slow_reader_of_the_last_response_is_waited_for_and_lingering_begins_behind_it() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, LAST_GET, Response(200, (), bytes(1_000_000)))
    while conn.output_bytes:
        clock.advance(29)
        conn.data_sent(min(100_000, conn.output_bytes))
        assert conn.handle_deadline() == []
    assert (due_in(conn, clock), conn.disposition) == (2, LINGER)


def test_a_cut_off_write_drops_everything() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET + GET, OK, Conn.next_events, Response(200, (), bytes(100_000)))
    conn.data_sent(10)
    expire(conn, clock, 30)
    assert (conn.output_bytes, where(conn), conn.disposition) == (0, State.CLOSED, ABORT)


# Keep-alive: when all is written and nothing has come.


def test_idling_begins_when_the_response_is_written() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK)
    clock.advance(5)
    assert due_in(conn, clock) == 25
    conn.data_sent(1)
    assert due_in(conn, clock) == 25 + 1 / 2048
    clock.advance(5)
    flush(conn)
    assert due_in(conn, clock) == 75


def test_idling_begins_when_the_body_is_drained_behind_a_written_response() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, POST, OK, flush)
    clock.advance(5)
    play(conn, BODY)
    assert due_in(conn, clock) == 75


def test_idling_ends_with_the_first_byte() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK, flush)
    clock.advance(74)
    play(conn, b"G")
    assert due_in(conn, clock) == 10
    play(conn, GET[1:])
    assert conn.next_deadline is None


def test_a_request_that_begins_before_the_response_is_written_is_not_idle() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK, b"G")
    assert due_in(conn, clock) == 10
    flush(conn)
    assert due_in(conn, clock) == 10


def test_an_empty_line_behind_a_request_does_not_end_idling() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET + b"\r\n", OK, Conn.next_events, flush)
    assert due_in(conn, clock) == 75
    clock.advance(5)
    play(conn, b"\r\n")
    assert due_in(conn, clock) == 70


def test_half_an_empty_line_does_not_end_idling_either() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET + b"\r", OK, flush, Conn.next_events)
    assert due_in(conn, clock) == 75
    clock.advance(5)
    play(conn, b"\n", b"\r")
    assert due_in(conn, clock) == 70
    play(conn, b"\nG")
    assert due_in(conn, clock) == 10


@pytest.mark.parametrize("max_output_bytes", [1, 64 * 1024])
def test_an_empty_line_that_waits_until_all_is_written_leaves_a_deadline(max_output_bytes: int) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock, Limits(max_output_bytes=max_output_bytes))
    play(conn, GET + b"\r\n", OK, flush, Conn.next_events)
    assert due_in(conn, clock) == 75


# More than one at a time.


def test_the_next_deadline_is_the_earliest() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK)
    clock.advance(25)
    play(conn, b"G", Conn.begin_drain)
    assert due_in(conn, clock) == 5  # write; then head, then drain
    flush(conn)
    assert due_in(conn, clock) == 10
    play(conn, GET[1:])
    assert due_in(conn, clock) == 30


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        ((GET, OK, b"G"), CloseReason.WRITE_TIMEOUT),
        ((b"G", Conn.begin_drain), CloseReason.DRAIN_TIMEOUT),
        ((GET, OK, flush, b"G", Conn.begin_drain), CloseReason.DRAIN_TIMEOUT),
    ],
)
def test_of_two_deadlines_at_once_both_are_done_and_one_is_news(actions: tuple[Any, ...], reason: CloseReason) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, *actions)
    assert expire(conn, clock, 1000) == [TimedOut(Timer.HEAD)]
    assert (end_of(conn), conn.output_bytes, conn.next_deadline) == ((reason, ABORT), 0, None)


def test_a_response_under_way_may_lose_its_request_and_its_reader_at_once() -> None:
    clock = FakeClock(START)
    timeouts = Timeouts(body_timeout=30, write_timeout=30)
    conn = a_conn(clock, timeouts=timeouts)
    play(conn, POST, STREAMED)
    assert expire(conn, clock, 30) == [TimedOut(Timer.BODY)]
    assert end_of(conn) == (CloseReason.WRITE_TIMEOUT, ABORT)


def test_a_deadline_that_another_one_stopped_does_nothing() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, GET, OK, Conn.begin_drain)
    assert expire(conn, clock, 30) == []  # write and drain: the connection was ending before
    assert end_of(conn) == (CloseReason.WRITE_TIMEOUT, ABORT)


@pytest.mark.parametrize("timer", [Timer.WRITE, Timer.DRAIN])
def test_an_ending_connection_that_is_cut_off_is_no_news(timer: Timer) -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    play(conn, b"\x16", *([Conn.begin_drain] if timer is Timer.DRAIN else []))
    if timer is Timer.DRAIN:
        clock.advance(15)
        conn.data_sent(1)
        clock.advance(15)
    else:
        clock.advance(30)
    assert (conn.handle_deadline(), conn.disposition) == ([], ABORT)


def test_a_request_may_be_answered_for_as_long_as_it_takes() -> None:
    clock = FakeClock(START)
    conn = a_conn(clock)
    assert play(conn, GET) == [Request(b"GET", b"/", [(b"host", b"x")])]
    for _ in range(10):
        assert expire(conn, clock, 1e6) == []
    play(conn, OK)
    assert flush(conn).startswith(b"HTTP/1.1 200 ")
