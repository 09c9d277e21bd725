"""The readiness loop with workers, in memory: jobs run when a test says so, so every interleaving is a plain test."""

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h1core.drivers.engine import responding, responses

from h1core import Conn, Request, Response, Timeouts
from h1core.server import Phase
from h1core.testing import MemoryClient

from ..wire import answers, statuses
from .world import (
    GET,
    LAST_GET,
    MakeWorld,
    Stream,
    World,
    body_echo,
    ended,
    error_lines,
    get,
    hello,
    large,
    numbered,
    post,
    target_echo,
)

HOUR_S = 3600.0


class Note:
    """A handler that remembers whom it was called for."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []

    def __call__(self, request: Request) -> Response:
        self.targets.append(request.target)
        return Response(200, (), request.target)


@pytest.fixture
def note() -> Note:
    return Note()


def asking(world: World, wire: bytes = GET, window_bytes: int = 1 << 20) -> MemoryClient:
    """A client whose request has got to the workers."""
    client = world.connect(wire, window_bytes)
    world.tick(2)
    return client


def outstanding(world: World) -> int:
    return world.core.backlog.outstanding


def dropped(world: World) -> int:
    return world.server.core.backlog.dropped


# Requests to workers, responses back.


def test_nothing_is_sent_before_a_worker_is_through(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world)
    world.tick(5)
    assert client.read() == b""
    assert outstanding(world) == 1
    world.workers.run_next()
    assert client.read() == b"", "a worker touches no socket"
    world.tick()
    assert [answer.body for answer in answers(client.read())] == [b"hello"]
    assert outstanding(world) == 0
    assert dropped(world) == 0


def test_the_connection_goes_on_after_each_response(make_world: MakeWorld, note: Note) -> None:
    world = make_world(note, threads=1)
    client = world.connect()
    for number in range(5):
        client.send(get(b"/%d" % number))
        world.tick(2)
        world.work()
        assert statuses(client.read()) == [200]
    assert note.targets == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert not ended(client)


def test_pipelined_requests_are_worked_on_one_after_the_other_and_answered_in_order(
    make_world: MakeWorld, note: Note
) -> None:
    world = make_world(note, threads=4)
    client = asking(world, numbered(5))
    for number in range(5):
        assert len(world.workers.jobs) == 1, "of one connection, one at a time"
        assert note.targets == [b"/%d" % before for before in range(number)]
        world.work()
    assert [answer.body for answer in answers(client.read())] == [b"/%d" % number for number in range(5)]
    assert not world.workers.jobs


def test_what_comes_while_a_request_is_handled_is_read_and_waits(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=1)
    client = asking(world, get(b"/1"))
    client.send(get(b"/2") + b"GET /3")
    world.tick(5)
    assert not client._stream.inbox
    assert len(world.workers.jobs) == 1
    world.work()
    world.tick()
    client.send(get(b"/3")[6:])
    world.work()
    world.tick(2)
    world.work()
    assert [answer.body for answer in answers(client.read())] == [b"/1", b"/2", b"/3"]


def test_a_client_that_sends_while_it_is_frozen_does_not_keep_the_loop_awake(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world)
    client.send(GET)
    world.tick()
    world.tick(max_wait=7.0)
    assert world.clock.now == 1007.0, "the loop slept"


def test_ordinary_requests_cost_no_call_of_the_selector_but_to_wait(make_world: MakeWorld) -> None:
    world = make_world(body_echo, threads=1)
    client = asking(world)
    world.work()
    calls = world.selector.calls
    for wire in [GET, post(b"body"), GET + GET, numbered(3)] * 5:
        client.send(wire)
        world.tick()
        while world.workers.jobs:
            world.work()
    assert len(answers(client.read())) == 1 + 7 * 5
    assert world.selector.calls == calls


def test_a_client_that_sends_while_its_request_is_handled_costs_no_call(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world)
    calls = world.selector.calls
    for _ in range(10):
        client.send(GET)
        world.tick()
    world.work()
    assert world.selector.calls == calls


def test_a_request_reaches_a_worker_only_whole(make_world: MakeWorld) -> None:
    world = make_world(body_echo, threads=1)
    wire = post(b"hello")
    client = world.connect()
    for at in range(len(wire)):
        assert not world.workers.jobs
        client.send(wire[at : at + 1])
        world.tick(2)
    world.work()
    assert [answer.body for answer in answers(client.read())] == [b"hello"]


def test_sixteen_pipelined_requests_split_at_every_byte(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=2)
    wire = numbered(16)
    for at in range(len(wire) + 1):
        client = world.connect(wire[:at])
        world.tick()
        if at % 2 and world.workers.jobs:
            world.work()
        client.send(wire[at:])
        world.tick()
        while world.workers.jobs:
            world.work()
            world.tick()
        assert [answer.body for answer in answers(client.read())] == [b"/%d" % number for number in range(16)]
        client.end()
        world.tick()
    assert world.open_connections == 0
    assert outstanding(world) == 0


def test_sixteen_pipelined_requests_byte_by_byte(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=2)
    client = world.connect()
    for byte in numbered(16):
        client.send(bytes([byte]))
        world.tick()
        while world.workers.jobs:
            world.work()
    assert [answer.body for answer in answers(client.read())] == [b"/%d" % number for number in range(16)]
    assert (world.open_connections, outstanding(world)) == (1, 0)


def test_completions_in_any_order_each_reach_their_own_client(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=4)
    clients = [asking(world, get(b"/%d" % number)) for number in range(8)]
    random.Random(3).shuffle(world.workers.jobs)
    for _ in range(8):
        world.workers.run_next()
    world.tick()
    for number, client in enumerate(clients):
        assert [answer.body for answer in answers(client.read())] == [b"/%d" % number]


def test_a_head_request_and_a_last_request_are_answered_like_inline(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world, GET.replace(b"GET", b"HEAD") + LAST_GET + GET)
    world.work(2)
    head, last = answers(client.read(), "HEAD", "GET")
    assert (head.body, last.body) == (b"", b"hello")
    assert last.fields["connection"] == "close"
    assert client.sees_end
    assert not world.workers.jobs


def test_a_slow_reader_is_given_what_it_is_owed_while_its_next_request_is_handled(make_world: MakeWorld) -> None:
    world = make_world(lambda request: Response(200, (), b"x" * 1000), threads=1)
    client = asking(world, GET + GET, window_bytes=100)
    world.work()
    for _ in range(20):
        client.read()
        world.tick()
    assert len(answers(client.received)) == 1
    assert len(world.workers.jobs) == 1
    client.widen(10_000)
    world.work()
    client.read()
    assert statuses(client.received) == [200, 200]


def test_the_next_request_is_taken_as_soon_as_little_enough_is_owed(make_world: MakeWorld) -> None:
    """Though the client took only part: it was taken when the client read more, and until then read over the limit."""
    world = make_world(large, threads=1, max_output_bytes=65_000)
    client = asking(world, GET + GET, window_bytes=4_000)
    world.work()
    assert len(world.workers.jobs) == 0
    client.read()
    world.tick()
    assert len(world.workers.jobs) == 1


def test_the_access_log_has_one_line_for_each_answer(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "h1core.access")
    world = make_world(threads=1, access_log=True, max_queued_requests=1)
    clients = [asking(world, get(b"/%d" % number)) for number in range(3)]
    world.clock.advance(0.25)
    world.work()
    world.clock.advance(10.0)
    world.work()
    lines = [record.getMessage().split(" ", 1)[1] for record in caplog.records if record.name == "h1core.access"]
    assert lines == ["GET /2 HTTP/1.1 503 0.0ms", "GET /0 HTTP/1.1 200 250.0ms", "GET /1 HTTP/1.1 503 10250.0ms"]
    assert [statuses(client.read()) for client in clients] == [[200], [503], [503]]


# Streams.


def test_a_stream_comes_from_the_worker(make_world: MakeWorld) -> None:
    stream = Stream([10, 0, 20, 30])
    world = make_world(stream, threads=1)
    client = asking(world, GET + GET)
    world.work()
    world.tick()
    [answer] = answers(client.read())
    assert answer.body == b"s" * 60
    world.work()
    assert len(answers(client.read())) == 1
    assert stream.ended == ["complete", "closed"] * 2
    assert outstanding(world) == 0


def test_the_rest_of_a_stream_is_streamed_as_the_client_reads(make_world: MakeWorld) -> None:
    stream = Stream([1000] * 60)
    world = make_world(stream, threads=1, max_output_bytes=60_000)
    client = asking(world, GET, window_bytes=5000)
    world.work()
    for _ in range(60):
        client.read()
        world.tick()
    assert answers(client.received)[0].body == b"s" * 60_000


def test_a_stream_that_fails_is_cut_and_logged_with_its_cause(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream([10], raises=ValueError("the database is gone"))
    world = make_world(stream, threads=1)
    client, other = asking(world), asking(world, LAST_GET)
    world.work()
    assert client.sees_end
    assert not client.sees_reset
    [line] = error_lines(caplog)
    assert "the handler's body failed" in line
    assert "ValueError: the database is gone" in caplog.text
    assert stream.ended == ["closed"]
    assert not ended(other)
    assert outstanding(world) == 1


def test_a_stream_whose_client_is_gone_is_closed(make_world: MakeWorld) -> None:
    stream = Stream([1000] * 5)
    world = make_world(stream, threads=1)
    client = asking(world)
    client.reset()
    world.work()
    assert stream.ended.count("closed") == 1
    assert world.open_connections == 0
    assert outstanding(world) == 0


def test_a_stream_of_the_wrong_length_is_cut(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream([10, 10])
    world = make_world(lambda request: Response(200, [(b"content-length", b"15")], stream.pieces()), threads=1)
    client = asking(world)
    world.work()
    assert client.sees_end
    assert not client.sees_reset
    assert len(error_lines(caplog)) == 1
    assert outstanding(world) == 0


# The connection goes first.


def reset_it(world: World, client: MemoryClient) -> None:
    """The server notices when it writes."""
    client.reset()


def reset_seen(world: World, client: MemoryClient) -> None:
    """The server looked already, and did not read."""
    client.reset()
    world.tick(2)


def drain_deadline(world: World, client: MemoryClient) -> None:
    world.server.begin_drain()
    world.tick()
    world.wait(30.0)
    assert client.sees_reset


def write_deadline(world: World, client: MemoryClient) -> None:
    world.wait(30.0)
    assert client.sees_reset


@pytest.mark.parametrize("part", [Response(200, (), b"x"), Stream([5, 5])])
@pytest.mark.parametrize("go", [reset_it, reset_seen])
def test_a_completion_after_its_client_has_reset_goes_nowhere(
    make_world: MakeWorld,
    caplog: pytest.LogCaptureFixture,
    part: Response | Stream,
    go: Callable[[World, MemoryClient], None],
) -> None:
    world = make_world(lambda request: part if isinstance(part, Response) else part(request), threads=1)
    client, other = asking(world), asking(world)
    go(world, client)
    world.work()
    assert world.open_connections == 1
    assert outstanding(world) == 1
    assert client.read() == b""
    world.work()
    assert statuses(other.read()) == [200]
    assert outstanding(world) == 0
    assert error_lines(caplog) == []


def test_a_completion_after_the_end_of_a_drain_is_dropped_and_counted(make_world: MakeWorld) -> None:
    """The last one that a draining server waits for; `tick` does no more, so `close` looks."""
    world = make_world(threads=1, timeouts=Timeouts(queue_timeout=HOUR_S))
    client = asking(world)
    drain_deadline(world, client)
    assert world.phase() is Phase.STOPPED
    world.workers.run_next()
    world.server.close()
    assert (dropped(world), outstanding(world)) == (1, 0)
    assert client.read() == b""


def test_a_completion_after_the_write_deadline_is_dropped_and_counted(make_world: MakeWorld) -> None:
    """The client takes nothing of its first response while its second request is handled."""
    world = make_world(lambda request: Response(200, (), b"x" * 1000), threads=1)
    client = asking(world, GET + GET, window_bytes=100)
    world.work()
    assert len(world.workers.jobs) == 1
    write_deadline(world, client)
    assert (dropped(world), outstanding(world)) == (0, 1)
    world.work()
    assert (dropped(world), outstanding(world)) == (1, 0)


def test_completions_that_were_posted_when_the_server_closes_are_dropped_and_counted(make_world: MakeWorld) -> None:
    stream = Stream([5, 5])
    world = make_world(lambda request: stream(request) if request.target == b"/stream" else hello(request), threads=2)
    clients = [asking(world), asking(world, get(b"/stream")), asking(world)]
    world.workers.run_next()
    world.workers.run_next()
    world.server.close()
    assert world.workers.is_closed
    assert (dropped(world), outstanding(world)) == (2, 1)
    assert all(client.sees_reset for client in clients)
    world.workers.run_next()
    assert stream.ended.count("closed") == 1


def test_a_stream_that_begins_after_the_server_has_closed_is_closed_and_holds_no_worker(make_world: MakeWorld) -> None:
    """Nobody takes its pieces any more, and nobody looks at what is posted: it must know by itself."""
    stream = Stream([1000] * 5)

    def close_and_stream(request: Request) -> Response:
        world.server.close()
        return stream(request)

    world = make_world(close_and_stream, threads=1)
    asking(world)
    world.workers.run_next()
    assert stream.ended == ["closed"]
    assert stream.pulled == 1


def test_a_request_whose_connection_has_gone_is_not_run(make_world: MakeWorld) -> None:
    ran = []

    def handler(request: Request) -> Response:
        ran.append(request.target)
        return Response(200, (), bytes(1000))

    world = make_world(handler, threads=1, timeouts=Timeouts(queue_timeout=HOUR_S))  # it is not the queue's doing
    late = asking(world, get(b"/first") + get(b"/second"), window_bytes=100)
    world.work()
    write_deadline(world, late)
    world.workers.run_next()
    assert ran == [b"/first"]
    world.server.tick(0)
    assert (dropped(world), outstanding(world)) == (1, 0)


def test_a_later_connection_never_gets_an_earlier_ones_completion(make_world: MakeWorld) -> None:
    world = make_world(lambda request: Response(200, (), request.target * 100), threads=1, max_connections=1)
    early = asking(world, get(b"/earlier/1") + get(b"/earlier/2"), window_bytes=100)
    world.work()
    write_deadline(world, early)
    late = asking(world, get(b"/later"))
    assert len(world.workers.jobs) == 2
    world.work()
    assert dropped(world) == 1
    assert late.read() == b""
    world.work()
    assert [answer.body for answer in answers(late.read())] == [b"/later" * 100]
    assert outstanding(world) == 0


def test_a_client_that_half_closes_after_its_request_still_gets_the_answer(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=1)
    client = world.connect(numbered(2))
    client.end()
    world.tick(3)
    world.work()
    world.tick()
    world.work()
    world.tick()
    assert [answer.body for answer in answers(client.read())] == [b"/0", b"/1"]
    assert client.is_closed
    assert not client.sees_reset
    assert outstanding(world) == 0


def test_a_client_that_half_closes_while_it_is_frozen_costs_no_spin(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world)
    client.end()
    world.tick()
    world.tick(max_wait=7.0)
    assert world.clock.now == 1007.0
    world.work()
    world.tick()
    assert statuses(client.read()) == [200]
    assert world.open_connections == 0


# Too many requests.


def test_past_the_queue_the_answer_is_503_at_once_and_the_last(make_world: MakeWorld, note: Note) -> None:
    world = make_world(note, threads=2, max_queued_requests=3)
    clients = [asking(world, get(b"/%d" % number)) for number in range(5)]
    refused = asking(world, get(b"/5") + get(b"/6"))
    assert world.clock.now == 1000.0
    [answer] = answers(refused.read())
    assert (answer.status, answer.fields["retry-after"], answer.fields["connection"]) == (503, "1", "close")
    assert refused.sees_end
    assert world.core.backlog.shed == 1
    world.work(5)
    assert [statuses(client.read()) for client in clients] == [[200]] * 5
    assert note.targets == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert outstanding(world) == 0


def test_one_that_is_done_makes_room_for_one(make_world: MakeWorld) -> None:
    world = make_world(threads=1, max_queued_requests=1)
    clients = [asking(world), asking(world)]
    world.work()
    clients += [asking(world), asking(world)]
    world.work(2)
    assert [statuses(client.read()) for client in clients] == [[200], [200], [200], [503]]


def test_a_connection_that_is_gone_holds_its_place_until_its_worker_is_through(make_world: MakeWorld) -> None:
    world = make_world(lambda request: Response(200, (), b"x" * 1000), threads=1, max_queued_requests=1)
    client = asking(world, GET + GET, window_bytes=100)
    world.work()
    write_deadline(world, client)
    assert outstanding(world) == 1
    later = [asking(world), asking(world)]
    assert statuses(later[1].read()) == [503]
    world.work()
    assert outstanding(world) == 1


def test_past_the_queue_while_draining(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=1, max_queued_requests=1)
    queued = [asking(world, get(b"/%d" % number)) for number in range(2)]
    late = asking(world, GET[:-1])
    world.server.begin_drain()
    world.tick()
    late.send(GET[-1:])
    world.tick()
    [answer] = answers(late.read())
    assert (answer.status, answer.fields["retry-after"], answer.fields["connection"]) == (503, "1", "close")
    world.work(2)
    for client in queued:
        [answer] = answers(client.read())
        assert (answer.status, answer.fields["connection"]) == (200, "close")
    world.run_out()
    assert (dropped(world), outstanding(world)) == (0, 0)


@pytest.mark.parametrize(("waited", "is_run"), [(9.75, True), (10.0, True), (10.25, False)])
def test_a_request_that_waited_too_long_is_not_run(
    make_world: MakeWorld, note: Note, waited: float, is_run: bool
) -> None:
    world = make_world(note, threads=1)
    client = asking(world, GET + GET)
    world.clock.advance(waited)
    world.work()
    [answer] = answers(client.read())
    assert (answer.status, len(note.targets)) == ((200, 1) if is_run else (503, 0))
    assert answer.fields.get("retry-after") == (None if is_run else "1")
    assert answer.fields.get("connection") == (None if is_run else "close")
    assert client.sees_end is not is_run
    assert outstanding(world) == (1 if is_run else 0)
    assert world.core.backlog.shed == (not is_run)


# Draining.


def test_a_drain_waits_for_a_job_and_its_response_is_the_last(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=1)
    client = asking(world, get(b"/1") + get(b"/2"))
    world.server.begin_drain()
    world.tick(3)
    assert not ended(client)
    world.work()
    [answer] = answers(client.read())
    assert (answer.body, answer.fields["connection"]) == (b"/1", "close")
    assert client.sees_end
    world.run_out()
    assert world.clock.now == 1002.0
    assert (dropped(world), outstanding(world)) == (0, 0)


def test_a_drain_waits_for_jobs_that_no_worker_has_begun(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    clients = [asking(world) for _ in range(3)]
    world.server.begin_drain()
    world.tick()
    world.clock.advance(9.0)
    world.work(3)
    assert [statuses(client.read()) for client in clients] == [[200]] * 3
    assert all(client.sees_end for client in clients)


def test_a_stream_of_a_worker_is_finished_by_a_drain(make_world: MakeWorld) -> None:
    stream = Stream([1000] * 50)
    world = make_world(stream, threads=1)
    client = asking(world, GET, window_bytes=1000)
    world.work()
    world.server.begin_drain()
    for _ in range(80):
        world.tick()
        client.read()
    assert answers(client.received)[0].body == b"s" * 50_000
    assert client.sees_end
    assert not client.sees_reset


def test_a_handler_that_never_returns_delays_nobody_and_ends_with_the_drain(make_world: MakeWorld) -> None:
    world = make_world(threads=2)
    stuck = asking(world)
    assert world.workers.jobs.popleft().claim()  # a thread has it, and will not give it back
    for _ in range(5):
        other = asking(world, LAST_GET)
        world.work()
        assert statuses(other.read()) == [200]
        other.end()
        world.tick()
    assert outstanding(world) == 1
    world.server.begin_drain()
    world.run_out()
    assert world.clock.now == 1030.0
    assert stuck.sees_reset
    assert stuck.read() == b""


# Handlers that fail.


def fail(request: Request) -> Response:
    raise ValueError("no")


def exit_(request: Request) -> Response:
    raise SystemExit("the handler wants to end the process")


def wrong_type(request: Request) -> Any:
    return "hello"


def wrong_body(request: Request) -> Response:
    body: Any = "hello"
    return Response(200, (), body)


def wrong_status(request: Request) -> Response:
    return Response(99)


def forbidden_field(request: Request) -> Response:
    return Response(200, [(b"x", b"a\r\nb")])


def wrong_streamed_status(request: Request) -> Response:
    return Response(99, (), iter([b"one", b"two"]))


class RaisingFields(list[tuple[bytes, bytes]]):
    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        raise ZeroDivisionError("headers by a program with a bug")


def raising_fields(request: Request) -> Response:
    return Response(200, RaisingFields([(b"x", b"y")]))


def raises_at_iter(request: Request) -> Response:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            raise ValueError("no")

    return Response(200, (), Body())


FAILING = [
    fail,
    exit_,
    wrong_type,
    wrong_body,
    wrong_status,
    forbidden_field,
    wrong_streamed_status,
    raising_fields,
    raises_at_iter,
]


@pytest.mark.parametrize("handler", FAILING)
def test_a_handler_that_fails_is_a_500_logged_once_and_the_worker_lives(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, handler: Callable[[Request], Response]
) -> None:
    world = make_world(lambda request: handler(request) if request.target == b"/fail" else hello(request), threads=1)
    other = asking(world)
    client = asking(world, get(b"/fail") + GET)
    world.work(3)
    assert statuses(client.read()) == [500, 200]
    assert statuses(other.read()) == [200]
    assert error_lines(caplog) == ["the handler failed on GET /fail HTTP/1.1"]
    assert sum(record.exc_info is not None for record in caplog.records) == 1
    assert (dropped(world), outstanding(world)) == (0, 0)


def test_the_stream_of_a_response_that_cannot_be_sent_is_closed(make_world: MakeWorld) -> None:
    stream = Stream([1, 2])
    world = make_world(lambda request: Response(99, (), stream.pieces()), threads=1)
    client = asking(world, GET + GET)
    world.work()
    assert statuses(client.read()) == [500]
    assert stream.ended.count("closed") == 1
    world.work()
    assert statuses(client.read()) == [500]


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("target", ["/text", b"/\xff", None])
def test_a_handler_that_spoils_its_request_costs_no_worker_and_no_loop(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, threads: int, target: Any
) -> None:
    caplog.set_level(logging.INFO, "h1core.access")

    def spoil(request: Request) -> Response:
        request.target = request.version = target
        raise ValueError("no")

    world = make_world(spoil, threads=threads, access_log=True)
    client = asking(world, GET + GET)
    if threads:
        world.work(2)
    assert statuses(client.read()) == [500, 500]
    assert len(error_lines(caplog)) == 2
    assert outstanding(world) == 0


@pytest.mark.parametrize("threads", [0, 1])
def test_a_handler_that_spoils_the_method_of_a_head_request_harms_nobody(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, threads: int
) -> None:
    """Simulation, seed 197: the answer had a body, sending it raised in the loop, and the server ended."""

    def spoil(request: Request) -> Response:
        if request.target == b"/spoil":
            request.method = None  # type: ignore[assignment]  # that is the mistake
            raise ValueError("no")
        return hello(request)

    world = make_world(spoil, threads=threads)
    client = asking(world, get(b"/spoil").replace(b"GET", b"HEAD") + GET)
    if threads:
        world.work(2)
    answer, rest = client.read().split(b"\r\n\r\n", 1)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert statuses(rest) == [200]
    assert error_lines(caplog) == ["the handler failed on HEAD /spoil HTTP/1.1"]


def test_a_response_that_the_loop_cannot_begin_ends_its_own_connection_only(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream([1, 2])
    world = make_world(lambda request: stream(request) if request.target == b"/odd" else hello(request), threads=1)
    odd, other = asking(world, get(b"/odd")), asking(world)

    def send_first(conn: Conn, request: Request, first: Response) -> Response:
        if request.target == b"/odd":
            raise RuntimeError("a bug of ours")
        return responses.send_first(conn, request, first)

    monkeypatch.setattr(responding, "send_first", send_first)
    world.work(2)
    assert odd.sees_reset
    assert statuses(other.read()) == [200]
    assert stream.ended.count("closed") == 1
    assert outstanding(world) == 0
    assert "because of a bug" in error_lines(caplog)[0]


# Deadlines.


def test_no_deadline_runs_while_a_request_is_handled(make_world: MakeWorld) -> None:
    world = make_world(target_echo, threads=2, timeouts=Timeouts(queue_timeout=2 * HOUR_S))
    clients = [asking(world, get(b"/1") + b"GET /2 HT"), asking(world, post(b"body"))]
    world.wait(HOUR_S)
    assert not any(ended(client) for client in clients)
    world.work(2)
    assert [statuses(client.read()) for client in clients] == [[200], [200]]
    assert world.core.next_deadline is not None


def test_deadlines_run_again_after_the_response(make_world: MakeWorld) -> None:
    world = make_world(threads=1)
    client = asking(world, GET + b"GET / HT")
    world.clock.advance(9.0)
    world.work()
    assert statuses(client.read()) == [200]
    world.wait(9.75)
    assert not ended(client)
    world.wait(0.25)
    assert statuses(client.read()) == [408]


def test_a_connection_is_watched_again_after_a_request_that_took_longer_than_its_last_deadline(
    make_world: MakeWorld,
) -> None:
    world = make_world(threads=1, timeouts=Timeouts(queue_timeout=2 * HOUR_S))
    client = asking(world)
    world.work()
    client.send(GET)
    world.tick()
    world.wait(HOUR_S)
    world.work()
    assert statuses(client.read()) == [200, 200]
    world.wait(74.9)
    assert not ended(client)
    world.wait(0.1)
    assert ended(client)


def test_a_request_that_was_there_when_a_drain_began_reaches_a_worker_before_the_loop_waits(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(threads=1)
    client = asking(world)
    world.work()
    client.send(GET)
    waiting: list[int] = []
    select = world.selector.select

    def see(timeout: float | None = None) -> Any:
        waiting.append(len(world.workers.jobs))
        return select(timeout)

    monkeypatch.setattr(world.selector, "select", see)
    world.server.begin_drain()
    world.tick()
    assert waiting == [1]
    world.work()
    assert statuses(client.read()) == [200, 200]


def test_a_body_that_comes_too_slowly_never_holds_a_worker(make_world: MakeWorld, note: Note) -> None:
    world = make_world(note, threads=1)
    client = world.connect(post(b"x" * 1000)[:-1])
    world.tick(2)
    assert (outstanding(world), len(world.workers.jobs)) == (0, 0)
    world.wait(61.0)
    assert statuses(client.read()) == [408]
    assert client.sees_end
    assert note.targets == []


# Determinism.


def scripted_run(make_world: MakeWorld, seed: int) -> tuple[list[bytes], int, float, int, int]:
    """Clients and workers that do this and that; what came of it all."""
    rng = random.Random(seed)
    sizes = rng.choices(range(2000), k=10)

    def answer(request: Request) -> Response:
        if request.target == b"/0":
            raise ValueError("no")
        return Response(200, (), iter([b"x" * size for size in sizes]) if request.target == b"/1" else request.target)

    world = make_world(answer, threads=2, max_queued_requests=3, timeouts=Timeouts(queue_timeout=2.0))
    clients: list[MemoryClient] = []
    for _ in range(300):
        match rng.randrange(8):
            case 0 | 1:
                clients.append(world.connect(numbered(rng.randrange(5))))
            case 2 if clients:
                rng.choice(clients).send(get(b"/%d" % rng.randrange(3)))
            case 3 if clients:
                rng.choice(clients).reset()
            case 4 if clients:
                rng.choice(clients).read(rng.randrange(2000))
            case 5 | 6 if world.workers.jobs:
                world.workers.run_next()
            case _:
                world.clock.advance(rng.random())
        world.tick()
    world.server.begin_drain()
    while world.workers.jobs:
        world.work()
    world.run_out()
    for client in clients:
        client.read()
    assert outstanding(world) == 0
    received = [bytes(client.received) for client in clients]
    return received, world.selector.calls, world.clock.now, dropped(world), world.core.backlog.shed


@pytest.mark.parametrize("seed", range(5))
def test_the_same_twice_is_the_same(make_world: MakeWorld, seed: int) -> None:
    first = scripted_run(make_world, seed)
    assert first == scripted_run(make_world, seed)
    assert sum(map(len, first[0])) > 1000
