"""Six named instants and their next."""

import pytest

from h1core.http1.timers import NEVER, Timer, Timers


def test_every_timer_has_a_slot_of_its_name() -> None:
    assert {timer.value for timer in Timer} == set(Timers.__slots__)


def test_at_first_no_timer_runs() -> None:
    timers = Timers()
    assert timers.next is None
    assert timers.expired(1e300) == []
    assert all(timers.at(timer) == NEVER for timer in Timer)


@pytest.mark.parametrize("timer", Timer)
def test_a_timer_is_due_at_its_instant_and_not_before(timer: Timer) -> None:
    timers = Timers()
    setattr(timers, timer.value, 5.0)
    assert timers.next == timers.at(timer) == 5.0
    assert [timers.expired(now) for now in (4.999, 5.0, 5.001)] == [[], [timer], [timer]]


def test_the_next_is_the_earliest() -> None:
    timers = Timers()
    timers.write, timers.head, timers.drain = 3.0, 2.0, 4.0
    assert timers.next == 2.0


def test_the_earlier_instant_expires_first() -> None:
    timers = Timers()
    timers.head, timers.write, timers.body = 3.0, 1.0, 2.0
    assert timers.expired(2.0) == [Timer.WRITE, Timer.BODY]
    assert timers.expired(9.0) == [Timer.WRITE, Timer.BODY, Timer.HEAD]


def test_of_two_at_once_the_one_that_answers_the_peer_expires_before_the_one_that_cuts_it_off() -> None:
    timers = Timers()
    timers.drain = timers.write = timers.body = timers.head = 1.0
    assert timers.expired(1.0) == [Timer.HEAD, Timer.BODY, Timer.WRITE, Timer.DRAIN]


def test_all_can_be_stopped_at_once() -> None:
    timers = Timers()
    for timer in Timer:
        setattr(timers, timer.value, 1.0)
    timers.stop_all()
    assert timers.next is None
