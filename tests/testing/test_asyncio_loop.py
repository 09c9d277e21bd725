"""The asyncio loop on a fake clock: nothing in it waits, and time passes only when the clock is moved."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from math import inf

import pytest

from h1core.testing import FakeClock
from h1core.testing.asyncio_loop import FakeTimeLoop

HOUR_S = 3600.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(clock: FakeClock) -> Iterator[FakeTimeLoop]:
    """A loop that is left with no task."""
    loop = FakeTimeLoop(clock)
    yield loop
    assert not asyncio.all_tasks(loop)
    loop.close()


async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


def test_its_time_is_that_of_the_clock(clock: FakeClock, loop: FakeTimeLoop) -> None:
    assert loop.time() == 0
    clock.advance(HOUR_S)
    assert loop.time() == HOUR_S


def test_with_nothing_to_do_it_returns_at_once_and_says_that_nothing_will_come(loop: FakeTimeLoop) -> None:
    assert loop.run_until_idle() == inf
    assert loop.run_until_idle() == inf


def test_what_waits_for_nothing_runs_to_its_end(loop: FakeTimeLoop) -> None:
    async def chain() -> int:
        for _ in range(100):
            await asyncio.sleep(0)
        return await asyncio.create_task(nap(0)) == "rested"

    task = loop.create_task(chain())
    assert loop.run_until_idle() == inf
    assert task.result()


def test_a_sleep_is_over_in_the_instant_that_it_asked_for_and_not_before(clock: FakeClock, loop: FakeTimeLoop) -> None:
    task = loop.create_task(nap(HOUR_S))
    assert loop.run_until_idle() == HOUR_S
    clock.advance_to(HOUR_S - 0.001)
    assert loop.run_until_idle() == pytest.approx(HOUR_S)
    assert not task.done()
    clock.advance_to(HOUR_S)
    assert loop.run_until_idle() == inf
    assert task.result() == "rested"


def test_a_clock_that_started_long_ago_is_as_good(clock: FakeClock, loop: FakeTimeLoop) -> None:
    clock.advance(1e9 + 0.1)
    task = loop.create_task(nap(0.1))
    for _ in range(10):  # near so large a number, 0.1 is not exact
        if (next_at := loop.run_until_idle()) == inf:
            break
        clock.advance_to(next_at)
    assert task.done()
    assert clock.now == pytest.approx(1e9 + 0.2, abs=1e-6)


def test_the_next_of_several_timers_is_told(clock: FakeClock, loop: FakeTimeLoop) -> None:
    fired: list[float] = []
    for at in (30.0, 10.0, 20.0):
        loop.call_at(at, lambda: fired.append(clock.now))
    while (next_at := loop.run_until_idle()) < inf:
        clock.advance_to(next_at)
    assert fired == [10, 20, 30]


def test_a_timer_that_is_cancelled_is_not_waited_for(loop: FakeTimeLoop) -> None:
    loop.call_at(10, print, "never").cancel()
    loop.call_at(20, lambda: None)
    assert loop.run_until_idle() == 20


def test_a_sleep_of_days_takes_one_jump_a_day_at_most(clock: FakeClock, loop: FakeTimeLoop) -> None:
    task = loop.create_task(nap(3 * 24 * HOUR_S))
    jumps = 0
    while (next_at := loop.run_until_idle()) < inf:
        clock.advance_to(next_at)
        jumps += 1
    assert task.done()
    assert jumps <= 3


def test_a_timeout_ends_what_waits_for_ever(clock: FakeClock, loop: FakeTimeLoop) -> None:
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up"
        return "never"

    task = loop.create_task(gives_up())
    clock.advance_to(loop.run_until_idle())
    loop.run_until_idle()
    assert (task.result(), clock.now) == ("gave up", 5)


def test_it_waits_for_a_thread_when_it_is_told_to(loop: FakeTimeLoop) -> None:
    may_end = threading.Event()
    task = loop.create_task(asyncio.to_thread(may_end.wait))
    assert loop.run_until_idle() == inf
    assert not loop.wait_for_threads(0)
    may_end.set()
    assert loop.wait_for_threads(10)
    loop.run_until_idle()
    assert task.result() is True
    shutdown = loop.create_task(loop.shutdown_default_executor())
    while not shutdown.done():
        loop.run_until_idle()


def test_it_knows_whether_it_waits_for_a_descriptor_and_serves_one_that_is_ready(loop: FakeTimeLoop) -> None:
    watched = [loop.watches_descriptors]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_recv(ours, 10))
        assert loop.run_until_idle() == inf
        watched.append(loop.watches_descriptors)
        theirs.send(b"hello")
        assert loop.run_until_idle() == inf
        assert task.result() == b"hello"
    assert [*watched, loop.watches_descriptors] == [False, True, False]


def test_an_error_of_a_callback_goes_where_asyncio_sends_it(loop: FakeTimeLoop) -> None:
    contexts: list[dict[str, object]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.call_soon(lambda: 1 / 0)
    assert loop.run_until_idle() == inf
    assert isinstance(contexts[0]["exception"], ZeroDivisionError)
