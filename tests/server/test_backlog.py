"""Which requests get a worker, and what the others are told."""

import pytest

from h1core.app.handler import first_part
from h1core.events import Request
from h1core.server.backlog import Backlog, overload_response


@pytest.mark.parametrize(("workers", "queued"), [(1, 1), (4, 3), (0, 2)])
def test_as_many_are_admitted_as_run_and_may_wait(workers: int, queued: int) -> None:
    backlog = Backlog(workers, queued, 10.0)
    most = workers + queued
    assert [backlog.admit(number, 0.0) for number in range(most - 1)] == [True] * (most - 1)
    assert (backlog.outstanding, backlog.shed) == (most - 1, 0)
    assert backlog.admit("last", 0.0)
    assert (backlog.outstanding, backlog.shed) == (most, 0)
    assert not backlog.admit("one more", 0.0)
    assert (backlog.outstanding, backlog.shed) == (most, 1)


def test_one_that_is_done_makes_room_for_one() -> None:
    backlog = Backlog(1, 1, 10.0)
    assert [backlog.admit(ticket, 0.0) for ticket in (0, 1, 2)] == [True, True, False]
    backlog.done(0)
    assert backlog.outstanding == 1
    assert [backlog.admit(ticket, 0.0) for ticket in (3, 4)] == [True, False]
    backlog.done(1)
    backlog.done(3)
    assert (backlog.outstanding, backlog.shed) == (0, 2)


def test_more_cannot_be_done_than_were_admitted() -> None:
    backlog = Backlog(1, 1, 10.0)
    with pytest.raises(AssertionError):
        backlog.done(0)


@pytest.mark.parametrize(("now", "is_stale"), [(100.0, False), (109.5, False), (110.0, False), (110.5, True)])
def test_one_that_waited_longer_than_the_limit_is_stale(now: float, is_stale: bool) -> None:
    backlog = Backlog(1, 1, 10.0)
    assert backlog.is_stale(100.0, now) is is_stale
    assert (backlog.outstanding, backlog.shed) == (0, 0), "asking changes nothing"


@pytest.mark.parametrize(("seconds", "said"), [(1, b"1"), (0.2, b"1"), (2.5, b"3"), (30, b"30")])
def test_who_is_turned_away_is_told_when_to_come_back(seconds: float, said: bytes) -> None:
    response = overload_response(seconds)
    assert response.status == 503
    assert [value for name, value in response.headers if name.lower() == b"retry-after"] == [said]
    assert response.body


def test_who_is_turned_away_is_told_to_come_back_in_a_second_by_default() -> None:
    assert (b"retry-after", b"1") in list(overload_response().headers)


def test_who_asked_for_a_head_gets_a_head() -> None:
    first, pieces = first_part(Request(b"HEAD", b"/", ()), overload_response())
    assert (first.status, first.body, pieces) == (503, b"", None)


def test_each_that_has_waited_its_time_is_overdue_once_and_in_order() -> None:
    backlog = Backlog(1, 9, 10.0)
    assert backlog.overdue(1e9) == []
    for ticket, at in (("a", 0.0), ("b", 1.0), ("c", 1.0), ("d", 5.0)):
        assert backlog.admit(ticket, at)
    assert backlog.next_deadline == 10.0
    assert backlog.overdue(9.9) == []
    backlog.done("b")
    assert backlog.overdue(11.0) == ["a", "c"]
    assert backlog.overdue(11.0) == []
    assert backlog.next_deadline == 15.0
    assert backlog.outstanding == 3, "they are done when their workers are"
    for ticket in ("a", "c", "d"):
        backlog.done(ticket, is_gone=ticket == "c")
    assert (backlog.overdue(1e9), backlog.outstanding, backlog.dropped) == ([], 0, 1)
