"""The Date field: formatted once a second, from a wall clock that is given."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def imf_fixdate(unix_s: float) -> bytes:
    """Format seconds since 1970 as an IMF-fixdate, in any locale. RFC 9110 §5.6.7."""
    moment = EPOCH + timedelta(seconds=int(unix_s))
    day, month = DAYS[moment.weekday()], MONTHS[moment.month - 1]
    hour, minute, second = moment.hour, moment.minute, moment.second
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (day, moment.day, month, moment.year, hour, minute, second)


class DateField:
    """The Date line of responses, shared by all connections of a server.

    `wall_clock() -> float` gives seconds since 1970. It is read once a second of the monotonic clock: a step of the
    wall clock shows within that second. Without a wall clock the line is empty (RFC 9110 §6.6.1: no clock, no Date).
    """

    __slots__ = ("_line", "_stale_at", "_wall_clock")

    def __init__(self, wall_clock: Callable[[], float] | None) -> None:
        self._wall_clock = wall_clock
        self._line = b""
        self._stale_at = float("-inf") if wall_clock is not None else float("inf")

    def line(self, now: float) -> bytes:
        """The field line with its CR LF at the monotonic instant `now`."""
        if now >= self._stale_at and self._wall_clock is not None:
            unix_s = self._wall_clock()
            self._line = b"date: " + imf_fixdate(unix_s) + b"\r\n"
            self._stale_at = now + 1.0 - unix_s % 1.0
        return self._line
