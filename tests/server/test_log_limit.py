"""How many lines of a kind are written, and when the others are counted."""

import pytest

from h1core.server.log_limit import LINES_PER_WINDOW, WINDOW_S, LogLimit, Suppressed


def written(limit: LogLimit, kind: str, lines: int, now: float) -> int:
    return sum(limit.may_write(kind, now) for _ in range(lines))


def due_at(limit: LogLimit) -> float | None:
    return limit.next_deadline


def test_so_many_are_written_and_the_rest_is_counted_when_the_time_is_over() -> None:
    limit = LogLimit()
    assert written(limit, "a", LINES_PER_WINDOW, 100.0) == LINES_PER_WINDOW
    assert due_at(limit) is None, "nothing is left out, and nobody is to be woken"
    assert written(limit, "a", 312, 103.0) == 0
    assert due_at(limit) == 100.0 + WINDOW_S
    assert limit.take_suppressed(109.9) == []
    assert due_at(limit) == 100.0 + WINDOW_S
    assert limit.take_suppressed(100.0 + WINDOW_S) == [Suppressed("a", 312, WINDOW_S)]
    assert due_at(limit) is None
    assert limit.take_suppressed(200.0) == []
    assert limit.take_suppressed(200.0, at_end=True) == []


def test_a_few_are_never_left_out() -> None:
    limit = LogLimit()
    assert all(limit.may_write("a", second) for second in range(1000)), "one a second"
    assert due_at(limit) is None


def test_kinds_are_counted_apart_each_from_its_own_first_line_on() -> None:
    limit = LogLimit()
    assert written(limit, "a", 12, 0.0) == LINES_PER_WINDOW
    assert written(limit, "b", 13, 4.0) == LINES_PER_WINDOW
    assert written(limit, "c", 3, 4.0) == 3
    assert due_at(limit) == WINDOW_S
    assert limit.take_suppressed(WINDOW_S) == [("a", 2, WINDOW_S)]
    assert due_at(limit) == 4.0 + WINDOW_S
    assert limit.take_suppressed(4.0 + WINDOW_S) == [("b", 3, WINDOW_S)]
    assert due_at(limit) is None


def test_a_flood_that_goes_on_gets_its_lines_anew() -> None:
    limit = LogLimit()
    assert written(limit, "a", 20, 0.0) == LINES_PER_WINDOW
    assert limit.take_suppressed(WINDOW_S) == [("a", 10, WINDOW_S)]
    assert written(limit, "a", 20, WINDOW_S) == LINES_PER_WINDOW
    assert due_at(limit) == 2 * WINDOW_S


@pytest.mark.parametrize("now", [WINDOW_S, WINDOW_S + 5.0])
def test_no_line_is_lost_that_comes_when_the_time_is_over_but_not_said_yet(now: float) -> None:
    limit = LogLimit()
    assert written(limit, "a", LINES_PER_WINDOW + 1, 0.0) == LINES_PER_WINDOW
    assert written(limit, "a", 5, now) == 0
    assert limit.take_suppressed(now) == [("a", 6, now)]


def test_at_the_end_all_that_were_left_out_are_counted() -> None:
    limit = LogLimit()
    written(limit, "a", 11, 0.0)
    written(limit, "b", 12, 1.0)
    written(limit, "c", 1, 1.0)
    assert limit.take_suppressed(3.0, at_end=True) == [("a", 1, 3.0), ("b", 2, 2.0)]
    assert due_at(limit) is None
