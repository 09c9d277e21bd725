"""The Date field."""

from email.utils import formatdate

import pytest

from h1core.http1.date import DateField, imf_fixdate
from h1core.testing import FakeClock


def test_the_example_of_the_rfc() -> None:
    assert imf_fixdate(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110 §5.6.7


@pytest.mark.parametrize(
    "unix_s", [0, 0.999, 951782400, 1e9, 1709164799.5, 4102444800, *range(86400 * 20, 86400 * 400, 86400 * 29)]
)
def test_a_date_is_what_the_standard_library_says(unix_s: float) -> None:
    assert imf_fixdate(unix_s).decode() == formatdate(int(unix_s), usegmt=True)


def test_without_a_wall_clock_there_is_no_date() -> None:
    assert DateField(None).line(0.0) == DateField(None).line(1e9) == b""


def test_the_line_is_complete() -> None:
    assert DateField(lambda: 784111777.0).line(0.0) == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


class Wall:
    """A wall clock that counts how often it is asked."""

    def __init__(self, unix_s: float) -> None:
        self.unix_s = unix_s
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.unix_s


def test_the_wall_clock_is_asked_once_a_second() -> None:
    wall, clock = Wall(100.0), FakeClock(7.5)
    date = DateField(wall)
    for _ in range(100):
        date.line(clock())
    assert wall.asked == 1
    clock.advance(0.999)
    date.line(clock())
    assert wall.asked == 1
    clock.advance(0.001)
    date.line(clock())
    assert wall.asked == 2


def test_the_date_turns_with_the_second_of_the_wall_clock() -> None:
    wall, clock = Wall(100.75), FakeClock(7.0)
    date = DateField(wall)
    before = date.line(clock())
    clock.advance(0.25)
    wall.unix_s = 101.0
    assert date.line(clock()) == b"date: %b\r\n" % imf_fixdate(101)
    assert date.line(clock()) != before


@pytest.mark.parametrize("step", [-1e6, -1.0, 1e6])
def test_a_step_of_the_wall_clock_shows_within_a_second(step: float) -> None:
    wall, clock = Wall(1e9), FakeClock(7.0)
    date = DateField(wall)
    date.line(clock())
    wall.unix_s += step
    clock.advance(1.0)
    assert date.line(clock()) == b"date: %b\r\n" % imf_fixdate(1e9 + step)
