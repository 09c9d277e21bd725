"""The options that servers on all hosts have in common."""

from collections.abc import Callable
from typing import Final, TypedDict

from h1core.config import Limits, Timeouts

from ..net.transport import Selector
from .pool import Workers

MAX_WAIT_S: Final = 24 * 3600.0
"""A host waits at most so long, then checks again: system calls reject very large timeouts."""


class Options(TypedDict, total=False):
    """Options of a server, the same on all hosts. `Engine` documents them."""

    limits: Limits | None
    timeouts: Timeouts | None
    wall_clock: Callable[[], float]
    selector: Selector | None
    access_log: bool
    threads: int
    workers: Workers | None
    cancel_on_disconnect: bool
