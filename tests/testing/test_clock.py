"""A clock that goes when it is told to."""

import pytest

from h1core.testing import FakeClock


def test_it_stands_still_until_it_is_told() -> None:
    clock = FakeClock(5.0)
    assert [clock(), clock(), clock.now] == [5.0, 5.0, 5.0]
    assert FakeClock()() == 0.0


def test_it_goes_on_by_seconds_and_up_to_instants() -> None:
    clock = FakeClock(5.0)
    clock.advance(2.5)
    assert clock() == 7.5
    clock.advance_to(10.0)
    assert clock() == 10.0
    clock.advance(0.0)
    clock.advance_to(10.0)
    assert clock() == 10.0


def test_it_does_not_go_back() -> None:
    clock = FakeClock(5.0)
    with pytest.raises(ValueError, match=r"^time does not go back by 1\.0 s$"):
        clock.advance(-1.0)
    with pytest.raises(ValueError, match=r"^time does not go back by 0\.5 s$"):
        clock.advance_to(4.5)
    assert clock() == 5.0
