"""Accepting clients, and those that vanish, are slow, do not read, or do not stop."""

import errno
import os
from collections.abc import Callable

import pytest
from h1core.drivers.selectors_driver import Server

from h1core import Limits, Request, Response, Timeouts
from h1core.server.admission import RETRY_S
from h1core.server.fairness import ACCEPTS_PER_TICK, EVENTS_PER_TURN
from h1core.testing import Deadlock, MemoryClient, MemorySelector
from h1core.testing.network import _Stream

from ..wire import answers, statuses
from .world import (
    GET,
    HUGE_WINDOW,
    KIB,
    LAST_GET,
    SLOW_POST,
    MakeWorld,
    Stream,
    World,
    ended,
    error_lines,
    get,
    hello,
    large,
    numbered,
    post,
    target_echo,
)

# Accepting.


def test_a_tick_accepts_a_bounded_number(world: World) -> None:
    for _ in range(2 * ACCEPTS_PER_TICK + 1):
        world.connect()
    counts = []
    for _ in range(3):
        world.tick()
        counts.append(world.open_connections)
    assert counts == [ACCEPTS_PER_TICK, 2 * ACCEPTS_PER_TICK, 2 * ACCEPTS_PER_TICK + 1]


def test_who_comes_when_all_slots_are_taken_waits_for_one(make_world: MakeWorld) -> None:
    world = make_world(max_connections=2)
    first, _, third = (world.connect() for _ in range(3))
    third.send(GET)
    world.tick(5)
    assert (world.open_connections, world.listener.waiting) == (2, 1)
    first.end()
    world.tick()
    assert world.open_connections == 1
    world.tick(2)
    assert world.open_connections == 2
    assert statuses(third.read()) == [200]


def test_waiting_for_a_slot_is_no_work(make_world: MakeWorld) -> None:
    world = make_world(max_connections=1)
    for _ in range(10):
        world.connect()
    world.tick(2)
    ticks, calls = world.ticks, world.selector.calls
    world.wait(9.0)
    assert world.ticks - ticks <= 2
    assert world.selector.calls == calls


def test_all_listeners_are_served_and_closed() -> None:
    world = World()
    second = world.network.listen()
    server = Server(
        hello,
        listeners=[world.listener, second],
        selector=MemorySelector(world.clock),
        clock=world.clock,
    )
    clients = [world.listener.connect(), second.connect()]
    for client in clients:
        client.send(GET)
    server.tick(0)
    server.tick(0)
    assert [statuses(client.read()) for client in clients] == [[200], [200]]
    server.close()
    assert world.listener.is_closed
    assert second.is_closed
    world.server.close()


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.ECONNRESET])
def test_who_is_gone_before_the_accept_is_passed_over(
    world: World, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.listener.fail(OSError(code, os.strerror(code)))
    client = world.connect(GET)
    world.tick(2)
    assert statuses(client.read()) == [200]
    assert error_lines(caplog) == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_one_newcomer_is_let_go_and_accepting_rests(
    world: World, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.listener.fail(OSError(code, os.strerror(code)))
    shed, later = world.connect(GET), world.connect(GET)
    world.tick()
    assert shed.is_closed
    world.tick(3)
    assert world.listener.waiting == 1
    assert len(error_lines(caplog)) == 1
    world.clock.advance(RETRY_S - 0.001)
    world.tick()
    assert world.listener.waiting == 1
    world.clock.advance(0.001)
    world.tick(3)
    assert statuses(later.read()) == [200]


def test_a_lasting_lack_of_descriptors_does_not_spin_and_passes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = world.connect()
    world.tick()
    crowd = []
    for _ in range(100):
        world.listener.fail(OSError(errno.EMFILE, "too many open files"))
        crowd.append(world.connect(GET))
    for _ in range(5):
        ticks = world.ticks
        world.wait(1.0)
        assert world.ticks - ticks <= 2 / RETRY_S + 2
        assert statuses(world.talk(client, GET)) == [200], "those who are in are served all the while"
    world.wait(20 * RETRY_S * 100)
    late = world.connect(GET)
    world.tick(2)
    assert statuses(late.read()) == [200]
    assert all(newcomer.is_closed for newcomer in crowd)


def test_a_connection_that_ends_lets_accepting_go_on_at_once(world: World) -> None:
    client = world.connect()
    world.tick()
    world.listener.fail(OSError(errno.EMFILE, "too many open files"))
    _, later = world.connect(), world.connect(GET)
    world.tick()
    client.end()
    world.tick(3)
    assert statuses(later.read()) == [200]


def test_any_other_trouble_with_accepting_rests_and_lets_nobody_go(world: World) -> None:
    world.listener.fail(OSError(errno.EPERM, "a firewall says no"))
    client = world.connect(GET)
    world.tick(3)
    assert (client.is_closed, world.listener.waiting) == (False, 1)
    world.wait(RETRY_S)
    world.tick(2)
    assert statuses(client.read()) == [200]


def test_with_nobody_to_let_go_accepting_only_rests(world: World) -> None:
    world.listener.fail(OSError(errno.EMFILE, "too many open files"))
    world.tick(2)
    world.clock.advance(RETRY_S)
    client = world.connect(GET)
    world.tick(3)
    assert statuses(client.read()) == [200]


def test_without_a_descriptor_to_spare_accepting_only_rests(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "open", fail)
    world = make_world()
    world.listener.fail(OSError(errno.EMFILE, "too many open files"))
    client = world.connect(GET)
    world.tick(3)
    assert (client.is_closed, world.listener.waiting) == (False, 1)
    world.wait(RETRY_S)
    world.tick(2)
    assert statuses(client.read()) == [200]


# Clients that vanish.


def spin_free(world: World, seconds: float = 200.0) -> None:
    """Whatever has happened, the loop gets rid of the client and then has nothing to do."""
    ticks = world.ticks
    world.wait(seconds)
    assert world.ticks - ticks <= 15
    assert world.open_connections == 0


def test_a_client_that_resets_before_it_is_accepted_is_gone(world: World) -> None:
    """waitress's CVE-2024-49769: a peer that was gone already made the loop spin."""
    client = world.connect(GET)
    client.reset()
    world.tick()
    assert world.open_connections <= 1
    spin_free(world)


@pytest.mark.parametrize(
    "wire",
    [b"", b"GET / HT", GET, GET + b"GET", post(b"hello")[:-2], SLOW_POST, LAST_GET, b"nonsense\r\n"],
    ids=["silent", "head", "answered", "pipelined", "body", "large body", "lingering", "refused"],
)
@pytest.mark.parametrize("window_bytes", [0, 1 << 20])
@pytest.mark.parametrize("ticks", [1, 2, 3])
@pytest.mark.parametrize("way", [MemoryClient.reset, MemoryClient.end], ids=["reset", "end"])
def test_a_client_that_leaves_in_the_middle_of_anything_is_gone(
    world: World, wire: bytes, window_bytes: int, ticks: int, way: Callable[[MemoryClient], None]
) -> None:
    client = world.connect(wire, window_bytes)
    world.tick(ticks)
    way(client)
    world.tick()
    spin_free(world)


def test_a_reset_is_noticed_at_once(world: World) -> None:
    client = world.connect(b"GET / HT")
    world.tick(2)
    client.reset()
    world.tick()
    assert world.open_connections == 0


def test_a_reset_that_shows_only_when_writing_is_noticed_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: _Stream, data: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "gone")

    client = world.connect()
    world.tick()
    monkeypatch.setattr(_Stream, "send", fail)
    client.send(GET)
    world.tick()
    assert world.open_connections == 0


def test_a_transport_that_was_not_ready_after_all_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = _Stream.recv
    refusals: list[OSError] = [BlockingIOError(), InterruptedError()]

    def recv(stream: _Stream, size: int) -> bytes:
        if refusals:
            raise refusals.pop()
        return original(stream, size)

    client = world.connect(GET)
    world.tick()
    monkeypatch.setattr(_Stream, "recv", recv)
    world.tick(3)
    assert statuses(client.read()) == [200]


def test_a_transport_that_cannot_be_configured_or_closed_harms_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOTCONN, "gone already")

    client, other = world.connect(LAST_GET), world.connect(GET)
    for method in ("shutdown", "setsockopt", "close"):
        monkeypatch.setattr(_Stream, method, fail)
    world.tick(2)
    client.end()
    world.tick()
    assert world.open_connections == 1
    assert statuses(other.read()) == [200]


def test_who_closes_the_sending_side_still_gets_every_answer(make_world: MakeWorld) -> None:
    world = make_world(target_echo)
    client = world.connect(numbered(200))
    client.end()
    world.tick(6)
    assert [answer.body for answer in answers(client.read())] == [b"/%d" % number for number in range(200)]
    assert client.sees_end
    assert not client.sees_reset
    assert world.open_connections == 0


def test_who_closes_the_sending_side_still_gets_a_whole_stream(make_world: MakeWorld) -> None:
    stream = Stream([1000] * 500)
    world = make_world(stream)
    client = world.connect(GET, window_bytes=10_000)
    client.end()
    for _ in range(200):
        world.tick()
        client.read()
    [answer] = answers(client.received)
    assert len(answer.body) == 500_000
    assert world.open_connections == 0


# Deadlines.


@pytest.mark.parametrize(("start", "status"), [(b"", None), (b"GET / HTTP/1.1\r\nHost: a\r\n", 408)])
def test_a_slow_head_ends_at_exactly_its_deadline_while_another_is_served(
    world: World, start: bytes, status: int | None
) -> None:
    slow, quick = world.connect(start), world.connect()
    world.tick(2)
    for _ in range(99):
        world.clock.advance(0.1)
        if start:
            slow.send(b"x: y\r\n"[_ % 6 :][:1])
        assert statuses(world.talk(quick, GET)) == [200]
        assert not ended(slow)
    world.clock.advance_to(1009.999)
    world.tick()
    assert not ended(slow)
    world.clock.advance_to(1010.0)
    assert statuses(world.talk(quick, GET)) == [200]
    assert slow.sees_end
    assert not slow.sees_reset
    assert statuses(slow.read()) == ([status] if status else [])


def test_a_slow_body_ends_at_exactly_its_deadline(world: World) -> None:
    client = world.connect(SLOW_POST)
    world.tick(2)
    world.clock.advance(59.999)
    world.tick()
    assert not ended(client)
    world.clock.advance(0.001)
    world.tick()
    assert statuses(client.read()) == [408]
    assert client.sees_end
    assert not client.sees_reset


def test_a_body_that_keeps_its_pace_has_all_the_time_it_needs(make_world: MakeWorld) -> None:
    world = make_world(lambda request: Response(200, (), b"%d" % len(request.body)))
    client = world.connect(SLOW_POST)
    for _ in range(100):
        world.wait(0.95)
        client.send(b"x" * 1000)
    world.tick(2)
    [answer] = answers(client.read())
    assert answer.body == b"100000"


def test_data_that_comes_in_the_instant_of_its_deadline_wins(world: World) -> None:
    client = world.connect(GET[:-1])
    world.tick(2)
    world.clock.advance_to(1010.0)
    client.send(GET[-1:])
    world.tick()
    assert statuses(client.read()) == [200]
    assert not ended(client)


def test_an_idle_connection_is_let_go_in_order(world: World) -> None:
    client = world.connect()
    world.talk(client, GET)
    world.wait(74.9)
    assert not ended(client)
    world.wait(0.1)
    assert client.sees_end
    assert (client.read(), client.is_closed) == (b"", False)
    client.end()
    world.tick()
    assert client.is_closed
    assert not client.sees_reset


def test_what_came_while_a_handler_had_the_loop_is_in_time(make_world: MakeWorld) -> None:
    def answer(request: Request) -> Response:
        if request.target == b"/slow":
            world.clock.advance(80.0)
            other.send(GET)
        return Response(200)

    world = make_world(answer)
    slow, other, silent = (world.connect(GET) for _ in range(3))
    world.tick(2)
    slow.send(get(b"/slow"))
    world.tick(2)
    other.read()
    assert statuses(bytes(other.received)) == [200, 200]
    assert ended(silent)
    assert not ended(slow)
    world.wait(74.9)
    assert not ended(slow)
    world.wait(0.1)
    assert ended(slow)


def test_a_request_that_crosses_the_end_of_keep_alive_meets_no_reset(world: World) -> None:
    client = world.connect()
    world.talk(client, GET)
    world.wait(75.0)
    assert client.sees_end
    assert world.talk(client, GET) == b""
    world.wait(2.0)
    assert client.is_closed
    assert not client.sees_reset


def test_without_a_limit_a_tick_waits_for_the_next_deadline(world: World) -> None:
    world.connect(GET[:-1])
    world.tick(2)
    world.tick(max_wait=None)
    assert world.clock.now == 1010.0
    world.tick(max_wait=0.5)
    assert world.clock.now == 1010.5


def test_without_connections_a_tick_waits_for_a_client(world: World) -> None:
    with pytest.raises(Deadlock):
        world.tick(max_wait=None)
    client = world.connect(GET)
    world.tick(2, max_wait=None)
    assert statuses(client.read()) == [200]


def test_an_idle_server_does_nothing(world: World) -> None:
    for _ in range(100):
        world.connect(GET)
    world.tick(100 // ACCEPTS_PER_TICK + 2)
    ticks = world.ticks
    world.wait(70.0)
    assert world.ticks - ticks <= 4


@pytest.mark.parametrize("wire", [GET + b"\r\n", GET * EVENTS_PER_TURN + b"\r\n"], ids=["one", "a turn full"])
def test_an_empty_line_behind_a_request_leaves_the_connection_a_deadline(make_world: MakeWorld, wire: bytes) -> None:
    """RFC 9112 §2.2 lets the line be there; a connection without a deadline would be the client's for ever."""
    world = make_world(large)
    client = world.connect(wire, HUGE_WINDOW)
    world.tick(40)
    assert set(statuses(client.read())) == {200}
    world.wait(75.0)
    assert client.sees_end


# Clients that do not read.


def test_a_client_that_never_reads_is_cut_at_the_write_deadline(make_world: MakeWorld) -> None:
    world = make_world(large)
    client = world.connect(GET, window_bytes=1000)
    world.tick(3)
    world.wait(29.9)
    assert not ended(client)
    world.wait(0.1)
    assert client.sees_reset
    assert world.open_connections == 0


def test_each_byte_taken_puts_the_write_deadline_off_by_its_share(make_world: MakeWorld) -> None:
    world = make_world(large, timeouts=Timeouts(min_write_rate=1.0))
    client = world.connect(GET, window_bytes=1000)
    world.tick(3)
    for _ in range(5):
        world.wait(20.0)
        client.read(19)
        world.tick()
    world.wait(24.9)
    assert not ended(client)
    world.wait(0.1)
    assert client.sees_reset


@pytest.mark.parametrize("body_bytes", [0, 1000, 70_000])
def test_answers_do_not_pile_up_for_a_client_that_never_reads(make_world: MakeWorld, body_bytes: int) -> None:
    handled: list[int] = []

    def answer(request: Request) -> Response:
        handled.append(1)
        return Response(200, (), b"x" * body_bytes)

    world = make_world(answer, max_requests_per_connection=100_000)
    client = world.connect(window_bytes=0)
    most = Limits().max_output_bytes + body_bytes + 200
    for _ in range(200):
        client.send(GET * 100)
        world.tick()
        assert sum(conn.output_bytes for conn in world.core.connections) <= most
    assert len(handled) * (body_bytes + 60) <= most
    world.wait(30.0)
    assert client.sees_reset
    assert world.open_connections == 0


def test_a_client_that_reads_again_gets_all_its_answers(make_world: MakeWorld) -> None:
    world = make_world(lambda request: Response(200, (), request.target * 100))
    client = world.connect(numbered(500), window_bytes=100)
    world.tick(5)
    for _ in range(2000):
        client.read(1000)
        world.tick()
        client.widen(1000)
    bodies = [answer.body for answer in answers(client.received)]
    assert bodies == [b"/%d" % number * 100 for number in range(500)]


# Lingering.


def test_a_body_that_is_too_large_is_refused_while_it_is_still_sent(world: World) -> None:
    size = 20 * KIB * KIB
    client = world.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    world.tick(2)
    assert statuses(client.read()) == [413], "at once"
    assert client.sees_end
    piece = b"x" * 512 * KIB
    for _ in range(size // len(piece)):
        client.send(piece)
        world.tick(40)
        assert not client.is_closed
    client.end()
    world.tick(2)
    assert client.is_closed
    assert not client.sees_reset


def test_a_client_that_does_not_close_is_waited_for_two_seconds(world: World) -> None:
    client = world.connect(LAST_GET)
    world.tick(2)
    assert client.sees_end
    world.wait(1.9)
    assert world.open_connections == 1
    world.wait(0.1)
    assert world.open_connections == 0
    assert not client.sees_reset


def test_nothing_that_comes_behind_the_last_request_is_answered(make_world: MakeWorld) -> None:
    world = make_world(target_echo)
    client = world.connect(LAST_GET + GET)
    world.tick(2)
    client.send(GET)
    world.tick(2)
    assert len(answers(client.read())) == 1
