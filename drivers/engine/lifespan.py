"""An ASGI application's lifespan in a server, on any host.

The application's side runs in its own task, which the end of the server does not cancel: the application is told to
shut down, and has time for it. Its messages and errors are logged, except those of a failed startup, which are raised.
"""

import logging
from math import inf
from typing import TYPE_CHECKING, Any, Final

from h1core.app.asgi import AsgiHandler
from h1core.app.lifespan import Lifespan, Stage, StartupFailed

if TYPE_CHECKING:
    from .hosted import HostedServer

logger = logging.getLogger("h1core.server")

FAILURE_GRACE_S: Final = 1.0
"""Seconds that an application gets to raise the reason after it reported that its startup failed."""


class ServerLifespan:
    """The lifespan of one server. The host runs `run` in a task, and awaits `start` and `stop`."""

    def __init__(self, handler: AsgiHandler, host: "HostedServer") -> None:
        self._lifespan = Lifespan(handler.app, handler.state, host.new_signal)
        self._host = host

    async def run(self) -> None:
        """Run the application's side, and log how it ends, unless `start` raises that."""
        lifespan = self._lifespan
        await lifespan.run()
        stage = lifespan.stage
        if stage in (Stage.CRASHED, Stage.SHUTDOWN_FAILED):
            said = f": {lifespan.details}" if lifespan.details and lifespan.error is None else ""
            logger.error("%s%s", stage.value, said, exc_info=lifespan.error)
        elif stage is Stage.LEFT:
            logger.warning("%s, and will not be told of the shutdown", stage.value)

    async def start(self) -> bool:
        """Wait for the startup; return False when the server was told to end before. Raises StartupFailed."""
        lifespan = self._lifespan
        if not await self._host.wait_until(lifespan.answered, inf, shield=False):
            return False
        if lifespan.stage is Stage.STARTUP_FAILED:
            await self._host.wait_until(lifespan.over, self._host.now() + FAILURE_GRACE_S, shield=False)
            failure = lifespan.startup_failure()
            hint = self._host.wrong_loop_hint(lifespan.error) if lifespan.error is not None else None
            raise failure if hint is None else StartupFailed(hint)
        if lifespan.stage is Stage.UNSUPPORTED:
            logger.debug("%s (%r)", lifespan.stage.value, lifespan.error)
        return True

    async def stop(self, deadline: float) -> None:
        """Let a running application shut down by the deadline. The host cancels its task after that."""
        lifespan = self._lifespan
        if lifespan.stage is not Stage.RUNNING:
            return
        lifespan.stopping.set()
        if not await self._host.wait_until(lifespan.over, deadline, shield=True):
            logger.error("the application's shutdown took too long, and is cancelled")


def lifespan_of(handler: Any, host: "HostedServer") -> ServerLifespan | None:
    """The lifespan of a handler, if it is an ASGI application's."""
    return ServerLifespan(handler, host) if isinstance(handler, AsgiHandler) else None
