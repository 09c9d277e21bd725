"""How many may come in, and when accepting rests."""

import pytest

from h1core.server.admission import RETRY_S, Admission


@pytest.mark.parametrize(("open_connections", "may"), [(0, True), (2, True), (3, False)])
def test_the_limit_is_the_number_that_may_be_open(open_connections: int, may: bool) -> None:
    admission = Admission(3)
    for _ in range(open_connections):
        admission.opened()
    assert admission.is_full is not may
    assert admission.may_accept(0.0), "an idle connection may make room"
    assert admission.open_connections == open_connections


def test_a_slot_that_frees_is_free_at_once() -> None:
    admission = Admission(1)
    admission.opened()
    assert admission.is_full
    admission.gone()
    assert not admission.is_full


def test_no_rest_means_no_deadline() -> None:
    admission = Admission(1)
    assert admission.next_deadline is None
    admission.opened()
    assert admission.next_deadline is None


@pytest.mark.parametrize(("seconds", "may"), [(0.0, False), (RETRY_S - 1e-9, False), (RETRY_S, True), (9.0, True)])
def test_without_resources_accepting_rests_for_a_moment(seconds: float, may: bool) -> None:
    admission = Admission(3)
    admission.pause(100.0)
    assert admission.next_deadline == 100.0 + RETRY_S
    assert admission.may_accept(100.0 + seconds) is may


def test_a_rest_is_over_once_it_was_asked_for() -> None:
    admission = Admission(3)
    admission.pause(0.0)
    assert admission.may_accept(RETRY_S)
    assert admission.next_deadline is None


def test_a_rest_that_is_over_is_over_also_while_all_slots_are_taken() -> None:
    admission = Admission(1)
    admission.opened()
    admission.pause(0.0)
    assert admission.may_accept(RETRY_S)
    assert admission.next_deadline is None, "a deadline in the past would make the loop spin"


def test_a_connection_that_ends_ends_the_rest() -> None:
    admission = Admission(3)
    admission.opened()
    admission.pause(0.0)
    admission.gone()
    assert admission.may_accept(0.0)
    assert admission.next_deadline is None


def test_failing_again_rests_anew() -> None:
    admission = Admission(3)
    admission.pause(0.0)
    admission.pause(0.05)
    assert not admission.may_accept(RETRY_S)
    assert admission.next_deadline == 0.05 + RETRY_S


def test_the_end_of_accepting_is_for_good_and_waits_for_nothing() -> None:
    admission = Admission(3)
    admission.opened()
    admission.pause(0.0)
    admission.stop()
    assert not admission.may_accept(RETRY_S)
    assert admission.next_deadline is None
    admission.gone()
    assert not admission.may_accept(RETRY_S)


def test_the_limit_is_said_to_begin_once_and_to_end_once_there_is_room_again() -> None:
    admission = Admission(10)
    for _ in range(10):
        admission.opened()
    assert not admission.limit_ends()
    assert [admission.limit_begins(), admission.limit_begins()] == [True, False]
    assert not admission.limit_ends()
    admission.gone()
    assert [admission.limit_ends(), admission.limit_ends()] == [True, False]
    assert admission.limit_begins()
