"""Which stream must end because its client holds a worker, and which worker is named."""

import pytest

from h1core.server.held_workers import BLOCKED_S, HeldWorkers


@pytest.mark.parametrize(
    ("workers", "waiting", "ends"),
    [(4, 2, False), (4, 3, True), (5, 2, False), (5, 3, True), (1, 1, True), (2, 1, False)],
)
def test_at_most_half_of_the_workers_wait_for_their_clients(workers: int, waiting: int, ends: bool) -> None:
    rates = {number: 10.0 - number for number in range(waiting)}
    assert HeldWorkers(workers).stream_to_end(rates) == (waiting - 1 if ends else None), "the slowest"


def test_a_worker_is_named_once_when_its_time_has_come() -> None:
    held = HeldWorkers(2)
    held.left("a", 10.0)
    held.left("b", 11.0)
    held.left("a", 12.0)
    assert held.next_deadline == 10.0 + BLOCKED_S
    assert held.overdue(9.875 + BLOCKED_S) == []
    assert held.overdue(10.0 + BLOCKED_S) == ["a"]
    assert held.overdue(10.0 + BLOCKED_S) == []
    assert list(held.blocked) == ["a"]
    assert held.next_deadline == 11.0 + BLOCKED_S


def test_a_worker_that_is_free_in_time_is_not_named() -> None:
    held = HeldWorkers(2)
    held.left("a", 10.0)
    held.done("a")
    assert held.next_deadline is None
    assert held.overdue(1000.0) == []


def test_a_worker_that_is_free_at_last_is_not_counted_any_more() -> None:
    held = HeldWorkers(2)
    held.left("a", 10.0)
    held.overdue(1000.0)
    held.done("a")
    assert not held.blocked
