"""An ASGI application's lifespan on trio: a task around the server.

That task is shielded: when the server is cancelled, the application still gets to know that it is to shut down, and has
time for it. What it says and raises goes to the log, but for a startup that failed, which is raised.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from h1core.app.asgi import AsgiApp, AsgiHandler
from h1core.app.lifespan import Lifespan, Stage

logger = logging.getLogger("h1core.server")

LAST_WORDS_S: Final = 1.0
"""For an application that has said that it cannot start, to raise why."""


class TrioLifespan:
    """A lifespan for `trio_driver.Server`, to be run once. `state` is what the application fills for its requests."""

    def __init__(self, app: AsgiApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._startup = trio.CancelScope()
        self._shutdown: trio.CancelScope | None = None

    @asynccontextmanager
    async def running(self, deadline: Callable[[], float]) -> AsyncIterator[bool]:
        """Start the application up, and shut it down when the block is left. False when `hurry` came in between.

        Raises StartupFailed.
        """
        lifespan = Lifespan(self._app, self._state, trio.Event)
        async with trio.open_nursery() as nursery:
            task = trio.CancelScope(shield=True)
            nursery.start_soon(_run, lifespan, task)
            try:
                with self._startup:
                    await lifespan.answered.wait()
                if lifespan.stage is Stage.STARTUP_FAILED:
                    with trio.move_on_after(LAST_WORDS_S):
                        await lifespan.over.wait()
                else:
                    if lifespan.stage is Stage.UNSUPPORTED:
                        logger.debug("%s (%r)", lifespan.stage.value, lifespan.error)
                    yield lifespan.stage is not Stage.STARTING
            finally:
                if lifespan.stage is Stage.RUNNING:
                    await self._shut_down(lifespan, deadline())
                task.cancel()
        if lifespan.stage is Stage.STARTUP_FAILED:
            raise lifespan.startup_failure()

    async def _shut_down(self, lifespan: Lifespan, deadline: float) -> None:
        with trio.CancelScope(shield=True, deadline=deadline) as self._shutdown:
            lifespan.stopping.set()
            await lifespan.over.wait()
        if self._shutdown.cancelled_caught:
            logger.error("the application's shutdown took too long, and is cancelled")

    def hurry(self, deadline: Callable[[], float]) -> None:
        """Do not start the application, unless that is done; let it have shut down by the deadline. Never raises."""
        self._startup.cancel()
        if self._shutdown is not None:
            self._shutdown.deadline = min(self._shutdown.deadline, deadline())


def lifespan_of(handler: object) -> TrioLifespan | None:
    """The lifespan of a handler, if it is an ASGI application's."""
    return TrioLifespan(handler.app, handler.state) if isinstance(handler, AsgiHandler) else None


async def _run(lifespan: Lifespan, task: trio.CancelScope) -> None:
    """Run the application's side, and log how it ends, unless that is told otherwise."""
    with task:
        await lifespan.run()
    stage = lifespan.stage
    if stage in (Stage.CRASHED, Stage.SHUTDOWN_FAILED):
        said = f": {lifespan.details}" if lifespan.details and lifespan.error is None else ""
        logger.error("%s%s", stage.value, said, exc_info=lifespan.error)
    elif stage is Stage.LEFT:
        logger.warning("%s, and will not be told of the shutdown", stage.value)
