"""The readiness loop in memory: requests and answers, fairness, handlers that fail, logs, determinism."""

import errno
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from h1core import CloseReason, Conn, Request, Response
from h1core.http1.output import Buffer
from h1core.server.fairness import (
    ACCEPTS_PER_TICK,
    EVENTS_PER_TURN,
    PIECES_PER_TURN,
    TURNS_PER_DEADLINE,
    WRITES_PER_TURN,
)
from h1core.testing import MemoryClient

from ..wire import Answer, answers, statuses
from .world import (
    GET,
    HEAD,
    HUGE_WINDOW,
    LAST_GET,
    SLOW_POST,
    MakeWorld,
    Stream,
    World,
    body_echo,
    ended,
    error_lines,
    forever,
    get,
    hello,
    large,
    numbered,
    post,
    target_echo,
)

# Ordinary requests.


def test_a_request_is_answered_and_the_connection_goes_on(world: World) -> None:
    client = world.connect()
    for _ in range(3):
        [answer] = answers(world.talk(client, GET))
        assert answer == Answer(
            200,
            [("content-type", "text/plain"), ("content-length", "5"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")],
            b"hello",
        )
    assert not ended(client)


def test_the_client_may_ask_for_the_end(world: World) -> None:
    client = world.connect(LAST_GET)
    world.tick(2)
    [answer] = answers(client.read())
    assert answer.fields["connection"] == "close"
    assert client.sees_end
    client.end()
    world.tick()
    assert world.open_connections == 0
    assert not client.sees_reset


def test_a_head_may_come_byte_by_byte(world: World) -> None:
    client = world.connect()
    for at in range(len(GET)):
        assert client.read() == b""
        client.send(GET[at : at + 1])
        world.tick()
    world.tick()
    assert statuses(client.read()) == [200]


@pytest.mark.parametrize("window_bytes", [1, 7, 1000])
def test_an_answer_leaves_in_as_many_pieces_as_the_client_takes(make_world: MakeWorld, window_bytes: int) -> None:
    world = make_world(lambda request: Response(200, (), b"0123456789" * 50))
    client = world.connect(GET, window_bytes)
    for _ in range(1000):
        world.tick()
        client.read()
    [answer] = answers(client.received)
    assert answer.body == b"0123456789" * 50


def test_a_batch_of_pipelined_requests_is_one_write(make_world: MakeWorld, writes: list[int]) -> None:
    world = make_world(target_echo)
    client = world.connect(numbered(16))
    world.tick(2)
    assert [answer.body for answer in answers(client.read())] == [b"/%d" % number for number in range(16)]
    assert len(writes) == 1


def test_ordinary_requests_cost_no_call_of_the_selector_but_to_wait(world: World) -> None:
    client = world.connect()
    world.talk(client, GET)
    calls = world.selector.calls
    for _ in range(50):
        assert world.talk(client, GET + GET)
        assert world.talk(client, post(b"body"))
    assert world.selector.calls == calls


def test_a_client_that_must_be_waited_for_costs_two_calls(world: World) -> None:
    client = world.connect(window_bytes=10)
    world.talk(client, b"")
    calls = world.selector.calls
    world.talk(client, GET)
    assert world.selector.calls == calls + 1, "to wait until it can be written to"
    client.widen(1 << 20)
    world.tick(2)
    assert world.selector.calls == calls + 2, "and no more"


def test_head_is_answered_like_get_without_the_body(world: World) -> None:
    wire = world.talk(world.connect(), HEAD + GET)
    head, get = answers(wire, "HEAD", "GET")
    assert head.fields == get.fields
    assert (head.body, get.body) == (b"", b"hello")


@pytest.mark.parametrize("answer", [hello, Stream([3, 4]), body_echo])
def test_http_1_0_is_spoken(make_world: MakeWorld, answer: Callable[[Request], Response]) -> None:
    world = make_world(answer)
    client = world.connect(b"GET / HTTP/1.0\r\n\r\n")
    world.tick(3)
    [received] = answers(client.read())
    assert "transfer-encoding" not in received.fields
    assert client.sees_end


# Request bodies.


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
def test_a_handler_gets_the_body_whole(make_world: MakeWorld, piece_bytes: int) -> None:
    seen: list[Request] = []

    def keep(request: Request) -> Response:
        seen.append(request)
        return Response(200)

    world = make_world(keep)
    client = world.connect()
    chunked = b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n"
    wire = post(b"hello world") + b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
    for at in range(0, len(wire), piece_bytes):
        world.talk(client, wire[at : at + piece_bytes])
    assert statuses(client.received) == [200, 200]
    assert [(request.method, request.body) for request in seen] == [(b"POST", b"hello world"), (b"PUT", b"hello world")]
    assert [list(request.trailers) for request in seen] == [[], [(b"x-sum", b"1")]]


def test_a_body_and_what_is_pipelined_behind_it_are_told_apart(make_world: MakeWorld) -> None:
    world = make_world(body_echo)
    wire = world.talk(world.connect(), post(b"one") + GET + post(b"two"))
    assert [answer.body for answer in answers(wire)] == [b"one", b"", b"two"]


def test_a_client_that_waits_is_told_to_continue_once_and_then_answered(make_world: MakeWorld) -> None:
    world = make_world(body_echo)
    client = world.connect()
    head, _, _ = post(b"hello", b"Expect: 100-continue").partition(b"\r\n\r\n")
    assert world.talk(client, head + b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert world.talk(client, b"hel") == b""
    [answer] = answers(world.talk(client, b"lo"))
    assert answer.body == b"hello"


def test_a_client_that_does_not_wait_is_not_told_to_continue(make_world: MakeWorld) -> None:
    world = make_world(body_echo)
    wire = world.talk(world.connect(), post(b"hello", b"Expect: 100-continue"))
    assert wire.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_cut_short_never_reaches_a_handler(make_world: MakeWorld) -> None:
    called: list[Request] = []

    def note(request: Request) -> Response:
        called.append(request)
        return Response(200)

    world = make_world(note)
    client = world.connect(post(b"hello")[:-1])
    client.end()
    world.tick(3)
    assert statuses(client.read()) == [400]
    assert called == []


# Fairness.


def test_a_pipelining_client_does_not_keep_another_waiting(make_world: MakeWorld) -> None:
    handled: list[bytes] = []

    def note(request: Request) -> Response:
        handled.append(request.target)
        return Response(200)

    world = make_world(note)
    greedy = world.connect(numbered(900))
    world.tick(2)
    modest = world.connect(get(b"/modest"))
    world.tick(2)
    assert statuses(modest.read()) == [200]
    assert handled.index(b"/modest") <= 4 * EVENTS_PER_TURN
    world.tick(20)
    assert len(answers(greedy.read())) == 900


def test_who_always_has_more_gets_one_turn_in_a_round(make_world: MakeWorld) -> None:
    """A connection that was put down twice for another turn got two, then three, in every round."""
    turns: Counter[bytes] = Counter()

    def note(request: Request) -> Response:
        turns[request.target] += 1
        return Response(200)

    world = make_world(note, max_requests_per_connection=1 << 30)
    client = world.connect()
    world.tick()
    for _ in range(30):
        client.send(GET * 2 * EVENTS_PER_TURN)
        client.read()
        before = turns.total()
        world.tick()
        assert turns.total() - before <= EVENTS_PER_TURN


def test_a_stream_whose_client_keeps_sending_gets_one_turn_in_a_round(make_world: MakeWorld) -> None:
    stream = Stream(forever(0))
    world = make_world(stream)
    client = world.connect(GET)
    world.tick(2)
    world.tick()
    for _ in range(30):
        client.send(b"G")
        before = stream.pulled
        world.tick()
        assert stream.pulled - before <= PIECES_PER_TURN


def test_a_turn_that_ends_with_all_written_is_gone_on_with(make_world: MakeWorld) -> None:
    """The answers are large, so each is written before the next request; after so many writes the turn is over, with
    nothing to write, nothing to read, and requests waiting in the buffer.
    """
    world = make_world(large)
    client = world.connect(GET * 40, HUGE_WINDOW)
    world.tick(10)
    assert statuses(client.read()) == [200] * 40


def test_a_flood_of_newcomers_keeps_nobody_waiting(world: World) -> None:
    client = world.connect()
    world.tick()
    flood = [world.connect(GET) for _ in range(900)]
    assert statuses(world.talk(client, GET)) == [200]
    world.tick(900 // ACCEPTS_PER_TICK + 2)
    assert all(statuses(newcomer.read()) == [200] for newcomer in flood)


def test_an_endless_stream_keeps_nobody_waiting(make_world: MakeWorld) -> None:
    stream = Stream(forever(10))

    def answer(request: Request) -> Response:
        return stream(request) if request.target == b"/stream" else Response(200)

    world = make_world(answer)
    endless = world.connect(get(b"/stream"), HUGE_WINDOW)
    world.tick(2)
    for _ in range(10):
        before = len(endless.read())
        assert statuses(world.talk(world.connect(), GET)) == [200]
        assert before > 0, "and the stream goes on"


@pytest.mark.parametrize("size", [0, 1])
def test_an_endless_stream_of_little_or_nothing_keeps_nobody_waiting(make_world: MakeWorld, size: int) -> None:
    stream = Stream(forever(size))

    def answer(request: Request) -> Response:
        return stream(request) if request.target == b"/stream" else Response(200)

    world = make_world(answer)
    world.connect(get(b"/stream"), HUGE_WINDOW)
    world.tick(2)
    assert statuses(world.talk(world.connect(), GET)) == [200]


# Handlers that fail.


def test_a_handler_that_raises_is_a_500_and_a_traceback(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: Request) -> Response:
        if request.target == b"/bad":
            raise ZeroDivisionError("secret")
        return hello(request)

    world = make_world(fail)
    client = world.connect()
    received = answers(world.talk(client, GET + get(b"/bad") + GET))
    assert [answer.status for answer in received] == [200, 500, 200]
    assert received[1].body == b"The application failed.\n"
    assert not ended(client)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "the handler failed on GET /bad HTTP/1.1"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"hello",
        Response(200, (), None),
        Response(200, (), "text"),  # type: ignore[arg-type]  # what untyped applications do
        Response(99),
        Response(1000),
        Response(200, [(b"x", b"a\r\nb: c")]),
        Response(200, [("x", "y")]),  # type: ignore[list-item]  # likewise, untyped
        Response(200, [(b"content-length", b"5"), (b"transfer-encoding", b"gzip")], b"hello"),
        Response(200, [(b"content-length", b"5"), (b"content-length", b"6")], [b"hello"]),
        Response(200, reason=b"a\r\nb: c"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_reply_that_may_not_be_sent_is_a_500(
    make_world: MakeWorld, reply: Any, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(lambda request: reply)
    client = world.connect()
    request = b"%b / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % method.encode()
    received = answers(world.talk(client, request * 2), method, method)
    assert [answer.status for answer in received] == [500, 500]
    assert len(error_lines(caplog)) == 2
    assert not ended(client)


def test_one_clients_failures_are_no_other_clients_matter(make_world: MakeWorld) -> None:
    def fail(request: Request) -> Response:
        match request.target:
            case b"/raise":
                raise ZeroDivisionError
            case b"/stream":
                return Stream([10], raises=ZeroDivisionError())(request)
            case b"/wrong":
                return Response(0)
        return hello(request)

    world = make_world(fail)
    calm = world.connect()
    expected = world.talk(calm, GET)
    for target in (b"/raise", b"/stream", b"/wrong") * 3:
        angry = world.connect(get(target))
        assert world.talk(calm, GET) == expected
        assert angry.read().startswith(b"HTTP/1.1 500 ") or angry.sees_end
    assert not ended(calm)


def test_a_bug_behind_one_connection_ends_that_connection_only(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_on_demand(conn: Conn) -> Buffer:
        data = sound(conn)
        if b"/bug" in bytes(data):
            raise MemoryError
        return data

    sound = Conn.data_to_send
    monkeypatch.setattr(Conn, "data_to_send", break_on_demand)
    world = make_world(target_echo)
    calm, unlucky = world.connect(), world.connect()
    expected = world.talk(calm, get(b"/calm"))
    unlucky.send(get(b"/bug"))
    world.tick()
    assert unlucky.sees_reset
    assert world.open_connections == 1
    assert world.talk(calm, get(b"/calm")) == expected
    assert len(error_lines(caplog)) == 1


def test_a_newcomer_that_cannot_be_waited_for_is_cut(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(hello)
    calm = world.connect()
    expected = world.talk(calm, GET)
    with monkeypatch.context() as patch:
        patch.setattr(world.selector, "register", Mock(side_effect=OSError(errno.ENOSPC, "no epoll watches left")))
        newcomer = world.connect()
        world.tick()
    assert newcomer.sees_reset
    assert world.open_connections == 1
    assert world.talk(calm, GET) == expected
    assert len(error_lines(caplog)) == 1


def test_a_server_that_is_closed_by_its_own_handler_says_so(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    def close(request: Request) -> Response:
        world.server.close()
        return hello(request)

    world = make_world(close)
    client = world.connect(GET)
    world.server.tick(0)
    world.server.tick(0)
    assert client.sees_reset
    assert error_lines(caplog)


# Logs.


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("127.0.0.1", 5000), "127.0.0.1:5000"),
        (("::1", 5000, 0, 0), "[::1]:5000"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_each_answer_is_a_line_in_the_access_log(
    make_world: MakeWorld, peer: object, address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Response:
        world.clock.advance(0.0125)
        if request.target == b"/bad":
            raise ZeroDivisionError
        return Response(404)

    caplog.set_level(logging.INFO)
    world = make_world(answer, access_log=True)
    accept = world.listener.accept
    monkeypatch.setattr(world.listener, "accept", lambda: (accept()[0], peer))
    world.talk(
        world.connect(), b"GET /a?b=%1b HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /bad HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [record.getMessage() for record in caplog.records if record.name == "h1core.access"] == [
        f"{address} GET /a?b=%1b HTTP/1.0 404 12.5ms",
        f"{address} HEAD /bad HTTP/1.1 500 12.5ms",
    ]


def test_without_the_access_log_ordinary_requests_are_silent(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.talk(world.connect(), GET)
    assert caplog.records == []


def test_who_debugs_sees_why_an_idle_connection_ends(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.talk(world.connect(), GET)
    world.wait(world.core.timeouts.keepalive_timeout)
    [line] = [record.getMessage() for record in caplog.records if record.name == "h1core.server"]
    assert "KEEPALIVE" in line


# Determinism.


def play(world: World, seed: int) -> list[object]:
    """A random script of clients; everything that can be seen of the server afterwards."""
    choose = random.Random(seed)
    clients = [world.connect(window_bytes=choose.choice([100, 10_000, 1 << 20])) for _ in range(5)]
    wires = [GET, GET * 20, GET[:9], GET[9:], post(b"body" * 100), SLOW_POST, LAST_GET, b"\r\n", b"\0"]
    seen: list[object] = []
    for _ in range(300):
        client = choose.choice(clients)
        match choose.choice("send send send read read wait end reset connect".split()):
            case "send":
                client.send(choose.choice(wires))
            case "read":
                client.read(choose.choice([1, 1000, None]))
            case "wait":
                world.clock.advance(choose.choice([0.0, 0.1, 1.0, 5.0]))
            case "end" if choose.random() < 0.2:
                client.end()
            case "reset" if choose.random() < 0.2:
                client.reset()
            case "connect":
                clients.append(world.connect(window_bytes=choose.choice([0, 1 << 20])))
        world.tick()
        seen.append((world.open_connections, world.selector.calls, world.selector.watched, world.core.next_deadline))
    seen += [(bytes(client.received), client.sees_end, client.sees_reset) for client in clients]
    return seen


@pytest.mark.parametrize("seed", range(12))
def test_the_same_script_gives_the_same_bytes_and_calls(make_world: MakeWorld, seed: int) -> None:
    def answer(request: Request) -> Response:
        if request.body:
            return Stream([10, 3000] * 30)(request)
        return Response(200, (), b"x" * 500)

    first, second = make_world(answer), make_world(answer)
    assert play(first, seed) == play(second, seed)
    for world in (first, second):  # and every client is got rid of in the end
        world.server.begin_drain()
        world.run_out()


def test_within_a_tick_a_connection_between_requests_goes_before_newcomers_and_those_that_send_in_bits(
    make_world: MakeWorld,
) -> None:
    order: list[bytes] = []

    def answer(request: Request) -> Response:
        order.append(request.target)
        return Response(200)

    world = make_world(answer)
    slow, served, newcomer = world.connect(get(b"/slow")[:5]), world.connect(get(b"/1")), world.connect()
    world.tick(2)
    slow.send(get(b"/slow")[5:])
    newcomer.send(get(b"/new"))
    served.send(get(b"/2"))
    world.tick()
    assert order == [b"/1", b"/2", b"/slow", b"/new"]


# Whose turn is first.


def established(world: World) -> MemoryClient:
    """A client that has been answered, and is between two requests."""
    client = world.connect(GET)
    world.tick(2)
    while world.workers.jobs:
        world.work()
    assert statuses(client.read()) == [200]
    return client


def test_who_is_between_two_requests_is_served_before_newcomers_are_accepted(make_world: MakeWorld) -> None:
    waiting: list[int] = []

    def answer(request: Request) -> Response:
        waiting.append(world.listener.waiting)
        return Response(200)

    world = make_world(answer)
    client = established(world)
    world.connect(GET)
    client.send(GET)
    world.tick()
    assert (waiting, world.listener.waiting) == ([0, 1], 0)


def test_when_workers_get_requests_the_others_wait_for_one_tick_and_not_for_two(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client, other = established(world), established(world)
    for _ in range(3):
        world.connect()
        client.send(GET)
        world.tick()
        assert (len(world.workers.jobs), world.listener.waiting) == (1, 1), "the newcomer waits"
        world.workers.run_next()
        other.send(GET)
        world.tick()
        assert (len(world.workers.jobs), world.listener.waiting) == (1, 0), "it has waited once"
        assert statuses(client.read()) == [200]
        world.work()
        assert statuses(other.read()) == [200]


def test_a_turn_that_has_ended_is_gone_on_with_though_others_had_to_wait(make_world: MakeWorld) -> None:
    pieces = 4 * PIECES_PER_TURN * WRITES_PER_TURN  # the worker says a few times that there are some: a turn each
    stream = Stream([10] * pieces)
    world = make_world(lambda request: stream(request) if request.target == b"/stream" else hello(request), threads=1)
    client, greedy = established(world), established(world)
    greedy.send(get(b"/stream"))
    world.tick()
    world.work()
    world.connect()
    client.send(GET)
    world.tick()
    assert (len(world.workers.jobs), world.listener.waiting) == (1, 1)
    assert b"0\r\n\r\n" not in greedy.read()
    world.tick(4)
    [answer] = answers(bytes(greedy.received).partition(b"hello")[2] + greedy.read())
    assert answer.body == b"s" * 10 * pieces


def test_deadlines_come_one_at_a_time_in_a_quiet_tick_and_in_proportion_in_a_busy_one(world: World) -> None:
    busy = [established(world) for _ in range(80)]
    for _ in range(80):
        world.connect(GET[:-1])
    world.tick(80 // ACCEPTS_PER_TICK + 2)
    world.clock.advance(10.0)
    seen = []
    for wires in (b"", GET, GET):
        for client in busy:
            client.send(wires)
        before = sum(conn.close_reason is CloseReason.HEAD_TIMEOUT for conn in world.core.connections)
        world.tick()
        seen.append(sum(conn.close_reason is CloseReason.HEAD_TIMEOUT for conn in world.core.connections) - before)
    assert seen[0] == 1
    assert seen[1] >= len(busy) // TURNS_PER_DEADLINE
    assert all(statuses(client.read()) == [200, 200] for client in busy)
