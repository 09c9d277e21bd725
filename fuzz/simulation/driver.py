"""What a driver under test has to offer to the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from h1core.server import ServerCore

from .apps import Apps
from .network import SimStream
from .watched import WatchedConn

if TYPE_CHECKING:
    from .world import World


class Driver(Protocol):
    """A driver under test."""

    interfaces: ClassVar[tuple[type[Apps], ...]]
    """Whose applications it runs, each as often as it is named."""

    def __init__(self, world: World) -> None: ...

    @property
    def core(self) -> ServerCore: ...

    @property
    def orphans(self) -> int:
        """Coroutines whose connection is closed, and whose place is not free yet."""
        ...

    def run(self) -> None:
        """Serve until a drain is over, or the server is stopped."""
        ...

    def begin_drain(self) -> None: ...

    def stop(self) -> None: ...

    def block(self, seconds: float) -> None:
        """Called by an application that takes its time."""
        ...

    def changed(self, stream: SimStream) -> None:
        """The client of this stream did something."""
        ...

    def cut_short(self, stream: SimStream) -> None:
        """A call on this stream was in vain, or a read left some of what was there."""
        ...

    def wake_listener(self) -> None:
        """Somebody wants to be accepted, or accepting will fail."""
        ...

    def see_step(self) -> None:
        """Check what holds after each step."""
        ...

    def see_sleep(self, touched: list[WatchedConn]) -> None:
        """Check that nothing is overlooked: the driver is about to let time pass. With those something has happened."""
        ...

    def is_busy(self, conn: WatchedConn) -> bool:
        """Whether it is an application's turn."""
        ...

    def is_cleaning_up(self, conn: WatchedConn) -> bool:
        """Whether its application's turn is not over with the response: it is touched again when that is so."""
        ...

    def see_end(self) -> None:
        """Check that nothing is left, once `run` has returned."""
        ...
