"""What the engine asks of a host: the event loop that runs the application's coroutines.

A host owns the thread. It waits until the engine has something to do, calls `Engine.tick`, and then starts a task for
each exchange in `Engine.new_exchanges`. A host decides nothing; it only waits, runs and stops.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from h1core.app.lifespan import Signal

if TYPE_CHECKING:
    from .exchange import EngineExchange

__all__ = ["Host", "Signal"]


class Host(Protocol):
    """An event loop, as the engine uses it. All methods belong to the loop's thread."""

    def new_signal(self) -> Signal:
        """A signal that is not set."""

    async def checkpoint(self) -> None:
        """Let other tasks run. Raises only what cancels the task."""

    def cancel_scope(self, exchange: "EngineExchange") -> AbstractContextManager[object]:
        """A context in which `exchange.task.cancel()` cancels the task."""

    def wake(self) -> None:
        """Call `Engine.tick` soon: something changed outside of a tick. Never raises."""

    def wrong_loop_hint(self, error: BaseException) -> str | None:
        """What to tell the user of an application that was written for another event loop; None for other errors."""
