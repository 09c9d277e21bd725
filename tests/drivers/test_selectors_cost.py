"""What an ordinary exchange costs on the readiness loop, and a round of it, counted in calls of Python functions.

Those of the server alone: handlers and the world in memory are not counted. A figure that has come down belongs here,
so that it stays down; `tests/test_cost.py` has those of a `Conn` by itself.
"""

import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from h1core.drivers import selectors_driver

import h1core
from h1core.app.wsgi import wsgi_handler
from h1core.testing import MemoryClient

from .world import GET, MakeWorld, World, get, hello

HOMES = (str(Path(h1core.__file__).parent), str(Path(selectors_driver.__file__).parent))
TESTING = str(Path(h1core.__file__).parent / "testing")


def hello_wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


FIGURES = {
    # which: (an exchange, a round with nothing to do)
    "inline": (21, 15),
    "WSGI inline": (30, 15),
    "workers": (48, 17),
}
HANDLERS = {"inline": hello, "WSGI inline": wsgi_handler(hello_wsgi), "workers": hello}


def calls(work: Callable[[], object]) -> int:
    """How many functions of the server are called."""
    count = 0

    def see(frame: FrameType, what: str, _argument: object) -> None:
        nonlocal count
        file = frame.f_code.co_filename
        count += what == "call" and file.startswith(HOMES) and not file.startswith(TESTING)

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def calls_of_a_round(world: World, clients: list[MemoryClient]) -> int:
    """Of one tick, or with workers of the two that it takes, in which so many clients are answered."""
    for client in clients:
        client.send(GET)

    def serve() -> None:
        world.server.tick(0)
        if world.workers.jobs:
            while world.workers.jobs:
                world.workers.run_next()
            world.server.tick(0)

    count = calls(serve)
    assert all(client.read().startswith(b"HTTP/1.1 200 ") for client in clients)
    return count


@pytest.mark.parametrize("which", FIGURES)
def test_an_exchange_makes_no_more_calls_than_it_did(which: str, make_world: MakeWorld) -> None:
    world = make_world(HANDLERS[which], threads=int(which == "workers"))
    clients = [world.connect(get(b"/")) for _ in range(20)]
    for _ in range(6):
        world.tick()
        while world.workers.jobs:
            world.workers.run_next()
    assert all(client.read() for client in clients)
    calls_of_a_round(world, clients)  # until what can be remembered is
    of_ten, of_twenty = calls_of_a_round(world, clients[:10]), calls_of_a_round(world, clients)
    of_none = calls(lambda: world.server.tick(0))
    assert (of_twenty - of_ten) / 10 <= FIGURES[which][0]
    assert of_none <= FIGURES[which][1]


def idle_clients(world: World, count: int) -> list[MemoryClient]:
    """Clients that have been answered once."""
    clients = [world.connect(GET) for _ in range(count)]
    while not all(client.received for client in clients):
        world.tick()
        while world.workers.jobs:
            world.workers.run_next()
        for client in clients:
            client.read()
    return clients


@pytest.mark.parametrize("which", FIGURES)
def test_a_round_makes_no_more_calls_because_of_idle_connections(which: str, make_world: MakeWorld) -> None:
    world = make_world(HANDLERS[which], threads=int(which == "workers"))
    busy = idle_clients(world, 2)
    calls_of_a_round(world, busy)
    alone = calls_of_a_round(world, busy), calls(lambda: world.server.tick(0))
    idle_clients(world, 500)
    calls_of_a_round(world, busy)
    assert (calls_of_a_round(world, busy), calls(lambda: world.server.tick(0))) == alone


def test_an_idle_connection_holds_less_than_two_kibibytes(make_world: MakeWorld) -> None:
    """Of Python's own memory, which is nearly all; `benchmarks/hostile.py memory` asks the kernel."""
    world = make_world()
    idle_clients(world, 10)
    tracemalloc.start()
    try:
        clients = idle_clients(world, 500)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    of_server = snapshot.filter_traces(
        [tracemalloc.Filter(True, f"{home}/*") for home in HOMES] + [tracemalloc.Filter(False, f"{TESTING}/*")]
    )
    held = sum(trace.size for trace in of_server.traces)
    assert 200 * len(clients) < held < 2048 * len(clients)
