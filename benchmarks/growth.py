"""How cost grows: with header count, body size, pipelining depth, open connections, queue length.

python benchmarks/growth.py [--rounds N] [--json FILE]

Each row is one size. Sizes take turns in every round, and the best turn counts, in processor time. Where cost is
linear, the time for one more of what grows comes to rest; where it is flat, the time itself does not move. `GROWS` says
that neither is so, and the program then ends with status 1; on a busy machine, try more rounds.

Most of it is the core alone, without sockets. What depends on how many connections there are is also measured on the
drivers, over loopback: the server in a thread of this process, whose clients' processor time counts too. All of it runs
on one processor where that can be had: on two, a wake-up costs twice as much in one turn as in the next.
"""

import argparse
import gc
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import results
from h1core.drivers import asyncio_driver, selectors_driver

from h1core import Conn, Data, EndOfMessage, Limits, Request, Response, Timeouts
from h1core.server import ServerCore

BODY = b"Hello, world!\n"
OK = Response(200, ((b"content-type", b"text/plain"),), BODY)
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
LIMITS = Limits(
    max_fields=2000,
    max_head_bytes=2**17,
    max_body_bytes=2**30,
    max_requests_per_connection=10**9,
    max_buffer_bytes=2**24,
    max_output_bytes=2**24,
    max_connections=2**15,
    max_queued_requests=2**15,
)

TURN_S = 0.01
"""How long a turn takes at the least; less would measure the clock."""

TOLERANCE = 2.0
"""How much more the largest may cost than the cheapest in proportion. Caches and allocators make steps of up to a half,
and what is quadratic costs four times as much at every step."""

MORE_THAN_REMEMBERED = 5000
"""So many heads come before one comes again: `fields.MAX_SEEN` and more."""

Work: TypeAlias = Callable[[], object]


class Subject(NamedTuple):
    """Something that grows."""

    name: str
    unit: str
    is_flat: bool
    """Whether the cost of an exchange should not depend on it at all; else it may be in proportion to it."""
    sizes: tuple[int, ...]
    make: Callable[[int], Work]
    """Make a piece of work of a size; whatever it needs is made before it is timed."""


def serve(conn: Conn, data: bytes) -> int:
    """Let bytes in, answer every request that comes of them; how many there were."""
    answered = 0
    events = conn.receive_data(data)
    while events:
        for event in events:
            if type(event) is EndOfMessage or (type(event) is Request and event.end_stream):
                conn.send(OK)
                answered += 1
        events = conn.next_events()
    while output := conn.data_to_send():
        conn.data_sent(len(output))
    return answered


def exchange(requests: list[bytes], count: int = 1) -> Work:
    """An exchange on a connection that persists, with the next request each time."""
    conn = Conn(LIMITS, clock=time.monotonic, wall_clock=time.time)
    at = 0

    def work() -> None:
        nonlocal at
        at = (at + 1) % len(requests)
        assert serve(conn, requests[at]) == count

    work()
    return work


def head(fields: int, salt: int) -> bytes:
    lines = b"".join(b"X-Field-%d: value %d\r\n" % (number, number + salt) for number in range(fields))
    return GET[:-2] + lines + b"\r\n"


def known_fields(count: int) -> Work:
    return exchange([head(count, 0)])


def new_fields(count: int) -> Work:
    heads = MORE_THAN_REMEMBERED if count <= 64 else 4  # no longer ones are remembered at all
    return exchange([head(count, 10_000 * salt) for salt in range(1, heads)])


def body(size: int) -> Work:
    return exchange([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size])


def chunks(count: int) -> Work:
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return exchange([start + (b"40\r\n" + b"x" * 64 + b"\r\n") * count + b"0\r\n\r\n"])


def body_in_pieces(count: int) -> Work:
    conn = Conn(LIMITS, clock=time.monotonic)
    start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (100 * count)
    piece = b"x" * 100

    def work() -> None:
        serve(conn, start)
        for _ in range(count):
            serve(conn, piece)
        assert conn.is_idle

    return work


def streamed_response(count: int) -> Work:
    conn = Conn(LIMITS, clock=time.monotonic)
    piece = Data(b"x" * 1000)

    def work() -> None:
        conn.receive_data(GET)
        conn.send(Response(200, (), None))
        for _ in range(count):
            conn.send(piece)
        conn.send(EndOfMessage())
        while output := conn.data_to_send():
            conn.data_sent(min(len(output), 50_000))

    return work


def pipeline(depth: int) -> Work:
    return exchange([GET * depth], depth)


def open_connections(count: int) -> Work:
    """An exchange on one of four connections, while all the others are open and have a deadline."""
    core = ServerCore(LIMITS, clock=time.monotonic, wall_clock=time.time)
    conns = [core.connection_opened() for _ in range(count)]
    at = 0

    def work() -> None:
        nonlocal at
        at = (at + 1) % 4
        assert serve(conns[at], GET) == 1
        core.connection_pumped(conns[at])
        assert core.next_deadline is not None

    return work


def queue(length: int) -> Work:
    """A request that is admitted, taken and answered, while as many others wait."""
    core = ServerCore(LIMITS, clock=time.monotonic, workers=1)
    conn = core.connection_opened()
    for _ in range(length):
        assert core.request_ready(conn, object(), time.monotonic())

    def work() -> None:
        [_] = conn.receive_data(GET)
        ticket = object()
        assert core.request_ready(conn, ticket, time.monotonic())
        assert not core.is_stale(time.monotonic())
        conn.send(OK)
        core.request_done(ticket)
        conn.data_sent(conn.output_bytes)

    return work


# The drivers

Start: TypeAlias = Callable[[socket.socket, int], Any]
"""Makes a server for a listening socket, with so many threads; it has a method `run`."""

PATIENT = Timeouts(keepalive_timeout=3600)


def handler(request: Request) -> Response:
    return OK


async def async_handler(request: Request) -> Response:
    return OK


def on_selectors(sock: socket.socket, threads: int) -> Any:
    return selectors_driver.Server(handler, listeners=[sock], limits=LIMITS, timeouts=PATIENT, threads=threads)


def on_asyncio(sock: socket.socket, threads: int) -> Any:
    serves = handler if threads else async_handler
    return asyncio_driver.Server(
        serves, listeners=[sock], loop="asyncio", limits=LIMITS, timeouts=PATIENT, threads=threads
    )


def on_trio(sock: socket.socket, threads: int) -> Any:
    from h1core.drivers import trio_driver

    serves = handler if threads else async_handler
    return trio_driver.Server(serves, listeners=[sock], limits=LIMITS, timeouts=PATIENT, threads=threads)


DRIVERS: dict[str, Start] = {"selectors": on_selectors, "asyncio": on_asyncio, "trio": on_trio}


def clients(start: Start, threads: int, count: int) -> list[socket.socket]:
    """Connections to a new server, in a thread that ends with the process; each has made a request."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    started = threading.Event()
    threading.Thread(target=start(listener, threads).run, args=(started.set,), daemon=True).start()
    started.wait()
    connections = [socket.create_connection(listener.getsockname()) for _ in range(count)]
    for connection in connections:
        ask(connection)
        answered(connection)
    return connections


def ask(connection: socket.socket) -> None:
    connection.sendall(GET)


def answered(connection: socket.socket) -> None:
    assert connection.recv(65536).endswith(BODY)


def driver_connections(start: Start, count: int) -> Work:
    """An exchange on one of four connections, while all the others are open."""
    connections = clients(start, 0, count)
    at = 0

    def work() -> None:
        nonlocal at
        at = (at + 1) % 4
        ask(connections[at])
        answered(connections[at])

    return work


def driver_queue(start: Start, count: int) -> Work:
    """An exchange on each connection, all asked before any answer is read, and all by one thread."""
    connections = clients(start, 1, count)

    def work() -> None:
        for connection in connections:
            ask(connection)
        for connection in connections:
            answered(connection)

    return work


SUBJECTS = [
    Subject("fields seen before", "field", False, (4, 8, 16, 32, 64), known_fields),
    Subject("fields never seen", "field", False, (4, 16, 64, 256, 1024), new_fields),
    Subject("body with its head", "KiB", False, (1, 4, 16, 64, 256), lambda size: body(1024 * size)),
    Subject("chunks in one read", "chunk", False, (4, 16, 64, 256, 1024), chunks),
    Subject("body in pieces", "read", False, (4, 16, 64, 256, 1024), body_in_pieces),
    Subject("streamed response", "piece", False, (4, 16, 64, 256, 1024), streamed_response),
    Subject("pipelining depth", "request", False, (1, 4, 16, 64, 256), pipeline),
    Subject("open connections", "connection", True, (4, 64, 1024, 16384), open_connections),
    Subject("queue length", "request", True, (4, 64, 1024, 16384), queue),
    *(
        Subject(f"open connections, {name}", "connection", True, (4, 64, 1024), partial(driver_connections, start))
        for name, start in DRIVERS.items()
    ),
    *(
        Subject(f"requests at once, {name}", "request", False, (4, 16, 64, 256), partial(driver_queue, start))
        for name, start in DRIVERS.items()
    ),
]


def measure(subject: Subject, rounds: int) -> list[float]:
    """Microseconds for a piece of work of each size."""
    works = [subject.make(size) for size in subject.sizes]
    repeats = []
    for work in works:
        start = time.process_time()
        for _ in range(3):
            work()
        repeats.append(max(3, int(TURN_S / (time.process_time() - start) * 3)))
    best = [float("inf")] * len(works)
    gc.collect()
    gc.disable()  # a collection would fall upon whichever size has its turn
    for _ in range(rounds):
        for index, (work, repeat) in enumerate(zip(works, repeats, strict=True)):
            start = time.process_time()
            for _ in range(repeat):
                work()
            best[index] = min(best[index], (time.process_time() - start) / repeat * 1e6)
    gc.enable()
    return best


GROWS = "GROWS"


def verdict(subject: Subject, costs: list[float]) -> str:
    """Whether the largest costs more than in proportion to the cheapest; or more at all, where it should be flat."""
    shares = costs if subject.is_flat else [cost / size for cost, size in zip(costs, subject.sizes, strict=True)]
    if shares[-1] > TOLERANCE * min(shares):
        return GROWS
    return "flat" if subject.is_flat else "linear"


def print_table(subject: Subject, costs: list[float]) -> None:
    print(f"{subject.name}: {verdict(subject, costs)}")
    for size, cost in zip(subject.sizes, costs, strict=True):
        share = "" if subject.is_flat else f"{cost / size:12.3f} µs per {subject.unit}"
        print(f"{size:10}{cost:12.2f} µs{share}")
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each size has its turn (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="where to keep what was found")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found: dict[str, dict[str, Any]] = {}
    for subject in SUBJECTS:
        try:
            costs = measure(subject, options.rounds)
        except ImportError as error:
            print(f"{subject.name} is left out: {error}\n")
            continue
        print_table(subject, costs)
        microseconds = [round(cost, 2) for cost in costs]
        kept = {"unit": subject.unit, "verdict": verdict(subject, costs), "sizes": subject.sizes, "us": microseconds}
        found[subject.name] = kept
    if options.json:
        results.write(options.json, {"rounds": options.rounds}, {"subjects": found})
    return int(any(kept["verdict"] == GROWS for kept in found.values()))


if __name__ == "__main__":
    sys.exit(main())
