"""The selector of our own does what the one of `selectors` does, on real sockets."""

import select
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from h1core.drivers.net.selector import default_selector
from h1core.drivers.net.transport import READ, WRITE, Selector

KINDS = ["ours", "the standard library's"]


@pytest.fixture(params=KINDS)
def selector(request: pytest.FixtureRequest) -> Iterator[Selector]:
    selector: Selector = default_selector() if request.param == KINDS[0] else selectors.DefaultSelector()
    yield selector
    selector.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    yield pair
    for end in pair:
        end.close()


Ends = tuple[socket.socket, socket.socket]


def seen(selector: Selector, timeout: float | None = 0) -> list[tuple[Any, int]]:
    return [(key.data, mask) for key, mask in selector.select(timeout)]


def test_it_tells_who_can_be_read_and_who_can_be_written(selector: Selector, ends: Ends) -> None:
    ours, theirs = ends
    selector.register(ours, READ, "ours")
    assert seen(selector) == []
    theirs.send(b"x")
    assert seen(selector) == [("ours", READ)]
    selector.modify(ours, READ | WRITE, "both")
    assert seen(selector) == [("both", READ | WRITE)]
    selector.modify(ours, WRITE, "write")
    assert seen(selector) == [("write", WRITE)]
    selector.unregister(ours)
    assert seen(selector) == []


@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE])
def test_a_lost_connection_shows_in_whatever_is_waited_for(selector: Selector, ends: Ends, events: int) -> None:
    ours, theirs = ends
    selector.register(ours, events, "ours")
    theirs.close()
    assert seen(selector) == [("ours", events)]


def test_all_that_are_ready_come_at_once(selector: Selector) -> None:
    pairs = [socket.socketpair() for _ in range(100)]
    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        selector.register(ours, READ, number)
    assert sorted(seen(selector)) == [(number, READ) for number in range(100)]
    for ours, theirs in pairs:
        selector.unregister(ours)
        ours.close()
        theirs.close()


def test_what_is_ready_is_not_waited_for(selector: Selector, ends: Ends) -> None:
    ours, theirs = ends
    selector.register(ours, READ, "ours")
    theirs.send(b"x")
    assert seen(selector, None) == [("ours", READ)]


def test_with_nobody_to_wait_for_it_comes_back(selector: Selector) -> None:
    assert seen(selector, 0) == []
    assert seen(selector, 0.0001) == []


def test_a_descriptor_is_free_for_another_when_it_was_unregistered(selector: Selector, ends: Ends) -> None:
    ours, theirs = ends
    selector.register(ours, READ, "first")
    selector.unregister(ours)
    selector.register(ours, READ, "second")
    theirs.send(b"x")
    assert seen(selector) == [("second", READ)]


def test_who_does_not_wait_cannot_wait_for_something_else(selector: Selector, ends: Ends) -> None:
    with pytest.raises((KeyError, OSError)):
        selector.modify(ends[0], READ, "ours")
    with pytest.raises(KeyError):
        selector.unregister(ends[0])


def test_where_there_is_no_epoll_it_is_the_standard_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    selector = default_selector()
    assert isinstance(selector, selectors.BaseSelector)
    selector.close()


@pytest.mark.parametrize(("timeout", "most_ms"), [(0.0, 0), (0.0001, 1), (0.001, 1), (0.0011, 2)])
def test_it_never_comes_back_before_a_deadline_to_find_nothing_due(
    monkeypatch: pytest.MonkeyPatch, timeout: float, most_ms: int
) -> None:
    asked: list[float] = []

    class Epoll:
        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            asked.append(timeout)
            return []

        def close(self) -> None:
            pass

    monkeypatch.setattr(select, "epoll", Epoll)
    selector = default_selector()
    assert seen(selector, timeout) == []
    assert asked == [most_ms / 1000]
    selector.close()
