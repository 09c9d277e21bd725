"""How a server ends: drained, stopped or closed, and how it runs until then."""

import errno

import pytest

from h1core import Request, Response, Timeouts
from h1core.server import Phase
from h1core.server.fairness import EVENTS_PER_TURN
from h1core.testing import Deadlock

from ..wire import answers, statuses
from .world import (
    GET,
    HUGE_WINDOW,
    LAST_GET,
    SLOW_POST,
    MakeWorld,
    Stream,
    World,
    body_echo,
    ended,
    forever,
    get,
    hello,
    numbered,
    post,
    target_echo,
)

# The end.


def test_a_drain_ends_idle_connections_at_once_and_listens_no_more(world: World) -> None:
    idle, new = world.connect(), world.connect()
    world.talk(idle, GET)
    waiting = world.listener.connect()
    world.server.begin_drain()
    world.tick()
    assert all(client.sees_end for client in (idle, new, waiting))
    assert not idle.sees_reset
    assert world.listener.is_closed
    with pytest.raises(ConnectionRefusedError):
        world.listener.connect()
    assert world.phase() is Phase.DRAINING
    for client in (idle, new, waiting):
        client.end()
    world.tick()
    assert world.phase() is Phase.STOPPED


def test_a_drain_waits_for_clients_that_linger_and_not_longer(world: World) -> None:
    client = world.connect()
    world.talk(client, GET)
    world.server.begin_drain()
    world.run_out()
    assert world.clock.now == 1002.0
    assert not client.sees_reset


def test_a_request_whose_head_is_coming_is_answered_by_a_drain(world: World) -> None:
    client = world.connect(GET[:-1])
    world.tick(2)
    world.server.begin_drain()
    world.tick()
    assert not ended(client)
    [answer] = answers(world.talk(client, GET[-1:]))
    assert (answer.status, answer.fields["connection"]) == (200, "close")
    assert client.sees_end


def test_a_request_whose_body_is_coming_is_answered_by_a_drain(make_world: MakeWorld) -> None:
    world = make_world(body_echo)
    client = world.connect(post(b"hello")[:-1])
    world.tick(2)
    world.server.begin_drain()
    world.tick()
    [answer] = answers(world.talk(client, b"o"))
    assert (answer.body, answer.fields["connection"]) == (b"hello", "close")
    assert client.sees_end


def test_a_stream_is_finished_by_a_drain(make_world: MakeWorld) -> None:
    stream = Stream([1000] * 200)
    world = make_world(stream)
    client = world.connect(GET + GET, window_bytes=5000)
    world.tick(3)
    world.server.begin_drain()
    for _ in range(200):
        world.tick()
        client.read()
    [answer] = answers(client.received)
    assert len(answer.body) == 200_000
    assert stream.ended == ["complete", "closed"]
    assert client.sees_end
    assert not client.sees_reset


def test_requests_that_wait_for_their_turn_get_one_more_answer_from_a_drain(make_world: MakeWorld) -> None:
    world = make_world(target_echo)
    client = world.connect(numbered(3 * EVENTS_PER_TURN))
    world.tick(2)
    world.server.begin_drain()
    world.tick(5)
    received = answers(client.read())
    assert len(received) < 3 * EVENTS_PER_TURN
    assert [answer.fields.get("connection") for answer in received] == [None] * (len(received) - 1) + ["close"]
    assert client.sees_end


def test_a_client_that_never_reads_is_cut_at_the_end_of_a_drain(make_world: MakeWorld) -> None:
    stream = Stream(forever(1000))
    world = make_world(stream, timeouts=Timeouts(write_timeout=300.0))
    client = world.connect(GET, window_bytes=1000)
    world.tick(3)
    world.server.begin_drain()
    world.tick()
    world.wait(29.9)
    assert not ended(client)
    world.wait(0.1)
    assert client.sees_reset
    assert stream.ended == ["closed"]
    assert world.phase() is Phase.STOPPED


def test_a_stream_that_never_ends_is_closed_at_its_time_in_a_drain(make_world: MakeWorld) -> None:
    stream = Stream(forever(1))
    world = make_world(stream)
    client = world.connect(GET, HUGE_WINDOW)
    world.tick(3)
    world.server.begin_drain()
    for _ in range(5):
        world.tick()
        assert not ended(client)
        world.clock.advance(1.0)
    world.tick()
    assert client.sees_end
    assert not client.sees_reset
    assert stream.ended == ["closed"]


def test_a_drain_after_a_lack_of_descriptors_does_not_spin(world: World) -> None:
    client = world.connect(b"GET / HT")
    world.tick(2)
    world.listener.fail(OSError(errno.EMFILE, "too many open files"))
    world.tick()
    world.server.begin_drain()
    assert world.run_out() <= 5
    assert statuses(client.read()) == [408]


def test_beginning_to_drain_twice_changes_nothing(world: World) -> None:
    client = world.connect(b"GET / HT")
    world.tick(2)
    world.server.begin_drain()
    world.server.begin_drain()
    world.tick()
    world.clock.advance(5.0)
    world.server.begin_drain()
    world.tick()
    assert world.phase() is Phase.DRAINING
    assert world.run_out() <= 5
    assert world.clock.now == 1012.0, "the head's deadline, and lingering"
    assert statuses(client.read()) == [408]


def test_a_drain_of_an_idle_server_is_over_in_one_tick(world: World) -> None:
    world.tick()
    world.server.begin_drain()
    world.tick(max_wait=None)
    assert world.phase() is Phase.STOPPED
    assert world.selector.watched == 1, "the channel that wakes it"
    world.tick(3, max_wait=None)


def test_closing_cuts_every_connection_and_closes_every_stream(make_world: MakeWorld) -> None:
    stream = Stream(forever(1000))

    def answer(request: Request) -> Response:
        return stream(request) if request.target == b"/stream" else Response(200)

    world = make_world(answer)
    clients = [
        world.connect(),
        world.connect(b"GET / HT"),
        world.connect(SLOW_POST),
        world.connect(get(b"/stream"), 1000),
        world.connect(GET),
        world.connect(LAST_GET),
    ]
    world.tick(3)
    waiting = world.connect()
    world.server.close()
    assert all(client.sees_reset for client in [*clients, waiting])
    assert stream.ended == ["closed"]
    assert world.selector.watched == 0
    assert world.open_connections == 0
    assert world.listener.is_closed


def test_closing_twice_does_nothing_more(world: World) -> None:
    world.connect(GET)
    world.tick(2)
    world.server.close()
    calls = world.selector.calls
    world.server.close()
    assert world.selector.calls == calls


def test_closing_a_server_that_never_ran_closes_its_listeners(world: World) -> None:
    client = world.connect()
    world.server.close()
    assert world.listener.is_closed
    assert client.sees_reset


def test_after_the_end_nothing_is_an_error(world: World) -> None:
    world.server.close()
    world.server.begin_drain()
    world.server.stop()
    world.server.close()


# Running.


def test_a_server_told_to_drain_before_it_runs_runs_for_a_moment(world: World) -> None:
    client = world.connect(GET)
    world.server.begin_drain()
    world.server.run()
    assert world.phase() is Phase.STOPPED
    assert b"\r\nconnection: close\r\n" in client.read()
    assert not client.sees_reset
    assert world.selector.watched == 0


def test_a_server_told_to_stop_before_it_runs_does_not_run(world: World) -> None:
    client = world.connect(GET)
    world.server.stop()
    world.server.stop()
    world.server.run()
    assert client.read() == b""
    assert client.sees_reset


def test_a_handler_may_begin_the_drain(make_world: MakeWorld) -> None:
    def last_words(request: Request) -> Response:
        world.server.begin_drain()
        return hello(request)

    world = make_world(last_words)
    client = world.connect(GET)
    world.server.run()
    assert statuses(client.read()) == [200]
    assert world.clock.now == 1002.0, "the client was given time to close"
    assert not client.sees_reset
    world.server.begin_drain()


def test_a_handler_may_stop_the_server(make_world: MakeWorld) -> None:
    def last_words(request: Request) -> Response:
        world.server.stop()
        return hello(request)

    world = make_world(last_words)
    client = world.connect(GET)
    other = world.connect()
    world.server.run()
    assert statuses(client.read()) == [200]
    assert client.sees_reset
    assert other.sees_reset
    assert world.clock.now == 1000.0


def test_running_to_no_end_is_a_deadlock_and_closes(world: World) -> None:
    client = world.connect()
    with pytest.raises(Deadlock):
        world.server.run()
    assert client.is_closed
    assert world.listener.is_closed


def test_a_server_told_to_end_while_it_ends_is_no_error(world: World) -> None:
    """`begin_drain` and `stop` come from other threads at any moment, also when `close` has given the channel back."""
    world.server.close()
    world.server.begin_drain()
    world.server.stop()
    world.server.close()


def test_what_was_sent_before_the_drain_is_answered(world: World) -> None:
    """A connection between two requests, one that was not accepted yet, and one in the middle of a pipeline."""
    between = world.connect()
    world.talk(between, GET)
    between.send(GET)
    backlogged = world.connect(GET)
    pipelining = world.connect()
    world.tick()
    pipelining.send(GET)
    world.server.begin_drain()
    world.tick()
    for client in (between, backlogged, pipelining):
        assert client.read().startswith(b"HTTP/1.1 200 ")
        assert client.sees_end
        assert not client.sees_reset
        client.end()
    world.tick()
    assert world.phase() is Phase.STOPPED
