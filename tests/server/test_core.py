"""`ServerCore`: facts in, answers out, over real `Conn`s and a fake clock."""

import random

import pytest

from h1core.config import Limits, Timeouts
from h1core.events import Request, Response
from h1core.http1.conn import Conn
from h1core.http1.state import Disposition, State
from h1core.http1.timers import NEVER
from h1core.server import Phase, ServerCore
from h1core.server.admission import RETRY_S
from h1core.server.core import MAX_SPARE_BUFFERS
from h1core.server.fairness import DEADLINES_PER_TICK, TURNS_PER_DEADLINE
from h1core.testing import FakeClock

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def core(clock: FakeClock) -> ServerCore:
    return ServerCore(clock=clock)


def write_all(conn: Conn) -> bytes:
    written = b""
    while out := bytes(conn.data_to_send()):
        conn.data_sent(len(out))
        written += out
    return written


def serve(core: ServerCore, conn: Conn) -> bytes:
    """One request and its answer."""
    conn.receive_data(GET)
    conn.send(Response(200))
    written = write_all(conn)
    core.connection_pumped(conn)
    return written


def accepts(core: ServerCore) -> bool:
    return core.may_accept


# Connections.


def test_connections_are_kept_in_the_order_of_their_arrival(core: ServerCore) -> None:
    first, second, third = (core.connection_opened() for _ in range(3))
    assert core.connections == [first, second, third]
    core.connection_gone(second)
    fourth = core.connection_opened()
    assert core.connections == [first, third, fourth]


def test_each_connection_gets_the_limits_timeouts_clocks_and_upgrades(clock: FakeClock) -> None:
    core = ServerCore(
        Limits(max_fields=3), Timeouts(head_timeout=3.0), clock=clock, wall_clock=lambda: 0.0, upgrades={b"x"}
    )
    conn = core.connection_opened()
    assert conn.next_deadline == 103.0
    [request] = conn.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert isinstance(request, Request)
    assert request.upgrade == b"x"
    conn.send(Response(200))
    assert b"\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in write_all(conn)
    conn.receive_data(GET.replace(b"\r\n\r\n", b"\r\nA: a\r\nB: b\r\nC: c\r\n\r\n"))
    assert write_all(conn).startswith(b"HTTP/1.1 431 ")


def test_all_connections_share_one_date(clock: FakeClock) -> None:
    asked: list[float] = []

    def wall_clock() -> float:
        asked.append(clock.now)
        return clock.now

    core = ServerCore(clock=clock, wall_clock=wall_clock)
    dates = [serve(core, core.connection_opened()).split(b"\r\ndate: ")[1][:29] for _ in range(10)]
    assert set(dates) == {b"Thu, 01 Jan 1970 00:01:40 GMT"}
    assert len(asked) == 1


def is_full(core: ServerCore) -> bool:
    return core.is_full


def test_at_most_max_connections_are_accepted(clock: FakeClock) -> None:
    core = ServerCore(Limits(max_connections=2), clock=clock)
    assert accepts(core)
    core.connection_opened()
    assert not is_full(core)
    conn = core.connection_opened()
    assert is_full(core)
    core.connection_gone(conn)
    assert not is_full(core)


def test_who_has_been_idle_longest_makes_room_first(clock: FakeClock) -> None:
    core = ServerCore(Limits(max_connections=5), clock=clock)
    conns = [core.connection_opened() for _ in range(5)]
    assert core.longest_idle() is None, "they were accepted, and have not asked"
    for number in (3, 1, 0, 4):
        serve(core, conns[number])
        clock.advance(1.0)
    assert core.longest_idle() is conns[3]
    conns[1].receive_data(GET[:5])
    core.connection_gone(conns[0])
    assert core.longest_idle() is conns[4], "one asks, one has gone"
    assert core.longest_idle() is conns[3], "who was spared is asked again"


def test_after_a_failure_to_accept_it_rests_until_its_deadline(core: ServerCore, clock: FakeClock) -> None:
    core.accept_failed()
    assert not accepts(core)
    assert core.next_deadline == 100.0 + RETRY_S
    clock.advance(RETRY_S)
    assert accepts(core)
    assert core.next_deadline is None


def test_buffers_are_handed_on_empty_and_only_so_many(core: ServerCore) -> None:
    conns = [core.connection_opened() for _ in range(MAX_SPARE_BUFFERS + 1)]
    for conn in conns:
        conn.receive_data(b"GET / HTTP/1.1\r\nSecret: of-another-client")
        core.connection_gone(conn)
    again = [core.connection_opened() for _ in range(MAX_SPARE_BUFFERS + 1)]
    before, after = ([conn.release_buffer() for conn in those] for those in (conns, again))
    assert sum(buffer in before for buffer in after) == MAX_SPARE_BUFFERS
    assert all(len(buffer) == 0 for buffer in after)


# Deadlines.


def test_a_newcomer_has_its_deadline_watched(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    assert core.next_deadline == conn.next_deadline == 110.0
    clock.advance(9.999)
    assert core.due_connections() == []
    clock.advance_to(110.0)
    assert core.due_connections() == [conn]


def test_a_connection_that_was_due_must_be_pumped_to_be_watched_again(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    clock.advance(10.0)
    assert core.due_connections() == [conn]
    assert core.due_connections() == []
    conn.handle_deadline()
    core.connection_pumped(conn)
    assert core.next_deadline == 112.0, "lingering"


def test_a_deadline_that_moved_later_is_looked_at_and_left(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    serve(core, conn)
    assert conn.next_deadline == 175.0
    assert core.next_deadline == 110.0, "where the first deadline was: an early look, not an early end"
    clock.advance_to(110.0)
    assert core.due_connections() == []
    assert core.next_deadline == 175.0


def test_a_deadline_that_moved_earlier_is_in_time(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    serve(core, conn)
    clock.advance_to(110.0)
    assert core.due_connections() == []
    conn.receive_data(b"G")
    core.connection_pumped(conn)
    assert core.next_deadline == conn.next_deadline == 120.0
    clock.advance_to(120.0)
    assert core.due_connections() == [conn]


def test_a_connection_without_a_deadline_is_not_due(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    conn.receive_data(GET)  # in the application's hands
    assert conn.next_deadline is None
    core.connection_pumped(conn)
    clock.advance(1e6)
    assert core.due_connections() == []
    assert core.next_deadline is None
    conn.send(Response(200))
    core.connection_pumped(conn)
    assert core.next_deadline == conn.next_deadline


def test_who_has_gone_is_never_due(core: ServerCore, clock: FakeClock) -> None:
    first, second = core.connection_opened(), core.connection_opened()
    core.connection_gone(first)
    clock.advance(10.0)
    assert core.due_connections() == [second]


def test_the_earlier_of_both_deadlines_counts(core: ServerCore, clock: FakeClock) -> None:
    core.connection_opened()
    core.accept_failed()
    assert core.next_deadline == 100.0 + RETRY_S
    clock.advance(RETRY_S)
    assert accepts(core)
    assert core.next_deadline == 110.0


def all_due(core: ServerCore) -> list[Conn]:
    """What several ticks at one instant would take."""
    due: list[Conn] = []
    while portion := core.due_connections():
        due += portion
    return due


def test_of_many_that_are_due_a_tick_takes_a_portion(core: ServerCore, clock: FakeClock) -> None:
    conns = [core.connection_opened() for _ in range(3 * DEADLINES_PER_TICK)]
    for conn in conns[::2]:
        serve(core, conn)
    clock.advance(10.0)
    assert core.due_connections() == conns[1::2][:DEADLINES_PER_TICK], "early looks do not count"
    assert core.next_deadline is not None
    assert core.next_deadline <= clock()
    assert core.due_connections() == conns[1::2][DEADLINES_PER_TICK:]


def test_the_portion_of_a_tick_grows_with_what_else_it_does(core: ServerCore, clock: FakeClock) -> None:
    conns = [core.connection_opened() for _ in range(20)]
    clock.advance(10.0)
    sizes = [len(core.due_connections(turns=turns)) for turns in (0, 1, TURNS_PER_DEADLINE, 100 * TURNS_PER_DEADLINE)]
    assert sizes == [1, 1, 2, len(conns) - 4]


@pytest.mark.parametrize("seed", range(10))
def test_every_connection_is_due_exactly_when_its_own_deadline_says(seed: int) -> None:
    choose = random.Random(seed)
    clock = FakeClock()
    core = ServerCore(clock=clock)
    conns: list[Conn] = []
    ended = 0
    for _ in range(600):
        conn = choose.choice(conns or [core.connection_opened()])
        match choose.choice(["open", "serve", "drip", "hold", "gone", "wait", "wait"]):
            case "open":
                core.connection_opened()
            case "serve" | "hold" | "drip" as what:
                if conn.state is State.HANDLING:
                    conn.send(Response(200))
                    write_all(conn)
                elif what == "drip":
                    conn.receive_data(b"G")
                else:
                    conn.receive_data(GET)
                core.connection_pumped(conn)
            case "gone":
                core.connection_gone(conn)
            case "wait":
                clock.advance(choose.choice([0.0, 0.5, 5.0, 40.0]))
        conns = core.connections
        expected = [conn for conn in conns if conn.next_deadline is not None and conn.next_deadline <= clock.now]
        due = all_due(core)
        assert sorted(due, key=conns.index) == expected
        for conn in due:
            conn.handle_deadline()
            write_all(conn)
            core.connection_pumped(conn)
            if conn.disposition in (Disposition.CLOSE, Disposition.ABORT):
                core.connection_gone(conn)
                ended += 1
        conns = core.connections
        earliest = min((conn.next_deadline for conn in conns if conn.next_deadline is not None), default=NEVER)
        assert earliest == NEVER or (core.next_deadline is not None and core.next_deadline <= earliest)
    assert ended > 20


# The end.


def test_a_drain_tells_every_connection_and_says_whom(core: ServerCore) -> None:
    idle, busy = core.connection_opened(), core.connection_opened()
    busy.receive_data(GET)
    assert core.begin_drain() == [idle, busy]
    assert idle.disposition is Disposition.LINGER
    busy.send(Response(200))
    assert b"\r\nconnection: close\r\n" in write_all(busy)


def test_the_phases_follow_the_connections(core: ServerCore) -> None:
    conn = core.connection_opened()
    phases = [core.phase]
    core.begin_drain()
    phases.append(core.phase)
    core.connection_gone(conn)
    phases.append(core.phase)
    assert phases == [Phase.RUNNING, Phase.DRAINING, Phase.STOPPED]


def test_work_that_no_connection_waits_for_is_counted_and_keeps_a_drain_from_its_end(clock: FakeClock) -> None:
    core = ServerCore(Limits(max_connections=2), clock=clock)
    assert [core.background_begins() for _ in range(3)] == [True, True, False]
    assert core.background_tasks == 2
    core.begin_drain()
    phases = []
    for _ in range(2):
        core.background_done()
        phases.append(core.phase)
    assert phases == [Phase.DRAINING, Phase.STOPPED]


def test_without_connections_a_drain_is_over_at_once(core: ServerCore) -> None:
    assert core.begin_drain() == []
    assert core.phase is Phase.STOPPED
    assert not accepts(core)


def test_draining_again_tells_nobody_anything(core: ServerCore, clock: FakeClock) -> None:
    conn = core.connection_opened()
    conn.receive_data(GET)
    core.begin_drain()
    clock.advance(10.0)
    assert core.begin_drain() == []
    assert conn.next_deadline == 130.0


def test_nobody_is_accepted_while_draining(core: ServerCore) -> None:
    conn = core.connection_opened()
    core.begin_drain()
    assert not accepts(core)
    core.connection_gone(conn)
    assert not accepts(core)


def test_a_rest_from_accepting_does_not_outlive_the_accepting(core: ServerCore, clock: FakeClock) -> None:
    """Nobody asks `may_accept` any more, and a deadline in the past makes a loop spin."""
    conn = core.connection_opened()
    conn.receive_data(GET)
    core.accept_failed()
    core.begin_drain()
    core.connection_pumped(conn)
    clock.advance(15.0)
    assert core.due_connections() == []
    assert core.next_deadline == 105.0, "streams must end"
