"""ASGI 3, the lifespan part: startup and shutdown of an application.

No I/O: the driver runs `Lifespan.run` in a task, and gives it signals of its event loop to wait for.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol

from h1core.app.asgi import AsgiApp, Message
from h1core.errors import LocalError


class StartupFailed(LocalError):
    """The application could not start. `__cause__` is what it raised, if anything."""

    details: str = ""
    """The application's message, if that has more than one line."""


class Signal(Protocol):
    """Wakes one waiting task of an event loop, once. It may be set before the task waits."""

    def set(self) -> None:
        """Let `wait` return. A second call does nothing. Never raises."""

    async def wait(self) -> None:
        """Return when the signal is set, at once if it is already. Raises only what cancels the task."""


class Stage(Enum):
    """The stages of a lifespan."""

    STARTING = "the application is starting"
    UNSUPPORTED = "the application takes no part in lifespan"
    STARTUP_FAILED = "the application's startup failed"
    RUNNING = "the application is running"
    CRASHED = "the application's lifespan task failed"
    LEFT = "the application's lifespan task has ended before its time"
    SHUTDOWN_FAILED = "the application's shutdown failed"
    STOPPED = "the application has shut down"


STARTED: Final = "lifespan.startup.complete"
FAILED_TO_START: Final = "lifespan.startup.failed"
STOPPED: Final = "lifespan.shutdown.complete"
FAILED_TO_STOP: Final = "lifespan.shutdown.failed"


class Lifespan:
    """One lifespan. `run` is to be run in a task; when `answered` is set, `stage` is the result of the startup.

    An application that fails before it has received anything, or sends messages of another kind, does not support
    lifespan, and is served without it. One that has received lifespan.startup and fails then could not start.
    """

    def __init__(self, app: AsgiApp, state: dict[str, Any], new_signal: Callable[[], Signal]) -> None:
        self._app = app
        self._state = state
        self._received = 0
        self._never = new_signal()
        self.stage = Stage.STARTING
        self.details = ""
        """The application's message about its failure."""
        self.error: BaseException | None = None
        """What it raised."""
        self.answered = new_signal()
        """Set when the startup has succeeded or failed."""
        self.stopping = new_signal()
        """To be set by the driver to start the shutdown."""
        self.over = new_signal()
        """Set when the application will send nothing more."""

    async def run(self) -> None:
        """Run the application's lifespan. Raises only what cancels the task."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the driver is told in `error`
            self._note_failure(error)
        else:
            self._note_return()
        finally:
            self.answered.set()
            self.over.set()

    def _note_failure(self, error: BaseException) -> None:
        self.error = error
        match self.stage:
            case Stage.STARTING:
                self.stage = Stage.STARTUP_FAILED if self._received else Stage.UNSUPPORTED
            case Stage.RUNNING:
                self.stage = Stage.SHUTDOWN_FAILED if self._received > 1 else Stage.CRASHED
            case Stage.STOPPED:
                self.stage = Stage.CRASHED

    def _note_return(self) -> None:
        if self.stage is Stage.STARTING:
            self.stage = Stage.UNSUPPORTED
        elif self.stage is Stage.RUNNING:
            self.stage = Stage.STOPPED if self._received > 1 else Stage.LEFT

    async def _receive(self) -> Message:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        if self._received == 2:
            await self.stopping.wait()
            return {"type": "lifespan.shutdown"}
        self.over.set()  # the application loops without end; there is no third message
        await self._never.wait()
        raise AssertionError("nobody sets that")

    async def _send(self, message: Message) -> None:
        kind = message.get("type")
        if kind == STARTED and self.stage is Stage.STARTING:
            self.stage = Stage.RUNNING
        elif kind == FAILED_TO_START and self.stage is Stage.STARTING:
            self.stage = Stage.STARTUP_FAILED
            self.details = str(message.get("message", ""))
        elif kind == STOPPED and self.stage is Stage.RUNNING and self._received > 1:
            self.stage = Stage.STOPPED
        elif kind == FAILED_TO_STOP and self.stage is Stage.RUNNING and self._received > 1:
            self.stage = Stage.SHUTDOWN_FAILED
            self.details = str(message.get("message", ""))
        elif self.stage is Stage.STARTING and not str(kind).startswith("lifespan."):
            self.stage = Stage.UNSUPPORTED
            raise LocalError(f"{kind!r} has no place in a lifespan; look at scope['type'] first")
        else:
            raise LocalError(f"{kind!r} is out of turn: {self.stage.value}")
        if kind in (STARTED, FAILED_TO_START):
            self.answered.set()

    def startup_failure(self) -> StartupFailed:
        """The error for a startup that failed: one line, with the last line of the application's message."""
        lines = [line for line in self.details.splitlines() if line.strip()]
        said = lines[-1].strip() if lines else ""
        if self.error is not None and not said:
            said = f"{self.error!r} (without a startup, return at once when scope['type'] is 'lifespan')"
        failure = StartupFailed(f"{self.stage.value}{': ' if said else ''}{said}")
        if self.error is not None and self.error.__traceback__ is not None:
            failure.__cause__ = self.error.with_traceback(self.error.__traceback__.tb_next)  # without our own frame
        failure.details = self.details if len(lines) > 1 else ""
        return failure
